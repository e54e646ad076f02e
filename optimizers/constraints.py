"""Constraints for methods that know none: adapters, and the augmented Lagrangian among them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from optimizers.evaluation import FEASIBLE, Evaluation, Incumbent, Query
from optimizers.gradient.quasi_newton import free_coordinates
from optimizers.problem import Problem
from optimizers.state import check_answer, restore, snapshot

ROUNDS = 100  # asks until the multipliers are renewed at the latest
SAMPLES = 20  # evaluations for each coordinate until then, where only values are asked
OUTER = 60  # renewals after which the run ends
STRONGEST = 1e8  # growth of a penalty at most; beyond it round-off rules
FINEST = 1e-9  # share of the first projected gradient at which a minimum is precise enough
EXACT = 0.01 * FEASIBLE  # violation and slack at which a converged run ends


class Adapter:
    """A running method that tells another one inside what to make of the constraints."""

    FIELDS: ClassVar[tuple[str, ...]] = ("done", "best")

    def __init__(self, inner: Any, problem: Problem) -> None:
        self.inner, self.problem = inner, problem
        self.done: str | None = None
        self.best = Incumbent(problem.start)

    def ask(self, remaining: float = math.inf) -> Query:
        """The query of the method inside."""
        return self.inner.ask(remaining)

    @property
    def rows(self) -> int:
        """How many points a full query holds."""
        return self.inner.rows

    def objective_changed(self) -> None:
        """Forget the values told so far, as the method inside does."""
        self.best = Incumbent(self.best.x)
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


def inner_settings(method: Any) -> Any:
    """The settings that an adapter goes around, by name or as they are."""
    from optimizers.methods import settings_of  # methods use adapters themselves

    return settings_of(method)


@dataclass(frozen=True)
class AugmentedLagrangian:
    """The augmented Lagrangian around a method, settings or a name: for smooth constraints.

    The driver puts it around every method that knows no constraints. Minimises, instead of the
    value f under g <= 0 and h = 0, and with r for each constraint,

        f + sum_j (max(0, l_j + r_j g_j)^2 - l_j^2) / (2 r_j) + sum_j (l_j h_j + r_j h_j^2 / 2)

    and then renews l <- max(0, l + r g) or l + r h, with r <- 10 r unless violations fell to a
    quarter. It is time to renew when the projected gradient has fallen to 0.1 * 0.3^k of the first
    one, when the method inside has converged, or after 100 rounds; where only values are asked,
    after 20 (d + 1) of them. With gradients, each row of the queries has multipliers and penalties
    of its own. While no evaluation brings constraints, everything passes through.

    Nocedal and Wright, algorithm 17.4. Ours: the first penalty 10 |grad f| / |grad g_j|^2, which
    makes the method independent of the units of the value and of each constraint; without
    gradients, spreads over the first points take the place of the slopes.
    """

    method: Any = "lbfgs"

    name: ClassVar[str] = "augmented-lagrangian"
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = False

    @property
    def order(self) -> int:
        """That of the method inside."""
        return inner_settings(self.method).order

    def start(self, problem: Problem, seed: int = 0) -> RunningAugmentedLagrangian:
        """A running search for this problem."""
        return RunningAugmentedLagrangian(inner_settings(self.method).start(problem, seed), problem)


class RunningAugmentedLagrangian(Adapter):
    """The adapter between ask and tell; see `AugmentedLagrangian`.

    Tensors lead with the rows R of a query that have multipliers of their own, 1 where all share.
    """

    FIELDS = (
        "multipliers", "penalty", "growth", "equalities", "outer", "rounds", "first_norm", "lowest",
        "lowest_constraints", "infeasibility", "done", "best",
    )  # fmt: skip

    def __init__(self, inner: Any, problem: Problem) -> None:
        super().__init__(inner, problem)
        rows = problem.start.new_zeros(0)
        self.multipliers = self.lowest_constraints = rows.view(0, 0)  # (R, m)
        self.penalty = rows  # (m,)
        self.growth = self.lowest = self.infeasibility = rows  # (R,)
        self.equalities = 0
        self.outer, self.rounds, self.first_norm = 0, 0, 0.0

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Tell the method inside the augmented value, and renew the multipliers when it is time."""
        check_answer(query, evaluation)
        constraints = evaluation.constraints
        if query.is_true:
            self.best.offer(query.points, evaluation)
        if constraints is None or constraints.shape[1] == 0 or query.target is not None:
            self.inner.tell(query, evaluation)
            self.done = self.inner.done
            return
        if query.order > 0 and evaluation.constraint_gradient is None:
            raise ValueError(
                "evaluation must have a constraint_gradient, the query asked for order 1"
            )
        if not len(self.penalty) and bool(evaluation.ok.any()):
            self._begin(evaluation, constraints)
        known = len(self.penalty) > 0
        merit = self._merit(evaluation, constraints) if known else _unknown(evaluation)
        self.inner.tell(query, merit)
        self.done = self.inner.done if self.inner.done == "all evaluations failed" else None
        if not known or self.done is not None:
            return
        self._note_lowest(merit, constraints)
        by_slope = merit.gradient is not None
        self.rounds += 1 if by_slope else len(constraints)
        limit = ROUNDS if by_slope else SAMPLES * (1 + self.problem.dimension)
        solved = self.inner.done is not None or (by_slope and self._solved(query, merit))
        if solved or self.rounds >= limit:
            self._renew(solved)

    def _begin(self, evaluation: Evaluation, constraints: Tensor) -> None:
        count, self.equalities = constraints.shape[1], evaluation.equalities
        if evaluation.gradient is None or evaluation.constraint_gradient is None:
            rows, ok = 1, evaluation.ok
            steepness = _spread(evaluation.value[ok, None])[0]
            slopes = _spread(constraints[ok])
        else:
            rows = self.inner.rows
            scale, row = self.problem.scale, int(evaluation.ok.nonzero()[0])
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

    def _pressing(self, pressure: Tensor) -> Tensor:
        """Pressures (R, m) of inequalities that do press; those of equalities always do."""
        split = pressure.shape[1] - self.equalities
        if self.equalities == 0:
            return pressure.clamp(min=0.0)
        return torch.cat((pressure[:, :split].clamp(min=0.0), pressure[:, split:]), 1)

    def _merit(self, evaluation: Evaluation, constraints: Tensor) -> Evaluation:
        """The augmented value and its gradient, without constraints."""
        rows = slice(0, len(constraints))  # the only row, where all share it
        multipliers, penalty = self.multipliers[rows], self.penalty * self.growth[rows, None]
        pressure = self._pressing(multipliers + penalty * constraints)
        added = (pressure.square() - multipliers.square()) / (2 * penalty)
        gradient, slopes = evaluation.gradient, evaluation.constraint_gradient
        curvature = evaluation.curvature
        if gradient is not None and slopes is not None:
            pressure = pressure.masked_fill(~evaluation.ok[:, None], 0.0)
            gradient = gradient + (pressure[:, None] @ slopes)[:, 0]
            if curvature is not None:  # that of the constraints themselves is not told
                weight = (penalty * (pressure != 0)).expand_as(pressure)
                curvature = curvature + slopes.mT @ (weight[..., None] * slopes)
        outputs, pull = evaluation.outputs, evaluation.output_gradient
        if outputs is not None and pull is not None:  # the K outputs of a `LinearizedTarget`
            outputs = torch.cat((outputs, constraints), 1)
            pull = torch.cat((pull, pressure), 1)
        return Evaluation(
            evaluation.value + added.sum(1), gradient=gradient, ok=evaluation.ok,
            outputs=outputs, output_gradient=pull, curvature=curvature,
        )  # fmt: skip

    def _note_lowest(self, merit: Evaluation, constraints: Tensor) -> None:
        if len(self.lowest) == 1:
            row = int(merit.value.argmin())
            value, constraints = merit.value[row : row + 1], constraints[row : row + 1]
        else:
            value = merit.value
        rows = slice(0, len(value))
        lower = value < self.lowest[rows]
        self.lowest[rows] = value.where(lower, self.lowest[rows])
        self.lowest_constraints[rows] = constraints.where(
            lower[:, None], self.lowest_constraints[rows]
        )

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
        if self.equalities:
            split = gaps.shape[1] - self.equalities
            gaps = torch.cat((gaps[:, :split], self.lowest_constraints[:, split:].abs()), 1)
        if bool((gaps.sum(1) <= EXACT).all()):
            if self.inner.done is not None or (solved and self._tolerance() == FINEST):
                self.done = "converged: constrained optimum"
            # nothing to renew, only more precision to ask for
            self.outer, self.rounds = self.outer + int(solved), 0
            return
        self.multipliers = self._pressing(self.multipliers + penalty * self.lowest_constraints)
        infeasibility = (gaps * self.penalty.sqrt()).amax(1)
        stuck = infeasibility > 0.25 * self.infeasibility
        self.growth = torch.where(stuck, 10 * self.growth, self.growth).clamp(max=STRONGEST)
        self.infeasibility = infeasibility
        self.lowest = torch.full_like(self.lowest, math.inf)
        self.outer, self.rounds = self.outer + 1, 0
        if self.outer >= OUTER and self.inner.done is not None:
            self.done = "converged: the multipliers no longer help"
        self.inner.objective_changed()


def _unknown(evaluation: Evaluation) -> Evaluation:
    """A failure in every row: without one success there is no penalty to weigh by."""
    return Evaluation(
        evaluation.value, gradient=evaluation.gradient, ok=evaluation.ok,
        curvature=evaluation.curvature,
    )  # fmt: skip


def _spread(columns: Tensor) -> Tensor:
    """How much columns (B, m) vary, or of a single row how large they are."""
    return columns.abs()[0] if len(columns) == 1 else columns.std(0)
