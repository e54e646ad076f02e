"""What an optimizer asks, and what it gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor

FEASIBLE = 1e-6  # a point counts as feasible when its summed violation is at most this


@dataclass(frozen=True, eq=False)
class Query:
    """A batch of points to be evaluated.

    points: (B, d), inside the box; nobody writes into it, so it may be kept without a copy.
    order: 0 asks for values, 1 for values and gradients.
    fidelity: which of several models to ask, None for the true one.
    tag: what the method wants to know, for people who read the stream.
    """

    points: Tensor
    order: int = 0
    fidelity: float | None = None
    tag: str = ""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The answer to a query of B points; it cleans itself, so that no NaN ever enters an optimizer.

    value: (B,).
    constraints: (B, m), feasible where <= 0.
    gradient, constraint_gradient: (B, d) and (B, m, d), where order 1 was asked.
    ok: (B,) bool, False where an evaluation failed.
    terms: named parts of the value, (B,) each, only to be shown.
    A row with a value, constraint or gradient that is not finite has failed too. Failed rows carry
    value and constraints +inf and zero gradients. Tensors are detached.
    Raises ValueError when shapes do not fit each other.
    """

    value: Tensor
    constraints: Tensor | None = None
    gradient: Tensor | None = None
    constraint_gradient: Tensor | None = None
    ok: Tensor = None  # pyright: ignore[reportAssignmentType] - always a tensor after __post_init__
    terms: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if not isinstance(self.value, Tensor) or self.value.ndim != 1:
            raise ValueError(f"value must be a tensor (B,), got {_described(self.value)}")
        count = len(self.value)
        for name, ndim in (("constraints", 2), ("gradient", 2), ("constraint_gradient", 3)):
            tensor = getattr(self, name)
            if tensor is None:
                continue
            if not isinstance(tensor, Tensor) or tensor.ndim != ndim or len(tensor) != count:
                raise ValueError(
                    f"{name} must be a tensor of {ndim} dimensions with {count} rows like value, "
                    f"got {_described(tensor)}"
                )
        good = (
            torch.isfinite(self.value) if self.ok is None else self.ok & torch.isfinite(self.value)
        )
        for name in ("constraints", "gradient", "constraint_gradient"):
            tensor = getattr(self, name)
            # the sum is finite only if every entry is, and costs a twentieth of looking at each
            if tensor is not None and not bool(torch.isfinite(tensor.detach().sum())):
                good = good & torch.isfinite(tensor).flatten(1).all(1)
        set_field = object.__setattr__  # the class is frozen
        set_field(self, "ok", good)
        set_field(self, "value", self.value.detach())
        for name in ("constraints", "gradient", "constraint_gradient"):
            if getattr(self, name) is not None:
                set_field(self, name, getattr(self, name).detach())
        if not bool(good.all()):
            self._clear_failed_rows()

    def _clear_failed_rows(self) -> None:
        failed, set_field = ~self.ok, object.__setattr__
        infinity = float("inf")
        set_field(self, "value", self.value.masked_fill(failed, infinity))
        if self.constraints is not None:
            set_field(self, "constraints", self.constraints.masked_fill(failed[:, None], infinity))
        if self.gradient is not None:
            set_field(self, "gradient", self.gradient.masked_fill(failed[:, None], 0.0))
        if self.constraint_gradient is not None:
            cleared = self.constraint_gradient.masked_fill(failed[:, None, None], 0.0)
            set_field(self, "constraint_gradient", cleared)

    @property
    def violation(self) -> Tensor:
        """Sum (B,) of the positive parts of the constraints; +inf in failed rows."""
        if self.constraints is None:
            return torch.zeros_like(self.value).masked_fill(~self.ok, float("inf"))
        return self.constraints.clamp(min=0.0).sum(1)

    def to(self, like: Tensor) -> Evaluation:
        """The same answer in the precision and on the device of a tensor."""
        fields = (self.value, self.constraints, self.gradient, self.constraint_gradient)
        if all(t is None or (t.dtype == like.dtype and t.device == like.device) for t in fields):
            return self
        moved = [None if t is None else t.to(like.device, like.dtype) for t in fields]
        return Evaluation(*moved, ok=self.ok.to(like.device), terms=self.terms)  # pyright: ignore


def ranking(value: Tensor, violation: Tensor | None) -> Tensor:
    """Order (..., B) from best to worst: feasible rows by value, then the others by violation.

    Ties keep their order, so the result is the same on every machine.
    """
    order = value.argsort(dim=-1, stable=True)
    if violation is None:
        return order
    excess = torch.where(violation <= FEASIBLE, 0.0, violation).gather(-1, order)
    return order.gather(-1, excess.argsort(dim=-1, stable=True))


@dataclass
class Incumbent:
    """The best point told so far.

    x: (d,). value, violation: +inf while nothing succeeded, and then x is where the search started.
    """

    x: Tensor
    value: float = float("inf")
    violation: float = float("inf")

    def offer(self, points: Tensor, evaluation: Evaluation) -> bool:
        """Take the best of a batch (B, d) if it beats what is held; tells whether it does."""
        row = best_row(evaluation)
        value = float(evaluation.value[row])
        violation = 0.0 if evaluation.constraints is None else float(evaluation.violation[row])
        if value == float("inf") or not self.worse_than(value, violation):
            return False
        self.x, self.value, self.violation = points[row], value, violation
        return True

    def worse_than(self, value: float, violation: float) -> bool:
        """Whether a point of this value and violation would be better."""
        if violation <= FEASIBLE:
            return self.violation > FEASIBLE or value < self.value
        return violation < self.violation


def best_row(evaluation: Evaluation) -> int:
    """Index of the best row of a batch, feasible ones first."""
    if evaluation.constraints is None:
        return int(evaluation.value.argmin())
    return int(ranking(evaluation.value, evaluation.violation)[0])


def _described(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
