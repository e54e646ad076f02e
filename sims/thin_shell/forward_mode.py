"""Derivatives in a few parameters by forward mode."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.autograd.forward_ad as forward
from torch import Tensor

from geomopt.errors import InputError, check_tensor


def sensitivities(
    function: Callable[[Tensor], Tensor], parameters: Tensor
) -> tuple[Tensor, Tensor]:
    """Output (...) of a function and its derivative (..., p) in p parameters.

    function: takes parameters (p,) to a tensor by way of scenes, steps, rollouts and equilibria; it
    runs once a parameter, and each step then costs one solve more. That is the right way round for
    fits, where the outputs are many: residuals and Jacobian of Gauss and Newton's method. Steps
    work with the dual tensors of `torch.autograd.forward_ad` too, from which this is made; the
    transforms of `torch.func` cannot see through them.
    """
    point = check_tensor("parameters", parameters, (None,)).detach().to(torch.float64)
    if not len(point):
        raise InputError("parameters must have at least one entry, got shape (0,)")
    columns = []
    with torch.no_grad():
        for way in torch.eye(len(point), dtype=point.dtype, device=point.device):
            with forward.dual_level():
                output, tangent = forward.unpack_dual(function(forward.make_dual(point, way)))
                columns.append(torch.zeros_like(output) if tangent is None else tangent.clone())
    return output, torch.stack(columns, dim=-1)  # pyright: ignore[reportPossiblyUnboundVariable]
