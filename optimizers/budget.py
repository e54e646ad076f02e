"""How long a run may last, and what it has spent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from optimizers.evaluation import FEASIBLE, Incumbent


@dataclass(frozen=True)
class Budget:
    """Limits of a run; None is no limit, and the run ends at the first one that is met.

    evaluations: price in values, by `Problem.cost`. The
        last round may go over by what is left of it.
    gradients: points with gradients.
    iterations: rounds of ask and tell.
    seconds: time inside the run, over all its resumptions.
    target: ends the run when the best feasible value is at or below it.
    """

    evaluations: float | None = None
    gradients: int | None = None
    iterations: int | None = None
    seconds: float | None = None
    target: float | None = None

    def __post_init__(self) -> None:
        for name in ("evaluations", "gradients", "iterations", "seconds", "target"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, Real):
                raise TypeError(f"{name} must be a number or None, got {type(value).__name__}")
            value = float(value)
            if math.isnan(value):
                raise ValueError(f"{name} must be a number or None, got NaN")
            if name != "target" and not value > 0:
                raise ValueError(f"{name} must be positive or None, got {value}")


@dataclass
class Spent:
    """What a run has used up so far, in the units of `Budget`."""

    evaluations: float = 0
    gradients: int = 0
    iterations: int = 0
    seconds: float = 0.0

    def charge(self, points: int, order: int, price: float) -> None:
        """Pay one round of ask and tell over some points at a price each."""
        self.iterations += 1
        self.evaluations += points * price
        self.gradients += points if order else 0

    def remaining(self, budget: Budget, gradient_cost: float) -> float:
        """Evaluations left, for methods that cut their last batch to size; inf without a limit."""
        left = float("inf")
        if budget.evaluations is not None:
            left = budget.evaluations - self.evaluations
        if budget.gradients is not None:
            left = min(left, (budget.gradients - self.gradients) * gradient_cost)
        return left

    def exhausts(self, budget: Budget, best: Incumbent) -> str | None:
        """Name of the limit that is met, None while the run may go on."""
        if budget.target is not None and best.violation <= FEASIBLE and best.value <= budget.target:
            return "target"
        for name in ("evaluations", "gradients", "iterations", "seconds"):
            limit = getattr(budget, name)
            if limit is not None and getattr(self, name) >= limit:
                return name
        return None
