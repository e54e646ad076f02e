"""The committed descent from one point: quasi-Newton first, cautious steps where that is misled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from optimizers.constraints import RunningAugmentedLagrangian
from optimizers.evaluation import Evaluation, Incumbent, Query
from optimizers.gradient.lbfgs import Lbfgs
from optimizers.hybrid.descent import Descent
from optimizers.hybrid.merit import Merit
from optimizers.problem import Problem
from optimizers.state import restore, snapshot

ATTEMPTS = 4  # to evaluate the first point, where evaluations fail at random
NEARBY = 0.1  # of a length: how far from a first point that fails the next attempt is made


class Polish:
    """One descent from a point (d,), a query of one point with its gradient at a time.

    L-BFGS begins, under an augmented Lagrangian where there are constraints. A line search that
    ends without a decrease, while the gradient is far from 0, convicts the gradients: then
    `Descent` goes on from the best point, which needs no more of them than a slope.
    lengths: (d,), of the first cautious step.
    done: whether nothing is left to gain here. spent: evaluations so far.
    """

    FIELDS = ("engine", "lengths", "best", "done", "spent", "attempts", "first_norm", "norm")

    def __init__(self, problem: Problem, x: Tensor, lengths: Tensor, weight: float) -> None:
        self.problem, self.lengths = problem, lengths
        self.engine = "quasi-newton"
        self.best = Incumbent(x)
        self.done, self.spent, self.attempts = False, 0.0, 0
        self.first_norm = self.norm = 0.0
        self._merit = Merit(problem.scale, weight)
        self._descent = Descent(x[None], lengths)
        self._search = self._quasi_newton(x)

    def _quasi_newton(self, x: Tensor) -> Any:
        search: Any = Lbfgs().start(self.problem)
        search.x = search.trial = x
        if self.problem.constraints == 0:
            return search
        return RunningAugmentedLagrangian(search, self.problem)

    def ask(self) -> Query:
        """The next point (1, d)."""
        if self.engine == "cautious":
            return Query(self._descent.trial, order=1, tag="polish, cautious")
        return Query(self._search.ask().points, order=1, tag="polish")

    def tell(self, query: Query, evaluation: Evaluation, generator: torch.Generator) -> None:
        """Take the answer to the query of `ask`."""
        self.spent += self.problem.gradient_cost
        ok = bool(evaluation.ok[0])
        self.best.offer(query.points, evaluation)
        self._merit.learn(evaluation)
        if ok:
            assert evaluation.gradient is not None
            gradient = self._merit.gradient(evaluation)[0] * self.problem.scale
            self.norm = float(gradient.norm(math.inf))
            self.first_norm = max(self.first_norm, self.norm)
        if self.engine == "cautious":
            self._descent.told(
                self._merit.of(evaluation), self._merit.gradient(evaluation), evaluation.ok
            )
            self._descent.advance(self.problem.lower, self.problem.upper)
            self.done = self._descent.is_over
            return
        if not ok and self.best.value == math.inf:
            self._look_nearby(query.points[0], generator)
            return
        self._search.tell(query, evaluation)
        if self._search.done is not None:
            self._judge(self._search.done)

    def _look_nearby(self, x: Tensor, generator: torch.Generator) -> None:
        self.attempts += 1
        if self.attempts == ATTEMPTS:
            self.done = True
            return
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        nearby = x + NEARBY * self.lengths * noise
        self._search = self._quasi_newton(nearby.clamp(self.problem.lower, self.problem.upper))

    def _judge(self, reason: str) -> None:
        if "no step lowers" not in reason:
            self.done = True
            return
        self.engine = "cautious"
        self._descent = Descent(self.best.x[None], self.lengths)

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything the descent needs to go on."""
        return {
            "polish": snapshot(self, self.FIELDS),
            "weight": self._merit.weight,
            "search": self._search.state_dict(),
            "descent": self._descent.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same problem."""
        restore(self, self.FIELDS, state["polish"], self.problem.device)
        self._merit.weight = state["weight"]
        self._search.load_state_dict(state["search"])
        self._descent.load_state_dict(state["descent"], self.problem.device)
