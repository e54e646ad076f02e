"""How pairs of primitives turn from one place to another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geomopt.launch import differentiable, launch
from sims.thin_shell.contact.turn_kernels import kernels


def turns(kind: Tensor, before: Tensor, after: Tensor, axis: Tensor, axis_after: Tensor) -> Tensor:
    """Rotations (n, 3, 3) of pairs of a kind (n,) from `before` to `after`.

    before, after (n, 4, 3) [m]: their points. axis, axis_after (n, 3): their normals. Faces and
    planes turn with their plane and an edge in it, edges with their direction and the normal about
    it, points as little as the normal allows. Differentiable once, finite in every place.
    """
    kinds = kind.to(torch.int32)

    def rows(tensors: Sequence[Tensor]) -> list[Tensor]:
        return [tensor.detach().flatten(1).contiguous() for tensor in tensors]

    def forward(*tensors: Tensor) -> tuple[list[Tensor], None]:
        made = axis.new_empty(len(kinds), 3, 3)
        launch(kernels()[0], len(kinds), [kinds, *rows(tensors)], [made], split=True)
        return [made], None

    def backward(
        tensors: Sequence[Tensor],
        saved: None,
        gradients: Sequence[Tensor],
        needed: Sequence[bool],
    ) -> list[Tensor]:
        flat = rows(tensors)
        made = [torch.zeros_like(tensor) for tensor in flat]
        launch(kernels()[1], len(kinds), [kinds, *flat, gradients[0]], made, split=True)
        return [part.view(tensor.shape) for part, tensor in zip(made, tensors, strict=True)]

    return differentiable(forward, backward, before, after, axis, axis_after, rows=True)[0]
