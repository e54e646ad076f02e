"""Soft borders at silhouettes: what makes an image differentiable to where its surfaces end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, check_indices, check_tensor
from geomopt.launch import Vectors, differentiable, launch
from geomopt.render import antialias_kernels as kernels
from geomopt.render import antialias_torch
from geomopt.render.edges import edge_opposites
from geomopt.render.fragments import (
    Fragments,
    check_backend,
    check_fragments,
    check_geometry,
    settled,
    span,
)


def antialias(
    image: Tensor,
    fragments: Fragments,
    clip_positions: Tensor,
    faces: Tensor,
    *,
    topology: Tensor | None = None,
    backend: str = "warp",
) -> Tensor:
    """The image (B, H, W, C) with its pixels blended at silhouettes by how far the surface reaches.

    fragments, clip_positions (V, 4) or (B, V, 4) and faces (F, 3): as rasterized, with vertices
    shared between triangles (see `position_indices`); topology: `edge_opposites(faces, V)`, worth
    keeping while the faces stay the same.

    Between neighbouring pixel centres that see different triangles, the nearer surface is followed
    (over up to 64 triangles) until it ends, at an open, folded or non-manifold edge. Where it ends
    beyond half of the way, at s > 1/2, the farther pixel takes on the share s - 1/2 of the nearer
    colour, otherwise the nearer pixel takes on 1/2 - s of the farther colour. Edges steeper than 45
    degrees act along rows, the others along columns. So the gradient to x, y and w of the
    silhouette is that of the covered area. After Laine et al., ACM TOG 39(6), 2020, with the walk
    over the surface added, which finds the silhouettes of triangles smaller than a pixel.

    Blends from up to four neighbours add up: a pixel may slightly leave the range of the colours.
    Apply it last, to composited colours. No gradient comes from hidden surfaces, from where two
    surfaces cut through each other, or from silhouettes between the outermost pixel centres and the
    border of the image. Raises InputError for shapes that do not fit.
    """
    clip, faces = check_geometry(clip_positions, faces)
    check_tensor("image", image, like=clip)
    if image.ndim != 4:
        raise InputError(f"image must have shape (B, H, W, C), got {tuple(image.shape)}")
    check_fragments(fragments, faces.shape[0], like=clip, batch=clip.shape[0])
    if image.shape[:3] != fragments.face.shape:
        raise InputError(
            f"image must have shape {(*fragments.face.shape, 'C')} like fragments, "
            f"got {tuple(image.shape)}"
        )
    backend = settled(check_backend(backend), clip)
    if topology is None:
        topology = edge_opposites(faces, clip.shape[1], backend=backend)
    else:
        check_topology(topology, faces)
    if backend == "torch":
        return antialias_torch.antialias(image, fragments, clip, faces, topology)
    (out,) = differentiable(
        lambda image, clip: _forward(image, clip, fragments, faces, topology),
        _backward,
        image,
        clip,
    )
    return out


def check_topology(topology: Tensor, faces: Tensor) -> None:
    """Raise InputError unless `topology` may be the edge table of `faces`."""
    if isinstance(topology, Tensor) and topology.dtype == torch.int32:
        check_indices("topology + 2", topology + 2, tuple(faces.shape), 3 * faces.shape[0] + 2)
        return
    raise InputError(
        "topology must be an int32 tensor (F, 3) from edge_opposites, got "
        f"{topology.dtype if isinstance(topology, Tensor) else type(topology).__name__}"
    )


def _forward(
    image: Tensor, clip: Tensor, fragments: Fragments, faces: Tensor, topology: Tensor
) -> tuple[Sequence[Tensor], Any]:
    image = image.detach().contiguous()
    precise = clip.detach().double().contiguous()
    _, height, width, channels = image.shape
    pixels = fragments.face.numel()
    step = span(image, width)
    count = -(-pixels // step)
    edges = torch.full((2 * pixels,), -1, dtype=torch.int32, device=image.device)
    blend = image.new_zeros(2 * pixels)
    corners, triangles = Vectors(precise.view(-1, 4)), faces.view(-1)
    launch(
        kernels.FIND_BORDERS[image.dtype],
        count,
        [
            *(corners, triangles, topology.contiguous().view(-1)),
            *(fragments.face.contiguous().view(-1), fragments.depth.contiguous().view(-1)),
            *(precise.shape[1], height, width, step),
        ],
        [edges, blend],
    )
    out = image.clone()
    launch(
        kernels.BLEND[image.dtype],
        count,
        [image.view(-1), blend, channels, height, width, step],
        [out.view(-1)],
    )
    return (out,), (precise, faces, edges, blend)


def _backward(
    tensors: Sequence[Tensor],
    saved: Any,
    gradients: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> Sequence[Tensor | None]:
    image, _ = tensors
    precise, faces, edges, blend = saved
    (gradient,) = gradients
    assert gradient is not None
    _, height, width, channels = image.shape
    step = span(image, width)
    count = -(-(blend.numel() // 2) // step)
    to_image = to_clip = None
    if needed[0]:
        to_image = gradient.clone()
        launch(
            kernels.BLEND_ADJOINT[image.dtype],
            count,
            [gradient.view(-1), blend, channels, height, width, step],
            [to_image.view(-1)],
        )
    if needed[1]:
        to_clip = torch.zeros(precise.shape, dtype=image.dtype, device=image.device)
        launch(
            kernels.MOVE_SILHOUETTES[image.dtype],
            count,
            [
                *(Vectors(precise.view(-1, 4)), faces.view(-1), edges),
                *(image.contiguous().view(-1), gradient.view(-1)),
                *(channels, precise.shape[1], height, width, step),
            ],
            [to_clip.view(-1)],
        )
    return to_image, to_clip
