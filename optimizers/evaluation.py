"""What an optimizer asks, and what it gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from optimizers.target import LinearizedTarget

FEASIBLE = 1e-6  # a point counts as feasible when its summed violation is at most this
DIMENSIONS = (  # of the tensors of an answer, beside the value
    ("constraints", 2),
    ("gradient", 2),
    ("constraint_gradient", 3),
    ("outputs", 2),
    ("output_gradient", 2),
    ("curvature", 3),
)


@dataclass(frozen=True, eq=False)
class Query:
    """A batch of points to be evaluated.

    points: (B, d), inside the box; nobody writes into it, so it may be kept without a copy.
    order: 0 asks for values, 1 for gradients too, 2 for curvatures too: the Hessian of the value,
        or of a composite value F(Phi(x)) the Gauss-Newton matrix J^T F'' J.
    fidelity: which of `Problem.models` to ask, None for the true one.
    tag: what the method wants to know, for people who read the stream.
    target: a function of the outputs to ask for instead of the value.
    """

    points: Tensor
    order: int = 0
    fidelity: float | None = None
    tag: str = ""
    target: LinearizedTarget | None = None

    @property
    def is_true(self) -> bool:
        """Whether the answer is the true value, not a model's or a target's."""
        return self.fidelity is None and self.target is None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The answer to a query of B points; it cleans itself, so that no NaN ever enters an optimizer.

    value: (B,).
    constraints: (B, m), feasible where <= 0, the last `equalities` of them where 0.
    gradient, constraint_gradient: (B, d) and (B, m, d), from order 1 on.
    ok: (B,) bool, False where an evaluation failed.
    terms: named parts of the value, (B,) each, only to be shown.
    outputs, output_gradient: Phi(x) and dF/dPhi (B, k) of a composite value F(Phi(x)).
    curvature: (B, d, d), at order 2.
    A row with an entry that is not finite has failed too. Failed rows carry value and constraints
    +inf and zeros elsewhere. Tensors are detached.
    Raises ValueError when shapes do not fit each other.
    """

    value: Tensor
    constraints: Tensor | None = None
    gradient: Tensor | None = None
    constraint_gradient: Tensor | None = None
    ok: Tensor = None  # pyright: ignore[reportAssignmentType] - always a tensor after __post_init__
    terms: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))
    equalities: int = 0
    outputs: Tensor | None = None
    output_gradient: Tensor | None = None
    curvature: Tensor | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.value, Tensor) or self.value.ndim != 1:
            raise ValueError(f"value must be a tensor (B,), got {_described(self.value)}")
        count = len(self.value)
        given = []
        for name, ndim in DIMENSIONS:
            tensor = getattr(self, name)
            if tensor is None:
                continue
            given.append((name, tensor))
            if not isinstance(tensor, Tensor) or tensor.ndim != ndim or len(tensor) != count:
                raise ValueError(
                    f"{name} must be a tensor of {ndim} dimensions with {count} rows like value, "
                    f"got {_described(tensor)}"
                )
        good = (
            torch.isfinite(self.value) if self.ok is None else self.ok & torch.isfinite(self.value)
        )
        for _, tensor in given:
            # the sum is finite only if every entry is, and costs a twentieth of looking at each
            if not bool(torch.isfinite(tensor.detach().sum())):
                good = good & torch.isfinite(tensor).flatten(1).all(1)
        set_field = object.__setattr__  # the class is frozen
        set_field(self, "ok", good)
        set_field(self, "value", self.value.detach())
        for name, tensor in given:
            set_field(self, name, tensor.detach())
        if not bool(good.all()):
            self._clear_failed_rows()

    def _clear_failed_rows(self) -> None:
        failed, set_field = ~self.ok, object.__setattr__
        infinity = float("inf")
        set_field(self, "value", self.value.masked_fill(failed, infinity))
        if self.constraints is not None:
            set_field(self, "constraints", self.constraints.masked_fill(failed[:, None], infinity))
        for name, ndim in DIMENSIONS[1:]:
            tensor = getattr(self, name)
            if tensor is not None:
                rows = failed.view(-1, *[1] * (ndim - 1))
                set_field(self, name, tensor.masked_fill(rows, 0.0))

    @property
    def violation(self) -> Tensor:
        """Sum (B,) of the excesses over 0, of equalities of the sizes; +inf in failed rows."""
        if self.constraints is None:
            return torch.zeros_like(self.value).masked_fill(~self.ok, float("inf"))
        return self.excess.sum(1)

    @property
    def excess(self) -> Tensor:
        """How far (B, m) every constraint is from being met."""
        assert self.constraints is not None
        if not self.equalities:
            return self.constraints.clamp(min=0.0)
        split = self.constraints.shape[1] - self.equalities
        below, equal = self.constraints[:, :split], self.constraints[:, split:]
        return torch.cat((below.clamp(min=0.0), equal.abs()), 1)

    @classmethod
    def cat(cls, rows: Sequence[Evaluation]) -> Evaluation:
        """One answer from several, row after row; `terms` are left out."""

        def column(name: str) -> Tensor | None:
            parts = [getattr(row, name) for row in rows]
            return None if parts[0] is None else torch.cat(parts)

        names = ("value", "ok", *(name for name, _ in DIMENSIONS))
        columns: dict[str, Any] = {name: column(name) for name in names}
        return cls(equalities=rows[0].equalities, **columns)

    def to(self, like: Tensor) -> Evaluation:
        """The same answer in the precision and on the device of a tensor."""
        fields = {name: getattr(self, name) for name, _ in DIMENSIONS}
        tensors = [self.value, *(tensor for tensor in fields.values() if tensor is not None)]
        if all(t.dtype == like.dtype and t.device == like.device for t in tensors):
            return self
        moved: dict[str, Any] = {
            name: None if tensor is None else tensor.to(like.device, like.dtype)
            for name, tensor in fields.items()
        }
        value, ok = self.value.to(like.device, like.dtype), self.ok.to(like.device)
        return Evaluation(value, ok=ok, terms=self.terms, equalities=self.equalities, **moved)


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
