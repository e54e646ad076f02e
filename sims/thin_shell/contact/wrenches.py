"""What drives a body, as a force and a torque."""

from __future__ import annotations

import torch
from torch import Tensor

from sims.thin_shell.scene import Scene


def wrenches(
    scene: Scene, poses: Tensor, positions: Tensor, reactions: Tensor, torques: Tensor
) -> Tensor:
    """Force [N] and torque about its position [N m] (B, 6) that holds or moves each body.

    poses (B, 6), positions and reactions (V, 3) [m, N] at the end of the step; torques (B, 3) [N m]
    that come on top, or (0, 3).
    """
    rows = [poses.new_zeros(0, 6)]
    for body, part, pose in zip(scene.bodies, scene.body_parts, poses, strict=True):
        forces = torch.where(body.driven[:, None], reactions[part], 0.0)
        arms = positions[part] - pose[:3]
        turns = torch.linalg.cross(arms, forces)
        rows.append(torch.cat([forces.sum(0), turns.sum(0)])[None])
    found = torch.cat(rows)
    if len(torques):
        found = torch.cat([found[:, :3], found[:, 3:] + torques], dim=1)
    return found
