"""Which triangle is at each pixel, and where in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from geomopt.launch import Vectors, differentiable, launch
from geomopt.render import rasterize_kernels as kernels
from geomopt.render import rasterize_torch
from geomopt.render.fragments import (
    Fragments,
    check_backend,
    check_geometry,
    settled,
    span,
)
from geomopt.render.poses import check_resolution
from geomopt.render.snapping import snapped_positions

CUDA_STRIPES = 8  # threads that share the rows of one triangle


def rasterize(
    clip_positions: Tensor, faces: Tensor, resolution: tuple[int, int], *, backend: str = "warp"
) -> Fragments:
    """The nearest triangle at each pixel centre, with perspective-correct barycentric weights.

    clip_positions: (V, 4) or (B, V, 4), float32 or float64, as `Camera.project` gives them; faces:
    (F, 3) int32 or int64, drawn from both sides; resolution: (H, W); backend: "warp" or "torch".
    Each pixel of a closed fan of triangles belongs to exactly one of them; equal depths go to the
    smaller face index. Parts in front of the near or behind the far plane are left out, also of
    triangles that cross the camera plane. Barycentric weights carry gradients to x, y and w (Laine
    et al., ACM TOG 39(6), 2020); on CUDA the order of their sums is not fixed unless
    `torch.use_deterministic_algorithms` is on, which takes the torch backend. Raises InputError for
    wrong shapes, indices out of range, NaN, or an unknown backend.
    """
    resolution = check_resolution(resolution)
    clip, faces = check_geometry(clip_positions, faces)
    backend = settled(check_backend(backend), clip)
    if backend == "torch":
        with torch.no_grad():
            face = rasterize_torch.covered_faces(clip.double(), faces, resolution)
        barycentric, depth = rasterize_torch.barycentric_and_depth(clip, faces, face)
        return Fragments(face, barycentric, depth.detach())

    def forward(clip: Tensor) -> tuple[Sequence[Tensor], Any]:
        return _forward(clip, faces, resolution)

    face, barycentric, depth = differentiable(forward, _backward, clip)
    return Fragments(face, barycentric, depth.detach())


def cover(clip: Tensor, faces: Tensor, resolution: tuple[int, int]) -> Tensor:
    """Key of the nearest face at each pixel, (B H W,) int64: its depth in the upper and its index
    in the lower 32 bits, the largest int64 in the background. clip: (B, V, 4) float64; faces:
    int32.
    """
    height, width = resolution
    batch, vertex_count, _ = clip.shape
    keys = torch.full(
        (batch * height * width,), rasterize_torch.EMPTY, dtype=torch.int64, device=clip.device
    )
    snapped = snapped_positions(clip, resolution)
    stripes = CUDA_STRIPES if clip.is_cuda else 1
    launch(
        kernels.cover_faces,
        batch * faces.shape[0] * stripes,
        [
            *(Vectors(clip.view(-1, 4)), Vectors(snapped.view(-1, 2)), Vectors(faces)),
            *(vertex_count, height, width, stripes),
        ],
        [keys],
    )
    return keys


def _forward(
    clip: Tensor, faces: Tensor, resolution: tuple[int, int]
) -> tuple[Sequence[Tensor], Any]:
    height, width = resolution
    shape = (clip.shape[0], height, width)
    precise = clip.detach().double().contiguous()
    keys = cover(precise, faces, resolution)
    face = torch.empty(shape, dtype=torch.int32, device=clip.device)
    barycentric, depth = clip.new_empty((*shape, 3)), clip.new_empty(shape)
    step = span(clip, width)
    launch(
        kernels.RESOLVE[clip.dtype],
        -(-keys.numel() // step),
        [
            *(Vectors(precise.view(-1, 4)), Vectors(faces), keys),
            *(precise.shape[1], height, width, step),
        ],
        [face.view(-1), barycentric.view(-1), depth.view(-1)],
    )
    return (face, barycentric, depth), (face, precise, faces)


def _backward(
    tensors: Sequence[Tensor],
    saved: Any,
    gradients: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> Sequence[Tensor | None]:
    face, precise, faces = saved
    gradient = gradients[1]
    if gradient is None:
        return (None,)
    _, height, width = face.shape
    out = torch.zeros_like(tensors[0])
    step = span(out, width)
    launch(
        kernels.RESOLVE_ADJOINT[out.dtype],
        -(-face.numel() // step),
        [
            *(Vectors(precise.view(-1, 4)), Vectors(faces), face.view(-1), gradient.view(-1)),
            *(precise.shape[1], height, width, step),
        ],
        [out.view(-1)],
    )
    return (out,)
