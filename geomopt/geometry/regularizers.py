"""Losses of the field itself, for the shape that images do not see."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from geomopt.geometry.grid import DenseGrid
from geomopt.geometry.regularizers_kernels import kernels
from geomopt.launch import differentiable, launch, warp_scalar


def sign_change_loss(sdf: Tensor, grid: DenseGrid) -> Tensor:
    """Pull the values at the two ends of every sign change to one sign, which removes floaters.

    sdf (N,): field at the grid points, float32 or float64. Returns the mean over the grid edges (a,
    b) with one end inside of H(s_a, s_b is outside) + H(s_b, s_a is outside), where H is the binary
    cross entropy of a logit; 0 without such an edge. The values are logits: it is the loss of a
    field whose values are of order one near the surface (Munkberg et al. 2022, equation 2).
    Raises InputError for a wrong shape or dtype, NaN or infinite values.
    """
    if not isinstance(grid, DenseGrid):
        raise InputError(f"grid must be a DenseGrid, got {type(grid).__name__}")
    check_tensor("sdf", sdf, (grid.point_count,))
    if sdf.dtype not in (torch.float32, torch.float64):
        raise InputError(f"sdf must be float32 or float64, got {sdf.dtype}")
    made = kernels(warp_scalar(sdf.dtype))
    rows = grid.shape[0] * grid.shape[1]

    def forward(*tensors: Any) -> tuple[list[Tensor], Any]:
        losses = sdf.new_empty(rows)
        counts = torch.empty(rows, dtype=torch.int32, device=sdf.device)
        outputs = [losses, counts]
        launch(made.measure_sign_changes, rows, [tensors[0], grid.shape], outputs, split=True)
        count = counts.sum().clamp(min=1)
        return [losses.sum() / count], count

    def backward(tensors: Any, count: Tensor, gradients: Any, needed: Any) -> list[Tensor | None]:
        result = torch.zeros_like(tensors[0])
        inputs = [tensors[0], grid.shape, (gradients[0] / count).reshape(1)]
        launch(made.pull_back_sign_changes, rows, inputs, [result], split=True)
        return [result]

    return differentiable(forward, backward, sdf.contiguous())[0]
