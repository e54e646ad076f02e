"""Which of the evaluated points lead: the progressive and the extreme barrier."""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np

from optimizers.direct_search.archive import Archive
from optimizers.evaluation import FEASIBLE

TRADE = 0.1  # share of the spread of values by which an infeasible point must win to lead


class Outcome(IntEnum):
    """What new points have brought, from worst to best."""

    FAILURE = 0
    IMPROVING = 1  # constraints are violated less, at the price of the value
    DOMINATING = 2  # a leading point was replaced by one that is better in every respect


class Barrier:
    """Two leading points of an archive, one of them feasible, and the excess that is tolerated.

    progressive: the infeasible leader has the least value among the infeasible points with an
        excess h <= limit, and the limit falls to the largest h of the archive below the leader's
        whenever a point lowers h but not the value. Otherwise the barrier is extreme: one leader,
        the least violation while nothing is feasible, then the least value.
    feasible, infeasible: rows of the archive, -1 while there is none.
    begin: the first row that counts; a restart moves it.

    Audet and Dennis, A progressive barrier for derivative-free nonlinear programming, 2009. Ours:
    the slack, a funnel along curved constraints that closes with the radius of the search.
    """

    FIELDS = ("feasible", "infeasible", "limit", "begin")

    def __init__(self, archive: Archive, progressive: bool) -> None:
        self.archive, self.progressive = archive, progressive
        self.restart()

    def restart(self) -> None:
        """Forget the leaders: only rows that are still to come count."""
        self.feasible = self.infeasible = -1
        self.limit = math.inf
        self.begin = self.archive.size

    @property
    def leader(self) -> int:
        """The row to poll around first; -1 while nothing has succeeded."""
        if self.feasible < 0 or self.infeasible < 0:
            return max(self.feasible, self.infeasible)
        value, violation = (
            self.archive.value[self.begin :],
            self.archive.violation[self.begin :],
        )
        spread = np.ptp(np.percentile(value[violation <= FEASIBLE], (25, 75)))
        gain = self.archive.value[self.feasible] - self.archive.value[self.infeasible]
        return self.infeasible if gain > TRADE * spread else self.feasible

    @property
    def second(self) -> int:
        """The other leader, -1 where there is only one."""
        if self.feasible < 0 or self.infeasible < 0:
            return -1
        return self.feasible + self.infeasible - self.leader

    def judge(self, rows: range, slack: float = 0.0) -> Outcome:
        """Take new rows of the archive into account.

        slack: an excess up to this counts as this.
        """
        outcome = Outcome.FAILURE
        for row in rows:
            if self.archive.value[row] < math.inf:
                outcome = max(outcome, self._judged(row, slack))
        return outcome

    def lead(self, row: int) -> None:
        """Make a row the leader, whether it is better or not."""
        if self.archive.violation[row] <= FEASIBLE:
            self.feasible = row
        else:
            self.infeasible = row
            self.limit = max(self.limit, float(self.archive.excess[row]))

    def _judged(self, row: int, slack: float) -> Outcome:
        value, excess = self.archive.value, self.archive.excess
        if self.archive.violation[row] <= FEASIBLE:
            if self.feasible >= 0 and not value[row] < value[self.feasible]:
                return Outcome.FAILURE
            self.feasible = row
            if not self.progressive:
                self.infeasible = -1
            return Outcome.DOMINATING
        if not self.progressive:
            return self._least_violation(row)
        new = max(float(excess[row]), slack)
        if not new <= max(self.limit, slack):
            return Outcome.FAILURE
        old = self.infeasible
        if old < 0:
            self.infeasible = row
            # beside a feasible leader it is only a second point to poll around
            return Outcome.FAILURE if self.feasible >= 0 else Outcome.DOMINATING
        least = max(float(excess[old]), slack)
        lower, closer = value[row] < value[old], new < least
        if (lower and new <= least) or (closer and value[row] <= value[old]):
            self.infeasible = row
            self.limit = new
            return Outcome.DOMINATING
        if not closer:
            return Outcome.FAILURE
        self._tighten(least)
        return Outcome.IMPROVING

    def _least_violation(self, row: int) -> Outcome:
        violation, old = self.archive.violation, self.infeasible
        if self.feasible >= 0 or (old >= 0 and not violation[row] < violation[old]):
            return Outcome.FAILURE
        self.infeasible = row
        return Outcome.DOMINATING

    def _tighten(self, above: float) -> None:
        """Lower the limit below an excess, and take the least value within it."""
        begin = self.begin
        value, excess = self.archive.value[begin:], self.archive.excess[begin:]
        infeasible = (self.archive.violation[begin:] > FEASIBLE) & (value < math.inf)
        allowed = infeasible & (excess < above)
        if not allowed.any():
            return
        self.limit = float(excess[allowed].max())
        self.infeasible = begin + int(np.where(allowed, value, math.inf).argmin())
