"""Consensus: many particles that drift to where the best of them agree, for large batches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from optimizers.checks import check_count, check_number
from optimizers.evaluation import Evaluation, Incumbent, Query
from optimizers.population.noise import ColouredNoise
from optimizers.population.softmin import merit, softmin_weights
from optimizers.problem import Problem
from optimizers.state import Resumable, check_answer, seeded

AGREED = 0.1  # of how far they were spread: particles this close to the consensus have agreed
SPREADS = 20  # each half as far as the last, before they go as far as the first again
EXPONENT = 2.0  # of the noise along trajectories, see `ColouredNoise`
FADING = 1.2  # growth of the look around a start that fails


@dataclass(frozen=True)
class Consensus:
    """Consensus-based optimization: for large batches, and few minima among many.

    particles: in a batch, 20 + 2 sqrt(d) by default; it gets better the more the hardware takes at
        once, and is no match for `Cma` with few evaluations.
    effective: how many particles the consensus rests on, 1 / sum w^2, as a share of them.
    step: of time, dt.
    noise: strength of the noise. The particles agree where (1 - step)^2 + noise^2 step < 1.
    epoch: rounds after which the noise is cooled, noise / log2(epoch number + 2).
    isotropic: whether noise is as strong in all coordinates, by the distance |x_i - c| / sqrt(d).
    drift: share of the distance to the consensus that a particle also goes down its gradient, where
        the problem is differentiable; 0 asks for values alone.
    deviation: of the particles around the start, in units of each parameter's scale.

        c = sum_i w_i x_i,   w_i ~ exp(-a f(x_i))
        x_i <- x_i - dt (x_i - c) + noise sqrt(dt) (x_i - c) * n_i - dt drift |x_i - c| g_i / |g_i|

    with n_i ~ N(0, I) and products by components.

    Pinnau et al., 2017; componentwise noise after Carrillo et al., 2021, whose contraction does not
    depend on the dimension. Ours: a is found by bisection for the effective number, so the search
    does not depend on the unit of the value; noise along trajectories is smooth in time; particles
    that have agreed are spread anew around the best point, half as far each time, and after 20
    times as far as at first. A failed particle takes no part in the consensus, but moves on. A
    point that is not feasible counts as worse than all that are, by its violation.
    """

    particles: int | None = None
    effective: float = 0.1
    step: float = 0.5
    noise: float = 1.2
    epoch: int = 50
    isotropic: bool = False
    drift: float = 0.0
    deviation: float = 0.3

    name: ClassVar[str] = "consensus"
    order: ClassVar[int] = 0
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.particles is not None:
            check_count("particles", self.particles, least=4)
        check_number("effective", self.effective, above=0, most=1)
        check_number("step", self.step, above=0, most=1)
        check_number("noise", self.noise, least=0)
        check_count("epoch", self.epoch)
        if not isinstance(self.isotropic, bool):
            raise TypeError(f"isotropic must be True or False, got {self.isotropic!r}")
        check_number("drift", self.drift, least=0)
        check_number("deviation", self.deviation, above=0)

    def start(self, problem: Problem, seed: int = 0) -> RunningConsensus:
        """A running search for this problem."""
        return RunningConsensus(self, problem, seed)


class RunningConsensus(Resumable):
    """Consensus-based optimization between ask and tell; see `Consensus`.

    particles: (N, d), float64. age: rounds since they were spread. spreads: how often they were.
    """

    FIELDS = ("particles", "age", "spreads", "failures", "done", "best", "generator", "_events")

    def __init__(self, settings: Consensus, problem: Problem, seed: int) -> None:
        self.settings, self.problem = settings, problem
        self.generator = seeded(problem, seed)
        self._noise = ColouredNoise(problem, EXPONENT)
        self._scale = problem.scale.double()
        self._order = 1 if settings.drift > 0 and problem.differentiable else 0
        self.age, self.spreads, self.failures = 0, 0, 0
        self.done: str | None = None
        self.best = Incumbent(problem.start)
        self._events: list[str] = []
        self.particles = self._spread(problem.start.double(), settings.deviation)

    @property
    def rows(self) -> int:
        """How many points a full query holds."""
        return self.settings.particles or 20 + 2 * math.isqrt(self.problem.dimension)

    def _spread(self, centre: Tensor, deviation: float) -> Tensor:
        """New particles (N, d) around a centre, which is the first of them."""
        noise = self._noise.draw(self.rows, self.generator)
        noise[0] = 0
        return self._inside(centre + deviation * self._scale * noise)

    def _reach(self) -> float:
        """How far the particles were spread, in scales."""
        return self.settings.deviation * 0.5 ** (self.spreads % SPREADS)

    def _inside(self, points: Tensor) -> Tensor:
        points = points.to(self.problem.dtype)
        return points.clamp(self.problem.lower, self.problem.upper)

    def ask(self, remaining: float = math.inf) -> Query:
        """All particles (N, d), or what the budget allows of them."""
        affordable = remaining / self.problem.cost(self._order)
        points = self.particles
        if affordable < len(points):
            points = points[: max(1, int(affordable))]
        return Query(points, order=self._order, tag=f"spread {self.spreads}, round {self.age}")

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Move all particles; a part of them, at the end of a budget, only moves the best."""
        check_answer(query, evaluation)
        self.best.offer(query.points, evaluation)
        if len(query.points) < len(self.particles):
            return
        settings = self.settings
        if not bool(evaluation.ok.any()):
            self.failures += 1
            reach = min(1.0, settings.deviation * FADING**self.failures)
            self.particles = self._spread(self.problem.start.double(), reach)
            return
        self.failures, self.age = 0, self.age + 1
        weights = softmin_weights(merit(evaluation), settings.effective * self.rows)
        points = query.points.double()
        consensus = weights @ points
        away = (points - consensus) / self._scale
        if float(away.abs().max()) <= AGREED * self._reach():
            self.spreads, self.age = self.spreads + 1, 0
            self._events.append("spread anew around the best point")
            self.particles = self._spread(self.best.x.double(), self._reach())
            return
        cooled = settings.noise / math.log2(self.age // settings.epoch + 2)
        lengths = away.norm(dim=1, keepdim=True)
        noise = self._noise.draw(len(points), self.generator)
        noise = noise * (lengths / math.sqrt(points.shape[1]) if settings.isotropic else away)
        moved = away - settings.step * away + cooled * math.sqrt(settings.step) * noise
        if evaluation.gradient is not None and settings.drift > 0:
            slope = evaluation.gradient.double() * self._scale
            slope = slope / slope.norm(dim=1, keepdim=True).clamp(min=torch.finfo(slope.dtype).tiny)
            moved = moved - settings.step * settings.drift * lengths * slope
        self.particles = self._inside(consensus + moved * self._scale)

    def objective_changed(self) -> None:
        """Forget the values told so far; the particles stay, and are spread a tenth as far."""
        self.best, self.done = Incumbent(self.best.x), None
        self.age = 0
        noise = self._noise.draw(self.rows, self.generator)
        reach = 0.1 * self.settings.deviation * self._scale
        self.particles = self._inside(self.particles.double() + reach * noise)

    def events(self) -> tuple[str, ...]:
        """The times since the last call that the particles were spread anew."""
        happened, self._events = tuple(self._events), []
        return happened
