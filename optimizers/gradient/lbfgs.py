"""L-BFGS in a box: first choice for a smooth function with exact gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from optimizers.checks import check_count, check_number
from optimizers.evaluation import Evaluation, Incumbent, Query
from optimizers.gradient.quasi_newton import History, free_coordinates, quasi_newton_step
from optimizers.problem import Problem
from optimizers.state import check_answer, projection, restore, seeded, snapshot

DECREASE, CURVATURE = 1e-4, 0.9  # of the weak Wolfe conditions; Nocedal and Wright, section 3.1
TRIALS = 30  # along one direction
FIRST_STEP = 0.1  # of a scale, while no curvature is known
ATTEMPTS = 10  # to find a start that can be evaluated


@dataclass(frozen=True)
class Lbfgs:
    """Limited-memory quasi-Newton steps in a box: when values are smooth and gradients exact.

    memory: pairs of steps and gradient changes that are kept, two vectors each; more of them pay
        where the curvature differs much between directions.
    tolerance: the run has converged when the projected gradient has fallen to this share of the
        first one, or when two steps in a row change the value by no more than round-off.

        x <- P(x + a p),   p = -H g on the free coordinates,
                           p = -g / w on those that this plain step takes to a bound

    P clamps into the box, H is the two-loop product (Nocedal and Wright, algorithm 7.4) over pairs
    cut to the free coordinates, from the diagonal w of a Hessian (see `History`), and the
    two-metric split keeps p a direction of descent (Bertsekas, 1982). The length a meets the weak
    Wolfe conditions along the bent path. Each trial is a query; a failed one shortens the step.
    Coordinates are measured in their scales.
    """

    memory: int = 20
    tolerance: float = 1e-12

    name: ClassVar[str] = "lbfgs"
    order: ClassVar[int] = 1
    handles_constraints: ClassVar[bool] = False
    by_rank: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_count("memory", self.memory)
        check_number("tolerance", self.tolerance, least=0)

    def start(self, problem: Problem, seed: int = 0) -> RunningLbfgs:
        """A running search for this problem."""
        return RunningLbfgs(self, problem, seed)


class RunningLbfgs:
    """L-BFGS between ask and tell; see `Lbfgs`.

    x, value, gradient: where the search stands.
    low: the best step length so far along the direction, with what was found there.
    high: the shortest step length that is known to be too long.
    """

    FIELDS = (
        "phase", "x", "value", "gradient", "direction", "slope", "step", "trials", "trial",
        "low_step", "low_value", "low_slope", "low_gradient", "high_step", "high_value",
        "first_norm", "flat", "attempts", "done", "best", "generator",
    )  # fmt: skip

    def __init__(self, settings: Lbfgs, problem: Problem, seed: int) -> None:
        self.settings, self.problem = settings, problem
        self.generator = seeded(problem, seed)
        self.x = self.trial = problem.start
        self.gradient = self.direction = self.low_gradient = torch.zeros_like(self.x)
        self.value = self.low_value = self.high_value = math.inf
        self.slope = self.low_slope = self.step = self.low_step = 0.0
        self.high_step = math.inf
        self.history = History(settings.memory, self.x)
        self.first_norm = 0.0
        self.phase, self.trials, self.flat, self.attempts = "start", 0, 0, 0
        self.done: str | None = None
        self.best = Incumbent(problem.start)
        self._clamp = projection(problem)
        self._bounded = bool((problem.lower.isfinite() | problem.upper.isfinite()).any())
        self._round_off = 10 * torch.finfo(problem.dtype).eps

    def ask(self, remaining: float = math.inf) -> Query:
        """The next trial point (1, d), with its gradient."""
        del remaining
        return Query(self.trial[None], order=1, tag=self.phase)

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Judge the trial: accept it, or try another length along the same direction."""
        check_answer(query, evaluation, expected=1)
        assert evaluation.gradient is not None
        self.best.offer(query.points, evaluation)
        ok, value, gradient = (
            bool(evaluation.ok[0]),
            float(evaluation.value[0]),
            evaluation.gradient[0],
        )
        if self.phase == "start":
            self._begin(ok, value, gradient)
        else:
            self._judge(ok, value, gradient)

    def _begin(self, ok: bool, value: float, gradient: Tensor) -> None:
        if ok:
            self.x, self.value, self.gradient = self.trial, value, gradient
            self.first_norm = max(self.first_norm, self._norm())
            self._choose_direction()
            return
        self.attempts += 1
        self.trial = self.problem.sample(1, self.generator)[0]
        if self.attempts >= ATTEMPTS:
            self.done = "all evaluations failed"

    def _choose_direction(self) -> None:
        if self._norm() <= self.settings.tolerance * self.first_norm:
            self.done = "converged: gradient"
            return
        scale, lower, upper = self.problem.scale, self.problem.lower, self.problem.upper
        step = quasi_newton_step(
            self.gradient * scale,
            ((lower - self.x) / scale, (upper - self.x) / scale) if self._bounded else None,
            self.history,
        )
        self.direction = step * scale
        self.slope = self._slope(self.gradient, self.x)
        if not self.slope < 0:
            self._give_up_direction()
            return
        self.phase, self.trials = "search", 0
        self.low_step, self.low_value, self.low_slope = 0.0, self.value, self.slope
        self.low_gradient = self.gradient
        self.high_step = math.inf
        self._try(1.0 if len(self.history) else FIRST_STEP / float(step.abs().max()))

    def _try(self, step: float) -> None:
        self.step = step
        self.trial = self._point(step)

    def _point(self, step: float) -> Tensor:
        return self._clamp(torch.add(self.x, self.direction, alpha=step))

    def _slope(self, gradient: Tensor, at: Tensor) -> float:
        """Derivative along the bent path, on which coordinates at their bound no longer move."""
        direction, problem = self.direction, self.problem
        if not self._bounded:
            return float(gradient.dot(direction))
        resting = ((at <= problem.lower) & (direction < 0)) | (
            (at >= problem.upper) & (direction > 0)
        )
        return float(gradient.dot(direction.masked_fill(resting, 0.0)))

    def _judge(self, ok: bool, value: float, gradient: Tensor) -> None:
        self.trials += 1
        step, slope = self.step, self._slope(gradient, self.trial)
        needed = DECREASE * float(self.gradient.dot(self.trial - self.x))
        flat = abs(value - self.value) <= self._round_off * abs(self.value)
        lower_enough = ok and (
            value <= self.value + needed or (flat and abs(slope) <= CURVATURE * -self.slope)
        )
        if lower_enough and slope >= CURVATURE * self.slope:
            self._accept(self.trial, value, gradient)
        elif lower_enough:
            next_step = self._longer(slope)
            self.low_step, self.low_value, self.low_slope, self.low_gradient = (
                step,
                value,
                slope,
                gradient,
            )
            self._continue(next_step)
        else:
            self.high_step, self.high_value = step, value
            self._continue(self._between())

    def _continue(self, step: float) -> None:
        moves = not torch.equal(self._point(step), self._point(self.low_step))
        if self.trials < TRIALS and moves:
            self._try(step)
        elif self.low_step > 0:
            self._accept(self._point(self.low_step), self.low_value, self.low_gradient)
        else:
            self._give_up_direction()

    def _longer(self, slope: float) -> float:
        """A step beyond one that is too short: where the slopes meet zero, within reason."""
        if self.high_step < math.inf:
            return 0.5 * (self.step + self.high_step)
        rise = slope - self.low_slope
        turn = self.step - slope * (self.step - self.low_step) / rise if rise > 0 else math.inf
        return min(max(turn, 1.5 * self.step), 6 * self.step)

    def _between(self) -> float:
        """A step between the low and the high one: the minimum of the parabola through both."""
        width = self.high_step - self.low_step
        if not math.isfinite(self.high_value):
            return self.low_step + 0.25 * width
        bend = self.high_value - self.low_value - self.low_slope * width
        share = -0.5 * self.low_slope * width / bend if bend > 0 else 0.5
        return self.low_step + min(max(share, 0.1), 0.7) * width

    def _accept(self, point: Tensor, value: float, gradient: Tensor) -> None:
        scale = self.problem.scale
        step, change = (point - self.x).div_(scale), (gradient - self.gradient).mul_(scale)
        self.history.take(step, change, self._round_off)
        unchanged = abs(self.value - value) <= self._round_off * max(abs(value), abs(self.value))
        self.flat = self.flat + 1 if unchanged else 0
        self.x, self.value, self.gradient = point, value, gradient
        if self.flat >= 2:
            self.done = "converged: value"
        else:
            self._choose_direction()

    def _give_up_direction(self) -> None:
        if len(self.history):  # the curvature that was learnt may be what misleads
            self.history.clear()
            self._choose_direction()
        else:
            self.done = "converged: no step lowers the value"

    def _norm(self) -> float:
        """Largest entry of the projected gradient, in units of the scales."""
        scaled = self.gradient * self.problem.scale
        if self._bounded:
            lower, upper = self.problem.lower, self.problem.upper
            scaled.mul_(free_coordinates(self.gradient, lower - self.x, upper - self.x))
        return float(scaled.norm(math.inf))

    @property
    def rows(self) -> int:
        """How many points a full query holds."""
        return 1

    def objective_changed(self) -> None:
        """Forget the values told so far: an adapter changed what is minimised; the point stays."""
        self.phase, self.trial, self.done, self.flat = "start", self.x, None, 0
        self.history.clear()
        self.best = Incumbent(self.x)

    def events(self) -> tuple[str, ...]:
        """L-BFGS has no turning points to tell of."""
        return ()

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything the search needs to go on."""
        return {"search": snapshot(self, self.FIELDS), "history": self.history.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same settings and problem."""
        restore(self, self.FIELDS, state["search"], self.problem.device)
        self.history.load_state_dict(state["history"], self.problem.device)
