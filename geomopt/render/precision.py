"""Kernels in single and in double precision."""

from __future__ import annotations

from typing import Any

import torch
import warp as wp

from geomopt.launch import warp_scalar


def per_precision(kernel: Any, *arrays: str) -> dict[torch.dtype, Any]:
    """Instances of a generic kernel by the dtype of its `arrays`."""
    return {
        dtype: wp.overload(kernel, {name: wp.array(dtype=warp_scalar(dtype)) for name in arrays})
        for dtype in (torch.float32, torch.float64)
    }
