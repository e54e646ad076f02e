"""Numbers of each trajectory that a surrogate is told, and the ranges it was trained on."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor

Ranges = dict[str, tuple[float, float]]
ROOM = 1e-6  # of a range's size and values: rounding is not outside


class OutsideTraining(UserWarning):
    """A condition lies outside of the range that a surrogate was trained on."""


def ranges(given: Mapping[str, Any] | None) -> Ranges:
    """Name to (lowest, highest); raises InputError for what is no range."""
    found: Ranges = {}
    for name, ends in check_names("conditions", given).items():
        try:
            low, high = (float(end) for end in ends)
        except (TypeError, ValueError):
            low, high = math.nan, math.nan
        if not -math.inf < low <= high < math.inf:
            raise InputError(
                f"conditions[{name!r}] must be the (lowest, highest) value of training, got "
                f"{ends!r}"
            )
        found[name] = (low, high)
    return found


def check_names(name: str, given: object) -> Mapping[str, Any]:
    """Return the value if it maps names to something; None is a map of nothing."""
    given = {} if given is None else given
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise InputError(f"{name} must map names to values, got {given!r}")
    return given


def gathered(ranges: Ranges, condition: Mapping[str, Any], u: Tensor) -> Tensor:
    """Values (B, n) float64 of all names for fields u (B, ...), in the order of the ranges."""
    columns: list[Tensor] = []
    for name in ranges:
        if name not in condition:
            raise InputError(
                f"condition must have a value of {name!r} for this surrogate, got "
                f"{sorted(condition)}"
            )
        value = as_tensor(
            f"condition {name!r}",
            condition[name],
            "a number or values (B,)",
            dtype=torch.float64,
            device=u.device,
        )
        if value.dim() > 1 or value.numel() not in (1, len(u)):
            raise InputError(
                f"condition {name!r} must be a number or have shape ({len(u)},), got "
                f"{tuple(value.shape)}"
            )
        columns.append(value.expand(len(u)))
    return torch.stack(columns, 1)


def normalised(ranges: Ranges, values: Tensor) -> Tensor:
    """Values (B, n) brought to 0 at the low and 1 at the high end of each range."""
    low, high = _ends(ranges, values)
    return (values - low) / torch.where(high > low, high - low, 1.0)


def warn_outside(ranges: Ranges, values: Tensor, warned: set[str]) -> None:
    """Warn `OutsideTraining`, once for each name that `warned` does not hold yet.

    Raises InputError for values that are not finite.
    """
    low, high = _ends(ranges, values)
    room = ROOM * torch.maximum(high - low, high.abs())
    inside = (values >= low - room) & (values <= high + room)
    if bool(inside.all()):
        return
    for name, good, column in zip(ranges, inside.T, values.T, strict=True):
        if not bool(column.isfinite().all()):
            raise InputError(f"condition {name!r} must be finite, got {column.tolist()}")
        if not bool(good.all()) and name not in warned:
            warned.add(name)
            warnings.warn(
                f"{name} was trained between {ranges[name][0]:g} and {ranges[name][1]:g}, and is "
                f"asked for at {float(column[~good][0]):g}",
                OutsideTraining,
                stacklevel=4,
            )


def _ends(ranges: Ranges, like: Tensor) -> tuple[Tensor, Tensor]:
    low, high = torch.tensor(list(ranges.values()), dtype=like.dtype, device=like.device).T
    return low, high
