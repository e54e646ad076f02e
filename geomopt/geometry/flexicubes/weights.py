"""From unbounded parameters to the weights and displacements that FlexiCubes uses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.geometry.flexicubes import large_tensors
from geomopt.geometry.flexicubes.values import check_values
from geomopt.geometry.flexicubes.weights_kernels import weight_kernels
from geomopt.geometry.grid import DenseGrid
from geomopt.launch import differentiable, launch, warp_scalar

REACH = 0.99  # how far a used weight goes from its neutral value, as a share of what makes it zero


def used_weights(raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Map unbounded parameters (C, 21) to positive weights (C, 8), (C, 12) and (C,).

    Columns 0-7 give the corner weights and 8-19 the edge weights, 1 + 0.99 tanh(raw) in (0.01,
    1.99); column 20 the split weights, 0.005 + 0.99 logistic(raw). Raw 0 is neutral.
    Raises InputError for a wrong shape or dtype, or a value that is not finite.
    """
    check_values("raw", raw, (None, 21))

    def forward(*tensors: Any) -> tuple[list[Tensor], Any]:
        parts = tensors[0].split((8, 12, 1), dim=1)
        used = [large_tensors.empty(part.shape, part).copy_(part) for part in parts]
        used[2].div_(2)  # the logistic function is (1 + tanh(raw / 2)) / 2
        for values in used:
            values.tanh_().mul_(REACH).add_(1)
        used[2] = used[2].div_(2).squeeze(1)
        return used, [values.detach() for values in used]

    def backward(tensors: Any, used: Any, gradients: Any, needed: Any) -> list[Tensor | None]:
        given = [
            large_tensors.zeros(values.shape, values) if gradient is None else gradient
            for values, gradient in zip(used, gradients, strict=True)
        ]
        result = large_tensors.zeros(tensors[0].shape, tensors[0])
        kernel = weight_kernels(warp_scalar(result.dtype)).pull_back_weights
        words = [gradient.view(torch.int64).view(-1) for gradient in given[:2]]
        inputs = [*used, *given, *words, result.element_size() // 2, REACH]
        launch(kernel, len(result), inputs, [result], split=True)
        return [result]

    corner_weights, edge_weights, split_weights = differentiable(forward, backward, raw)
    return corner_weights, edge_weights, split_weights


def used_deformation(raw: Tensor, grid: DenseGrid, limit: float = 0.5) -> Tensor:
    """Map unbounded parameters (N, 3) to displacements of the grid points, in units of length.

    They stay below `limit` cell edges along each axis; up to limit 0.5 neighbouring points cannot
    pass each other. Raw 0 is no displacement.
    Raises InputError for a wrong shape or dtype, a value that is not finite, or a limit outside
    (0, 0.5].
    """
    check_values("raw", raw, (grid.point_count, 3))
    if not 0 < limit <= 0.5:
        raise InputError(f"limit must lie in (0, 0.5], got {limit}")
    reach = raw.new_tensor(grid.spacing) * (limit * (1 - 1e-6))
    return reach * torch.tanh(raw)
