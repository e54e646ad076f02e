"""Poses (..., 6): where the origin of a body is [m], then its rotation vector [rad].

A point X of the body stands at exp([w]) X + p, where w is the axis of the rotation times its angle.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor

Vector = Sequence[float] | Tensor


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


def as_vector(name: str, given: Vector) -> Tensor:
    """Three finite numbers as (3,) float64; raises InputError for anything else."""
    vector = as_tensor(name, given, "three finite numbers", dtype=torch.float64)
    if vector.shape != (3,) or not bool(vector.detach().isfinite().all()):
        raise InputError(f"{name} must be three finite numbers, got {given!r}")
    return vector


def as_pose(given: Vector) -> Tensor:
    """A pose (6,) float64 of six numbers; raises InputError for anything else."""
    allowed = "six finite numbers, a position [m] and a rotation vector [rad]"
    pose = as_tensor("pose", given, allowed, dtype=torch.float64)
    if pose.shape != (6,) or not bool(pose.detach().isfinite().all()):
        raise InputError(f"pose must be {allowed}, got {given!r}")
    return pose
