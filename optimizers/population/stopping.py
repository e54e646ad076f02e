"""When a run of CMA-ES has nothing left to find where it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median

STEP = 1e-12  # of the first deviation: steps this short are over
CONDITION = 1e14  # of the covariance, in float64
FLAT = 2e-13  # of a value: differences that do not count, but 20 times round-off at least


@dataclass(frozen=True)
class Stall:
    """The best values of the generations of one run, and what tells that it has stalled.

    history: oldest first, grows by one at each call of `reason`; it belongs to the state of the
    search.
    """

    history: list[float]
    population: int
    dimension: int
    deviation: float

    def reason(
        self, best: float, middle: float, longest: float, ratio: float, round_off: float
    ) -> str | None:
        """Why the run should end, None while it goes well.

        best, middle: values of this generation. longest: axis of the samples. ratio: of the longest
        to the shortest axis. After Hansen, 2016, appendix B.3, without the absolute tolerance of
        the values, which would depend on their unit.
        """
        if not math.isfinite(best):
            return None
        self.history.append(best)
        generations = len(self.history)
        recent = self.history[-(10 + math.ceil(30 * self.dimension / self.population)) :]
        if generations >= 10 + math.ceil(30 * self.dimension / self.population) and math.isfinite(
            middle
        ):
            spread = max(*recent, middle) - min(*recent, middle)
            if spread <= max(FLAT, 20 * round_off) * max(abs(best), abs(middle)):
                return "values no longer differ"
        if longest <= STEP * self.deviation:
            return "steps no longer count"
        if ratio**2 > CONDITION:
            return "the covariance is too ill-conditioned"
        if generations % 10 == 0 and self._stagnates():
            return "no progress"
        if generations >= 100 + 150 * (self.dimension + 3) ** 2 / math.sqrt(self.population):
            return "generations used up"
        return None

    def _stagnates(self) -> bool:
        window = 120 + math.ceil(0.2 * len(self.history) + 30 * self.dimension / self.population)
        if len(self.history) < window:
            return False
        values = self.history[-window:]
        return median(values[-20:]) >= median(values[:20])
