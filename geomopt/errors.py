"""Errors a user sees, and the checks of tensor arguments that raise them.

Each message names the argument, says what came and what is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line raises these errors before it needs torch
    from torch import Tensor


class InputError(ValueError):
    """A value given by the user cannot be used; the message says which and why."""


class BackendUnavailable(RuntimeError):
    """An optional backend or package is not there; the message says how to get it."""


def check_tensor(
    name: str,
    value: object,
    shape: Sequence[int | None] | None = None,
    *,
    like: Tensor | None = None,
    finite: bool = True,
) -> Tensor:
    """Return `value` if it is a floating tensor of the wanted shape, device and dtype.

    shape: wanted sizes, None for a free one. like: the tensor whose dtype and device must be met.
    Raises InputError that names the argument, what is allowed and what came.
    """
    import torch

    if not isinstance(value, torch.Tensor):
        raise InputError(f"{name} must be a torch tensor, got {type(value).__name__}")
    if not value.dtype.is_floating_point:
        raise InputError(
            f"{name} must be a floating tensor (float32 or float64), got {value.dtype}"
        )
    check_shape(name, value, shape)
    check_values_exist(name, value)
    if like is not None and (value.dtype != like.dtype or value.device != like.device):
        raise InputError(
            f"{name} must have dtype {like.dtype} on {like.device} like the other arguments, "
            f"got {value.dtype} on {value.device}"
        )
    # a finite sum has finite terms, and costs a fraction of looking at each of them
    if finite and not math.isfinite(float(value.detach().sum())):
        bad = int((~torch.isfinite(value.detach())).sum())
        if bad:
            raise InputError(
                f"{name} must be finite, got {bad} NaN or infinite of {value.numel()} values"
            )
    return value


def as_tensor(name: str, value: object, allowed: str, **options: Any) -> Tensor:
    """torch.as_tensor(value, **options), with an InputError, `allowed` in words, if that fails or
    would drop an imaginary part.
    """
    import torch

    wanted = options.get("dtype")
    kind = str(getattr(value, "dtype", ""))
    if "complex" in kind and wanted is not None and not wanted.is_complex:
        raise InputError(f"{name} must be {allowed} without imaginary parts, got {kind}")
    try:
        return torch.as_tensor(value, **options)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise InputError(f"{name} must be {allowed}, got {value!r}") from None


def check_shape(name: str, value: Tensor, shape: Sequence[int | None] | None) -> None:
    """Raise InputError unless `value` has the wanted sizes; None stands for a free size."""
    if shape is None:
        return
    fits = value.ndim == len(shape) and all(
        want is None or have == want for have, want in zip(value.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise InputError(f"{name} must have shape ({wanted}), got {tuple(value.shape)}")


def check_indices(name: str, value: object, shape: Sequence[int | None], count: int) -> Tensor:
    """Return `value` if it is an integer tensor with entries in [0, count)."""
    import torch

    if not isinstance(value, torch.Tensor):
        raise InputError(f"{name} must be a torch tensor, got {type(value).__name__}")
    if value.dtype not in (torch.int32, torch.int64):
        raise InputError(f"{name} must be int32 or int64, got {value.dtype}")
    check_shape(name, value, shape)
    check_values_exist(name, value)
    if value.numel():
        low, high = (int(bound) for bound in torch.aminmax(value))
        if low < 0 or high >= count:
            raise InputError(
                f"{name} must index into [0, {count}), got values from {low} to {high}"
            )
    return value


def check_values_exist(name: str, value: Tensor) -> None:
    """Raise InputError for a tensor of the meta device."""
    if value.is_meta:
        raise InputError(f"{name} must be on a device that holds values, got {value.device}")
