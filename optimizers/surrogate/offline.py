"""Designs from data alone: the minimum of a surrogate, near to where it has seen data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optimizers.budget import Budget
from optimizers.checks import check_count, check_number
from optimizers.driver import minimize
from optimizers.gradient.adam import Adam
from optimizers.problem import Bound, Box, Problem
from optimizers.surrogate.ensemble import Ensemble

STEP_SIZE = 0.05  # of Adam, in radii of the trust region
STILL = 1e-6  # width of the region where the data has none, relative
LAST_STEP = 0.01  # what is left of the step size at the end


@dataclass(frozen=True, eq=False)
class OfflineDesigns:
    """Designs from data alone, the most promising first.

    x: (count, d). value, deviation: (count,), mean and spread of the members' predictions there.
    start, start_value: the measured designs (count, d) they grew from, and their values (count,).
    """

    x: Tensor
    value: Tensor
    deviation: Tensor
    start: Tensor
    start_value: Tensor


def pessimistic(ensemble: Ensemble, disagreement: float = 1.0) -> Callable[[Tensor], Tensor]:
    """The function mean + disagreement * deviation of an ensemble, from (..., d) to (...).

    It is low only where the members agree that it is low. Batched and differentiable:

        Problem.from_callable(
            pessimistic(ensemble), lower, upper, batched=True, differentiable=True
        )
    """
    if not isinstance(ensemble, Ensemble):
        raise TypeError(f"ensemble must be an Ensemble, got {type(ensemble).__name__}")
    if ensemble.outputs is not None:
        raise ValueError(
            f"ensemble must predict one value a design, got one of {ensemble.outputs} outputs"
        )
    check_number("disagreement", disagreement, least=0)

    def value(x: Tensor) -> Tensor:
        mean, deviation = ensemble.predict(x)
        return mean + disagreement * deviation

    return value


def trust_region(
    points: Tensor,
    values: Tensor,
    count: int = 128,
    radius: float = 1.0,
    lower: Bound | None = None,
    upper: Bound | None = None,
) -> Box:
    """A box (count, d) around each of the best `count` designs of the data.

    points, values: (n, d) and (n,), the lower the better.
    radius: half the width of the boxes, in standard deviations of each coordinate over the data.
    lower, upper: (d,) or numbers, bounds of a design that hold as well.
    Raises ValueError if the data has fewer designs within the bounds.
    """
    check_number("radius", radius, above=0)
    low, high = _sides(points, lower, upper)
    start = points[_best_rows(points, values, count, lower, upper)]
    # a coordinate that never varied in the data is held, but a box must have some width
    reach = (radius * points.std(0)).expand_as(start).clamp(min=STILL * (1 + start.abs()))
    return Box(
        tuple(start.shape),
        lower=torch.maximum(start - reach, low),
        upper=torch.minimum(start + reach, high),
        start=start,
        scale=reach,
    )


def offline_designs(
    ensemble: Ensemble,
    points: Tensor,
    values: Tensor,
    count: int = 128,
    *,
    radius: float = 1.0,
    disagreement: float = 1.0,
    lower: Bound | None = None,
    upper: Bound | None = None,
    steps: int = 100,
    method: Any = None,
) -> OfflineDesigns:
    """New designs to build or simulate, when there is data and no way to ask for more of it.

    ensemble: a surrogate of the value, trained on the data.
    points, values: the data, (n, d) and (n,), the lower the better.
    count: how many designs, each from another one of the best in the data.
    radius, lower, upper: how far they may move, see `trust_region`.
    disagreement: kappa >= 0, the price of a deviation of 1.
    steps: of the search on the surrogate.
    method: of the search, a name or settings; Adam by default, which moves each design by itself.

        minimise   sum_i  mean(x_i) + kappa deviation(x_i)   with   |x_i - start_i| <= radius std

    and sort by mean + kappa deviation. All designs are one `Problem`, solved by one `minimize`.
    The penalty on disagreement: the lower confidence bound of Srinivas et al., 2010, turned into
    pessimism, as in Yu et al., MOPO, 2020. Ours: the box around each start.
    Raises ValueError or TypeError for data or bounds that do not fit.
    """
    value = pessimistic(ensemble, disagreement)
    points, values = _data(ensemble, points, values)
    check_count("steps", steps)
    region = trust_region(points, values, count, radius, lower, upper)
    problem = Problem({"designs": region}, lambda d: value(d["designs"]).sum(), differentiable=True)
    if method is None:
        method = Adam(step_size=STEP_SIZE, decay=LAST_STEP ** (1 / steps))
    found = minimize(problem, method, budget=Budget(iterations=steps)).parameters["designs"]
    with torch.no_grad():
        mean, deviation = ensemble.predict(found)
        order = (mean + disagreement * deviation).argsort(stable=True)
    start_value = values[_best_rows(points, values, count, lower, upper)]
    return OfflineDesigns(
        found[order], mean[order], deviation[order], region.start[order], start_value[order]
    )


def _best_rows(
    points: Tensor, values: Tensor, count: int, lower: Bound | None, upper: Bound | None
) -> Tensor:
    """Indices of the best `count` designs that lie within the bounds and were measured."""
    check_count("count", count)
    low, high = _sides(points, lower, upper)
    allowed = ((points >= low) & (points <= high)).all(1) & values.isfinite()
    rows = allowed.nonzero()[:, 0]
    if count > len(rows):
        raise ValueError(
            f"count must be at most {len(rows)}, the designs within the bounds, got {count}"
        )
    return rows[values[rows].argsort(stable=True)[:count]]


def _sides(points: Tensor, lower: Bound | None, upper: Bound | None) -> tuple[Tensor, Tensor]:
    given = (-torch.inf if lower is None else lower, torch.inf if upper is None else upper)
    low, high = (torch.as_tensor(g, dtype=points.dtype, device=points.device) for g in given)
    return low.expand(points.shape[1]), high.expand(points.shape[1])


def _data(ensemble: Ensemble, points: Any, values: Any) -> tuple[Tensor, Tensor]:
    """The data in the precision of the ensemble; raises where the shapes do not fit."""
    if not isinstance(points, Tensor) or not isinstance(values, Tensor):
        raise TypeError(
            "points and values must be tensors, "
            f"got {type(points).__name__} and {type(values).__name__}"
        )
    shape = (len(points) if points.ndim else 0, ensemble.inputs)
    if points.shape != shape or values.shape != shape[:1]:
        raise ValueError(
            f"points and values must have shapes (n, {ensemble.inputs}) and (n,), "
            f"got {tuple(points.shape)} and {tuple(values.shape)}"
        )
    return points.to(ensemble.weights).detach(), values.to(ensemble.weights).detach()
