"""The plane elastica: a clamped inextensible strip under an end force or its own weight.

With the arc length s from the free end over the length, and phi the angle to the vertical,

    phi'' = k sin phi          a force P across the start at the end, k = P L^2 / (E I)
    phi'' = Gamma s sin phi    its own weight q a length, Gamma = q L^3 / (E I)

where phi'(0) = 0 and phi(1) = pi / 2 at the clamp (Euler 1744; Romero et al. 2021, "Physical
validation of simulators in computer graphics", ACM TOG 40(4), use it to test simulators). Shots
from the free end grow steadily with phi(0), so that one root of its logarithm is all there is to
find.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

STEEPEST = -120.0  # log of the smallest angle tried at the free end


def end_force(k: float) -> tuple[float, float]:
    """Horizontal and vertical distance of the free end from the clamp over the length."""
    return _free_end(k, 0)


def own_weight(gamma: float) -> tuple[float, float]:
    """Horizontal and vertical distance of the free end from the clamp over the length."""
    return _free_end(gamma, 1)


def sensitivity(shape, number: float, step: float = 1e-3) -> np.ndarray:
    """d(horizontal, vertical) / d(log number) of one of the shapes above, by central differences
    of fourth order."""
    near, far = (
        np.subtract(shape(number * math.exp(h)), shape(number * math.exp(-h))) / (2 * h)
        for h in (step, 2 * step)
    )
    return (4 * near - far) / 3


@cache
def _free_end(strength: float, power: int) -> tuple[float, float]:
    def slope(s, y):
        pull = strength * s**power
        return [y[1], pull * math.sin(y[0]), math.sin(y[0]), math.cos(y[0])]

    def vertical(s, y):
        return y[0] - math.pi / 2

    vertical.terminal = True  # pyright: ignore[reportFunctionMemberAccess]

    def shoot(logarithm: float):
        start = [math.exp(logarithm), 0.0, 0.0, 0.0]
        # the angle is relative to its start: its error must be, too
        errors = [1e-11 * start[0], 1e-11 * start[0], 1e-12, 1e-12]
        return solve_ivp(slope, (0, 1), start, "DOP853", rtol=1e-10, atol=errors, events=vertical)

    def surplus(logarithm: float) -> float:
        """Positive where the strip is level before the clamp, negative where it is not there."""
        shot = shoot(logarithm)
        return 1 - shot.t[-1] if shot.status == 1 else shot.y[0, -1] - math.pi / 2

    found: Any = brentq(surplus, STEEPEST, math.log(math.pi / 2) - 1e-9, xtol=1e-12)
    x, w = shoot(found).y[2:, -1]
    return float(x), float(w)
