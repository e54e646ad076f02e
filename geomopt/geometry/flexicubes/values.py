"""Checks of tensors that may be large, which read every value once."""

from __future__ import annotations

import math

import torch
import warp as wp
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from geomopt.geometry.flexicubes.values_kernels import LINE, LINES, value_kernels
from geomopt.launch import initialize, launch

# integers as wide as the floats, and the bits of infinity; those of NaN are above or negative
_BITS = {
    torch.float32: (torch.int32, wp.uint32, 0x7F800000),
    torch.float64: (torch.int64, wp.uint64, 0x7FF0000000000000),
}


def check_values(
    name: str,
    value: object,
    shape: tuple[int | None, ...],
    *,
    like: Tensor | None = None,
    positive: bool = False,
) -> Tensor:
    """`check_tensor` for float32 and float64 tensors that may be large: it reads the values once.

    positive: whether they must also be above zero.
    """
    tensor = check_tensor(name, value, shape, like=like, finite=False)
    if tensor.dtype not in _BITS:
        raise InputError(f"{name} must be float32 or float64, got {tensor.dtype}")
    values = tensor.detach()
    if not positive:
        # a finite sum has finite terms; only a sum that is not needs the closer look
        if not math.isfinite(float(values.sum())):
            check_tensor(name, tensor)
    elif not _are_positive(values):
        check_tensor(name, tensor)
        bad = int((values <= 0).sum())
        raise InputError(
            f"{name} must be positive, got {bad} of {values.numel()} values at or below zero"
        )
    return tensor


def _are_positive(values: Tensor) -> bool:
    """Whether all values are positive and finite."""
    whole, bits, infinity = _BITS[values.dtype]
    rest = values
    if values.is_contiguous():
        line_count = values.numel() * values.element_size() // LINE
        blocks = line_count // (4 * int(LINES))
        stride = blocks * int(LINES)
        if blocks > 0:
            initialize()
            kernels = value_kernels(bits)
            device = wp.device_from_torch(values.device)
            lines = wp.array(
                ptr=values.data_ptr(), shape=(line_count,), dtype=kernels.line, device=device
            )
            positive = torch.empty(blocks, dtype=torch.uint8, device=values.device)
            inputs = [lines, stride, infinity]
            launch(kernels.find_positive, blocks, inputs, [positive], split=True)
            if not bool(positive.all()):
                return False
            rest = values.view(-1)[4 * stride * LINE // values.element_size() :]
    if rest.numel() == 0:
        return True
    low, high = (bound.item() for bound in torch.aminmax(rest.view(whole)))
    return low > 0 and high < infinity
