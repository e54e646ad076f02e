"""Each single value is looked at, wherever it lies."""

import math

import pytest
import torch

from geomopt.errors import InputError
from geomopt.geometry.flexicubes.values import check_values

# past two blocks of the kernel, which takes 16 kB at a time, with some values left over
COUNT = {torch.float32: 2 * 4096 + 37, torch.float64: 2 * 2048 + 37}


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "unaligned"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [0.0, -0.0, -1e-30, math.nan, -math.nan, math.inf, -math.inf])
def test_one_bad_weight_anywhere(bad, dtype, layout, device):
    count = COUNT[dtype]
    values = torch.rand(count, 3, dtype=dtype, device=device) + 1e-3
    if layout == "transposed":
        values = torch.rand(3, count, dtype=dtype, device=device).add_(1e-3).T
    elif layout == "unaligned":
        values = values[1:]
    assert check_values("weights", values, (None, 3), positive=True) is values
    places = [0, 1, 4095, 4096, 5000, 8191, 8192, 12288, len(values) * 3 - 1]
    for place in places:
        row, column = divmod(place, 3)
        kept = values[row, column].item()
        values[row, column] = bad
        with pytest.raises(InputError, match="weights must be"):
            check_values("weights", values, (None, 3), positive=True)
        values[row, column] = kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_positive_floats_are_allowed(dtype, device):
    limits = torch.finfo(dtype)
    values = torch.ones(COUNT[dtype], dtype=dtype, device=device)
    values[::7] = limits.max
    values[1::7] = limits.tiny
    values[2::7] = limits.smallest_normal * limits.eps  # the least subnormal
    check_values("weights", values, (None,), positive=True)
    check_values("weights", values[:0], (None,), positive=True)
