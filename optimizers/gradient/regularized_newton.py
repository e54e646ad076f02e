"""Gradient-regularised Newton: first choice for least squares through a simulator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from optimizers.checks import check_count, check_number
from optimizers.evaluation import Evaluation, Incumbent, Query
from optimizers.gradient.curvature import Dense, Fisher, Secant
from optimizers.gradient.quasi_newton import free_coordinates
from optimizers.problem import Problem
from optimizers.state import check_answer, projection, restore, seeded, snapshot

FLOOR, CEILING = 1e-9, 1e12  # of the smoothness
REFUSALS = 40  # in a row until the curvature is forgotten, and again until the run ends
SHARE = 1 / 8  # of |g'|^2 / lambda that a step must gain
LEAST, AMPLE = 0.05, 0.25  # of the slope times the step: enough to take it, and to trust more
GROWTH = 2.0  # of the smoothness after a step worth trusting more
MEMORY = {"lbfgs": 20, "fisher": 128}
ATTEMPTS = 10  # to find a start that can be evaluated
PASSES = 4  # over the coordinates that a step takes to their bounds

Curvature = Literal["auto", "hessian", "gauss-newton", "lbfgs", "fisher"]


@dataclass(frozen=True)
class RegularizedNewton:
    """Newton steps regularised by the gradient: for calibration, inverse problems, stiff valleys.

    curvature: "gauss-newton" of a composite value F(Phi(x)), for convex F; "hessian", the exact
        one; "lbfgs" and "fisher" from gradients alone, for many parameters. "auto" is
        "gauss-newton" where the problem is composite, and else "lbfgs". A query of the first two
        costs what `Problem.cost` says of order 2.
    memory: steps or gradients that "lbfgs" and "fisher" keep, 20 and 128 by default.
    smoothness: the first gamma, in units of the scales.
    tolerance: as in `Lbfgs`.

        lambda = |g| / gamma,   x' = x - (H + lambda I)^-1 g

    A step is taken, and gamma doubled, when f(x) - f(x') >= |g(x')|^2 / (8 lambda); else gamma is
    halved. So there is neither a line search nor a schedule of damping: far away the step is a
    gradient step as long as it pays, near a minimum it is Newton's.

    Semenov, Jaggi and Doikov, 2025 (gradient-normalised smoothness). Ours: the box, by solving on
    the free coordinates and holding those that the step takes to a bound; a trial after a refusal
    asks its gradient only; a matrix that is not positive definite halves gamma too. Coordinates are
    measured in their scales.
    """

    curvature: Curvature = "auto"
    memory: int | None = None
    smoothness: float = 1.0
    tolerance: float = 1e-12

    name: ClassVar[str] = "regularized-newton"
    order: ClassVar[int] = 1
    handles_constraints: ClassVar[bool] = False
    by_rank: ClassVar[bool] = False

    def __post_init__(self) -> None:
        allowed = ("auto", "hessian", "gauss-newton", "lbfgs", "fisher")
        if self.curvature not in allowed:
            raise ValueError(f"curvature must be one of {allowed}, got {self.curvature!r}")
        if self.memory is not None:
            check_count("memory", self.memory)
        check_number("smoothness", self.smoothness, above=0)
        check_number("tolerance", self.tolerance, least=0)

    def start(self, problem: Problem, seed: int = 0) -> RunningRegularizedNewton:
        """A running search; ValueError where the problem cannot tell the curvature."""
        if self.curvature == "gauss-newton" and not problem.composite:
            raise ValueError(
                'curvature="gauss-newton" needs a composite problem (pass outer=), '
                'allowed without: "hessian", "lbfgs", "fisher"'
            )
        if self.curvature == "hessian" and problem.composite:
            raise ValueError(
                'curvature="hessian" is not told by a composite problem, allowed: '
                '"gauss-newton", "lbfgs", "fisher"'
            )
        return RunningRegularizedNewton(self, problem, seed)


class RunningRegularizedNewton:
    """The search between ask and tell; see `RegularizedNewton`.

    x, value, gradient: where the search stands, the gradient in units of the scales.
    fresh: whether the next trial also asks for its curvature.
    """

    FIELDS = (
        "phase", "x", "value", "gradient", "trial", "smoothness", "strength", "fresh",
        "refusals", "first_norm", "flat", "attempts", "done", "best", "generator",
    )  # fmt: skip

    def __init__(self, settings: RegularizedNewton, problem: Problem, seed: int) -> None:
        self.settings, self.problem = settings, problem
        self.generator = seeded(problem, seed)
        self.x = self.trial = problem.start
        self.gradient = torch.zeros_like(self.x)
        self.value, self.smoothness, self.strength = math.inf, settings.smoothness, 1.0
        kind = settings.curvature
        if kind == "auto":
            kind = "gauss-newton" if problem.composite else "lbfgs"
        memory = settings.memory or MEMORY.get(kind, 1)
        kinds = {"lbfgs": Secant, "fisher": Fisher}
        self.curvature = kinds[kind](memory, self.x) if kind in kinds else Dense(self.x)
        self.phase, self.fresh, self.refusals, self.flat, self.attempts = "start", True, 0, 0, 0
        self.first_norm = 0.0
        self.done: str | None = None
        self.best = Incumbent(problem.start)
        self._clamp = projection(problem)
        self._round_off = 10 * torch.finfo(problem.dtype).eps

    def ask(self, remaining: float = math.inf) -> Query:
        """The next trial point (1, d), with its curvature where it is likely to be needed."""
        order = self.curvature.order if self.fresh else 1
        if remaining < self.problem.cost(order):
            order = 1
        return Query(self.trial[None], order=order, tag=self.phase)

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Take the step or refuse it, and choose the next one."""
        check_answer(query, evaluation, expected=1)
        if query.order == 2 and evaluation.curvature is None:
            raise ValueError("evaluation must have a curvature, the query asked for order 2")
        assert evaluation.gradient is not None
        self.best.offer(query.points, evaluation)
        ok, value = bool(evaluation.ok[0]), float(evaluation.value[0])
        gradient = evaluation.gradient[0] * self.problem.scale
        if self.phase == "start":
            self._begin(ok, value, gradient, evaluation)
        elif ok and self._gains(value, gradient, LEAST):
            self._accept(value, gradient, evaluation)
        else:
            self._refuse(ok, value, gradient)

    def _begin(self, ok: bool, value: float, gradient: Tensor, evaluation: Evaluation) -> None:
        if not ok:
            self.attempts += 1
            self.trial = self.problem.sample(1, self.generator)[0]
            if self.attempts >= ATTEMPTS:
                self.done = "all evaluations failed"
            return
        self.phase, self.x, self.value, self.gradient = "step", self.trial, value, gradient
        self._note_curvature(evaluation)
        self.first_norm = max(self.first_norm, float(self._projected(gradient, self.x).norm()))
        self._choose_step()

    def _gains(self, value: float, gradient: Tensor, share: float) -> bool:
        """Whether the trial has gained what the paper asks, or a share of the slope times it."""
        gain = self.value - value
        norm = float(self._projected(gradient, self.trial).norm())
        slope = float(self.gradient.dot((self.x - self.trial) / self.problem.scale))
        return gain > 0 and (gain >= SHARE * norm * norm / self.strength or gain >= share * slope)

    def _accept(self, value: float, gradient: Tensor, evaluation: Evaluation) -> None:
        if self._gains(value, gradient, AMPLE):
            self.smoothness = min(GROWTH * self.smoothness, CEILING)
        self._learn(gradient)
        unchanged = abs(self.value - value) <= self._round_off * max(abs(value), abs(self.value))
        self.flat = self.flat + 1 if unchanged else 0
        self.x, self.value, self.gradient = self.trial, value, gradient
        self.refusals, self.fresh = 0, True
        self._note_curvature(evaluation)
        if self.flat >= 2:
            self.done = "converged: value"
        else:
            self._choose_step()

    def _refuse(self, ok: bool, value: float, gradient: Tensor) -> None:
        if ok:  # the curvature on the way is true all the same
            self._learn(gradient)
        self.refusals, self.fresh = self.refusals + 1, False
        self.smoothness = max(0.5 * self.smoothness, FLOOR)
        same = ok and abs(self.value - value) <= self._round_off * abs(self.value)
        self.flat = self.flat + 1 if same else 0
        if self.flat >= 4 or (ok and torch.equal(self.trial, self.x)):
            self.done = "converged: value"
        elif self.refusals >= 2 * REFUSALS:
            self.done = "converged: no step lowers the value"
        else:
            if self.refusals == REFUSALS:  # the curvature that was learnt may be what misleads
                self.curvature.clear()
            self._choose_step()

    def _learn(self, gradient: Tensor) -> None:
        step = (self.trial - self.x) / self.problem.scale
        self.curvature.take(step, gradient - self.gradient, gradient, self._round_off)

    def _note_curvature(self, evaluation: Evaluation) -> None:
        if isinstance(self.curvature, Dense) and evaluation.curvature is not None:
            scale = self.problem.scale
            self.curvature.matrix = scale[:, None] * evaluation.curvature[0] * scale

    def _projected(self, gradient: Tensor, x: Tensor) -> Tensor:
        """The gradient on the coordinates that it can move."""
        return gradient * free_coordinates(gradient, self.problem.lower - x, self.problem.upper - x)

    def _choose_step(self) -> None:
        problem, scale = self.problem, self.problem.scale
        free = free_coordinates(self.gradient, problem.lower - self.x, problem.upper - self.x)
        norm = float((self.gradient * free).norm())
        if norm <= self.settings.tolerance * self.first_norm:
            self.done = "converged: gradient"
            return
        room = (problem.lower - self.x) / scale, (problem.upper - self.x) / scale
        held = torch.zeros_like(self.gradient)  # what coordinates held at a bound have moved
        for _ in range(PASSES):
            step = self._solved(free, norm)
            step = held - step
            beyond = free & ((step <= room[0]) | (step >= room[1]))
            if not bool(beyond.any()):
                break
            held = torch.where(beyond, step.clamp(room[0], room[1]), held)
            free = free & ~beyond
        self.trial = self._clamp(self.x + step * scale)

    def _solved(self, free: Tensor, norm: float) -> Tensor:
        """(H + |g| / gamma I)^-1 g on the free coordinates, with the gamma that makes it one."""
        while True:
            self.strength = norm / self.smoothness
            step = self.curvature.solve(self.gradient, self.strength, free)
            if step is not None and bool(step.isfinite().all()):
                return step
            if self.smoothness <= FLOOR:
                self.curvature.clear()
            self.smoothness = max(0.5 * self.smoothness, FLOOR)

    @property
    def rows(self) -> int:
        """How many points a full query holds."""
        return 1

    def objective_changed(self) -> None:
        """Forget the values told so far: an adapter changed what is minimised; the point stays."""
        self.phase, self.trial, self.fresh, self.done = "start", self.x, True, None
        self.refusals = self.flat = self.attempts = 0
        self.curvature.clear()
        self.best = Incumbent(self.x)

    def events(self) -> tuple[str, ...]:
        """There are no turning points to tell of."""
        return ()

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything the search needs to go on."""
        return {"search": snapshot(self, self.FIELDS), "curvature": self.curvature.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same settings and problem."""
        restore(self, self.FIELDS, state["search"], self.problem.device)
        self.curvature.load_state_dict(state["curvature"], self.problem.device)
