"""Descent on a smoothed function by gradients that are believed as far as values agree."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from optimizers.checks import check_count, check_number
from optimizers.evaluation import Evaluation, Incumbent, Query
from optimizers.gradient.quasi_newton import free_coordinates
from optimizers.hybrid.merit import Merit
from optimizers.hybrid.mixed_gradient import Averages, mixed_gradient
from optimizers.problem import Problem
from optimizers.state import Resumable, check_answer, seeded

SAMPLES_FOR_BLOCKS = (
    64  # from which on blocks are estimated well enough to have trusts of their own
)
MEAN, SQUARE = 0.7, 0.9  # decay of the mean and of the mean square of the gradient
WIDEN, NARROW = (
    1.1,
    0.85,
)  # of the deviation, while steps agree with each other and when they do not
WIDEST, NARROWEST = 0.3, 1e-8


@dataclass(frozen=True)
class MixedOrder:
    """Descent on a smoothed objective: when gradients are noisy, jumpy or partly zero.

    samples: points of one step, in antithetic pairs, with their gradients.
    deviation: first standard deviation of the samples, in units of each parameter's scale.
    blocks: parts of the design that trust their gradients separately: a number of equal ones, by
        default the time steps of a trajectory; used from 64 samples on.

    Each step estimates the gradient of f_s(x) = E f(x + w) by `mixed_gradient` and goes

        m <- 0.7 m + 0.3 g,   v <- 0.9 v + 0.1 |g|^2 / d,   x <- clamp(x - s m / sqrt(v))

    without the bias of m and v, in scaled coordinates: as far as the samples reach, less where
    steps contradict each other. s grows by 1.3 while they agree, g . m > 0, and shrinks by 0.7
    otherwise, so that the smoothing fades as the search settles. With constraints the value is that
    of `Merit`. After Suh et al., 2022, with the weight and the schedule of our own.
    """

    samples: int = 8
    deviation: float = 0.1
    blocks: int | None = None

    name: ClassVar[str] = "mixed-order"
    order: ClassVar[int] = 1
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_count("samples", self.samples, least=4)
        if self.samples % 2:
            raise ValueError(f"samples must be even, in pairs, got {self.samples}")
        check_number("deviation", self.deviation, above=0)
        if self.blocks is not None:
            check_count("blocks", self.blocks)

    def start(self, problem: Problem, seed: int = 0) -> RunningMixedOrder:
        """A running search for this problem."""
        return RunningMixedOrder(self, problem, seed)


class RunningMixedOrder(Resumable):
    """Mixed-order descent between ask and tell; see `MixedOrder`.

    noise: (N / 2, d), the displacements that were asked, in units of deviation times scale.
    """

    FIELDS = (
        "x", "noise", "deviation", "mean", "square", "iteration", "disagreement",
        "noise_average", "estimates", "weight", "done", "best", "generator",
    )  # fmt: skip

    def __init__(self, settings: MixedOrder, problem: Problem, seed: int) -> None:
        self.settings, self.problem = settings, problem
        self.generator = seeded(problem, seed)
        self.x = problem.start
        self.noise = self.x.new_zeros(0, problem.dimension)
        self.deviation = settings.deviation
        self.mean, self.square, self.iteration = torch.zeros_like(self.x), 0.0, 0
        self.blocks = _blocks(settings, problem)
        count = 1 if self.blocks is None else int(self.blocks.max()) + 1
        self.disagreement = self.noise_average = self.x.new_zeros(count)
        self.estimates = 0
        self.weight = 0.0
        self.done: str | None = None
        self.best = Incumbent(problem.start)

    def ask(self, remaining: float = math.inf) -> Query:
        """The pairs around x with their gradients, or as many points as the budget allows."""
        pairs, problem = self.settings.samples // 2, self.problem
        if not len(self.noise):
            self.noise = torch.randn(
                pairs, problem.dimension, generator=self.generator,
                dtype=problem.dtype, device=problem.device,
            )  # fmt: skip
        offsets = self.deviation * problem.scale * self.noise
        points = torch.cat((self.x + offsets, self.x - offsets))
        affordable = remaining / problem.gradient_cost
        rows = len(points) if affordable >= len(points) else max(1, int(affordable))
        return Query(points[:rows].clamp(problem.lower, problem.upper), order=1)

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Take one step; a part of the pairs, at the end of a budget, only moves the best."""
        pairs = self.settings.samples // 2
        check_answer(query, evaluation)
        self.best.offer(query.points, evaluation)
        noise, self.noise = self.noise, self.noise[:0]
        if len(query.points) < 2 * pairs:
            return
        merit = Merit(self.problem.scale, self.weight)
        merit.learn(evaluation)
        if merit.weight != self.weight:
            self.weight, self.estimates = merit.weight, 0
        good = evaluation.ok.view(2, pairs).all(0)
        if int(good.sum()) < 2:
            self._retreat(evaluation)
            return
        values = merit.of(evaluation).view(2, pairs)[:, good]
        # in scaled coordinates, so that blocks of different units can be compared
        gradients = (merit.gradient(evaluation) * self.problem.scale).view(2, pairs, -1)[:, good]
        self._step(self._estimate(noise[good], values, gradients))

    def _estimate(self, noise: Tensor, values: Tensor, gradients: Tensor) -> Tensor:
        if self.estimates == 0:
            self.disagreement = torch.zeros_like(self.disagreement)
            self.noise_average = torch.zeros_like(self.noise_average)
        averages = Averages(self.disagreement, self.noise_average, self.estimates)
        mixed = mixed_gradient(
            self.deviation * noise, values, gradients, self.deviation, averages, self.blocks
        )
        self.disagreement, self.noise_average = mixed.averages.disagreement, mixed.averages.noise
        self.estimates = mixed.averages.count
        return mixed.gradient

    def _step(self, gradient: Tensor) -> None:
        problem, scale = self.problem, self.problem.scale
        free = free_coordinates(gradient, problem.lower - self.x, problem.upper - self.x)
        gradient = gradient * free
        agrees = float(gradient.dot(self.mean)) > 0 or self.iteration == 0
        self.iteration += 1
        self.mean = (MEAN * self.mean + (1 - MEAN) * gradient) * free
        self.square = SQUARE * self.square + (1 - SQUARE) * float(gradient.square().mean())
        size = math.sqrt(self.square / (1 - SQUARE**self.iteration))
        if size > 0:
            step = self.mean / (size * (1 - MEAN**self.iteration))
            moved = self.x - self.deviation * scale * step
            self.x = moved.clamp(problem.lower, problem.upper)
        self.deviation *= WIDEN if agrees else NARROW
        self.deviation = min(max(self.deviation, NARROWEST), WIDEST)

    def _retreat(self, evaluation: Evaluation) -> None:
        """Go where something has succeeded, and look closer there, or farther while nothing has."""
        found = self.best.value < math.inf
        if found:
            self.x = self.best.x
        self.deviation *= NARROW if found and not bool(evaluation.ok.any()) else 1.0
        if not found:
            self.deviation = min(WIDEST, WIDEN * self.deviation)

    @property
    def rows(self) -> int:
        """How many points a full query holds."""
        return self.settings.samples

    def objective_changed(self) -> None:
        """Forget the values told so far: an adapter changed what is minimised; points stay."""
        self.best, self.done, self.estimates = Incumbent(self.best.x), None, 0
        self.deviation = max(self.deviation, self.settings.deviation)

    def events(self) -> tuple[str, ...]:
        """The search has no turning points to tell of."""
        return ()


def _blocks(settings: MixedOrder, problem: Problem) -> Tensor | None:
    """The block (d,) of every coordinate; None for one block."""
    if settings.samples < SAMPLES_FOR_BLOCKS:
        return None
    at = torch.arange(problem.dimension, device=problem.device)
    if settings.blocks is not None:
        return at * min(settings.blocks, problem.dimension) // problem.dimension
    if not problem.trajectories:
        return None
    blocks, first = torch.zeros_like(at), 1  # block 0 holds what is no trajectory
    for part, shape in problem.trajectories.values():
        channels = (part.stop - part.start) // shape[0]
        blocks[part] = first + torch.arange(part.stop - part.start, device=at.device) // channels
        first += shape[0]
    return blocks
