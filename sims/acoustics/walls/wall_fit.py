"""Passive branches fitted to measured walls, by damped least squares from many starts at once.

A branch is a damper E, a mass D and a spring F in series; it is passive whatever their positive
values, so that the fit runs over the logarithms of these and no constraint is left. All starts are
one batch: the normal equations of each are small and are solved together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Complex = NDArray[np.complexfloating[Any, Any]]
Residual = Callable[[Array], tuple[Array, Array]]

DISSIPATION = 0.3  # weight of the relative error of Re y beside that of y
LEAST_DISSIPATION = 0.02  # share of y below which Re y is not resolved
STARTS = 24
SCOUTING = 30  # iterations of all starts, of which the best are then carried on
FINALISTS = 6
ITERATIONS = 150
MOST_BRANCHES = 5
# e^±23: one part in 1e10, beyond which a mass, damper or spring has no effect on a sum
LARGEST_LOGARITHM = 23.0
WORTH_A_BRANCH = 0.7  # a further branch has to bring the sum of squares below this share
NEGLIGIBLE = 1e-7  # change of the residuals below which an element of a branch is left out


def admittance(logarithms: Array, s: Complex) -> Complex:
    """Each branch 1 / (D s + E + F / s), (S, M, N), from logarithms (S, 3 M) of D, E and F."""
    values = np.exp(logarithms).reshape(len(logarithms), -1, 3)
    return 1.0 / (values[..., 0, None] * s + values[..., 1, None] + values[..., 2, None] / s)


def slopes(logarithms: Array, s: Complex, branches: Complex) -> Complex:
    """Derivative of the sum of the branches by each logarithm, (S, N, 3 M)."""
    values = np.exp(logarithms).reshape(len(logarithms), -1, 3)
    steps = np.stack((s, np.ones_like(s), 1.0 / s))  # of the impedance by D, E and F
    each = -(branches[:, :, None, :] ** 2) * values[..., None] * steps
    return np.moveaxis(each.reshape(len(logarithms), -1, len(s)), 1, 2)


def resolved(admittance: Complex) -> Array:
    """Re y, to which its errors are relative, and a share of |y| below which it is not resolved."""
    return admittance.real + LEAST_DISSIPATION * np.abs(admittance)


def of_impedance(s: Complex, target: Complex) -> Residual:
    """Relative errors of y and of its real part, and errors of R at normal incidence.

    The real part takes the energy: reverberation follows it, however small it is beside y.

    s: (N,) in units of some frequency. target: (N,), the normalised admittance to be met.
    """
    reflected = (1.0 - target) / (1.0 + target)

    def residual(logarithms: Array) -> tuple[Array, Array]:
        branches = admittance(logarithms, s)
        total = branches.sum(axis=1)
        slope = slopes(logarithms, s, branches)
        relative = 1.0 / np.abs(target)
        taking = DISSIPATION / resolved(target)
        # dR/dy; the reflection error is what one hears, and what a nearly rigid wall is judged by
        turned = -2.0 / (1.0 + total) ** 2
        error = total - target
        errors = (error * relative, (1.0 - total) / (1.0 + total) - reflected)
        rows = (slope * relative[:, None], slope * turned[..., None])
        return (
            np.concatenate(
                [*(part for e in errors for part in (e.real, e.imag)), error.real * taking], axis=1
            ),
            np.concatenate(
                [
                    *(part for r in rows for part in (r.real, r.imag)),
                    slope.real * taking[:, None],
                ],
                axis=1,
            ),
        )

    return residual


def descend(residual: Residual, starts: Array, iterations: int) -> tuple[Array, Array]:
    """Levenberg-Marquardt from each of the starts (S, P): the points reached, and their costs."""
    points = starts
    errors, rows = residual(points)
    costs = (errors**2).sum(axis=1)
    damping = np.full(len(points), 1e-2)
    diagonal = np.arange(points.shape[1])
    for _ in range(iterations):
        across = rows.transpose(0, 2, 1)
        normal = across @ rows
        gradient = (across @ errors[..., None])[..., 0]
        # the small constant keeps an element without effect, whose row is zero, where it is
        normal[:, diagonal, diagonal] += damping[:, None] * (normal[:, diagonal, diagonal] + 1e-9)
        step = np.linalg.solve(normal, -gradient[..., None])[..., 0]
        trial = np.clip(points + np.clip(step, -2.0, 2.0), -LARGEST_LOGARITHM, LARGEST_LOGARITHM)
        new_errors, new_rows = residual(trial)
        new_costs = (new_errors**2).sum(axis=1)
        better = new_costs < costs
        settled = np.where(better, costs - new_costs < 1e-9 * costs, damping > 1e6)
        points = np.where(better[:, None], trial, points)
        errors = np.where(better[:, None], new_errors, errors)
        rows = np.where(better[:, None, None], new_rows, rows)
        costs = np.where(better, new_costs, costs)
        damping = np.clip(np.where(better, damping / 4.0, damping * 4.0), 1e-12, 1e8)
        if settled.all():
            break
    return points, costs


def starting_points(count: int, level: float, low: float, high: float) -> Array:
    """Logarithms (STARTS, 3 count) of branches with resonances spread over low to high.

    level: typical size of the impedance to be met. Low-discrepancy points, the same in each run.
    """
    # Kronecker sequence of the roots of the first primes: deterministic, and evenly spread
    roots = np.sqrt(np.array([2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47])[: 3 * count])
    spread = (np.outer(np.arange(1, STARTS + 1), roots) % 1.0).reshape(STARTS, count, 3)
    resonance = np.log(low / 2.0) + spread[..., 0] * np.log(4.0 * high / low)
    resistance = np.log(level) + np.log(10.0) * (2.0 * spread[..., 1] - 0.5)
    quality = np.log(0.05) + spread[..., 2] * np.log(100.0)
    mass = resistance + quality - resonance
    spring = resistance + quality + resonance
    return np.stack((mass, resistance, spring), axis=2).reshape(STARTS, 3 * count)


def fit(
    residual: Residual,
    score: Callable[[Array], float],
    level: float,
    low: float,
    high: float,
    most: int,
    tolerance: float,
) -> Array:
    """Branches (M, 3), with the fewest that bring `score` below the tolerance, at most `most`.

    score: the largest error that counts, of logarithms (1, 3 M). low, high: the angular frequencies
    of the data, in the units of the residual's s. Where no count meets the tolerance, the most
    that are each worth adding.
    """
    best, least = None, np.inf
    for count in range(1, most + 1):
        starts = starting_points(count, level, low, high)
        if best is not None and best.shape[1] == 3 * (count - 1):
            # the last fit with one branch added, beside the blank starts
            added = starts[: STARTS // 2, :3] + np.array([np.log(4.0)] * 3)
            kept = np.repeat(best, len(added), axis=0)
            starts = np.concatenate((np.concatenate((kept, added), axis=1), starts))
        points, costs = descend(residual, starts, SCOUTING)
        points, costs = descend(residual, points[np.argsort(costs)[:FINALISTS]], ITERATIONS)
        if costs.min() < WORTH_A_BRANCH * least:
            best, least = points[np.argmin(costs)][None], costs.min()
            if score(best) < tolerance:
                break
    if best is None:
        raise RuntimeError("no start of the fit gave a finite error")
    return without_idle_elements(residual, best)


def without_idle_elements(residual: Residual, logarithms: Array) -> Array:
    """Branches (M, 3) in which masses, dampers and springs of no effect are zero."""
    errors, _ = residual(logarithms)
    kept = logarithms.copy()
    for element in np.argsort(logarithms[0]):
        trial = kept.copy()
        trial[0, element] = -np.inf
        branch = element // 3
        if np.isinf(trial[0, 3 * branch : 3 * branch + 3]).all():
            continue
        if np.abs(residual(trial)[0] - errors).max() < NEGLIGIBLE:
            kept = trial
    return np.exp(kept).reshape(-1, 3)
