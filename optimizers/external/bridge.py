"""Turning round a solver that calls its function: it waits in a thread while we ask and tell."""

from __future__ import annotations

import math
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np
import torch

from optimizers.evaluation import Evaluation, Incumbent, Query
from optimizers.problem import Problem
from optimizers.state import check_answer, restore, snapshot

PATIENCE = 1.0  # seconds that an abandoned solver has to end before nobody waits for it

Call = Callable[[np.ndarray], list[np.ndarray]]  # points (B, d) to their rows
Solve = Callable[[Call, Callable[[str], None]], str]


class Talk(Protocol):
    """What is said with a solver that runs on its own; abandoned when it is let go."""

    def hear(self, rows: list[np.ndarray] | None) -> tuple[str, Any]:
        """Answer its last points, with a row each as in `RunningBridge`, and hear the next.

        Waits for ("points", (B, d)), ("event", text), ("done", why) or ("error", exception). rows:
        None where it waits for none.
        """
        ...


class Abandoned(BaseException):
    """Unwinds a solver whose answers will never come; no solver catches it by mistake."""


class ThreadTalk:
    """Talk with a solver in a daemon thread, by two queues.

    solve: called as solve(call, note); it calls `call` with its points and returns why it ended.
    The thread holds no reference to the talk, so that it ends when the talk is collected, and at
    the exit of the interpreter.
    """

    def __init__(self, solve: Solve) -> None:
        self.said: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self.answers: SimpleQueue[list[np.ndarray] | None] = SimpleQueue()
        thread = threading.Thread(target=_work, args=(solve, self.said, self.answers), daemon=True)
        self.thread = thread
        self.close = weakref.finalize(self, _abandon, thread, self.answers)

    def hear(self, rows: list[np.ndarray] | None) -> tuple[str, Any]:
        """Let it go on, and hear the next thing it says; see `Talk`."""
        with warnings.catch_warnings():  # this thread sleeps while the solver works
            warnings.simplefilter("ignore")
            if not self.thread.ident:
                self.thread.start()
            if rows is not None:
                self.answers.put(rows)
            return self.said.get()


def _work(solve: Solve, said: SimpleQueue, answers: SimpleQueue) -> None:
    def call(points: np.ndarray) -> list[np.ndarray]:
        said.put(("points", np.array(points, dtype=np.float64, ndmin=2)))
        rows = answers.get()
        if rows is None:
            answers.put(None)  # solvers that go on after an exception are told again
            raise Abandoned
        return rows

    try:
        said.put(("done", solve(call, lambda text: said.put(("event", text)))))
    except Abandoned:
        pass
    except Exception as error:  # of any kind: it is handed to the thread that listens
        said.put(("error", error))


def _abandon(thread: threading.Thread, answers: SimpleQueue) -> None:
    answers.put(None)
    if thread.ident and thread is not threading.current_thread():
        thread.join(PATIENCE)


