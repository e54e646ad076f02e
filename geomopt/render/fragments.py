"""What a rasterizer leaves at each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.errors import InputError, check_indices, check_tensor
from geomopt.render.poses import check_resolution

BACKENDS = ("warp", "torch")


@dataclass(frozen=True)
class Fragments:
    """The nearest triangle at each pixel.

    face: (B, H, W) int32, -1 in the background. barycentric: (B, H, W, 3), weights of the
    triangle's corners at the pixel centre, perspective-correct, 0 in the background;
    differentiable. depth: (B, H, W), z/w in [-1, 1], 1 in the background; carries no gradient.
    """

    face: Tensor
    barycentric: Tensor
    depth: Tensor

    @property
    def mask(self) -> Tensor:
        """(B, H, W) bool, true where there is a triangle."""
        return self.face >= 0


def check_backend(backend: str) -> str:
    """Return `backend` if it is known."""
    if backend not in BACKENDS:
        raise InputError(
            f"backend must be one of {', '.join(map(repr, BACKENDS))}, got {backend!r}"
        )
    return backend


def check_geometry(clip_positions: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Clip positions as (B, V, 4) and faces (F, 3) as int32, both contiguous and checked."""
    check_tensor("clip_positions", clip_positions)
    if clip_positions.ndim not in (2, 3) or clip_positions.shape[-1] != 4:
        raise InputError(
            f"clip_positions must have shape (V, 4) or (B, V, 4), got {tuple(clip_positions.shape)}"
        )
    check_precision("clip_positions", clip_positions)
    clip = clip_positions if clip_positions.ndim == 3 else clip_positions[None]
    check_indices("faces", faces, (None, 3), clip.shape[1])
    check_device("faces", faces, clip)
    return clip.contiguous(), faces.int().contiguous()


def check_precision(name: str, value: Tensor) -> None:
    """Raise InputError unless `value` is float32 or float64."""
    if value.dtype not in (torch.float32, torch.float64):
        raise InputError(f"{name} must be float32 or float64, got {value.dtype}")


def check_device(name: str, value: Tensor, like: Tensor) -> None:
    """Raise InputError unless `value` lies on the device of `like`."""
    if value.device != like.device:
        raise InputError(
            f"{name} must be on {like.device} like the other arguments, got {value.device}"
        )


def check_fragments(
    fragments: Fragments, face_count: int, *, like: Tensor, batch: int | None = None
) -> None:
    """Raise InputError unless `fragments` fit each other, a mesh of `face_count` faces and the
    tensor `like`.
    """
    if not isinstance(fragments, Fragments):
        raise InputError(
            f"fragments must be Fragments from rasterize, got {type(fragments).__name__}"
        )
    face = fragments.face
    if face.dtype != torch.int32 or face.ndim != 3:
        raise InputError(
            f"fragments.face must be int32 of shape (B, H, W), got {face.dtype} {tuple(face.shape)}"
        )
    check_device("fragments.face", face, like)
    if batch is not None and face.shape[0] != batch:
        raise InputError(
            f"fragments must hold {batch} views like the other arguments, got {face.shape[0]}"
        )
    check_tensor(
        "fragments.barycentric", fragments.barycentric, (*face.shape, 3), like=like, finite=False
    )
    check_tensor("fragments.depth", fragments.depth, face.shape, like=like, finite=False)
    check_resolution(tuple(face.shape[1:]))
    low, high = (int(bound) for bound in torch.aminmax(face)) if face.numel() else (-1, -1)
    if low < -1 or high >= face_count:
        raise InputError(
            f"fragments.face must lie in [-1, {face_count}), got values from {low} to {high}"
        )


def span(like: Tensor, width: int) -> int:
    """Pixels a thread works on: a row on CPU, one on CUDA."""
    return 1 if like.is_cuda else width


def settled(backend: str, like: Tensor) -> str:
    """The backend to use: on CUDA torch's, whose sums have a fixed order, when deterministic
    algorithms are asked for.
    """
    return "torch" if like.is_cuda and torch.are_deterministic_algorithms_enabled() else backend
