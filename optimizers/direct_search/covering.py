"""Covering direct search: for values that jump, fail or are cut off by constraints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from optimizers.checks import check_count, check_number
from optimizers.direct_search.archive import Archive
from optimizers.direct_search.barrier import Barrier, Outcome
from optimizers.direct_search.model_search import ModelSearch
from optimizers.direct_search.poll import inside, ordered, poll_directions
from optimizers.evaluation import Evaluation, Incumbent, Query
from optimizers.problem import Problem
from optimizers.state import check_answer, restore, snapshot

CANDIDATES = 64  # of which the farthest from all known points is evaluated
FACTORS = (2.0, 1.0)  # of the last step, to repeat it where no model says more
SECONDARY = 2  # directions around the second leader
ATTEMPTS = 1000  # to find a start that can be evaluated
LARGEST = 50  # dimension that is modelled
RETRIES = 2  # of models that fail, each at half the radius, before the next poll
TRUSTED = 0.3  # models that are right so often may try again
SLACK = 30.0  # excess over the fourth power of the radius at which constraints count as met
FARTHEST = 1e6  # poll radius where a parameter is free
FLAT = 1e-12  # differences below this share of a typical one are round-off
STILL = 8  # halvings of the radius over which the differences of a smooth function must fall


@dataclass(frozen=True)
class DirectSearch:
    """Direct search: for few parameters, when values are costly, jump, fail or meet hard limits.

    radius: first poll radius, the largest entry of a step, in units of each parameter's scale.
    floor: poll radius at which the search starts anew.
    model: whether quadratic models propose points and shape the polls; up to 50 parameters.
    reach: half width of the box around the leader that covering points fill, in the same units.
    covering: failed polls from one covering point to the next.
    poll: "minimal" polls d + 1 directions, "maximal" 2 d.
    barrier: how constraints enter, see `Barrier`; both begin at infeasible points too.
    batch: whether the points of a poll are one query, of which the best is taken; one by one,
        the first success ends the poll. By default only on a GPU.

    One iteration around the leader x with the poll radius r: evaluate the least point of the models
    in a trust region of 2 r, and the same around the second leader of the barrier; poll
    x + r A q_i, the most promising first; now and then, evaluate the point around x that is
    farthest from all known points. The first success moves x and ends the iteration. Models that
    have been right before may fail twice before a poll, at half the radius each.

        q = columns of I - 2 v v^T and the opposite of their sum, v random, |q_i|_inf = 1
        A = axes and lengths of the models' curvature, I without them, see `QuadraticModels`
        r <- 2 r, in a box at most 1, after a success of a poll, r / 2 after a failure; when the
             models won, 2 r if they had foreseen it and their step was long, r / 2 if hardly
             anything came

    A search whose radius has fallen to the floor, or around whose leader all is flat, begins anew
    far from all known points; one whose values do not come closer with the points, as under noise,
    looks at its leader again and begins anew there. The models are forgotten then.

    Audet, Bouchet and Bourdin, Convergence towards a local minimum by direct search methods with a
    covering step; Bouchet and Vidal, Optimization by Directional Attacks, 2025, on cDSM; Conn and
    Le Digabel, 2013, on quadratic models in direct search. Ours: models that are updated from all
    near points with a noise that is learnt, the metric, the farthest of 64 points that covers, and
    when to begin anew.
    """

    radius: float = 0.1
    floor: float = 1e-9
    model: bool = True
    reach: float = 1.0
    covering: int = 20
    poll: Literal["minimal", "maximal"] = "minimal"
    barrier: Literal["progressive", "extreme"] = "progressive"
    batch: bool | None = None

    name: ClassVar[str] = "direct-search"
    order: ClassVar[int] = 0
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_number("radius", self.radius, above=0)
        check_number("floor", self.floor, above=0, below=self.radius)
        check_number("reach", self.reach, above=0)
        check_count("covering", self.covering)
        if not isinstance(self.model, bool):
            raise TypeError(f"model must be True or False, got {type(self.model).__name__}")
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
        "radius", "phase", "retries", "asked", "failures", "spreads", "highest", "lowest",
        "restarts", "done", "best", "generator", "_events",
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
        self._lower = (lower - self._start) / self._scale
        self._upper = (upper - self._start) / self._scale
        self.archive = Archive(d)
        self.barrier = Barrier(self.archive, settings.barrier == "progressive")
        self.models = ModelSearch(self.archive)
        self.radius = settings.radius
        self.phase, self.asked = "start", 0
        self.queue = np.zeros((1, d))
        self.step = np.zeros(d)
        self.failures = self.restarts = self.retries = 0
        self.spreads: list[float] = []
        self.lowest, self.highest = math.inf, -math.inf
        self.done: str | None = None
        self.best = Incumbent(problem.start)
        self._events: list[str] = []
        batch = settings.batch
        self._batch = problem.device.type != "cpu" if batch is None else batch
        self._modelled = settings.model and d <= LARGEST
        self._bounds = (problem.lower, problem.upper)
        # a box is searched with steps of its width, free parameters may be far away
        free = not np.isfinite(self._upper - self._lower).all()
        self._largest = FARTHEST if free else 1.0
        # below this radius steps are lost in the precision of the problem
        self._floor = max(settings.floor, 16 * torch.finfo(problem.dtype).eps)

    @property
    def rows(self) -> int:
        """How many points a query may hold."""
        return max(1, len(self.queue)) if self._batch else 1

    def ask(self, remaining: float = math.inf) -> Query:
        """The next point (1, d), or the points (k, d) of a whole step where they go in batches."""
        while not len(self.queue):
            self._next_phase()
        count = len(self.queue) if self._batch else 1
        self.asked = max(1, int(min(remaining, count)))
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
            return
        if self.phase == "poll":
            self._note_spread()
        factor = 1.0 if self.phase == "second model" else 2.0
        if self.phase == "model":
            factor = self._model_factor(before, outcome)
        if outcome == Outcome.DOMINATING:
            self._succeed(before, factor)
        elif outcome == Outcome.IMPROVING:
            self._begin_iteration()
        elif self._retries():
            self.radius /= 2
            self.retries += 1
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
            None if constraints is None else evaluation.violation.double().cpu().numpy(),
            evaluation.equalities,
        )
        # models err by the square of the radius, and the excess is a square; polls alone find
        # nothing that they can trust beyond the limits
        return self.barrier.judge(rows, SLACK * self.radius**4 if self._modelled else 0.0)

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

    def _retries(self) -> bool:
        """Whether models that have been right before shall try again, closer."""
        return (
            self.phase == "model"
            and self.retries < RETRIES
            and self.models.trust > TRUSTED
            and self.models.is_long
            and self.radius > 2 * self._floor
        )

    def _find_start(self) -> None:
        if self.barrier.leader >= 0:
            self.failures = 0
            self._begin_iteration()
            return
        self.failures += 1
        if self.failures >= ATTEMPTS and self.best.value == math.inf:
            self.done = "all evaluations failed"
        self.queue = self._sample(1)

    def _model_factor(self, before: int, outcome: Outcome) -> float:
        """What the models learn from their point, and by how much the radius may grow."""
        if self.archive.constraints.shape[1]:
            # with constraints a success is a success
            return self.models.judge(float(outcome > Outcome.FAILURE))
        return self.models.judge(float(self.archive.value[before] - self.archive.value[-1]))

    def _succeed(self, before: int, factor: float) -> None:
        """Move on from the leader that was there before."""
        leader = self.barrier.leader
        self.step = self.archive.points[leader] - self.archive.points[before]
        if self.phase != "covering":
            self.radius = min(self._largest, factor * self.radius)
        self.spreads, self.retries = [], 0
        self._begin_iteration(repeat=self.phase in ("poll", "speculation"))

    def _begin_iteration(self, repeat: bool = False) -> None:
        self.phase = "success" if repeat else "begin"
        self.queue = self.queue[:0]

    def _next_phase(self) -> None:
        """Fill the queue with the points of the next phase, which may have none."""
        if self.phase in ("success", "begin") and self._modelled:
            leader = self.barrier.leader
            self.queue = self.models.propose(leader, self.radius, self._lower, self._upper)
            self.phase = "model"
        elif self.phase == "model" and self.barrier.second >= 0:
            second = self.barrier.second
            self.queue = self.models.propose(second, self.radius, self._lower, self._upper)
            self.phase = "second model"
        elif self.phase == "success":
            self.phase, self.queue = "speculation", self._speculation()
        elif self.phase in ("begin", "speculation", "model", "second model"):
            self.lowest, self.highest, self.retries = math.inf, -math.inf, 0
            self.phase, self.queue = "poll", self._poll()
        elif self.phase == "poll" and self.failures % self.settings.covering == 0:
            self.phase, self.queue = "covering", self._covering()
        else:
            self._fail()

    def _fail(self) -> None:
        self.failures += 1
        self.radius /= 2
        value = self.archive.value
        middle = float(value[self.barrier.leader])
        spread = max(self.highest - middle, middle - self.lowest)
        self.spreads.append(spread)
        known = value[value < math.inf]
        half = len(known) // 2
        typical = float(np.partition(known, half)[half] - known.min())
        if self.radius < self._floor:
            self._restart("the radius had fallen to its floor")
        elif 0 <= spread <= FLAT * typical:
            self._restart("all was flat")
        elif len(self.spreads) > STILL and spread > 0.5 * self.spreads[-1 - STILL] > 0:
            self._restart("values did not come closer with the points", again=True)
        else:
            self._begin_iteration()

    def _note_spread(self) -> None:
        """Keep the range of the values of a poll."""
        values = [v for v in self.archive.value[-self.asked :].tolist() if v < math.inf]
        self.lowest = min(self.lowest, *values, math.inf)
        self.highest = max(self.highest, *values, -math.inf)

    def _restart(self, reason: str, again: bool = False) -> None:
        """Begin anew, far away or, every other time when `again` is set, where the leader is."""
        self.restarts += 1
        self._events.append(f"restart {self.restarts}, {reason}")
        stay = again and self.restarts % 2 == 1
        candidates = self._sample(CANDIDATES)
        far = candidates[self.archive.farthest(candidates)]
        self.queue = (self._center().copy() if stay else far)[None]
        self.phase, self.radius = "start", self.settings.radius
        self.step = np.zeros_like(self.step)
        self.failures, self.spreads = 0, []
        self.barrier.restart()
        self.models.restart()

    def _center(self) -> np.ndarray:
        return self.archive.points[self.barrier.leader]

    def _speculation(self) -> np.ndarray:
        """The last step once more, longer and as it was."""
        center = self._center()
        return inside(center + np.outer(FACTORS, self.step), center, self._lower, self._upper)

    def _poll(self) -> np.ndarray:
        directions = poll_directions(self._normal(1)[0], self.settings.poll == "maximal")
        leader, second = self.barrier.leader, self.barrier.second
        # models that have just failed know all points but the one on which they did, which may
        # say much about constraints
        known = self.models.row == leader and not self.archive.constraints.shape[1]
        modelled = self._modelled and (known or self.models.fit(leader, self.radius))
        if modelled:
            directions = self.models.shaped(directions)
        directions = self.radius * ordered(directions, self.step)
        center = self._center()
        points = inside(center + directions, center, self._lower, self._upper)
        if modelled:
            points = self.models.sorted(points)
        if second < 0:
            return points
        other = self.archive.points[second]
        few = inside(other + directions[:SECONDARY], other, self._lower, self._upper)
        return np.concatenate((points, few))

    def _covering(self) -> np.ndarray:
        """The point around the leader that is farthest from all known points, (1, d)."""
        center, reach = self._center(), self.settings.reach
        low, high = (
            np.maximum(center - reach, self._lower),
            np.minimum(center + reach, self._upper),
        )
        candidates = low + self._uniform(CANDIDATES) * (high - low)
        return candidates[self.archive.farthest(candidates)][None]

    def _sample(self, count: int) -> np.ndarray:
        """Random points (count, d): uniform between two bounds, else normal around the start."""
        bounded = np.isfinite(self._upper - self._lower)
        low, high = (
            np.where(bounded, self._lower, 0.0),
            np.where(bounded, self._upper, 0.0),
        )
        points = low + self._uniform(count) * (high - low)
        return np.clip(np.where(bounded, points, self._normal(count)), self._lower, self._upper)

    def _uniform(self, count: int) -> np.ndarray:
        d = self.problem.dimension
        return torch.rand(count, d, generator=self.generator, dtype=torch.float64).numpy()

    def _normal(self, count: int) -> np.ndarray:
        d = self.problem.dimension
        return torch.randn(count, d, generator=self.generator, dtype=torch.float64).numpy()

    def objective_changed(self) -> None:
        """Forget the values told so far; the search goes on from its leader, asked anew."""
        if self.barrier.leader >= 0:
            self.queue = self._center()[None].copy()
        self.archive.forget_values()
        self.barrier.restart()
        self.models.restart()
        self.best, self.phase, self.done = Incumbent(self.best.x), "start", None
        self.radius = max(self.radius, 0.1 * self.settings.radius)

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
            "models": self.models.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same settings and problem."""
        restore(self, self.FIELDS, state["search"], self.problem.device)
        self.queue, self.step = (state[name].cpu().numpy().copy() for name in ("queue", "step"))
        self.archive.load_state_dict(state["archive"])
        restore(self.barrier, Barrier.FIELDS, state["barrier"], self.problem.device)
        self.models.load_state_dict(state["models"])
