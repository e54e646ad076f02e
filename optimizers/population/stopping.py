"""When a run of CMA-ES has nothing left to find where it is."""

from __future__ import annotations

import math
from statistics import median

SHORTEST, LONGEST = 1e-12, 1e12  # of the first deviation: steps that are over, or never end
CONDITION = 1e14  # of the covariance, in float64
FLAT = 1e-12  # of a value: differences that do not count, but 20 times round-off at least


def stall_reason(
    history: list[float],
    population: int,
    dimension: int,
    *,
    middle: float,
    step: float,
    ratio: float,
    round_off: float,
) -> str | None:
    """Why a run should end, None while it goes well.

    history: best values of its generations, oldest first. middle: median value of the last one.
    step: longest axis of the samples over the first deviation. ratio: of the longest to the
    shortest axis. round_off: of values near 1.
    After Hansen, 2016, appendix B.3, without the absolute tolerance of the values, which would
    depend on their unit.
    """
    generations = len(history)
    window = 10 + math.ceil(30 * dimension / population)
    if generations >= window and math.isfinite(middle):
        recent = (*history[-window:], middle)
        if max(recent) - min(recent) <= max(FLAT, 20 * round_off) * max(map(abs, recent)):
            return "values no longer differ"
    if step <= SHORTEST:
        return "steps no longer count"
    if step >= LONGEST:
        return "steps grow without end"
    if ratio**2 > CONDITION:
        return "the covariance is too ill-conditioned"
    if generations % 10 == 0 and _stagnates(history, population, dimension):
        return "no progress"
    if generations >= 100 + 150 * (dimension + 3) ** 2 / math.sqrt(population):
        return "generations used up"
    return None


def _stagnates(history: list[float], population: int, dimension: int) -> bool:
    window = 120 + math.ceil(0.2 * len(history) + 30 * dimension / population)
    if len(history) < window:
        return False
    values = history[-window:]
    return median(values[-20:]) >= median(values[:20])
