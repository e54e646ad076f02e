"""The search step of direct search: quadratic models propose the next point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from optimizers.direct_search.archive import Archive
from optimizers.direct_search.quadratic import QuadraticModels
from optimizers.direct_search.trust_region import least_in_box, least_under_constraints
from optimizers.state import restore, snapshot

REACH = 2.0  # trust radius over poll radius
LARGEST = 100  # points in a fit
RECENT = 500  # newest points among which the nearest are sought: a fit costs the same ever after
GOOD, POOR = (
    0.7,
    0.1,
)  # gain over the predicted one from which the radius grows, and shrinks
CALM = 0.3  # relative error of a predicted gain that speaks for exact values
MISSES = 3  # in a row that speak for noise
LEAST_NOISE, MOST_NOISE = 1e-5, 1.0  # squared, in the units of the fit
SHORTEST = 1e-3  # a step below this share of the poll radius is not worth a point


class ModelSearch:
    """Models of the value and of each constraint around the leader, and how far they are believed.

    trust: how often the models have been right, from 0 to 1; so far the metric of polls and trust
        regions follows their curvature.
    noise: squared error allowed in each value, grows while the models are wrong again and again.
    """

    FIELDS = ("trust", "noise", "misses", "gain", "is_long", "row", "multipliers")

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.restart()

    def restart(self) -> None:
        """Forget everything but the archive."""
        self.models = QuadraticModels(1, self.archive.points.shape[1])
        self.multipliers: list[float] = []
        self.trust = self.noise = self.gain = 0.0
        self.misses, self.is_long = 0, False
        self.row = -1  # of the archive, around which the models are

    def fit(self, row: int, radius: float) -> bool:
        """Model the points nearest to a row; tells whether there is a model now."""
        archive, dimension = self.archive, self.archive.points.shape[1]
        columns = 1 + archive.constraints.shape[1]
        if len(self.models.gradient) != columns:
            self.restart()
            self.models = QuadraticModels(columns, dimension)
        center = archive.points[row]
        first = max(0, archive.size - RECENT)
        steps = (archive.points[first:] - center) @ (self.models.axes / self.models.lengths)
        squares = np.einsum("ni,ni->n", steps, steps)
        usable = np.flatnonzero((archive.value[first:] < np.inf) & (squares > 0))
        if len(usable) < 2:
            return False
        most = min(LARGEST, (dimension + 1) * (dimension + 2) // 2)
        if len(usable) > most:
            usable = usable[np.argpartition(squares[usable], most)[:most]]
        usable += first
        values = archive.value[usable, None] - archive.value[row]
        if columns > 1:
            values = np.hstack((values, archive.constraints[usable] - archive.constraints[row]))
        reach = REACH * radius
        if not self.models.fit(center, reach, archive.points[usable], values, self.noise):
            self.restart()
            return False
        self.row = row
        curvature = self.models.hessian[0]
        if self.multipliers:
            curvature = curvature + np.tensordot(self.multipliers, self.models.hessian[1:], 1)
        self.models.shape(curvature, self.trust)
        return True

    def propose(self, row: int, radius: float, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """The point (1, d) where the models are best around a row, or none, (0, d)."""
        center = self.archive.points[row]
        none = center[None][:0]
        if not self.fit(row, radius):
            return none
        models, reach = self.models, REACH * radius
        metric, bounds = (models.axes, models.lengths), (lower - center, upper - center)
        with np.errstate(all="ignore"):
            try:
                if len(models.gradient) == 1:
                    first = (models.gradient[0], models.hessian[0])
                    step = least_in_box(*first, metric, reach, *bounds, models.curvatures)
                    self.gain = -float(models.predicted(step[None])[0, 0])
                else:
                    step = self._constrained(row, metric, reach, bounds)
            except np.linalg.LinAlgError:
                return none
        length = models.length(step)
        self.is_long = length > 0.5 * reach
        if not (self.gain > 0 and length > SHORTEST * radius):
            return none
        point = np.clip(center + step, lower, upper)[None]
        return point if (point != center).any() else none

    def _constrained(self, row: int, metric: Any, reach: float, bounds: Any) -> np.ndarray:
        models, archive = self.models, self.archive
        step, multipliers = least_under_constraints(
            models.gradient, models.hessian, archive.constraints[row], archive.equalities,
            metric, reach, *bounds,
        )  # fmt: skip
        self.multipliers = multipliers.tolist()
        self.gain = 1.0  # a step may pay in the value or in the violation
        return step

    def judge(self, gain: float) -> float:
        """Learn from the gain of the proposed point; the factor by which the radius changes."""
        ratio = gain / self.gain
        self.trust += 0.2 * ((ratio > 0.25) - self.trust)
        self.misses = self.misses + 1 if ratio <= 0 else 0
        if abs(ratio - 1) < CALM:
            self.noise = self.noise / 16 if self.noise > LEAST_NOISE else 0.0
        elif self.misses >= MISSES:
            self.noise = min(MOST_NOISE, max(LEAST_NOISE, 4 * self.noise))
        if ratio <= 0:
            return 1.0
        if ratio >= GOOD and self.is_long:
            return 2.0
        return 0.5 if ratio < POOR else 1.0

    def shaped(self, directions: np.ndarray) -> np.ndarray:
        """Directions (n, d) of the metric in the coordinates of the points."""
        return (directions * self.models.lengths) @ self.models.axes.T

    def sorted(self, points: np.ndarray) -> np.ndarray:
        """Points (n, d) around the row of the last fit, the most promising first."""
        models, archive = self.models, self.archive
        predicted = models.predicted(points - models.center)
        if predicted.shape[1] == 1:
            return points[np.argsort(predicted[:, 0], kind="stable")]
        constraints = predicted[:, 1:] + archive.constraints[self.row]
        excess = archive.weighed(constraints)
        value = archive.value[self.row] + predicted[:, 0]
        return points[np.lexsort((value, np.where(excess > 1e-12, excess, 0.0)))]

    def state_dict(self) -> dict[str, Any]:
        """Copies as tensors and numbers."""
        models = {
            name: torch.from_numpy(getattr(self.models, name).copy())
            for name in QuadraticModels.FIELDS
        }
        return {"search": snapshot(self, self.FIELDS), "models": models}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        restore(self, self.FIELDS, state["search"], torch.device("cpu"))
        for name, tensor in state["models"].items():
            setattr(self.models, name, tensor.cpu().numpy().copy())
