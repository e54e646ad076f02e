"""The least point of quadratic models in an ellipsoid, within bounds and under constraints."""

from __future__ import annotations

import math

import numpy as np

from optimizers.direct_search.small_systems import eigen

ROUNDS = 30  # on the length of a step
RENEWALS = 12  # of multipliers
STRONGER = 4.0  # growth of the penalties while violations do not fall


def least_in_ball(curvatures: np.ndarray, slopes: np.ndarray, radius: float) -> np.ndarray:
    """The z with |z| <= radius where sum slopes_i z_i + curvatures_i z_i^2 / 2 is least.

    Newton's iteration on |z(t)| = radius, z_i(t) = -slopes_i / (curvatures_i + t), t >= 0, between
    bounds of t (More and Sorensen, 1983).
    """
    least, size = float(curvatures.min()), float(np.abs(curvatures).max())
    if least > 1e-12 * size:
        z = -slopes / curvatures
        if z @ z <= radius * radius:
            return z
    norm = math.sqrt(slopes @ slopes)
    if norm == 0.0:
        z = np.zeros_like(slopes)
        if least < 0:
            z[curvatures.argmin()] = radius
        return z
    low = max(0.0, -least)
    high = low + norm / radius
    shift = high if least <= 0 else low
    z, square, length = slopes, norm * norm, norm
    for _ in range(ROUNDS):
        raised = curvatures + shift
        z = slopes / raised
        square = float(z @ z)
        length = math.sqrt(square)
        if abs(length - radius) <= 1e-3 * radius or high - low <= 1e-14 * high:
            break
        low, high = (max(low, shift), high) if length > radius else (low, min(high, shift))
        newton = shift + (length / radius - 1) * square / float(z @ (z / raised))
        shift = newton if low < newton < high else 0.5 * (low + high)
    z = -z * min(1.0, radius / length)
    if least < 0 and length < 0.99 * radius:
        # the slopes are blind to the steepest fall; the rest of the radius goes there
        z[curvatures.argmin()] += math.sqrt(radius * radius - square)
    return z


def least_in_box(
    gradient: np.ndarray,
    hessian: np.ndarray,
    metric: tuple[np.ndarray, np.ndarray],
    radius: float,
    lower: np.ndarray,
    upper: np.ndarray,
    curvatures: np.ndarray | None = None,
) -> np.ndarray:
    """A step of at most `radius` in the metric, within the bounds, where a quadratic is small.

    metric: axes and lengths as in `QuadraticModels`. curvatures: (d,), of a hessian that is
    diagonal in the metric, for then nothing need be factorised.

    Coordinates that would leave the box are fixed at their bounds, and the others chosen again,
    until none leaves.
    """
    axes, lengths = metric
    basis = axes * lengths
    turned = basis
    if curvatures is None:
        curvatures, turn = eigen(basis.T @ hessian @ basis)
        turned = basis @ turn
    step = turned @ least_in_ball(curvatures, turned.T @ gradient, radius)
    outside = (step < lower) | (step > upper)
    if not outside.any():
        return step
    inverse = (axes / lengths**2) @ axes.T
    fixed = np.zeros(len(step), dtype=bool)
    while outside.any() and not fixed.all():
        fixed |= outside
        step = np.where(fixed, np.clip(step, lower, upper), 0.0)
        if fixed.all():
            break
        free = ~fixed
        block = inverse[np.ix_(free, free)]
        step[free] = -np.linalg.solve(block, inverse[np.ix_(free, fixed)] @ step[fixed])
        # what the fixed coordinates leave of the ellipsoid is an ellipsoid around this step
        left = math.sqrt(max(radius * radius - step @ inverse @ step, (1e-3 * radius) ** 2))
        local = np.linalg.inv(np.linalg.cholesky(block)).T
        curvatures, turn = eigen(local.T @ hessian[np.ix_(free, free)] @ local)
        slopes = turn.T @ (local.T @ (gradient[free] + hessian[free] @ step))
        step[free] += local @ (turn @ least_in_ball(curvatures, slopes, left))
        outside = free & ((step < lower) | (step > upper))
    return np.clip(step, lower, upper)


def least_under_constraints(
    gradient: np.ndarray,
    hessian: np.ndarray,
    at_center: np.ndarray,
    equalities: int,
    metric: tuple[np.ndarray, np.ndarray],
    radius: float,
    lower: np.ndarray,
    upper: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The same for the first of K models where the others, constraints, are met; multipliers too.

    gradient, hessian: (K, d) and (K, d, d). at_center: (K - 1,), the constraints at the center, the
    last `equalities` of which must become zero, the others <= 0.

    A few rounds of the augmented Lagrangian, each the least point of its second-order model around
    the last one. Where the constraints cannot be met, their violation is made small.
    """
    slopes, bends = gradient[1:], hessian[1:]
    multipliers = np.zeros(len(at_center))
    free = len(at_center) - equalities
    sizes = (slopes * slopes).sum(1)
    sizes = np.maximum(sizes, 1e-12 * sizes.max() or 1.0)  # some constraints may not change at all
    steepness = max(math.sqrt(gradient[0] @ gradient[0]), 1e-12 * math.sqrt(sizes.max()))
    strength = steepness / (np.sqrt(sizes) * np.maximum(radius * np.sqrt(sizes), np.abs(at_center)))
    step, last = np.zeros(len(lower)), math.inf
    for _ in range(RENEWALS):
        bent = bends @ step
        constraints = at_center + slopes @ step + 0.5 * (bent @ step)
        pressure = multipliers + strength * constraints
        pressing = pressure > 0
        pressing[free:] = True
        pressure = np.where(pressing, pressure, 0.0)
        inclines = slopes + bent
        stiff = inclines[pressing]
        curved = hessian[0] + np.tensordot(pressure, bends, 1)
        curved = curved + (stiff.T * strength[pressing]) @ stiff
        pull = gradient[0] + hessian[0] @ step + pressure @ inclines
        step = least_in_box(pull - curved @ step, curved, metric, radius, lower, upper)
        constraints = at_center + slopes @ step + 0.5 * ((bends @ step) @ step)
        multipliers = multipliers + strength * constraints
        multipliers[:free] = np.maximum(multipliers[:free], 0.0)
        gaps = np.maximum(constraints, -multipliers / strength)
        gaps[free:] = constraints[free:]
        worst = float((np.abs(gaps) / np.sqrt(sizes)).max())
        if worst <= 1e-9 * radius:
            break
        if worst > 0.25 * last:
            strength = STRONGER * strength
        last = worst
    return step, multipliers
