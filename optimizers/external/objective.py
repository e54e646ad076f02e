"""What a foreign solver sees of a problem: values, slopes and constraints at single points."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from optimizers.evaluation import FEASIBLE
from optimizers.external.bridge import Call
from optimizers.problem import Problem

KNOWN = 4  # answers that are remembered, for each coordinate and one
SPREAD = 2.0  # of scales: how far from its start random points lie where a side is free
EQUAL = 5e-7  # how far from zero equalities may be, all together, for solvers that know none
BARREN = 100  # beginnings without one success before a solver gives up


@dataclass(frozen=True, eq=False)
class Frame:
    """The box in units of the scales, as arrays (d,), and what the problem can tell.

    order: 1 where gradients come with the values. equalities: how many of the constraints, the
    last ones, are to be zero.
    """

    lower: np.ndarray
    upper: np.ndarray
    order: int
    equalities: int
    smallest: float  # difference of two points that float32 or float64 can tell apart

    @classmethod
    def of(cls, problem: Problem, order: int) -> Frame:
        """The frame of a problem."""
        scale = problem.scale.double()
        lower, upper = problem.lower.double() / scale, problem.upper.double() / scale
        smallest = float(np.finfo("float32" if problem.dtype.itemsize == 4 else "float64").eps)
        arrays = (lower.cpu().numpy(), upper.cpu().numpy())
        return cls(*arrays, order, problem.equalities, smallest)

    def random(self, random: np.random.Generator, start: np.ndarray) -> np.ndarray:
        """A random point (d,): uniform between two bounds, else normal around the start."""
        bounded = np.isfinite(self.lower) & np.isfinite(self.upper)
        low, high = np.where(bounded, self.lower, 0.0), np.where(bounded, self.upper, 1.0)
        near = start + SPREAD * random.standard_normal(len(start))
        point = np.where(bounded, random.uniform(low, high), near)
        return np.clip(point, self.lower, self.upper)


class Objective:
    """Values of single points, remembered for solvers that ask for them in pieces.

    Solvers that follow slopes cannot bear infinite values: failed points are a little worse than
    all others so far. Slopes of the problem, or else differences (u + h - u) of values, one batch
    of d points a slope; a coordinate whose neighbour failed has slope zero.
    best, best_point: lowest (violation, value) so far. failures: how many points failed. count: of
    constraints, once a point has succeeded.
    """

    def __init__(self, call: Call, frame: Frame, random: np.random.Generator) -> None:
        self.call, self.frame, self.random = call, frame, random
        self.best, self.best_point = (math.inf, math.inf), np.empty(0)
        self.lowest, self.highest = math.inf, -math.inf
        self.failures = self.count = 0
        self._rows: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._slopes: OrderedDict[bytes, np.ndarray] = OrderedDict()

    def rows(self, points: np.ndarray) -> list[np.ndarray]:
        """The rows of points (B, d), see `RunningBridge`, without memory."""
        points = np.clip(points, self.frame.lower, self.frame.upper)
        rows = self.call(points)
        for point, row in zip(points, rows, strict=True):
            if not math.isfinite(row[0]):
                self.failures += 1
                continue
            self.lowest, self.highest = min(self.lowest, row[0]), max(self.highest, row[0])
            slopes = self.frame.order * len(point)
            self.count = (len(row) - 1 - slopes) // (1 + slopes)
            standing = (self.violation(row[1 : 1 + self.count]), row[0])
            if standing < self.best:
                self.best, self.best_point = standing, point.copy()
        return rows

    def remembered(self, points: np.ndarray) -> list[np.ndarray]:
        """The rows of points (B, d), which may be asked for once more one by one."""
        rows = self.rows(points)
        self._rows.clear()
        self._rows.update((point.tobytes(), row) for point, row in zip(points, rows, strict=True))
        return rows

    def row(self, point: np.ndarray) -> np.ndarray:
        """The row of one point (d,)."""
        known = self._rows.get(point.tobytes())
        if known is None:
            known = self.rows(point[None])[0]
            self._remember(self._rows, point, known)
        return known

    def _remember(self, memory: OrderedDict, point: np.ndarray, what: np.ndarray) -> None:
        memory[point.tobytes()] = what
        if len(memory) > KNOWN * (1 + len(point)):
            memory.popitem(last=False)

    def violation(self, constraints: np.ndarray) -> float:
        """Sum of what is violated, 0 where that may be."""
        split = len(constraints) - self.frame.equalities
        total = constraints[:split].clip(min=0.0).sum() + np.abs(constraints[split:]).sum()
        return 0.0 if total <= FEASIBLE else float(total)

    def value(self, point: np.ndarray) -> float:
        """Finite value of a point (d,)."""
        return self.finite(self.row(point)[0])

    def raw_value(self, point: np.ndarray) -> float:
        """Value of a point (d,), +inf where it has failed."""
        return float(self.row(point)[0])

    def columns(self, points: np.ndarray) -> np.ndarray:
        """Values (B,) of points (d, B), +inf where they have failed."""
        return np.array([row[0] for row in self.remembered(np.ascontiguousarray(points.T))])

    def constraint_columns(self, points: np.ndarray) -> np.ndarray:
        """Constraints (m, B) of points (d, B), or (m,) of one point (d,)."""
        if points.ndim == 1:
            return self.constraints(points)
        return np.stack([self.constraints(point.copy()) for point in points.T], 1)

    def inequalities(self, point: np.ndarray) -> np.ndarray:
        """Finite constraints of a point, with an equality as two inequalities a hair apart."""
        constraints = self.constraints(point)
        if self.frame.equalities == 0:
            return constraints
        split, slack = self.count - self.frame.equalities, EQUAL / self.frame.equalities
        equal = constraints[split:]
        return np.concatenate((constraints[:split], equal - slack, -equal - slack))

    def finite(self, value: float) -> float:
        """The value, or one worse than all so far where it has failed."""
        if math.isfinite(value):
            return float(value)
        if not math.isfinite(self.lowest):
            return 0.0
        return self.highest + (self.highest - self.lowest) + abs(self.highest) + 1.0

    def constraints(self, point: np.ndarray) -> np.ndarray:
        """Finite constraints (m,) of a point; 1 where they have failed."""
        row = self.row(point)
        return row[1 : 1 + self.count] if math.isfinite(row[0]) else np.ones(self.count)

    def slope(self, point: np.ndarray) -> np.ndarray:
        """Gradient (d,) of the value."""
        return self.slopes(point)[0]

    def jacobian(self, point: np.ndarray) -> np.ndarray:
        """Gradients (m, d) of the constraints."""
        return self.slopes(point)[1:]

    def slopes(self, point: np.ndarray) -> np.ndarray:
        """Gradients (1 + m, d) of the value and the constraints."""
        row, d = self.row(point), len(point)
        if not math.isfinite(row[0]):
            return np.zeros((1 + self.count, d))
        if self.frame.order:
            return row[1 + self.count :].reshape(-1, d)
        known = self._slopes.get(point.tobytes())
        if known is None:
            known = self._differences(point, row)
            self._remember(self._slopes, point, known)
        return known

    def _differences(self, point: np.ndarray, row: np.ndarray) -> np.ndarray:
        step = math.sqrt(self.frame.smallest) * np.maximum(1.0, np.abs(point))
        step = np.where(point + step <= self.frame.upper, step, -step)
        moved = point + np.diag(step)
        change = np.zeros((len(row), len(point)))
        for i, other in enumerate(self.rows(moved)):
            if math.isfinite(other[0]):
                change[:, i] = (other - row) / (moved[i, i] - point[i])
        return change


def persistently(
    search: Callable[[np.ndarray], str],
    objective: Objective,
    start: np.ndarray,
    note: Callable[[str], None],
) -> str:
    """Run a local search, and once more where failed evaluations have ended it.

    It begins anew at the best point if that is a new one, else at a random one. Returns why the
    last search ended.
    """
    begin, barren = start, 0
    while True:
        failures, best = objective.failures, objective.best
        known = math.isfinite(objective.row(begin)[0])
        reason = search(begin) if known else "its first point failed"
        if objective.failures == failures and objective.best < (math.inf, math.inf):
            return f"converged: {reason}"
        barren = 0 if objective.best < best else barren + 1
        if barren > BARREN:
            found = objective.best < (math.inf, math.inf)
            return f"converged: {reason}" if found else "all evaluations failed"
        improved = objective.best < best
        begin = (
            objective.best_point if improved else objective.frame.random(objective.random, start)
        )
        note(f"begins anew {'at the best point' if improved else 'at random'}, {reason}")
