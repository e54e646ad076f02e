"""Quadratic models of evaluated points, which keep what they know when points are few."""

from __future__ import annotations

import numpy as np

from optimizers.direct_search.small_systems import eigen, solved

SLOPE = 10.0  # weight of a change of the gradient beside one of the Hessian
SMOOTH = 1e-9  # squared error that every point is allowed, in units of the prior
FAR = 1e-3  # the same at distance 1, growing with the sixth power: cubic terms are not modelled
OUTLIER = 1e3  # times the median difference: values beyond are cut
STEEPEST = 1e8  # ratio of curvatures that the metric follows


class QuadraticModels:
    """Models q_k(u) = g_k s + s H_k s / 2, s = u - center, of K functions less their values there.

    fit changes them as little as the points demand: with the residuals r_i of the old models at
    steps z_i, counted in the metric and in radii,

        q <- q + sum_i w_i k(z_i, z),   k(y, z) = SLOPE y z + (y z)^2 / 2
        (k(z_i, z_j) + diag(SMOOTH + noise + FAR |z_i|^6)) w = r

    The change has the least norm SLOPE^-1 |dg|^2 + |dH|_F^2 for its misfit; without the error
    terms and with a free gradient it is Powell's update (2004, least Frobenius norm), and any
    number of points in any position will do.

    gradient: (K, d). hessian: (K, d, d).
    axes: (d, d), columns; lengths: (d,). The metric: a step s has the length |axes^T s / lengths|.
    curvatures: (d,), in the metric, of the matrix that gave it.
    """

    FIELDS = ("center", "gradient", "hessian", "axes", "lengths")

    def __init__(self, count: int, dimension: int) -> None:
        self.center = np.zeros(dimension)
        self.gradient = np.zeros((count, dimension))
        self.hessian = np.zeros((count, dimension, dimension))
        self.axes = np.eye(dimension)
        self.lengths = np.ones(dimension)
        self.curvatures = np.zeros(dimension)

    def fit(
        self,
        center: np.ndarray,
        radius: float,
        points: np.ndarray,
        values: np.ndarray,
        noise: float,
    ) -> bool:
        """Move to the center and learn from points (n, d) and values (n, K) less those there.

        Returns False, and forgets everything, where the numbers are beyond repair.
        """
        with np.errstate(all="ignore"):
            half = len(values) // 2
            size = OUTLIER * np.partition(np.abs(values), half, axis=0)[half]
            values = np.minimum(np.maximum(values, -size), size)
            moved = self.hessian @ (center - self.center)
            steps = points - center
            # where values are noisy the old curvature is worth little
            hessian = self.hessian * (1 - min(1.0, noise))
            gradient = self.gradient + moved
            old = steps @ gradient.T + 0.5 * _quadratic(steps, hessian)
            to_metric = self.axes / (self.lengths * radius)
            scaled = steps @ to_metric
            inner = scaled @ scaled.T
            kernel = 0.5 * inner
            kernel += SLOPE
            kernel *= inner
            kernel.ravel()[:: len(kernel) + 1] += SMOOTH + noise + FAR * inner.diagonal() ** 3
            weights = solved(kernel, values - old)
            back = scaled @ to_metric.T
            self.center = center.copy()
            self.gradient = gradient + SLOPE * (weights.T @ back)
            self.hessian = hessian + (back.T * weights.T[:, None]) @ back
            if np.isfinite(self.gradient.sum() + self.hessian.sum()):
                return True
        self.gradient, self.hessian = (
            np.zeros_like(self.gradient),
            np.zeros_like(self.hessian),
        )
        return False

    def shape(self, curvature: np.ndarray, trust: float) -> None:
        """Take the metric from a curvature (d, d): axes of equal rise where it is trusted fully.

        lengths ~ |eigenvalue|^(-trust / 2) with a geometric mean of 1.
        """
        eigenvalues, axes = eigen(curvature)
        sizes = np.abs(eigenvalues)
        top = float(sizes.max())
        if not top > 1e-300:
            self.axes, self.lengths, self.curvatures = axes, np.ones_like(sizes), eigenvalues
            return
        logarithms = -0.5 * trust * np.log(np.maximum(sizes, top / STEEPEST))
        self.axes, self.lengths = axes, np.exp(logarithms - logarithms.sum() / len(sizes))
        self.curvatures = eigenvalues * self.lengths**2

    def predicted(self, steps: np.ndarray) -> np.ndarray:
        """What the models give at steps (n, d) from the center, (n, K)."""
        return steps @ self.gradient.T + 0.5 * _quadratic(steps, self.hessian)

    def length(self, step: np.ndarray) -> float:
        """Of a step (d,) in the metric."""
        scaled = (step @ self.axes) / self.lengths
        return float(np.sqrt(scaled @ scaled))


def _quadratic(steps: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """s H_k s of steps (n, d), (n, K)."""
    return np.einsum("kni,ni->nk", steps @ hessian, steps)
