"""iCEM: first choice for trajectories without gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from optimizers.checks import check_count, check_number
from optimizers.evaluation import Evaluation, Incumbent, Query, ranking
from optimizers.population.noise import ColouredNoise
from optimizers.population.stopping import stall_reason
from optimizers.problem import Problem
from optimizers.state import Resumable, check_answer, seeded

LEARNING = 1.5  # of variances, for each effective elite among elites and dimensions
WIDENING = 1.2  # of the deviations while nothing succeeds


@dataclass(frozen=True)
class Icem:
    """Cross-entropy search with noise smooth in time: for trajectories, when only values are there.

    It finds its way with few samples where single steps hardly matter but pushes that last do. On
    problems without trajectories it is a robust search with a deviation for each coordinate;
    `Cma` is better there where coordinates interact.

    population: candidates of the first generation, 4 times the elites by default.
    elites: candidates that the next generation is fitted to.
    deviation: first standard deviation, in units of each parameter's scale.
    exponent: of the noise of trajectories, a power spectrum 1 / f^exponent; 0 is white.
    momentum: share of the old mean, and at least of the old variance, that stays.
    decay: factor by which each generation is smaller than the last, down to twice the elites.
    kept: share of the elites that compete in the next generation too, without a new evaluation.
    restarts: how often a search that has stalled starts anew from a random point, each time with
        twice the elites and the population.

        x_i = clamp(m + s n_i),   n_i coloured in time, unit variance;   x_1 = m
        s^2 <- (1 - r) s^2 + r sum_elites w_i (x_i - m)^2
        m   <- momentum m + (1 - momentum) sum_elites w_i x_i

    with w_i ~ log(elites + 1/2) - log(rank), u = 1 / sum w_i^2 and
    r = (1 - momentum) min(1, 1.5 u / (u + d)).

    Pinneri et al., 2020, Sample-efficient cross-entropy method for real-time planning. Ours: the
    search goes on over generations instead of a moving horizon, so elites are shifted in time as
    proposals, one step earlier or later; elites weigh by rank, and variances are measured from the
    old mean and learnt more slowly in many dimensions, which keeps the search from freezing on a
    slope. Constraints enter by rank. Failed candidates are never elites.
    """

    population: int | None = None
    elites: int = 10
    deviation: float = 0.3
    exponent: float = 2.0
    momentum: float = 0.1
    decay: float = 1.25
    kept: float = 0.3
    restarts: int = 9

    name: ClassVar[str] = "icem"
    order: ClassVar[int] = 0
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("elites", self.elites, least=2)
        if self.population is not None:
            check_count("population", self.population, least=2 * self.elites)
        check_number("deviation", self.deviation, above=0)
        check_number("exponent", self.exponent, least=0)
        check_number("momentum", self.momentum, least=0, below=1)
        check_number("decay", self.decay, least=1)
        check_number("kept", self.kept, least=0, most=1)
        check_count("restarts", self.restarts, least=0)

    def start(self, problem: Problem, seed: int = 0) -> RunningIcem:
        """A running search for this problem."""
        return RunningIcem(self, problem, seed)


class RunningIcem(Resumable):
    """iCEM between ask and tell; see `Icem`.

    mean, spread: (d,), float64. asked: the generation that was asked, (P, d), empty after its tell.
    elites, elite_value, elite_violation: those that are kept, best first.
    growth: of elites and population, by restarts.
    """

    FIELDS = (
        "mean", "spread", "asked", "elites", "elite_value", "elite_violation", "growth",
        "generations", "restarts", "history", "done", "best", "generator", "_events",
    )  # fmt: skip

    def __init__(self, settings: Icem, problem: Problem, seed: int) -> None:
        self.settings, self.problem = settings, problem
        self.generator = seeded(problem, seed)
        self._noise = ColouredNoise(problem, settings.exponent)
        self._scale = problem.scale.double()
        self.mean = problem.start.double()
        self.spread = settings.deviation * self._scale
        self.asked = self.elites = problem.start.new_zeros(0, problem.dimension)
        self.elite_value = self.elite_violation = problem.start.new_zeros(0)
        self.growth, self.generations, self.restarts = 1, 0, 0
        self.history: list[float] = []
        self.done: str | None = None
        self.best = Incumbent(problem.start)
        self._events: list[str] = []

    @property
    def rows(self) -> int:
        """How many points the next full query holds."""
        elites = self.growth * self.settings.elites
        first = self.growth * (self.settings.population or 4 * self.settings.elites)
        return max(2 * elites, math.ceil(first / self.settings.decay**self.generations))

    def ask(self, remaining: float = math.inf) -> Query:
        """One generation (P, d), or what the budget allows of it."""
        if not len(self.asked):
            self.asked = self._drawn()
        points = self.asked
        if remaining < len(points):
            points = points[: max(1, int(remaining))]
        return Query(points, order=0, tag=f"generation {self.generations}")

    def _drawn(self) -> Tensor:
        points = self.mean + self.spread * self._noise.draw(self.rows, self.generator)
        points[0] = self.mean
        shifted = self._shifted()
        points[1 : 1 + len(shifted)] = shifted
        # clamped again as rounding to float32 may step over a bound
        points = points.to(self.problem.dtype)
        return points.clamp(self.problem.lower, self.problem.upper)

    def _shifted(self) -> Tensor:
        """The kept elites with their trajectories one step earlier or later, (k, d)."""
        if not self._noise.parts or not len(self.elites):
            return self.elites[:0]
        points = self.elites.clone()
        later = torch.rand(len(points), generator=self.generator, device=points.device) < 0.5
        for where, shape in self._noise.parts:
            path = self.elites[:, where].unflatten(-1, (shape[0], -1))
            delayed = torch.cat((path[:, :1], path[:, :-1]), 1)
            hurried = torch.cat((path[:, 1:], path[:, -1:]), 1)
            points[:, where] = torch.where(later[:, None, None], delayed, hurried).flatten(1)
        return points

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Fit the next generation; a part of one, at the end of a budget, only moves the best."""
        check_answer(query, evaluation)
        self.best.offer(query.points, evaluation)
        asked, self.asked = len(self.asked), self.asked[:0]
        if len(query.points) < asked:
            return
        points = torch.cat((query.points, self.elites))
        value = torch.cat((evaluation.value, self.elite_value))
        violation = torch.cat((evaluation.violation, self.elite_violation))
        order = ranking(value, None if evaluation.constraints is None else violation)
        self.generations += 1
        successes = int(value.isfinite().sum())
        if not successes:
            self.spread = torch.minimum(WIDENING * self.spread, self._scale)
            return
        elites = min(self.growth * self.settings.elites, successes)
        self._fit(points[order[:elites]].double())
        kept = order[: min(elites, math.ceil(self.settings.kept * elites))]
        self.elites, self.elite_value = points[kept], value[kept]
        self.elite_violation = violation[kept]
        self._restart_if_stalled(value + violation, order, successes)

    def _fit(self, elites: Tensor) -> None:
        """One step of the formulas of `Icem` towards elites (k, d), best first."""
        count, keep = len(elites), self.settings.momentum
        ranks = torch.arange(1, count + 1, dtype=elites.dtype, device=elites.device)
        weights = math.log(count + 0.5) - ranks.log()
        weights = weights / weights.sum()
        effective = 1 / float(weights.square().sum())
        rate = (1 - keep) * min(1.0, LEARNING * effective / (effective + elites.shape[1]))
        variance = weights @ (elites - self.mean).square()
        self.spread = self.spread.square().lerp(variance, rate).sqrt()
        self.mean = (weights @ elites).lerp(self.mean, keep)

    def _restart_if_stalled(self, ranked: Tensor, order: Tensor, successes: int) -> None:
        best, middle = ranked[order[0]], ranked[order[successes // 2]]
        relative = self.spread / self._scale
        numbers = torch.stack((best.double(), middle.double(), relative.max())).tolist()
        self.history.append(numbers[0])
        reason = stall_reason(
            self.history,
            self.rows,
            self.problem.dimension,
            middle=numbers[1],
            step=numbers[2] / self.settings.deviation,
            ratio=1.0,
            round_off=torch.finfo(ranked.dtype).eps,
        )
        if reason is None or self.restarts > self.settings.restarts:
            return
        self.restarts += 1
        if self.restarts > self.settings.restarts:
            self.done = f"converged: {reason}"
            return
        self.growth *= 2
        self._events.append(f"restart with {self.growth * self.settings.elites} elites, {reason}")
        self.mean = self.problem.sample(1, self.generator)[0].double()
        self.spread = self.settings.deviation * self._scale
        self._forget()

    def _forget(self) -> None:
        self.elites, self.history, self.generations = self.elites[:0], [], 0
        self.elite_value = self.elite_violation = self.elite_value[:0]

    def objective_changed(self) -> None:
        """Forget the values told so far; the mean stays, and looks a tenth as far as at first."""
        self.best, self.done = Incumbent(self.best.x), None
        least = 0.1 * self.settings.deviation * self._scale
        self.spread = torch.maximum(self.spread, least)
        self._forget()

    def events(self) -> tuple[str, ...]:
        """The restarts since the last call."""
        happened, self._events = tuple(self._events), []
        return happened
