"""What a camera inside a fingertip sees: markers on its skin that move with it.

    pad = Markers.on(finger, grid=(8, 8))
    shear, indentation = pad.signal(positions[part], pose)

Each marker keeps its place in a face, so its position is a weighted sum of three vertices and the
signal is differentiable in the positions and in the pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from sims.thin_shell.pose import rotation_matrix
from sims.thin_shell.soft_body import SoftBody, checked_count

INSIDE = -1e-9  # least weight of a corner; a marker on an edge is in both faces


@dataclass(frozen=True, eq=False)
class Markers:
    """n points on the skin of a soft body.

    corners (n, 3) int64: vertices of the face of each; weights (n, 3): their shares. local (n, 3)
    [m]: where they start, in the frame of the body. outward: +1 or -1, whether the pad is on the
    upper or the lower side of its z axis.
    """

    corners: Tensor
    weights: Tensor
    local: Tensor
    outward: float

    @classmethod
    def on(cls, body: SoftBody, grid: tuple[int, int] = (8, 8), share: float = 0.6) -> Markers:
        """A grid of markers, x first, projected along the z axis of the body onto its pad.

        The pad is the side away from the driven vertices, and the grid covers the middle `share`
        of its width along x and y. Raises InputError for a body without driven vertices and where
        a marker would lie beside the pad.
        """
        if not isinstance(body, SoftBody):
            raise InputError(f"body must be a SoftBody, got {type(body).__name__}")
        if not bool(body.driven.any()) or bool(body.driven.all()):
            raise InputError("body must have driven vertices and others, to have a pad")
        if not isinstance(grid, tuple | list) or len(grid) != 2:
            raise InputError(f"grid must be two positive whole numbers, got {grid!r}")
        if not isinstance(share, int | float) or not 0 < share <= 1:
            raise InputError(f"share must be a number in (0, 1], got {share!r}")
        local = body.local.detach()
        outward = torch.sign(local[~body.driven, 2].mean() - local[body.driven, 2].mean())
        low, high = local[:, :2].aminmax(dim=0)
        steps = [
            (low[k] + high[k] + share * (high[k] - low[k]) * _centred(count)) / 2
            for k, count in enumerate(checked_count("grid", count) for count in grid)
        ]
        points = torch.cartesian_prod(*steps).reshape(-1, 2)
        corners, weights = _under(points, body, float(outward))
        places = (weights[..., None] * body.local[corners]).sum(1)
        return cls(corners, weights, places, float(outward))

    def places(self, positions: Tensor) -> Tensor:
        """Where the markers are (n, 3) [m], from the positions of the body's vertices (P, 3)."""
        return (self.weights[..., None] * positions[self.corners]).sum(1)

    def signal(self, positions: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
        """How far markers moved along the pad's plane (n, 2) and into the pad (n,), both [m].

        positions (P, 3): of the body's vertices. pose (6,): where the body's frame is; the signal
        is what is left of the motion in it.
        """
        check_tensor("positions", positions, (None, 3))
        least = int(self.corners.max()) + 1
        if len(positions) < least:
            raise InputError(
                f"positions must be those of the body's vertices, {least} or more, "
                f"got {len(positions)}"
            )
        check_tensor("pose", pose, (6,))
        seen = (self.places(positions) - pose[:3]) @ rotation_matrix(pose[3:])
        moved = seen - self.local
        return moved[:, :2], -self.outward * moved[:, 2]


def _centred(count: int) -> Tensor:
    """Evenly over [-1, 1]; one is in the middle."""
    if count == 1:
        return torch.zeros(1, dtype=torch.float64)
    return torch.linspace(-1.0, 1.0, count, dtype=torch.float64)


def _under(points: Tensor, body: SoftBody, outward: float) -> tuple[Tensor, Tensor]:
    """The faces (n, 3) that points (n, 2) lie in seen along z, the outermost of them, and weights
    (n, 3) of their corners."""
    local = body.local.detach()
    faces = body.faces
    a, b, c = local[faces].unbind(1)
    u, v = (b - a)[:, :2], (c - a)[:, :2]
    area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    facing = outward * area > 0
    away = points[:, None] - a[:, :2]
    safe = torch.where(facing, area, 1.0)
    second = (away[..., 0] * v[:, 1] - away[..., 1] * v[:, 0]) / safe
    third = (u[:, 0] * away[..., 1] - u[:, 1] * away[..., 0]) / safe
    weights = torch.stack([1 - second - third, second, third], dim=-1)
    hit = facing & (weights.amin(-1) >= INSIDE)
    height = outward * (weights * torch.stack([a, b, c], 1)[..., 2]).sum(-1)
    best = torch.where(hit, height, -torch.inf).argmax(1)
    rows = torch.arange(len(points), device=points.device)
    missed = torch.nonzero(~hit[rows, best]).flatten()
    if len(missed):
        x, y = points[missed[0]].tolist()
        raise InputError(
            f"share must leave all markers on the pad, got {len(missed)} beside it, the first at "
            f"({x:.4g}, {y:.4g})"
        )
    return faces[best], weights[rows, best]
