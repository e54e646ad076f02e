"""The loop: asks a method, lets the problem answer, keeps the books, resumes killed runs."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Generator
from dataclasses import dataclass
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from optimizers import checkpoint as files
from optimizers.budget import Budget, Spent
from optimizers.checks import check_number
from optimizers.constraints import RunningAugmentedLagrangian
from optimizers.evaluation import Evaluation, Incumbent, Query, best_row
from optimizers.methods import METHODS, settings_of
from optimizers.problem import Problem
from optimizers.target import LinearizedTarget

HISTORY = ("evaluations", "best_value", "best_violation", "value", "seconds")
FAILED = "all evaluations failed"
LARGEST_SEED = 2**62  # leaves room for the runs of a batch, which count on from it

_log = logging.getLogger("optimizers")


@dataclass(frozen=True, eq=False)
class Iterate:
    """What is known after one round of ask and tell.

    iteration: 0-based.
    x, value, violation, terms: of the best point (d,) of this round; the value is a model's or a
        target's where the query asked for one.
    best_x, best_value, best_violation: of the whole run; the newest where values are `current`.
    evaluations: spent, in prices of one value.
    gradients: points evaluated with gradients.
    seconds: spent inside the run.
    tag: of the query.
    events: what happened, to be shown: "new best", restarts.
    reason: why the run ended, as in `Result`, in its last record; else None.
    """

    iteration: int
    x: Tensor
    value: float
    violation: float
    best_x: Tensor
    best_value: float
    best_violation: float
    evaluations: float
    gradients: int
    seconds: float
    terms: dict[str, float]
    tag: str = ""
    events: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """What a run has found, x (d,) and the same as named parameters, and what it took.

    reason: "target", "evaluations", "gradients", "iterations" or "seconds" when a limit of the
        budget was met; "converged: ..." in the words of the method; "all evaluations failed" when
        there is no value at all (x is then the start, and the value +inf).
    history: "evaluations", "best_value", "best_violation", "value" and "seconds" after each round,
        float64 tensors (iterations,).
    """

    x: Tensor
    value: float
    violation: float
    parameters: dict[str, Tensor]
    evaluations: float
    gradients: int
    iterations: int
    seconds: float
    reason: str
    history: dict[str, Tensor]


def iterate(
    problem: Problem,
    method: Any,
    *,
    budget: Budget | None = None,
    seed: int = 0,
    checkpoint: str | PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    checkpoint_seconds: float = 5.0,
) -> Generator[Iterate, None, None]:
    """Run a method on a problem and yield one `Iterate` a round; leave whenever it is enough.

    method: a name of `METHODS` or settings.
    budget: no limit by default.
    checkpoint: a file to go on from if it exists; written at the end, when the loop is left, and
        during the run after checkpoint_every rounds or checkpoint_seconds.
    A run that goes on yields what the unbroken one would have yielded, bit for bit on CPU; a
    finished one yields its last record again, or goes on if the budget has grown.
    Raises ValueError, TypeError or OSError on unusable arguments before anything is evaluated.
    """
    run = _Run(problem, method, budget, seed, checkpoint, checkpoint_every, checkpoint_seconds)
    return run.stream()


def minimize(
    problem: Problem,
    method: Any,
    *,
    budget: Budget | None = None,
    seed: int = 0,
    checkpoint: str | PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    checkpoint_seconds: float = 5.0,
) -> Result:
    """The same run as `iterate` to its end; the budget is 1000 (d + 1) evaluations by default."""
    if budget is None and isinstance(problem, Problem):
        budget = Budget(evaluations=1000 * (problem.dimension + 1))
    run = _Run(problem, method, budget, seed, checkpoint, checkpoint_every, checkpoint_seconds)
    for _ in run.stream():
        pass
    return run.result()


def last_iterate(
    checkpoint: str | PathLike[str], device: torch.device | str = "cpu"
) -> Iterate | None:
    """The newest record of a checkpoint file, None if it was written before the first.

    A run writes its checkpoint before it hands the record out, so one that was killed in between
    has a record there that nobody has seen. Raises ValueError where the file is damaged.
    """
    last = files.read(Path(checkpoint), torch.device(device))["last"]
    return None if last is None else Iterate(**last)


class _Run:
    """One run: the books between the problem and the method."""

    def __init__(
        self,
        problem: Problem,
        method: Any,
        budget: Budget | None,
        seed: int,
        path: str | PathLike[str] | None,
        every: int | None,
        every_seconds: float,
    ) -> None:
        if not isinstance(problem, Problem):
            raise TypeError(f"problem must be an optimizers.Problem, got {type(problem).__name__}")
        budget = Budget() if budget is None else budget
        if not isinstance(budget, Budget):
            raise TypeError(f"budget must be an optimizers.Budget, got {type(budget).__name__}")
        if isinstance(seed, bool) or not isinstance(seed, Integral):
            raise TypeError(f"seed must be an integer, got {type(seed).__name__}")
        if abs(seed) > LARGEST_SEED:
            raise ValueError(f"seed must lie between -2^62 and 2^62, got {seed}")
        if path is not None and not isinstance(path, str | PathLike):
            raise TypeError(f"checkpoint must be a path or None, got {type(path).__name__}")
        check_number("checkpoint_seconds", every_seconds, least=0)
        if every is not None and (not isinstance(every, int) or every < 1):
            raise ValueError(f"checkpoint_every must be a positive integer or None, got {every}")
        self.problem, self.budget, self.seed = problem, budget, int(seed)
        self.settings = settings_of(method)
        self.path = None if path is None else Path(path)
        self.every, self.every_seconds = every, every_seconds
        if self.settings.order > 0 and not problem.differentiable:
            others = ", ".join(name for name, kind in METHODS.items() if kind.order == 0)
            raise ValueError(
                f"method {self.settings.name!r} needs gradients and the problem has none: "
                f"pass differentiable=True if its function is written in torch, "
                f"or choose one of: {others}"
            )
        self.optimizer = self.settings.start(problem, self.seed)
        if not self.settings.handles_constraints and problem.constraints != 0:
            self.optimizer = RunningAugmentedLagrangian(self.optimizer, problem)
        self.spent = Spent()
        self.best = Incumbent(problem.start)
        self.history: list[tuple[float, ...]] = []
        self.pending: Query | None = None
        self.last: Iterate | None = None
        self.settled = True  # False while the method is between two states
        self.saved_at, self.saved_iteration = time.monotonic(), 0
        if self.path is not None:
            files.check_writable(self.path)
            if self.path.exists():
                self._load(self.path)

    def stream(self) -> Generator[Iterate, None, None]:
        """The records of the rounds that are left."""
        if self.last is not None and self._reason() is not None:
            yield dataclasses.replace(self.last, reason=self._reason())
            return
        if self.problem.start_was_outside and self.last is None:
            _log.warning("the start lies outside the box and was moved to its nearest point")
        try:
            while True:
                self.last = record = self._round()
                if record.reason is None and self._save_is_due():
                    self._save()
                elif record.reason is not None:
                    break
                yield record
        finally:
            if self.path is not None and self.settled:
                self._save()
        yield record

    def _round(self) -> Iterate:
        clock = time.monotonic()
        iteration, problem = self.spent.iterations, self.problem
        query = self.pending
        if query is None:
            self.settled = False
            left = self.spent.remaining(self.budget, problem.gradient_cost)
            query = self.pending = self.optimizer.ask(left)
            self.settled = True
        try:
            # a subclass need not know of targets unless its method asks for them
            aim = {} if query.target is None else {"target": query.target}
            answer = problem.evaluate(
                query.points, query.order, fidelity=query.fidelity, iteration=iteration, **aim
            )
        finally:
            self.spent.seconds += time.monotonic() - clock
            clock = time.monotonic()
        evaluation = self._checked(query, answer)
        self.settled = False
        self.optimizer.tell(query, evaluation)
        self.pending = None
        price = problem.cost(query.order, query.fidelity, query.target is not None)
        self.spent.charge(len(query.points), query.order, price)
        row = best_row(evaluation)
        x, value, violation = (
            query.points[row],
            float(evaluation.value[row]),
            float(evaluation.violation[row]),
        )
        events = self.optimizer.events()
        if self._take_best(Incumbent(x, value, violation), query.is_true):
            events = ("new best", *events)
        if iteration == 0 and problem.start_was_outside:
            events = ("start moved into the box", *events)
        self.spent.seconds += time.monotonic() - clock
        spent, best = self.spent, self.best
        self.history.append((spent.evaluations, best.value, best.violation, value, spent.seconds))
        terms = {name: float(term[row]) for name, term in evaluation.terms.items()}
        record = Iterate(
            iteration, x, value, violation, best.x, best.value, best.violation,
            spent.evaluations, spent.gradients, spent.seconds, terms,
            query.tag, events, self._reason(),
        )  # fmt: skip
        self.last = record
        self.settled = True
        return record

    def _checked(self, query: Query, answer: Any) -> Evaluation:
        if not isinstance(answer, Evaluation):
            raise TypeError(f"evaluate must return an Evaluation, got {type(answer).__name__}")
        if len(answer.value) != len(query.points):
            raise ValueError(
                f"evaluate must return {len(query.points)} rows, got {len(answer.value)}"
            )
        given = 0 if answer.constraints is None else answer.constraints.shape[1]
        if query.target is None and self.problem.constraints not in (None, given):
            raise ValueError(
                f"evaluate must return {self.problem.constraints} constraints, got {given}"
            )
        return answer.to(query.points)

    def _take_best(self, newest: Incumbent, is_true: bool) -> bool:
        """Keep the method's best if it is better; the newest success where values are current."""
        current = self.problem.current and is_true
        offered = newest if current else self.optimizer.best
        better = self.best.worse_than(offered.value, offered.violation)
        if offered.value < math.inf and (better or current):
            self.best = Incumbent(offered.x, offered.value, offered.violation)
        return better

    def _reason(self) -> str | None:
        reason = self.spent.exhausts(self.budget, self.best) or self.optimizer.done
        return FAILED if reason is not None and self.best.value == math.inf else reason

    def result(self) -> Result:
        """What the run has found, once its stream has ended."""
        reason = self._reason()
        assert reason is not None
        columns = (
            torch.tensor(self.history, dtype=torch.float64).reshape(-1, len(HISTORY)).unbind(1)
        )
        return Result(
            x=self.best.x,
            value=self.best.value,
            violation=self.best.violation,
            parameters=self.problem.parameters_of(self.best.x),
            evaluations=self.spent.evaluations,
            gradients=self.spent.gradients,
            iterations=self.spent.iterations,
            seconds=self.spent.seconds,
            reason=reason,
            history=dict(zip(HISTORY, columns, strict=True)),
        )

    def _identity(self) -> dict[str, Any]:
        settings = ", ".join(
            f"{field.name}={getattr(self.settings, field.name)!r}"
            for field in _fields(self.settings)
        )
        return {
            "method": getattr(self.settings, "name", type(self.settings).__name__),
            "settings": settings,
            "seed": self.seed,
            "dimension": self.problem.dimension,
            "parameters": ", ".join(
                f"{name} {box.shape}" for name, box in self.problem.parameters.items()
            ),
            "precision": str(self.problem.dtype),
        }

    def _save_is_due(self) -> bool:
        if self.path is None:
            return False
        rounds = self.spent.iterations - self.saved_iteration
        by_rounds = self.every is not None and rounds >= self.every
        return by_rounds or time.monotonic() - self.saved_at >= self.every_seconds

    def _save(self) -> None:
        assert self.path is not None
        state = {
            "identity": self._identity(),
            "optimizer": self.optimizer.state_dict(),
            "spent": dataclasses.asdict(self.spent),
            "best": vars(self.best),
            "history": torch.tensor(self.history, dtype=torch.float64).reshape(-1, len(HISTORY)),
            "pending": None if self.pending is None else _plain_query(self.pending),
            "last": None if self.last is None else vars(self.last),
        }
        files.save(self.path, state)
        self.saved_at, self.saved_iteration = time.monotonic(), self.spent.iterations

    def _load(self, path: Path) -> None:
        state = files.load(path, self._identity(), self.problem.device)
        best, problem = state["best"]["x"], self.problem
        slack = 1e-3 * problem.scale  # bounds may be computed anew with other round-off
        if not bool(((best >= problem.lower - slack) & (best <= problem.upper + slack)).all()):
            raise ValueError(
                f"checkpoint {path} belongs to another run: its best point lies outside the box"
            )
        self.optimizer.load_state_dict(state["optimizer"])
        self.spent = Spent(**state["spent"])
        self.best = Incumbent(**state["best"])
        self.history = [tuple(row) for row in state["history"].tolist()]
        self.pending = None if state["pending"] is None else _query(state["pending"])
        self.last = None if state["last"] is None else Iterate(**state["last"])
        self.saved_iteration = self.spent.iterations


def _plain_query(query: Query) -> dict[str, Any]:
    return vars(query) | {"target": None if query.target is None else vars(query.target)}


def _query(state: dict[str, Any]) -> Query:
    target = state.pop("target")
    return Query(**state, target=None if target is None else LinearizedTarget(**target))


def _fields(settings: Any) -> tuple[Any, ...]:
    return dataclasses.fields(settings) if dataclasses.is_dataclass(settings) else ()
