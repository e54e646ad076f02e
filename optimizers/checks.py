"""Checks of settings; each message names the setting, what came and what is allowed."""

from __future__ import annotations

import math


def check_number(
    name: str,
    value: object,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> None:
    """Raise unless above < value < below and least <= value <= most, and value is finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if math.isfinite(value) and above < value < below and least <= value <= most:
        return
    signs = ((">", above), (">=", least), ("<", below), ("<=", most))
    allowed = " and ".join(f"{sign} {bound:g}" for sign, bound in signs if math.isfinite(bound))
    raise ValueError(f"{name} must be {allowed or 'finite'}, got {value}")


def check_count(name: str, value: object, least: int = 1) -> None:
    """Raise unless value is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
