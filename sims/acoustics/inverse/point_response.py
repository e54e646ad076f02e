"""Responses to an impulse, as a measurement gives them, from a solver that hears a point.

A point that emits g(t) = exp(-((t - t₀) / τ)²) is heard as P(s) = s g(s) G(s), and in free air
G = exp(-s r / c) / (4 π c² r). So

    H(s) = 4 π c² P(s) / (s g(s)),    g(s) = √π τ exp((τ s / 2)² - t₀ s),

is the response of a source whose free field is an impulse of 1 / r. Unlike a pulse of pressure a
point has no inside, so that receivers may be near, and the same is heard whatever the band.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.solver import Solver
from sims.acoustics.source import NARROWEST, Emission, default_width

BEFORE = 4.0  # of τ from the start of g to its peak, where it has risen from e^-16
STRENGTH = 4 * math.pi * SPEED_OF_SOUND**2  # of a point whose free field is 1 / r [m²/s²]


def point_pressure(
    solver: Solver, source: Tensor, receivers: Tensor, duration: float, walls: Any = None
) -> Tensor:
    """The pressure (R, T) of a point (3,) that emits g, at receivers (R, 3) [m], for a duration
    [s] behind the end of g; differentiable in the walls.
    """
    length = _length(solver)
    count = math.ceil(2 * BEFORE * length / solver.time_step) + 1
    times = solver.time_step * torch.arange(count, dtype=torch.float64)
    signal = torch.exp(-((times / length - BEFORE) ** 2))
    emission = Emission(source, signal, 1 / solver.time_step)
    return solver.simulate(emission, receivers, duration + 2 * BEFORE * length, walls=walls)


def impulse_over_point(solver: Solver, s: Tensor) -> Tensor:
    """H over P (K,), what turns spectra of `point_pressure` into those of an impulse."""
    length = _length(solver)
    emitted = math.sqrt(math.pi) * length * torch.exp((length * s / 2) ** 2 - BEFORE * length * s)
    return STRENGTH / (s * emitted)


def _length(solver: Solver) -> float:
    """τ [s]: g ends at twice the solver's band."""
    return NARROWEST * default_width(solver.fmax) / SPEED_OF_SOUND
