"""Poses (..., 6): where the origin of a body is [m], then its rotation vector [rad].

A point X of the body stands at exp([w]) X + p, where w is the axis of the rotation times its angle.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotation_matrix(vector: Tensor) -> Tensor:
    """exp([w]) (..., 3, 3) of rotation vectors (..., 3); smooth everywhere, zero included."""
    zero = torch.zeros_like(vector[..., 0])
    x, y, z = vector.unbind(-1)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.linalg.matrix_exp(torch.stack(rows, dim=-1).unflatten(-1, (3, 3)))


def placed(points: Tensor, pose: Tensor) -> Tensor:
    """Points (P, 3) of a body in a pose (6,)."""
    return points @ rotation_matrix(pose[3:]).T + pose[:3]


def at(*position: float) -> Tensor:
    """The pose (6,) at a position without a rotation."""
    return torch.tensor([*position, 0.0, 0.0, 0.0], dtype=torch.float64)
