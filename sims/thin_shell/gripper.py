"""A gripper of two fingertips that face each other, moved by one pose and their spacing.

    upper, lower = gripper_pair([0.0, 0.0, 0.05, 0.0, 0.0, 0.0, 0.004])
    scene = Scene([sheet], bodies=[upper, lower])
    control = Control(poses=pair_poses(pose))      # (7,) to (2, 6), differentiable

The seven numbers are the point in the middle between the tips [m], the rotation vector of the
gripper [rad] and the distance between the tips [m], along its z axis. Below zero, the tips are
pressed into each other or into what is between them. A gripper of one finger is a
`SoftBody.fingertip` with its own pose.

The lower finger is made turned by half a turn about x, so that both have the rotation vector of the
gripper: the rotation vector of a turned finger would jump somewhere.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor
from sims.thin_shell.pose import Vector, rotation_matrix
from sims.thin_shell.soft_body import SoftBody


def gripper_pair(pose: Vector, **options: Any) -> tuple[SoftBody, SoftBody]:
    """The upper and the lower finger where a pose (7,) puts them, each with its origin in its tip.

    options: those of `SoftBody.fingertip` but for its pose. Raises InputError.
    """
    poses = pair_poses(pose)
    if poses.ndim != 2:
        raise InputError(f"pose must have shape (7,), got {tuple(poses.shape[:-2])} of them")
    finger = SoftBody.fingertip(**options)
    tip = finger.local[:, 2].amin()
    above = torch.cat([finger.local[:, :2], finger.local[:, 2:] - tip], dim=1)
    below = above * above.new_tensor([1.0, -1.0, -1.0])
    upper, lower = (
        replace(finger, local=local, rest_vertices=local, pose=start)
        for local, start in zip((above, below), poses, strict=True)
    )
    return upper, lower


def pair_poses(poses: Vector) -> Tensor:
    """Poses (..., 2, 6) of the upper and the lower finger for poses (..., 7) of the gripper.

    Differentiable, also without a rotation. Raises InputError.
    """
    wanted = "(..., 7) finite numbers, a position [m], a rotation vector [rad] and a spacing [m]"
    given = as_tensor("pose", poses, wanted, dtype=torch.float64)
    if not given.ndim or given.shape[-1] != 7 or not bool(given.detach().isfinite().all()):
        raise InputError(f"pose must be {wanted}, got {poses!r}")
    centre, turn, spacing = given[..., :3], given[..., 3:6], given[..., 6:]
    half = rotation_matrix(turn)[..., :, 2] * spacing / 2
    places = torch.stack([centre + half, centre - half], dim=-2)
    return torch.cat([places, turn.unsqueeze(-2).expand_as(places)], dim=-1)
