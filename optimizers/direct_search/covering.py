"""Covering direct search: for values that jump, fail or are cut off by constraints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from optimizers.checks import check_number
from optimizers.direct_search.archive import Archive
from optimizers.direct_search.barrier import Barrier, Outcome
from optimizers.direct_search.poll import inside, ordered, poll_directions
from optimizers.evaluation import Evaluation, Incumbent, Query
from optimizers.problem import Problem
from optimizers.state import check_answer, restore, snapshot

CANDIDATES = 64  # of which the farthest from all known points is evaluated
FACTORS = (2.0, 1.0)  # of the last step, to repeat it
SECONDARY = 2  # directions around the second leader
ATTEMPTS = 1000  # to find a start that can be evaluated


@dataclass(frozen=True)
class DirectSearch:
    """Direct search: for few parameters, when values are costly, jump, fail or meet hard limits.

    radius: first poll radius, the largest entry of a step, in units of each parameter's scale.
    floor: poll radius at which the search starts anew.
    reach: radius of the ball around the leader that covering points fill, in the same units.
    poll: "minimal" polls d + 1 directions, "maximal" 2 d.
    barrier: how constraints enter, see `Barrier`; both begin at infeasible points too.
    batch: whether the points of a poll are one query, of which the best is taken; one by one,
        the first success ends the poll. By default only on a GPU.

    One iteration around the leader x with the poll radius r: repeat the last step if it was a
    success; poll x + r q_i; evaluate the point of the ball that is farthest from all known points.
    The first success moves x and ends the iteration.

        r <- min(1, 2 r) after a success, unchanged when a covering point won, r / 2 after a failure
        q = columns of I - 2 v v^T and the opposite of their sum, v random, |q_i|_inf = 1

    Audet, Bouchet and Bourdin, Convergence towards a local minimum by direct search methods with a
    covering step; Bouchet and Vidal, Optimization by Directional Attacks, 2025, section on cDSM.
    Ours: the farthest of 64 points covers, and a search whose radius has fallen to the floor begins
    anew.
    """

    radius: float = 0.1
    floor: float = 1e-9
    reach: float = 0.5
    poll: Literal["minimal", "maximal"] = "minimal"
    barrier: Literal["progressive", "extreme"] = "progressive"
    batch: bool | None = None

    name: ClassVar[str] = "direct-search"
    order: ClassVar[int] = 0
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number("radius", self.radius, above=0)
        check_number("floor", self.floor, above=0, below=self.radius)
        check_number("reach", self.reach, above=0)
        if self.poll not in ("minimal", "maximal"):
            raise ValueError(f'poll must be "minimal" or "maximal", got {self.poll!r}')
        if self.barrier not in ("progressive", "extreme"):
            raise ValueError(f'barrier must be "progressive" or "extreme", got {self.barrier!r}')
        if self.batch not in (None, True, False):
            raise ValueError(f"batch must be True, False or None, got {self.batch!r}")

    def start(self, problem: Problem, seed: int = 0) -> RunningDirectSearch:
        """A running search for this problem."""
        return RunningDirectSearch(self, problem, seed)


class RunningDirectSearch:
    """Direct search between ask and tell; see `DirectSearch`.

    Another method may drive it: between tell and ask, `learn` hands it points that were evaluated
    elsewhere, `move_to` sets its leader, and `radius` may be read and set.

    radius: the poll radius, in units of the scales.
    queue: (k, d) points that wait to be asked, in the coordinates of the archive.
    phase: what they are for. step: (d,), the last successful one.
    """

    FIELDS = (
        "radius", "phase", "asked", "failures", "restarts", "done", "best", "generator", "_events",
    )  # fmt: skip

    def __init__(self, settings: DirectSearch, problem: Problem, seed: int) -> None:
        self.settings, self.problem = settings, problem
        self.generator = torch.Generator().manual_seed(seed)
        d = problem.dimension
        # few numbers at a time: without torch each of the many small steps costs a quarter
        self._start, self._scale, lower, upper = (
            vector.double().cpu().numpy()
            for vector in (problem.start, problem.scale, problem.lower, problem.upper)
        )
        self._lower, self._upper = (
            (lower - self._start) / self._scale,
            (upper - self._start) / self._scale,
        )
        self.archive = Archive(d)
        self.barrier = Barrier(self.archive, settings.barrier == "progressive")
        self.radius = settings.radius
        self.phase, self.asked = "start", 0
        self.queue = np.zeros((1, d))
        self.step = np.zeros(d)
        self.failures = self.restarts = 0
        self.done: str | None = None
        self.best = Incumbent(problem.start)
        self._events: list[str] = []
        batch = settings.batch
        self._batch = problem.device.type != "cpu" if batch is None else batch
        self._bounds = (problem.lower, problem.upper)
        # below this radius steps are lost in the precision of the problem
        self._floor = max(settings.floor, 16 * torch.finfo(problem.dtype).eps)

    def ask(self, remaining: float = math.inf) -> Query:
        """The next point (1, d), or the points (k, d) of a whole step where they go in batches."""
        while not len(self.queue):
            self._next_phase()
        count = len(self.queue) if self._batch else 1
        self.asked = min(count, max(1, int(min(remaining, count))))
        points = torch.from_numpy(self._start + self._scale * self.queue[: self.asked])
        points = points.to(self.problem.device, self.problem.dtype)
        return Query(points.clamp_(*self._bounds), order=0, tag=self.phase)

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Judge the points: move to a better one, or go on with the rest of the step."""
        check_answer(query, evaluation, expected=self.asked)
        self.queue = self.queue[self.asked :]
        before = self.barrier.leader
        outcome = self.learn(query.points, evaluation)
        if self.phase == "start":
            self._find_start()
        elif outcome == Outcome.DOMINATING:
            self._succeed(before)
        elif outcome == Outcome.IMPROVING:
            self._begin_iteration()

    def learn(self, points: Tensor, evaluation: Evaluation) -> Outcome:
        """Take points (B, d) that were evaluated here or elsewhere; a better one leads from now on.

        evaluation: true values, not those of a target or a surrogate.
        """
        self.best.offer(points, evaluation)
        constraints = evaluation.constraints
        rows = self.archive.add(
            (points.double().cpu().numpy() - self._start) / self._scale,
            evaluation.value.double().cpu().numpy(),
            None if constraints is None else constraints.double().cpu().numpy(),
            evaluation.violation.double().cpu().numpy(),
            evaluation.equalities,
        )
        return self.barrier.judge(rows)

    def move_to(self, x: Tensor, value: float, constraints: Tensor | None = None) -> None:
        """Go on from x (d,) of this value and constraints (m,), better or not.

        Points that wait to be asked are dropped: the next query begins an iteration around x.
        """
        answer = Evaluation(
            x.new_tensor([value]),
            None if constraints is None else constraints[None],
            equalities=self.archive.equalities,
        )
        self.learn(x[None], answer)
        self.barrier.lead(self.archive.size - 1)
        self._begin_iteration()

    def _find_start(self) -> None:
        if self.barrier.leader >= 0:
            self._begin_iteration()
            return
        self.failures += 1
        if self.failures >= ATTEMPTS:
            self.done = "all evaluations failed"
        self.queue = self._sample(1)

    def _succeed(self, before: int) -> None:
        """Move on from the leader that was there before."""
        leader = self.barrier.leader
        self.step = self.archive.points[leader] - self.archive.points[before]
        if self.phase != "covering":
            self.radius = min(1.0, 2 * self.radius)
        self._begin_iteration(repeat=self.phase in ("poll", "speculation"))

    def _begin_iteration(self, repeat: bool = False) -> None:
        self.phase = "success" if repeat else "begin"
        self.queue = self.queue[:0]

    def _next_phase(self) -> None:
        """Fill the queue with the points of the next phase, which may have none."""
        if self.phase == "success":
            self.phase, self.queue = "speculation", self._speculation()
        elif self.phase in ("begin", "speculation"):
            self.phase, self.queue = "poll", self._poll()
        elif self.phase == "poll":
            self.phase, self.queue = "covering", self._covering()
        else:
            self._fail()

    def _fail(self) -> None:
        self.radius /= 2
        if self.radius < self._floor:
            self.restarts += 1
            self.radius = self.settings.radius
            self._events.append(f"restart {self.restarts}, the radius had fallen to its floor")
        self._begin_iteration()

    def _center(self) -> np.ndarray:
        return self.archive.points[self.barrier.leader]

    def _speculation(self) -> np.ndarray:
        """The last step once more, longer and as it was."""
        center = self._center()
        return inside(center + np.outer(FACTORS, self.step), center, self._lower, self._upper)

    def _poll(self) -> np.ndarray:
        directions = poll_directions(self._normal(1)[0], self.settings.poll == "maximal")
        directions = self.radius * ordered(directions, self.step)
        center, second = self._center(), self.barrier.second
        points = inside(center + directions, center, self._lower, self._upper)
        if second < 0:
            return points
        other = self.archive.points[second]
        few = inside(other + directions[:SECONDARY], other, self._lower, self._upper)
        return np.concatenate((points, few))

    def _covering(self) -> np.ndarray:
        """The point of the ball around the leader that is farthest from all known points."""
        d = self.problem.dimension
        normal = self._normal(CANDIDATES)
        share = torch.rand(CANDIDATES, 1, generator=self.generator, dtype=torch.float64).numpy()
        length = self.settings.reach * share ** (1 / d)
        normal *= length / np.sqrt((normal * normal).sum(1, keepdims=True))
        candidates = np.clip(self._center() + normal, self._lower, self._upper)
        return candidates[self.archive.farthest(candidates)][None]

    def _sample(self, count: int) -> np.ndarray:
        """Random points (count, d): uniform between two bounds, else normal around the start."""
        lower, width = self._lower, self._upper - self._lower
        bounded = np.isfinite(width)
        uniform = torch.rand(count, len(lower), generator=self.generator, dtype=torch.float64)
        points = np.where(bounded, lower, 0.0) + uniform.numpy() * np.where(bounded, width, 0.0)
        return np.clip(np.where(bounded, points, self._normal(count)), lower, self._upper)

    def _normal(self, count: int) -> np.ndarray:
        d = self.problem.dimension
        return torch.randn(count, d, generator=self.generator, dtype=torch.float64).numpy()

    def events(self) -> tuple[str, ...]:
        """The restarts since the last call."""
        happened, self._events = tuple(self._events), []
        return happened

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything the search needs to go on."""
        return {
            "search": snapshot(self, self.FIELDS),
            "queue": torch.from_numpy(self.queue.copy()),
            "step": torch.from_numpy(self.step.copy()),
            "archive": self.archive.state_dict(),
            "barrier": snapshot(self.barrier, Barrier.FIELDS),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same settings and problem."""
        restore(self, self.FIELDS, state["search"], self.problem.device)
        self.queue, self.step = (state[name].cpu().numpy().copy() for name in ("queue", "step"))
        self.archive.load_state_dict(state["archive"])
        restore(self.barrier, Barrier.FIELDS, state["barrier"], self.problem.device)
