"""Attributes of a triangle's corners at the pixels that show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, check_indices, check_tensor
from geomopt.launch import Vectors, differentiable, launch
from geomopt.render import interpolate_kernels as kernels
from geomopt.render import rasterize_torch
from geomopt.render.fragments import (
    Fragments,
    check_backend,
    check_device,
    check_fragments,
    check_precision,
    settled,
    span,
)


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
