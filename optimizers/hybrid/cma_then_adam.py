"""CMA-ES on knots, then Adam on every step: the two stages of ThinShellLab."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from optimizers.checks import check_count, check_number
from optimizers.constraints import AugmentedLagrangian
from optimizers.evaluation import Evaluation, Incumbent, Query
from optimizers.gradient.adam import Adam, RunningAdam
from optimizers.hybrid.space import knot_spaces
from optimizers.population.cma import Cma
from optimizers.problem import Problem
from optimizers.state import check_answer, restore, snapshot
from optimizers.trajectory import Knots

GENERATIONS = 15  # of the first stage, where the budget has no limit


@dataclass(frozen=True)
class CmaThenAdam:
    """CMA-ES on few knots, then Adam at full resolution: the baseline for trajectories.

    share: of the budget for CMA-ES; 15 generations where there is no limit of evaluations.
    population: candidates in a generation, 4 + 3 ln n by default (40 in the paper).
    deviation: first standard deviation, in units of each parameter's scale.
    knots: how many for each channel of a trajectory, 5 by default, pieces of constant value; or a
        `Knots`. Without trajectories CMA-ES searches all parameters.
    step_size, decay: of Adam, which begins at the best candidate; its betas are (0.9, 0.9999).

    Wang et al., ThinShellLab, 2024, who switch by hand; ours switches by the budget. The best point
    of both stages is the result. With constraints CMA-ES ranks by them, and Adam descends on the
    augmented Lagrangian.
    """

    share: float = 0.5
    population: int | None = None
    deviation: float = 0.3
    knots: int | Knots | None = None
    step_size: float = 0.01
    decay: float = 0.99

    name: ClassVar[str] = "cma-then-adam"
    order: ClassVar[int] = 1
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_number("share", self.share, above=0, below=1)
        Cma(population=self.population, deviation=self.deviation)  # raises where they are wrong
        Adam(step_size=self.step_size, decay=self.decay)
        if self.knots is not None and not isinstance(self.knots, Knots):
            check_count("knots", self.knots)

    def start(self, problem: Problem, seed: int = 0) -> RunningCmaThenAdam:
        """A running search for this problem."""
        return RunningCmaThenAdam(self, problem, seed)


class RunningCmaThenAdam:
    """Both stages between ask and tell; see `CmaThenAdam`."""

    FIELDS = ("stage", "points", "left", "generations", "done", "best", "_events")

    def __init__(self, settings: CmaThenAdam, problem: Problem, seed: int) -> None:
        self.settings, self.problem = settings, problem
        self.space = knot_spaces(problem, settings.knots)[0]
        first = Cma(population=settings.population, deviation=settings.deviation)
        self.cma = first.start(self.space.box(self.space.fit(problem.start)), seed)
        self.adam = self._adam()
        self.points = problem.start.new_zeros(0, self.space.dimension)  # of the generation asked
        self.stage, self.generations = "cma", 0
        self.left = math.nan  # of the first stage, in evaluations; unknown before the first ask
        self.done: str | None = None
        self.best = Incumbent(problem.start)
        self._events: list[str] = []

    def _adam(self) -> Any:
        settings, problem = self.settings, self.problem
        second = Adam(settings.step_size, betas=(0.9, 0.9999), decay=settings.decay)
        if problem.constraints == 0:
            return second.start(problem)
        return AugmentedLagrangian(second).start(problem)

    def ask(self, remaining: float = math.inf) -> Query:
        """A generation on the knots, then one point with its gradient."""
        if math.isnan(self.left):
            self.left = self.settings.share * remaining
        if self.stage == "adam":
            return self.adam.ask(remaining)
        self.points = self.cma.ask(min(remaining, max(self.left, 1.0))).points
        return Query(
            self.space.expand(self.points),
            tag="samples on knots" if self.space.knots else "samples",
        )

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Learn from a generation, or move Adam by a step."""
        check_answer(query, evaluation)
        self.best.offer(query.points, evaluation)
        if self.stage == "adam":
            self.adam.tell(query, evaluation)
            self.done = self.adam.done
            return
        self.cma.tell(Query(self.points), evaluation)
        self.left -= len(query.points)
        self.generations += 1
        endless = math.isinf(self.left) and self.generations >= GENERATIONS
        if self.left <= 0 or endless or self.cma.done is not None:
            self._descend()

    def _descend(self) -> None:
        self.stage = "adam"
        running: RunningAdam = getattr(self.adam, "inner", self.adam)
        running.x = running.good = self.best.x[None].clone()
        self._events.append("adam goes on from the best candidate")

    @property
    def rows(self) -> int:
        """How many points a full query holds."""
        return self.cma.rows if self.stage == "cma" else 1

    def objective_changed(self) -> None:
        """Forget the values told so far: an adapter changed what is minimised; points stay."""
        self.best = Incumbent(self.best.x)
        self.cma.objective_changed()
        self.adam.objective_changed()
        self.done = None

    def events(self) -> tuple[str, ...]:
        """The change of the stage, and the restarts of CMA-ES."""
        happened, self._events = (*self.cma.events(), *self._events), []
        return happened

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything the search needs to go on."""
        return {
            "search": snapshot(self, self.FIELDS),
            "cma": self.cma.state_dict(),
            "adam": self.adam.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same settings and problem."""
        restore(self, self.FIELDS, state["search"], self.problem.device)
        self.cma.load_state_dict(state["cma"])
        self.adam.load_state_dict(state["adam"])
