"""Which triangle is at each pixel, and its corners' attributes there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, check_indices, check_tensor
from geomopt.launch import Vectors, differentiable, launch
from geomopt.render import rasterize_kernels as kernels
from geomopt.render import rasterize_torch
from geomopt.render.fragments import (
    Fragments,
    check_backend,
    check_device,
    check_fragments,
    check_geometry,
    check_precision,
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
    et al., ACM TOG 39(6), 2020, section 3.2); on CUDA the order of their sums is not fixed unless
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


def interpolate(
    attributes: Tensor, faces: Tensor, fragments: Fragments, *, backend: str = "warp"
) -> Tensor:
    """Attributes at the pixels, (B, H, W, C), zero in the background.

    attributes: (V,), (V, C) shared by the views, or (B, V, C); faces: (F, 3) indices into the
    attributes, which may differ from those that were rasterized (positions shared where texture
    coordinates are not) as long as the faces keep their order. Differentiable to the attributes
    and, through the barycentric weights, to the positions. Raises InputError for wrong shapes or
    indices out of range.
    """
    check_tensor("attributes", attributes)
    if attributes.ndim not in (1, 2, 3):
        raise InputError(
            f"attributes must have shape (V,), (V, C) or (B, V, C), got {tuple(attributes.shape)}"
        )
    check_precision("attributes", attributes)
    values = attributes[:, None] if attributes.ndim == 1 else attributes
    values = values if values.ndim == 3 else values[None]
    check_indices("faces", faces, (None, 3), values.shape[1])
    check_device("faces", faces, values)
    batch = None if values.shape[0] == 1 else values.shape[0]
    check_fragments(fragments, faces.shape[0], like=values, batch=batch)
    backend = settled(check_backend(backend), values)
    if backend == "torch":
        return rasterize_torch.interpolate(values, faces, fragments.face, fragments.barycentric)
    face, triangles = fragments.face.contiguous(), faces.int().contiguous()
    channels = values.shape[-1]
    height, width = face.shape[1:]
    stride = 0 if values.shape[0] == 1 else values.shape[1] * channels
    step = span(values, width)
    numbers = (channels, height * width, stride, step)
    count = -(-face.numel() // step)

    def forward(values: Tensor, barycentric: Tensor) -> tuple[Sequence[Tensor], Any]:
        out = values.new_zeros((*face.shape, channels))
        flat = (
            values.detach().reshape(-1),
            Vectors(triangles),
            face.view(-1),
            barycentric.detach().reshape(-1),
        )
        launch(kernels.INTERPOLATE[values.dtype], count, [*flat, *numbers], [out.view(-1)])
        return (out,), flat

    def backward(
        tensors: Sequence[Tensor],
        flat: Any,
        gradients: Sequence[Tensor | None],
        needed: Sequence[bool],
    ) -> Sequence[Tensor | None]:
        values, barycentric = tensors
        to_values, to_barycentric = torch.zeros_like(flat[0]), torch.zeros_like(flat[3])
        gradient = gradients[0]
        assert gradient is not None
        launch(
            kernels.INTERPOLATE_ADJOINT[values.dtype],
            count,
            [*flat, gradient.view(-1), *numbers, int(needed[0])],
            [to_values, to_barycentric],
        )
        return to_values.view(values.shape), to_barycentric.view(barycentric.shape)

    (out,) = differentiable(forward, backward, values, fragments.barycentric)
    return out


def span(like: Tensor, width: int) -> int:
    """Pixels a thread works on: a row on CPU, one on CUDA."""
    return 1 if like.is_cuda else width


def settled(backend: str, like: Tensor) -> str:
    """The backend to use: on CUDA torch's, whose sums have a fixed order, when deterministic
    algorithms are asked for.
    """
    return "torch" if like.is_cuda and torch.are_deterministic_algorithms_enabled() else backend
