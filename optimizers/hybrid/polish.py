"""The committed descent from one point: quasi-Newton, and cautious steps where that is misled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median
from typing import Any

import torch
from torch import Tensor

from optimizers.constraints import RunningAugmentedLagrangian
from optimizers.evaluation import Evaluation, Incumbent, Query
from optimizers.gradient.lbfgs import Lbfgs
from optimizers.hybrid.bandit import Bandit, gain_between
from optimizers.hybrid.descent import Descent
from optimizers.hybrid.merit import Merit
from optimizers.problem import Problem
from optimizers.state import restore, snapshot

ENGINES = ("quasi-newton", "cautious")
TURN = 10  # gradients until the engine is chosen anew
TRUSTED = 0.05  # error of predicted decreases up to which quasi-Newton steps go unquestioned
ATTEMPTS = 4  # to evaluate the first point, where evaluations fail at random
NEARBY = 0.1  # of a length: how far from a first point that fails the next attempt is made


class Polish:
    """One descent from a point (d,), a query of one point with its gradient at a time.

    Two engines lower the same best point. L-BFGS, under an augmented Lagrangian where there are
    constraints, is far ahead where gradients are true; `Descent` needs no more of them than a
    slope. Gradients at both ends of a step s predict the change of a smooth value,

        e = |df - p| / (|df| + |p|),   p = (g_0 + g_1) . s / 2,

    and while the median of e over ten steps stays below 0.05, L-BFGS has all turns. Beyond, a
    `Bandit` shares the turns by what each engine has gained. An engine that falls behind goes on
    from the best point of the other.

    lengths: (d,), of the first cautious step.
    done: whether nothing is left to gain here. spent: evaluations so far.
    """

    FIELDS = (
        "engine", "open", "lengths", "best", "before", "turn", "errors", "done", "spent",
        "attempts", "constrained", "at", "value", "gradient",
    )  # fmt: skip

    def __init__(self, problem: Problem, x: Tensor, lengths: Tensor, weight: float) -> None:
        self.problem, self.lengths = problem, lengths
        self.engine, self.open = ENGINES[0], list(ENGINES)
        self.best = Incumbent(x)
        self.before, self.turn = [math.inf, math.inf], 0  # best at the beginning of this turn
        self.errors: list[float] = []
        self.done, self.spent, self.attempts = False, 0.0, 0
        self.at, self.value, self.gradient = x, math.inf, torch.zeros_like(x)  # of the L-BFGS step
        self.bandit = Bandit(ENGINES)
        self.constrained = False  # known after the first answer
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

    def is_behind(self, best: Incumbent) -> bool:
        """Whether the best point is another one's; multipliers that are on their way may stay."""
        return not self.constrained and self.best.value > best.value

    def tell(self, query: Query, evaluation: Evaluation, generator: torch.Generator) -> None:
        """Take the answer to the query of `ask`."""
        price = self.problem.gradient_cost
        self.spent += price
        self.turn += 1
        self.best.offer(query.points, evaluation)
        self._merit.learn(evaluation)
        self.constrained = (
            evaluation.constraints is not None and evaluation.constraints.shape[1] > 0
        )
        if self.engine == "cautious":
            merit, gradient = self._merit.of(evaluation), self._merit.gradient(evaluation)
            self._descent.told(merit, gradient, evaluation.ok)
            self._descent.advance(self.problem.lower, self.problem.upper)
            if self._descent.is_over:
                self.open.remove("cautious")
        elif self.best.value == math.inf:
            self._look_nearby(query.points[0], generator)
        else:
            self._note_error(query.points[0], evaluation)
            self._search.tell(query, evaluation)
            if self._search.done is not None:
                self.open.remove("quasi-newton")
                misled = "no step lowers" in self._search.done or self._doubtful()
                self.done = not misled or "gradient" in self._search.done
        self.done = self.done or not self.open
        if not self.done and (self.turn >= TURN or self.engine not in self.open):
            self._choose_engine()

    def _look_nearby(self, x: Tensor, generator: torch.Generator) -> None:
        self.attempts += 1
        self.done = self.attempts == ATTEMPTS
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        nearby = x + NEARBY * self.lengths * noise
        self._search = self._quasi_newton(nearby.clamp(self.problem.lower, self.problem.upper))

    def _note_error(self, x: Tensor, evaluation: Evaluation) -> None:
        """How far the gradients were from predicting the change of the value along this step."""
        if self.constrained or not bool(evaluation.ok[0]):
            return
        assert evaluation.gradient is not None
        value, gradient = float(evaluation.value[0]), evaluation.gradient[0]
        if self.value < math.inf and not torch.equal(x, self.at):
            change = value - self.value
            predicted = 0.5 * float((self.gradient + gradient).dot(x - self.at))
            if change != 0:
                error = abs(change - predicted) / (abs(change) + abs(predicted))
                self.errors = [*self.errors[1 - TURN :], error]
        if value < self.value:
            self.at, self.value, self.gradient = x, value, gradient

    def _doubtful(self) -> bool:
        return len(self.errors) >= 3 and median(self.errors) > TRUSTED

    def _choose_engine(self) -> None:
        gain = gain_between(self.before[0], self.before[1], self.best.value, self.best.violation)
        opened = tuple(self.open)
        self.bandit.told(self.engine, gain, self.turn * self.problem.gradient_cost, opened)
        self.turn, self.before = 0, [self.best.value, self.best.violation]
        trusted = "quasi-newton" in opened and (self.constrained or not self._doubtful())
        chosen = "quasi-newton" if trusted else self.bandit.choose(opened)
        behind = self.engine != chosen
        self.engine = chosen
        if not behind:
            return
        if chosen == "cautious":
            self._descent.trial = self.best.x[None]
        elif chosen == "quasi-newton" and self.best.value < self.value:
            self._search = self._quasi_newton(self.best.x)

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything the descent needs to go on."""
        return {
            "polish": snapshot(self, self.FIELDS),
            "weight": self._merit.weight,
            "bandit": self.bandit.state_dict(),
            "search": self._search.state_dict(),
            "descent": self._descent.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same problem."""
        restore(self, self.FIELDS, state["polish"], self.problem.device)
        self._merit.weight = state["weight"]
        self.bandit.load_state_dict(state["bandit"])
        self._search.load_state_dict(state["search"])
        self._descent.load_state_dict(state["descent"], self.problem.device)
