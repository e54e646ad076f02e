"""All points that were evaluated, in the units in which direct search works."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

FIRST_ROWS = 64  # that are reserved


class Archive:
    """Points with their values and constraints; rows are only added.

    points: (n, d) in units of the scales, counted from the problem's start.
    value: (n,), +inf where an evaluation failed.
    constraints: (n, m), 0 columns while none were told; +inf in failed rows. The last `equalities`
        of them must be zero, the others <= 0.
    violation: (n,), summed, in the problem's units; it decides what is feasible.
    excess: (n,), h = sum max(g / s, 0)^2 + sum (e / s)^2 for inequalities g and equalities e. s is
        the median size of each constraint over the first d + 1 successes: units do not matter.
    """

    COLUMNS = ("points", "value", "constraints", "violation", "excess")

    def __init__(self, dimension: int) -> None:
        self.size = self.equalities = self.successes = 0
        self.scale = np.ones(0)
        self._points = np.empty((FIRST_ROWS, dimension))
        self._value = np.empty(FIRST_ROWS)
        self._constraints = np.empty((FIRST_ROWS, 0))
        self._violation = np.empty(FIRST_ROWS)
        self._excess = np.empty(FIRST_ROWS)

    @property
    def points(self) -> np.ndarray:
        """A view (n, d)."""
        return self._points[: self.size]

    @property
    def value(self) -> np.ndarray:
        """A view (n,)."""
        return self._value[: self.size]

    @property
    def constraints(self) -> np.ndarray:
        """A view (n, m)."""
        return self._constraints[: self.size]

    @property
    def violation(self) -> np.ndarray:
        """A view (n,)."""
        return self._violation[: self.size]

    @property
    def excess(self) -> np.ndarray:
        """A view (n,)."""
        return self._excess[: self.size]

    def add(
        self,
        points: np.ndarray,
        value: np.ndarray,
        constraints: np.ndarray | None,
        violation: np.ndarray | None,
        equalities: int = 0,
    ) -> range:
        """The rows given to the points (B, d); no violation is needed without constraints."""
        first, last = self.size, self.size + len(points)
        if last > len(self._value):
            self._reserve(2 * last)
        self.size = last
        self._points[first:last] = points
        self._value[first:last] = value
        if violation is None:
            violation = np.where(value < np.inf, 0.0, np.inf)
        self._violation[first:last] = violation
        if constraints is None or constraints.shape[1] == 0:
            self._excess[first:last] = self._violation[first:last]
            return range(first, last)
        if constraints.shape[1] != self._constraints.shape[1]:
            # how many constraints there are shows in the first answer; rows before it are unknown
            self._constraints = np.full((len(self._value), constraints.shape[1]), np.inf)
            self.equalities, self.successes = equalities, 0
        self._constraints[first:last] = constraints
        rows = slice(first, last)
        if self.successes <= self._points.shape[1]:
            finite = np.isfinite(self.value)
            self.successes = int(finite.sum())
            if self.successes:
                size = np.median(np.abs(self.constraints[finite]), axis=0)
                self.scale = np.where(size > 0, size, 1.0)
            rows = slice(0, last)
        self._excess[rows] = self.weighed(self._constraints[rows])
        return range(first, last)

    def forget_values(self) -> None:
        """Treat all rows as failed: what was told about them no longer holds."""
        for column in (self.value, self.constraints, self.violation, self.excess):
            column[:] = np.inf
        self.successes = 0

    def weighed(self, constraints: np.ndarray) -> np.ndarray:
        """The excess (n,) of constraints (n, m)."""
        parts = constraints / self.scale if len(self.scale) else constraints
        free = parts.shape[1] - self.equalities
        return (np.maximum(parts[:, :free], 0.0) ** 2).sum(1) + (parts[:, free:] ** 2).sum(1)

    def _reserve(self, rows: int) -> None:
        for name in self.COLUMNS:
            old = getattr(self, f"_{name}")
            new = np.empty((rows, *old.shape[1:]))
            new[: self.size] = old[: self.size]
            setattr(self, f"_{name}", new)

    def farthest(self, candidates: np.ndarray) -> int:
        """Which of the candidates (C, d) lies farthest from its nearest point."""
        points = self.points
        squares = (points * points).sum(1) - 2 * candidates @ points.T
        return int((squares.min(1) + (candidates * candidates).sum(1)).argmax())

    def state_dict(self) -> dict[str, Any]:
        """Copies as tensors and numbers."""
        columns = {name: torch.from_numpy(getattr(self, name).copy()) for name in self.COLUMNS}
        scale = torch.from_numpy(self.scale.copy())
        numbers = {"equalities": self.equalities, "successes": self.successes}
        return {**columns, **numbers, "scale": scale}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace everything by the rows of a state."""
        for name in self.COLUMNS:
            setattr(self, f"_{name}", state[name].cpu().numpy().copy())
        self.size = len(self._value)
        self.equalities, self.successes = state["equalities"], state["successes"]
        self.scale = state["scale"].cpu().numpy().copy()
