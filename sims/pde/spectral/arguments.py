"""Checks of what a stepper is made with."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor

Number = float | Tensor  # or a tensor () or (B,), which may require a gradient


def whole_number(name: str, value: object, least: int = 1) -> int:
    """`value` as an int, or InputError unless it is a whole number of at least `least`."""
    try:
        number = operator.index(value)  # pyright: ignore[reportArgumentType]
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return number


def checked_points(points: int | Sequence[int], dimension: int) -> tuple[int, ...]:
    """`points` for each axis, or InputError unless they are even numbers of at least 4."""
    given = points if isinstance(points, Sequence) else (points,) * dimension
    if len(given) != dimension:
        raise InputError(f"points must be one number or {dimension} of them, got {points!r}")
    counts = tuple(whole_number("points", count, 4) for count in given)
    if any(count % 2 for count in counts):
        raise InputError(f"points must be even numbers, got {points!r}")
    return counts


def checked_lengths(
    length: float | Sequence[float] | Tensor, dimension: int
) -> float | tuple[float, ...] | Tensor:
    """`length` as a float, a tuple with one for each axis, or a tensor () or (B,)."""
    if isinstance(length, list | tuple):
        if len(length) != dimension:
            raise InputError(
                f"length must be one number, {dimension} of them (one for each axis), or a tensor "
                f"(B,), got {length!r}"
            )
        return tuple(float(checked_parameter("length", edge, above=0.0)) for edge in length)
    return checked_parameter("length", length, above=0.0)


def checked_parameter(
    name: str, value: object, *, above: float | None = None, least: float | None = None
) -> Number:
    """`value` as a float, or as the tensor () or (B,) it is.

    Raises InputError unless it is finite, above `above` and at least `least` where those are given.
    """
    wanted = "a finite number, or a tensor () or (B,) of them"
    if above is not None:
        wanted += f", above {above:g}"
    if least is not None:
        wanted += f", at least {least:g}"
    numbers = as_tensor(name, value, wanted, dtype=torch.float64).detach()
    if numbers.ndim > 1 or not numbers.numel():
        raise InputError(f"{name} must be {wanted}, got shape {tuple(numbers.shape)}")
    bad = ~numbers.isfinite()
    if above is not None:
        bad = bad | (numbers <= above)
    if least is not None:
        bad = bad | (numbers < least)
    if bool(bad.any()):
        first = float(numbers[bad].flatten()[0]) if numbers.ndim else float(numbers)
        raise InputError(f"{name} must be {wanted}, got {first:g}")
    if isinstance(value, Tensor) and value.dtype.is_floating_point:
        return value
    return numbers if numbers.ndim else float(numbers)


def lengths_of(
    length: float | tuple[float, ...] | Tensor, dimension: int, device: torch.device
) -> Tensor:
    """The edges (B or 1, dimension) of a checked `length`, float64."""
    edges = torch.as_tensor(length, dtype=torch.float64, device=device)
    if isinstance(length, tuple):
        return edges[None]
    return edges.reshape(-1, 1).expand(-1, dimension)


def check_batch(name: str, value: object, batch: int) -> None:
    """Raise InputError where `value` has a number for each of another count of trajectories."""
    if isinstance(value, Tensor) and value.ndim and len(value) not in (1, batch):
        raise InputError(f"{name} has values for {len(value)} trajectories, u has {batch}")
