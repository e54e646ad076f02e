"""Constraints for methods that know none: the augmented Lagrangian around a gradient method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from optimizers.evaluation import FEASIBLE, Evaluation, Incumbent, Query
from optimizers.gradient.quasi_newton import free_coordinates
from optimizers.problem import Problem
from optimizers.state import check_answer, restore, snapshot

ROUNDS = 100  # asks until the multipliers are renewed at the latest
OUTER = 60  # renewals after which the run ends
STRONGEST = 1e8  # growth of a penalty at most; beyond it round-off rules
FINEST = 1e-9  # share of the first projected gradient at which a minimum is precise enough
EXACT = 0.01 * FEASIBLE  # violation and slack at which a converged run ends


class AugmentedLagrangian:
    """A running gradient method that minimises, instead of the value f under constraints g <= 0,

        f + sum_j (max(0, l_j + r_j g_j)^2 - l_j^2) / (2 r_j)

    and then renews l <- max(0, l + r g), with r <- 10 r unless violations fell to a quarter. It is
    time to renew when the projected gradient has fallen to 0.1 * 0.3^k of the first one, when the
    method inside has converged, or after 100 rounds. Each row of the queries has multipliers and
    penalties of its own. While no evaluation brings constraints, everything passes through.

    Nocedal and Wright, algorithm 17.4. Ours: the first penalty 10 |grad f| / |grad g_j|^2, which
    makes the method independent of the units of the value and of each constraint.
    """

    FIELDS = (
        "multipliers", "penalty", "growth", "outer", "rounds", "first_norm", "lowest",
        "lowest_constraints", "infeasibility", "done", "best",
    )  # fmt: skip

    def __init__(self, inner: Any, problem: Problem) -> None:
        self.inner, self.problem = inner, problem
        rows = problem.start.new_zeros(0)
        self.multipliers = self.lowest_constraints = rows.view(0, 0)  # (B, m)
        self.penalty = rows  # (m,)
        self.growth = self.lowest = self.infeasibility = rows  # (B,)
        self.outer, self.rounds, self.first_norm = 0, 0, 0.0
        self.done: str | None = None
        self.best = Incumbent(problem.start)

    def ask(self, remaining: float = math.inf) -> Query:
        """The query of the method inside."""
        return self.inner.ask(remaining)

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Tell the method inside the augmented value, and renew the multipliers when it is time."""
        check_answer(query, evaluation)
        self.best.offer(query.points, evaluation)
        constraints = evaluation.constraints
        if constraints is None or constraints.shape[1] == 0:
            self.inner.tell(query, evaluation)
            self.done = self.inner.done
            return
        if evaluation.constraint_gradient is None:
            raise ValueError(
                "evaluation must have a constraint_gradient, the query asked for order 1"
            )
        if not len(self.penalty) and bool(evaluation.ok.any()):
            self._begin(evaluation, constraints)
        merit = self._merit(evaluation, constraints) if len(self.penalty) else _unknown(evaluation)
        self.inner.tell(query, merit)
        self.done = self.inner.done if self.inner.done == "all evaluations failed" else None
        if not len(self.penalty) or self.done is not None:
            return
        rows = slice(0, len(merit.value))
        lower = merit.value < self.lowest[rows]
        self.lowest[rows] = merit.value.where(lower, self.lowest[rows])
        self.lowest_constraints[rows] = constraints.where(
            lower[:, None], self.lowest_constraints[rows]
        )
        self.rounds += 1
        solved = self.inner.done is not None or self._solved(query, merit)
        if solved or self.rounds >= ROUNDS:
            self._renew(solved)

    def _begin(self, evaluation: Evaluation, constraints: Tensor) -> None:
        rows, count = self.inner.rows, constraints.shape[1]
        scale, row = self.problem.scale, int(evaluation.ok.nonzero()[0])
        assert evaluation.gradient is not None
        assert evaluation.constraint_gradient is not None
        steepness = (evaluation.gradient[row] * scale).norm()
        slopes = (evaluation.constraint_gradient[row] * scale).norm(dim=1)
        steepness = steepness if steepness > 0 else torch.ones_like(steepness)
        slopes = slopes.where(slopes > 0, slopes.max())
        slopes = slopes.where(slopes > 0, 1.0)
        self.penalty = 10 * steepness / slopes.square()
        self.multipliers = constraints.new_zeros(rows, count)
        self.lowest_constraints = constraints.new_zeros(rows, count)
        self.growth = constraints.new_ones(rows)
        self.lowest = constraints.new_full((rows,), math.inf)
        self.infeasibility = constraints.new_full((rows,), math.inf)

    def _merit(self, evaluation: Evaluation, constraints: Tensor) -> Evaluation:
        """The augmented value and its gradient, without constraints."""
        rows = slice(0, len(constraints))
        multipliers, penalty = self.multipliers[rows], self.penalty * self.growth[rows, None]
        pressure = (multipliers + penalty * constraints).clamp(min=0.0)
        value = evaluation.value + ((pressure.square() - multipliers.square()) / (2 * penalty)).sum(
            1
        )
        assert evaluation.gradient is not None
        assert evaluation.constraint_gradient is not None
        pressure = pressure.masked_fill(~evaluation.ok[:, None], 0.0)
        pull = (pressure[:, None] @ evaluation.constraint_gradient)[:, 0]
        return Evaluation(value, gradient=evaluation.gradient + pull, ok=evaluation.ok)

    def _solved(self, query: Query, merit: Evaluation) -> bool:
        """Whether every row is as good as this renewal asks for."""
        if not bool(merit.ok.all()):
            return False
        points, lower, upper = query.points, self.problem.lower, self.problem.upper
        assert merit.gradient is not None
        free = free_coordinates(merit.gradient, lower - points, upper - points)
        norm = float((merit.gradient * self.problem.scale * free).abs().max())
        self.first_norm = self.first_norm or norm
        return norm <= self._tolerance() * self.first_norm

    def _tolerance(self) -> float:
        return max(FINEST, 0.1 * 0.3**self.outer)

    def _renew(self, solved: bool) -> None:
        penalty = self.penalty * self.growth[:, None]
        # a satisfied constraint counts as far as its multiplier still presses
        gaps = torch.maximum(self.lowest_constraints, -self.multipliers / penalty).abs()
        if bool((gaps.sum(1) <= EXACT).all()):
            if self.inner.done is not None or (solved and self._tolerance() == FINEST):
                self.done = "converged: constrained optimum"
            # nothing to renew, only more precision to ask for
            self.outer, self.rounds = self.outer + int(solved), 0
            return
        self.multipliers = (self.multipliers + penalty * self.lowest_constraints).clamp(min=0.0)
        infeasibility = (gaps * self.penalty.sqrt()).amax(1)
        stuck = infeasibility > 0.25 * self.infeasibility
        self.growth = torch.where(stuck, 10 * self.growth, self.growth).clamp(max=STRONGEST)
        self.infeasibility = infeasibility
        self.lowest = torch.full_like(self.lowest, math.inf)
        self.outer, self.rounds = self.outer + 1, 0
        if self.outer >= OUTER and self.inner.done is not None:
            self.done = "converged: the multipliers no longer help"
        self.inner.objective_changed()

    def events(self) -> tuple[str, ...]:
        """Those of the method inside."""
        return self.inner.events()

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything the search needs to go on."""
        return {"adapter": snapshot(self, self.FIELDS), "inner": self.inner.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same settings and problem."""
        restore(self, self.FIELDS, state["adapter"], self.problem.device)
        self.inner.load_state_dict(state["inner"])


def _unknown(evaluation: Evaluation) -> Evaluation:
    """A failure in every row: without one success there is no penalty to weigh by."""
    return Evaluation(evaluation.value, gradient=evaluation.gradient, ok=evaluation.ok)