class RunningBridge:
    """A foreign solver between ask and tell.

    begin: starts the solver at a point (d,) with a seed >= 0 and returns the talk with it.
    order: 1 where the solver is told gradients, which then come with every point.
    name: of the method, for errors.

    The solver lives in units of the scales: its points times the scale, clamped into the box, are
    the queries. It is told rows

        value, m constraints, d slopes, m x d slopes of the constraints (the slopes with order 1)

    where a failed row has the value +inf, no constraints, and slopes zero. Its own state cannot be
    copied, so the state is the record of all answers, and a search goes on by replaying them to a
    solver that starts anew: exact, at the price of the solver's own time. Batches may be asked in
    parts where the budget ends.
    """

    FIELDS = ("origin", "seed", "points", "answers", "widths", "asked", "done", "best", "_events")

    def __init__(
        self,
        problem: Problem,
        seed: int,
        order: int,
        begin: Callable[[np.ndarray, int], Talk],
        name: str,
    ) -> None:
        self.problem, self.seed, self.order, self.name = problem, seed, order, name
        self._begin = begin
        self._scale = problem.scale.double().cpu().numpy()
        self.origin = problem.start
        self.asked = 0
        self.done: str | None = None
        self.best = Incumbent(problem.start)
        self._events: list[str] = []
        self._forget()

    def _forget(self) -> None:
        self._talk: Talk | None = None
        self._answered: list[np.ndarray] | None = None  # rows that the solver has not seen yet
        self._waiting: np.ndarray | None = None  # points (B, d) whose answers the solver awaits
        self._replayed = 0  # rows of the record that the solver has been told
        self._asked_points: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []

    def ask(self, remaining: float = math.inf) -> Query:
        """What the solver waits for, or as much of it as the budget allows."""
        self._advance()
        if self._waiting is None:  # it has ended
            self.asked = 1
            return Query(self.best.x[None], self.order, tag=self.name)
        waiting = self._waiting[len(self._rows) - self._replayed :]
        affordable = remaining / self.problem.cost(self.order)
        if affordable < len(waiting):
            waiting = waiting[: max(1, int(affordable))]
        self.asked = len(waiting)
        problem = self.problem
        points = torch.as_tensor(waiting * self._scale).to(problem.device, problem.dtype)
        return Query(points.clamp(problem.lower, problem.upper), self.order, tag=self.name)

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Note the answer, and let the solver go on once its whole batch is answered."""
        check_answer(query, evaluation, expected=self.asked)
        self._advance()
        self.best.offer(query.points, evaluation)
        self.asked = 0
        if self._waiting is not None:
            self._note(self._waiting, evaluation)
            self._advance()

    def _note(self, waiting: np.ndarray, evaluation: Evaluation) -> None:
        columns = [evaluation.value[:, None]]
        if evaluation.constraints is not None:
            columns.append(evaluation.constraints)
        if self.order:
            assert evaluation.gradient is not None
            columns.append(evaluation.gradient * self.problem.scale)
            if evaluation.constraint_gradient is not None:
                columns.append((evaluation.constraint_gradient * self.problem.scale).flatten(1))
        rows = torch.cat([column.double().cpu() for column in columns], 1).numpy()
        begin = len(self._rows) - self._replayed
        self._asked_points += list(waiting[begin : begin + len(rows)])
        self._rows += list(rows)

    def _advance(self) -> None:
        """Talk until the solver waits for something that nobody has answered yet."""
        if self._talk is None and self.done is None:
            origin = self.origin.double().cpu().numpy() / self._scale
            self._talk = self._begin(origin, abs(self.seed))
        while self.done is None:
            assert self._talk is not None
            if self._waiting is None:
                rows, self._answered = self._answered, None
                self._listen(*self._talk.hear(rows))
                continue
            known = self._rows[self._replayed : self._replayed + len(self._waiting)]
            for point, wanted in zip(
                self._asked_points[self._replayed :], self._waiting, strict=False
            ):
                if not np.array_equal(point, wanted):
                    raise ValueError(
                        f"this state of {self.name!r} cannot go on: its solver asks other points "
                        f"than in the record, as after a change of its version or its settings"
                    )
            if len(known) < len(self._waiting):
                return
            self._replayed += len(known)
            self._waiting, self._answered = None, known

    def _listen(self, kind: str, content: Any) -> None:
        if kind == "points":
            self._waiting = content
        elif kind == "event":
            self._events.append(content)
        elif kind == "done":
            self.done = content
        elif self._rows:
            self.done = f"stopped: {self.name} raised {type(content).__name__}: {content}"
        else:
            raise RuntimeError(f"{self.name} could not begin: {content}") from content

    @property
    def rows(self) -> int:
        """How many points a query holds; it varies."""
        return max(self.asked, 1)

    def objective_changed(self) -> None:
        """Start the solver anew at the best point: it cannot forget values one by one."""
        self.origin = self.best.x
        self.best = Incumbent(self.best.x)
        self.done = None
        self._forget()

    def events(self) -> tuple[str, ...]:
        """What the solver has noted since the last call."""
        happened, self._events = tuple(self._events), []
        return happened

    @property
    def points(self) -> torch.Tensor:
        """The record: points (N, d) in units of the scales."""
        return torch.as_tensor(np.array(self._asked_points).reshape(-1, self.problem.dimension))

    @property
    def answers(self) -> torch.Tensor:
        """The record: all rows, one after the other."""
        return torch.as_tensor(np.concatenate([np.empty(0), *self._rows]))

    @property
    def widths(self) -> torch.Tensor:
        """The record: lengths (N,) of the rows."""
        return torch.tensor([len(row) for row in self._rows], dtype=torch.int64)

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything the search needs to go on."""
        return snapshot(self, self.FIELDS)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same settings and problem, by replaying it."""
        self._forget()
        record = ("points", "answers", "widths")
        fields = tuple(name for name in self.FIELDS if name not in record)
        rest = {name: value for name, value in state.items() if name not in record}
        restore(self, fields, rest, self.problem.device)
        self._asked_points = list(state["points"].cpu().numpy())
        ends = np.cumsum(state["widths"].cpu().numpy())[:-1]
        rows = np.split(state["answers"].cpu().numpy(), ends)
        self._rows = [row.copy() for row in rows] if len(state["widths"]) else []
        happened = self._events
        self._advance()
        self._events = happened  # those of the replay have been shown
