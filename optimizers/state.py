"""Running optimizers: the protocol they follow, and their state as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from optimizers.evaluation import Evaluation, Incumbent, Query
from optimizers.problem import Problem


class Optimizer(Protocol):
    """A running search: it is asked, it is told, and it never calls the problem.

    best: the best point told so far. done: why it would stop, None while it can go on.
    rows: how many points a full query holds.
    """

    best: Incumbent
    done: str | None

    @property
    def rows(self) -> int: ...

    def ask(self, remaining: float = math.inf) -> Query:
        """The next points, inside the box. remaining: evaluations left, to cut the last batch."""
        ...

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Take the answer to the query that was asked last."""
        ...

    def objective_changed(self) -> None:
        """Forget the values told so far: an adapter changed what is minimised; points stay."""
        ...

    def events(self) -> tuple[str, ...]:
        """What happened since the last call (restarts and the like), to be shown."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything the search needs to go on: copies of tensors, numbers and strings."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same settings and problem."""
        ...


class Settings(Protocol):
    """A method: a frozen dataclass of its settings.

    name: as in `METHODS`.
    order: the least order that the true model must answer; a method with 0 may still ask for
        gradients where the problem has them.
    handles_constraints: whether it reads `Evaluation.constraints`; if not, the driver puts the
        augmented Lagrangian around it.
    by_rank: whether it asks the same queries when an increasing function is put on the value.
    """

    name: ClassVar[str]
    order: ClassVar[int]
    handles_constraints: ClassVar[bool]
    by_rank: ClassVar[bool]

    def start(self, problem: Problem, seed: int = 0) -> Any:
        """A running optimizer for this problem; the same seed asks the same queries."""
        ...


class Resumable:
    """What is saved as plain values and goes on from them: everything that FIELDS names."""

    FIELDS: ClassVar[tuple[str, ...]]
    problem: Problem

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything that is needed to go on."""
        return snapshot(self, self.FIELDS)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same settings and problem."""
        restore(self, self.FIELDS, state, self.problem.device)


def seeded(problem: Problem, seed: int) -> torch.Generator:
    """A generator of its own on the problem's device; the global one is never touched."""
    return torch.Generator(problem.device).manual_seed(seed)


def snapshot(owner: object, names: tuple[str, ...]) -> dict[str, Any]:
    """Copies of the named fields, of types that the safe loader of torch takes."""
    return {name: _plain(getattr(owner, name)) for name in names}


def restore(
    owner: object, names: tuple[str, ...], state: Mapping[str, Any], device: torch.device
) -> None:
    """Set the named fields from a snapshot; raises ValueError where the names differ."""
    if set(state) != set(names):
        raise ValueError(f"state must have the fields {sorted(names)}, got {sorted(state)}")
    for name in names:
        setattr(owner, name, _restored(getattr(owner, name), state[name], device))


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Incumbent):
        return {"x": value.x.clone(), "value": value.value, "violation": value.violation}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _restored(current: Any, value: Any, device: torch.device) -> Any:
    if isinstance(current, torch.Generator):
        current.set_state(value.cpu())
        return current
    if isinstance(current, list) and current and isinstance(current[0], torch.Generator):
        return [_restored(*pair, device) for pair in zip(current, value, strict=True)]
    if isinstance(current, Incumbent):
        return Incumbent(value["x"].to(device, copy=True), value["value"], value["violation"])
    if isinstance(value, Tensor):
        return value.to(device, copy=True)
    if isinstance(value, list):
        return [_restored(None, item, device) for item in value]
    return value


def projection(problem: Problem):
    """A function that clamps points (B, d) into the box in place."""
    lower, upper = problem.lower, problem.upper
    if not bool(lower.isfinite().any()) and not bool(upper.isfinite().any()):
        return lambda points: points
    if bool((lower == lower[0]).all()) and bool((upper == upper[0]).all()):
        low, high = float(lower[0]), float(upper[0])  # numbers are read from no memory
        return lambda points: points.clamp_(low, high)
    return lambda points: torch.clamp(points, lower, upper, out=points)


def check_answer(query: Query, evaluation: Evaluation, expected: int | None = None) -> None:
    """Raise ValueError unless an answer fits its query, and the query the one asked last."""
    rows = len(query.points)
    if len(evaluation.value) != rows:
        raise ValueError(
            f"evaluation must have {rows} rows like the query, got {len(evaluation.value)}"
        )
    if query.order >= 1 and evaluation.gradient is None:
        raise ValueError("evaluation must have a gradient, the query asked for order 1")
    if evaluation.gradient is not None and evaluation.gradient.shape != query.points.shape:
        raise ValueError(
            f"gradient must have shape {tuple(query.points.shape)}, "
            f"got {tuple(evaluation.gradient.shape)}"
        )
    if expected is not None and rows != expected:
        raise ValueError(
            f"tell must follow ask: expected the query of {expected} points, got one of {rows}"
        )
