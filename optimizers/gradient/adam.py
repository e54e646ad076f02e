"""Adam: first choice for many parameters, noisy gradients and changing values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from optimizers.checks import check_count, check_number
from optimizers.evaluation import Evaluation, Incumbent, Query
from optimizers.problem import Problem
from optimizers.state import Resumable, check_answer, projection, seeded

PATIENCE = 100  # iterations without one success before a run gives up


@dataclass(frozen=True)
class Adam:
    """Adam with bounds and independent starts: when gradients are cheap, many or noisy.

    step_size: of one iteration, in units of each parameter's scale.
    betas: decay of the mean and of the mean square of the gradient.
    epsilon: keeps a vanishing gradient from dividing by zero.
    decay: factor of the step size per iteration.
    starts: independent searches in one batch; the first begins at the problem's start, the others
        at random.

        m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
        x <- clamp(x - step_size decay^t scale (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon))

    Kingma and Ba, 2015, algorithm 1. Ours: the unit of the step, the box, and failures: a row that
    failed goes back half the way to its last point that succeeded, while its mean gradient fades;
    one that never succeeded looks around its start, ever farther.
    """

    step_size: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    decay: float = 1.0
    starts: int = 1

    name: ClassVar[str] = "adam"
    order: ClassVar[int] = 1
    handles_constraints: ClassVar[bool] = False
    by_rank: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_number("step_size", self.step_size, above=0)
        check_number("epsilon", self.epsilon, above=0)
        check_number("decay", self.decay, above=0, most=1)
        check_count("starts", self.starts)
        if not isinstance(self.betas, tuple | list) or len(self.betas) != 2:
            raise ValueError(f"betas must be two numbers, got {self.betas!r}")
        object.__setattr__(self, "betas", tuple(self.betas))
        for beta in self.betas:
            check_number("betas", beta, least=0, below=1)

    def start(self, problem: Problem, seed: int = 0) -> RunningAdam:
        """A running search for this problem."""
        return RunningAdam(self, problem, seed)


class RunningAdam(Resumable):
    """Adam between ask and tell; see `Adam`."""

    FIELDS = (
        "x",
        "good",
        "mean",
        "square",
        "iteration",
        "failures",
        "found",
        "done",
        "best",
        "generator",
    )

    def __init__(self, settings: Adam, problem: Problem, seed: int) -> None:
        self.settings, self.problem = settings, problem
        self.generator = seeded(problem, seed)
        self.x = problem.start[None].clone()
        if settings.starts > 1:
            others = problem.sample(settings.starts - 1, self.generator)
            self.x = self.x.new_zeros(settings.starts, problem.dimension)
            self.x[0], self.x[1:] = problem.start, others
        self.good = (
            self.x
        )  # last points that succeeded; tensors are replaced, never written, so no copy is needed
        self.mean = self.x.new_zeros(self.x.shape)
        self.square = self.x.new_zeros(self.x.shape)
        self.iteration = 0
        self.failures = 0
        self.found = torch.zeros(settings.starts, dtype=torch.bool, device=self.x.device)
        self.done: str | None = None
        self.best = Incumbent(problem.start)
        self._clamp = projection(problem)
        uniform = bool((problem.scale == problem.scale[0]).all())
        self._scale = float(problem.scale[0]) if uniform else None

    def ask(self, remaining: float = math.inf) -> Query:
        """One point of each search, (starts, d), or fewer searches where the budget ends."""
        affordable = remaining / self.problem.gradient_cost
        rows = len(self.x) if affordable >= len(self.x) else max(1, int(affordable))
        return Query(self.x[:rows], order=1)

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Move every search by one step."""
        check_answer(query, evaluation)
        self.iteration += 1
        self.best.offer(query.points, evaluation)
        moved = self._stepped(query, evaluation)
        good, ok = query.points, evaluation.ok[:, None]
        self.found[: len(moved)] |= evaluation.ok
        if bool(ok.all()):
            self.failures = 0
        else:
            last = self.good[: len(moved)]
            self.failures = 0 if bool(ok.any()) else self.failures + 1
            found = self.found[: len(moved), None]
            moved = moved.where(ok, torch.where(found, 0.5 * (good + last), self._around(last)))
            good = good.where(ok, last)
            if self.failures >= PATIENCE:
                some = bool(self.found.any())
                self.done = f"converged: {PATIENCE} failures" if some else "all evaluations failed"
        waiting = len(moved)  # the searches that a short budget left out stay where they are
        self.x = moved if waiting == len(self.x) else torch.cat((moved, self.x[waiting:]))
        self.good = good if waiting == len(self.good) else torch.cat((good, self.good[waiting:]))

    def _around(self, points: Tensor) -> Tensor:
        """Random points (B, d) inside the box, the farther the longer nothing has succeeded."""
        share = min(1.0, self.settings.step_size * 1.2**self.failures)
        return points.lerp(self.problem.sample(len(points), self.generator), share)

    def _stepped(self, query: Query, evaluation: Evaluation) -> Tensor:
        # few passes over memory and only two new vectors: with many parameters that is the cost
        gradient, rows = evaluation.gradient, len(query.points)
        assert gradient is not None
        settings, (first, second) = self.settings, self.settings.betas
        mean, square = self.mean[:rows], self.square[:rows]
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        root = math.sqrt(1 - second**self.iteration)
        step = (
            settings.step_size
            * settings.decay ** (self.iteration - 1)
            * root
            / (1 - first**self.iteration)
        )
        denominator = square.sqrt().add_(settings.epsilon * root)
        if self._scale is None:
            denominator.div_(self.problem.scale)
        else:
            step *= self._scale
        return self._clamp(torch.addcdiv(query.points, mean, denominator, value=-step))

    @property
    def rows(self) -> int:
        """How many points a full query holds."""
        return len(self.x)

    def objective_changed(self) -> None:
        """Forget the values told so far: an adapter changed what is minimised; points stay."""
        self.best, self.done, self.failures = Incumbent(self.best.x), None, 0

    def events(self) -> tuple[str, ...]:
        """Adam has no turning points to tell of."""
        return ()
