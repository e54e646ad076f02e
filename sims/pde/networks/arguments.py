"""Checks of what networks and surrogates are made of."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor


def check_count(name: str, value: object, least: int = 1) -> int:
    """Return the value if it is an integer of at least so much."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} must be an integer of at least {least}, got {value!r}")
    return value


def check_counts(name: str, value: object, meaning: str) -> tuple[int, ...]:
    """Return the values if they are integers of at least 1, and at least one of them."""
    if not isinstance(value, list | tuple) or not value:
        raise InputError(f"{name} must be {meaning}, got {value!r}")
    return tuple(check_count(name, each) for each in value)


def check_number(name: str, value: object, meaning: str = "a finite number") -> float:
    """Return the value as a float if it is a finite number, or a tensor that holds one."""
    found = as_tensor(name, value, meaning, dtype=torch.float64).detach()
    if found.numel() != 1 or not math.isfinite(float(found)):
        raise InputError(f"{name} must be {meaning}, got {value!r}")
    return float(found)


def check_flag(name: str, value: object) -> bool:
    """Return the value if it is True or False."""
    if not isinstance(value, bool):
        raise InputError(f"{name} must be True or False, got {value!r}")
    return value


def check_generator(name: str, value: object) -> torch.Generator:
    """Return the value if it is a generator of random numbers."""
    if not isinstance(value, torch.Generator):
        raise InputError(f"{name} must be a torch.Generator, got {value!r}")
    return value


def check_dimension(dimension: object) -> int:
    """Return the number of axes if it is 1, 2 or 3."""
    if isinstance(dimension, bool) or not isinstance(dimension, int) or not 1 <= dimension <= 3:
        raise InputError(f"dimension must be 1, 2 or 3, got {dimension!r}")
    return dimension


def check_fields(fields: Tensor, channels: int, dimension: int) -> None:
    """Raise InputError unless the fields are (B, channels, *space) of that dimension."""
    if fields.dim() != dimension + 2 or fields.shape[1] != channels:
        space = ", ".join(["any"] * dimension)
        raise InputError(
            f"fields must have shape (any, {channels}, {space}), got {tuple(fields.shape)}"
        )
