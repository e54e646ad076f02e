"""The first look at trajectories: iCEM, before anything commits to one of their valleys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from optimizers.evaluation import Evaluation, Query
from optimizers.population.icem import Icem
from optimizers.problem import Problem

SHARE = 0.2  # of the budget
GENERATIONS = 20  # at most, and where the budget has no limit


class SmoothStart:
    """`Icem` with the first fifth of a budget, for problems with trajectories.

    Noise that is smooth in time finds which motion leads through a contact or a gap in a few
    hundred samples. A descent that begins earlier, or a population on few knots, settles in front
    of it. A budget whose share would not pay for one generation is left to the others.
    """

    def __init__(self, problem: Problem, wanted: bool, seed: int) -> None:
        self._search = Icem().start(problem, seed)
        self.left = math.inf if wanted and problem.trajectories else 0.0  # evaluations

    def allow(self, remaining: float) -> None:
        """Learn the budget before the first query."""
        if self.left == math.inf:
            rows = self._search.rows
            self.left = min(GENERATIONS * rows, SHARE * remaining)
            if self.left < rows:
                self.left = 0.0

    def ask(self, remaining: float) -> Query:
        """A generation, or what the budget allows of it."""
        return Query(self._search.ask(remaining).points, tag="smooth start")

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Learn from a generation."""
        self._search.tell(query, evaluation)
        self.left -= len(query.points)
        if self.left <= 0 or self._search.done is not None:
            self.left = 0.0

    def objective_changed(self) -> None:
        """Forget the values told so far."""
        self._search.objective_changed()

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything it needs to go on."""
        return {"left": self.left, "search": self._search.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same problem."""
        self.left = state["left"]
        self._search.load_state_dict(state["search"])
