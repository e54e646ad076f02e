"""Rigid transforms, projection matrices, and the checks of what a camera is made from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from geomopt.errors import InputError, check_shape, check_tensor

Points = Tensor | Sequence[float] | Sequence[Sequence[float]]


def rigid(rotation: Tensor, translation: Tensor) -> Tensor:
    """Transforms (B, 4, 4) of rotations (B, 3, 3) and translations (B, 3)."""
    top = torch.cat([rotation, translation[:, :, None]], 2)
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0]).to(top).expand(len(top), 1, 4)
    return torch.cat([top, bottom], 1)


def inverse_rigid(transform: Tensor) -> Tensor:
    """The inverse of rigid transforms (B, 4, 4)."""
    rotation = transform[:, :3, :3].transpose(1, 2)
    return rigid(rotation, -(rotation @ transform[:, :3, 3:])[:, :, 0])


def pinhole_projection(
    resolution: tuple[int, int],
    fl_x: float,
    fl_y: float,
    cx: float,
    cy: float,
    near: float,
    far: float,
) -> Tensor:
    """Camera space to clip space, (4, 4) float64, of a pinhole whose intrinsics are given in
    pixels.
    """
    height, width = resolution
    for name, focal in (("fl_x", fl_x), ("fl_y", fl_y)):
        if not 0.0 < focal < math.inf:
            raise InputError(f"{name} must be positive and finite, got {focal}")
    if not (math.isfinite(cx) and math.isfinite(cy)):
        raise InputError(f"cx and cy must be finite, got {cx} and {cy}")
    return torch.tensor(
        [
            [2 * fl_x / width, 0.0, 1 - 2 * cx / width, 0.0],
            [0.0, 2 * fl_y / height, 2 * cy / height - 1, 0.0],
            [0.0, 0.0, -(far + near) / (far - near), -2 * far * near / (far - near)],
            [0.0, 0.0, -1.0, 0.0],
        ],
        dtype=torch.float64,
    )


def check_resolution(resolution: object) -> tuple[int, int]:
    """Return (H, W) if `resolution` is two positive integers."""
    if (
        not isinstance(resolution, Sequence)
        or len(resolution) != 2
        or any(
            isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= 16384
            for size in resolution
        )
    ):
        raise InputError(
            f"resolution must be (height, width), integers from 1 to 16384, got {resolution!r}"
        )
    return resolution[0], resolution[1]


def check_poses(names: Sequence[str], poses: Tensor) -> None:
    """Raise InputError unless each of poses (B, 4, 4) is finite and rigid; `names` says how to call
    each of them.
    """
    check_shape("poses", poses, (None, 4, 4))
    rotation = poses[:, :3, :3].double()
    identity = torch.eye(3, dtype=torch.float64, device=poses.device)
    drift = (rotation @ rotation.transpose(1, 2) - identity).abs().amax((1, 2))
    last = torch.tensor([0.0, 0.0, 0.0, 1.0]).to(poses)
    for index, name in enumerate(names):
        if not bool(torch.isfinite(poses[index]).all()):
            raise InputError(f"{name} must be finite, got {poses[index].tolist()}")
        if not torch.allclose(poses[index, 3], last, atol=1e-5):
            raise InputError(
                f"{name} must have the last row (0, 0, 0, 1), got {poses[index, 3].tolist()}"
            )
        if drift[index] > 1e-3 or torch.linalg.det(rotation[index]) < 0:
            raise InputError(
                f"{name} must hold a rotation (orthonormal to 1e-3, determinant +1) in its upper "
                "left 3x3 block, "
                f"got {poses[index, :3, :3].tolist()}"
            )


def points_like(name: str, value: Points) -> Tensor:
    """A floating tensor (B, 3) of a point (3,) or points (B, 3) given as tensor or numbers."""
    tensor = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float32)
    check_tensor(name, tensor)
    if tensor.ndim not in (1, 2) or tensor.shape[-1] != 3:
        raise InputError(f"{name} must have shape (3,) or (B, 3), got {tuple(tensor.shape)}")
    return tensor.reshape(-1, 3)
