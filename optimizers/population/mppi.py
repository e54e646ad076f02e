"""MPPI: trajectories by weighted means of noisy copies, annealed from coarse to fine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from optimizers.checks import check_count, check_number
from optimizers.evaluation import Evaluation, Incumbent, Query
from optimizers.population.noise import KnotNoise
from optimizers.population.softmin import merit, softmin_weights
from optimizers.problem import Problem
from optimizers.state import Resumable, check_answer, seeded

LONGEST = 1000  # evaluations for each of d + 1 in one annealing at most
WARMER = 2.0  # factor of the level while nothing succeeds


@dataclass(frozen=True)
class Mppi:
    """Path-integral search, annealed over the budget: for trajectories, with values that are noisy.

    Every generation is a mean of all its candidates, weighted, so single values decide little. The
    noise is large and slow at first and small and fast at the end of the budget; `Icem` is quicker
    where values are exact, `Cma` where there are no trajectories.

    population: candidates in a generation, 16 + 2 sqrt(d) by default.
    effective: how many count, 1 / sum w^2, as a share of the population.
    deviation: first standard deviation, in units of each parameter's scale.
    final: last standard deviation over the first.
    knots: of the noise of each trajectory at first; they double in equal shares of the annealing
        until every step has its own.
    earliest: deviation of the first knot of a trajectory over that of its last one; below 1 pays
        where the horizon moves and early knots have been improved before.

        x_i = clamp(m + s_t W n_i),   n_i ~ N(0, diag(s_k^2)),   x_1 = m
        m <- sum_i w_i x_i,           w_i ~ exp(-f(x_i) / temperature)
        s_t = deviation final^t,      s_k = earliest^(1 - k / (K - 1))

    over the share t of the budget that is spent, of 1000 (d + 1) evaluations at most; then the
    annealing begins anew around the best point. W expands knots (see `Knots`) and is the identity
    for parameters that are no trajectory.

    Williams et al., 2017, Model predictive path integral control; annealing and noise by knots
    after Xue et al., 2024 (DIAL-MPC). Ours: the temperature is not set but found by bisection, so
    that the effective number is met, which makes the search independent of the unit of the value;
    knots double. A point that is not feasible counts as worse than all that are, by its violation.
    """

    population: int | None = None
    effective: float = 0.1
    deviation: float = 0.3
    final: float = 3e-3
    knots: int = 5
    earliest: float = 1.0

    name: ClassVar[str] = "mppi"
    order: ClassVar[int] = 0
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.population is not None:
            check_count("population", self.population, least=4)
        check_number("effective", self.effective, above=0, most=1)
        check_number("deviation", self.deviation, above=0)
        check_number("final", self.final, above=0, most=1)
        check_count("knots", self.knots)
        check_number("earliest", self.earliest, above=0, most=1)

    def start(self, problem: Problem, seed: int = 0) -> RunningMppi:
        """A running search for this problem."""
        return RunningMppi(self, problem, seed)


class RunningMppi(Resumable):
    """MPPI between ask and tell; see `Mppi`.

    mean: (d,), float64. asked: the generation that was asked, (P, d), empty after its tell.
    spent, total: evaluations of this annealing, and how many it has; 0 until the next ask.
    first: level at which this annealing begins. failures: generations in a row without a success.
    """

    FIELDS = (
        "mean", "asked", "spent", "total", "first", "failures", "done", "best", "generator",
        "_events",
    )  # fmt: skip

    def __init__(self, settings: Mppi, problem: Problem, seed: int) -> None:
        self.settings, self.problem = settings, problem
        self.generator = seeded(problem, seed)
        self._scale = problem.scale.double()
        self.mean = problem.start.double()
        self.asked = problem.start.new_zeros(0, problem.dimension)
        self.spent, self.total, self.first, self.failures = 0, 0.0, 1.0, 0
        self.done: str | None = None
        self.best = Incumbent(problem.start)
        self._events: list[str] = []
        self._noise = KnotNoise(problem, settings.knots, settings.earliest)

    @property
    def rows(self) -> int:
        """How many points a full query holds."""
        return self.settings.population or 16 + 2 * math.isqrt(self.problem.dimension)

    def ask(self, remaining: float = math.inf) -> Query:
        """One generation (P, d), or what the budget allows of it."""
        if not self.total:
            self.total = max(1.0, min(remaining, LONGEST * (self.problem.dimension + 1)))
        progress = min(self.spent / self.total, 1.0)
        if not len(self.asked):
            self.asked = self._drawn(progress)
        points = self.asked
        if remaining < len(points):
            points = points[: max(1, int(remaining))]
        return Query(points, order=0, tag=f"annealed {100 * progress:.0f} %")

    def _drawn(self, progress: float) -> Tensor:
        stages = len(self._noise.stages)
        stage = min(int(progress * stages), stages - 1)
        level = self.first * (self.settings.final / self.first) ** progress
        level = self.settings.deviation * min(1.0, level * WARMER**self.failures)
        points = self.mean + level * self._scale * self._noise.draw(
            self.rows, stage, self.generator
        )
        points[0] = self.mean
        points = points.to(self.problem.dtype)
        return points.clamp(self.problem.lower, self.problem.upper)

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Move the mean; a part of a generation, at the end of a budget, only moves the best."""
        check_answer(query, evaluation)
        self.best.offer(query.points, evaluation)
        asked, self.asked = len(self.asked), self.asked[:0]
        self.spent += len(query.points)
        if len(query.points) < asked:
            return
        if bool(evaluation.ok.any()):
            weights = softmin_weights(merit(evaluation), self.settings.effective * self.rows)
            self.mean, self.failures = weights @ query.points.double(), 0
        else:
            self.failures += 1
        if self.spent >= self.total:
            self._events.append("annealing anew around the best point")
            self.mean = self.best.x.double()
            self.spent, self.total, self.first = 0, 0.0, 1.0

    def objective_changed(self) -> None:
        """Forget the values told so far; the mean stays, and looks a tenth as far as at first."""
        self.best, self.done = Incumbent(self.best.x), None
        progress = min(self.spent / self.total, 1.0) if self.total else 0.0
        level = self.first * (self.settings.final / self.first) ** progress
        self.first = max(level, 0.1)
        self.spent, self.total = 0, 0.0

    def events(self) -> tuple[str, ...]:
        """The annealings that have begun anew since the last call."""
        happened, self._events = tuple(self._events), []
        return happened
