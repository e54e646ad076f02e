"""A small exact Gaussian process with closed-form gradients of its mean and their variance.

Every kernel here is a function of scaled inputs z = x / lengthscale whose derivative has the form

    dk(z, z') / dz = a(z, z') z + b(z, z') z'

so that one set of formulas serves them all: the gradient of the mean, its variance, and the
gradient of the likelihood. With r = |z - z'|:

    rbf       k = exp(-r^2 / 2),  -a = b = k
    matern52  k = (1 + sqrt5 r + 5/3 r^2) exp(-sqrt5 r),  -a = b = 5/3 (1 + sqrt5 r) exp(-sqrt5 r)
    network   k = |y| |y'| J(J(J(c))),  y = (1, z),  c = cos(y, y')

where J(c) = (sqrt(1 - c^2) + (pi - arccos c) c) / pi is the arc-cosine recursion of a network of
infinitely wide ReLU layers with random weights (Cho and Saul, 2009).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Kernel = Literal["rbf", "matern52", "network"]
KERNELS = ("rbf", "matern52", "network")
LAYERS = 3  # hidden layers of the infinitely wide network
JITTER = 1e-10  # least noise, as a share of the signal's variance
SMALLEST, LARGEST = 0.05, 300.0  # lengthscales over sqrt(d), in units of standardised inputs
PRIOR_CENTRE, PRIOR_WIDTH = math.sqrt(2.0), math.sqrt(3.0)  # of log(lengthscale / sqrt(d))
NOISE_CENTRE, NOISE_WIDTH = math.log(1e-6), 4.0  # of log(noise)


def kernel_terms(kernel: Kernel, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """k, a and b (..., n, m) between scaled inputs (..., n, d) and (..., m, d), as in the head."""
    inner = first @ second.mT
    squares, others = first.square().sum(-1)[..., None], second.square().sum(-1)[..., None, :]
    if kernel == "network":
        size, other = 1 + squares, 1 + others
        product = (size * other).sqrt()
        cosine = ((1 + inner) / product).clamp(-1.0, 1.0)
        level, slope = cosine, torch.ones_like(cosine)
        for _ in range(LAYERS):
            opening = (math.pi - torch.arccos(level)) / math.pi
            slope = slope * opening
            level = (1 - level.square()).clamp(min=0.0).sqrt() / math.pi + opening * level
        return product * level, (other / size).sqrt() * (level - cosine * slope), slope
    distance = (squares + others - 2 * inner).clamp(min=0.0)
    if kernel == "rbf":
        value = torch.exp(-0.5 * distance)
        return value, -value, value
    root = (5 * distance).sqrt()
    fading = torch.exp(-root)
    slope = (5 / 3) * (1 + root) * fading
    return (1 + root + 5 / 3 * distance) * fading, -slope, slope


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    """A posterior over m observations of k functions that share one kernel.

    kernel: of `KERNELS`.
    inputs: (m, d) in scaled units, origin: (d,) what was subtracted, lengthscales: (d,).
    factor: (m, m), lower Cholesky factor of K + noise I.
    weights: (m, k), (K + noise I)^-1 (y - level).
    level, variance: (k,), constant mean and variance of the signal, at their maximum likelihood.
    All in float64. Built by `condition`.
    """

    kernel: Kernel
    inputs: Tensor
    origin: Tensor
    lengthscales: Tensor
    factor: Tensor
    weights: Tensor
    level: Tensor
    variance: Tensor

    def scaled(self, points: Tensor) -> Tensor:
        """Points (n, d) in units of the lengthscales."""
        return (points - self.origin) / self.lengthscales

    def mean(self, points: Tensor) -> Tensor:
        """Posterior means (n, k) at points (n, d)."""
        value = kernel_terms(self.kernel, self.scaled(points), self.inputs)[0]
        return self.level + value @ self.weights

    def mean_and_gradient(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior means (n, k) and their gradients d_x k(x, X) (K + s I)^-1 y, (n, k, d)."""
        scaled = self.scaled(points)
        value, along, across = kernel_terms(self.kernel, scaled, self.inputs)
        own = along @ self.weights  # (n, k)
        others = torch.einsum("nm,mk,md->nkd", across, self.weights, self.inputs)
        gradient = (own[..., None] * scaled[:, None] + others) / self.lengthscales
        return self.level + value @ self.weights, gradient

    def mean_hessian(self, point: Tensor) -> Tensor:
        """Hessians (k, d, d) of the posterior means at a point (d,); not for the network kernel.

        sum_i weights_i (phi_2 u_i u_i^T - phi_1 / lengthscale^2),  u = (x - X_i) / lengthscale^2
        """
        away = self.scaled(point) - self.inputs
        distance = away.square().sum(1)
        if self.kernel == "rbf":
            first = torch.exp(-0.5 * distance)
            second = first
        elif self.kernel == "matern52":
            root = (5 * distance).sqrt()
            second = 25 / 3 * torch.exp(-root)
            first = second * (1 + root) / 5
        else:
            raise ValueError(f'kernel must be "rbf" or "matern52", got {self.kernel!r}')
        outer = torch.einsum("mk,md,me->kde", second[:, None] * self.weights, away, away)
        trace = (first[:, None] * self.weights).sum(0)
        identity = torch.eye(len(point), dtype=point.dtype, device=point.device)
        hessian = outer - trace[:, None, None] * identity
        return hessian / self.lengthscales[:, None] / self.lengthscales

    def deviation(self, points: Tensor) -> Tensor:
        """Posterior standard deviations (n, k) of the noiseless values."""
        scaled = self.scaled(points)
        value = kernel_terms(self.kernel, scaled, self.inputs)[0]
        prior = 1 + scaled.square().sum(1) if self.kernel == "network" else 1.0
        known = torch.linalg.solve_triangular(self.factor, value.T, upper=False).square().sum(0)
        return ((prior - known).clamp(min=0.0)[:, None] * self.variance).sqrt()

    def gradient_covariance(self, points: Tensor) -> Tensor:
        """Posterior covariances (n, d, d) of the gradient, per unit of the signal's variance.

        V'(x) = d_x d_x' k - d_x k(x, X) (K + s I)^-1 d_x' k(X, x)
        """
        slopes = self._slopes(points)
        known = torch.linalg.solve_triangular(self.factor, slopes, upper=False)
        prior = torch.diag(_steepness(self.kernel) / self.lengthscales.square())
        return prior - known.mT @ known

    def gradient_variance(self, points: Tensor) -> Tensor:
        """Traces (n,) of `gradient_covariance`; not less than 0."""
        slopes = self._slopes(points)
        known = torch.linalg.solve_triangular(self.factor, slopes, upper=False)
        prior = _steepness(self.kernel) * self.lengthscales.pow(-2).sum()
        return (prior - known.square().sum((1, 2))).clamp(min=0.0)

    def _slopes(self, points: Tensor) -> Tensor:
        """d_x k(x, X), (n, m, d)."""
        scaled = self.scaled(points)
        _, along, across = kernel_terms(self.kernel, scaled, self.inputs)
        slopes = along[..., None] * scaled[:, None] + across[..., None] * self.inputs
        return slopes / self.lengthscales


def condition(
    inputs: Tensor,
    values: Tensor,
    lengthscales: Tensor,
    noise: float = 0.0,
    kernel: Kernel = "matern52",
    origin: Tensor | None = None,
) -> GaussianProcess:
    """The posterior after values (m, k) at inputs (m, d).

    lengthscales: (d,). noise: variance of the noise as a share of the signal's variance.
    origin: (d,) of the scaled inputs, their middle by default; it matters to the network kernel.
    The level and the variance are profiled:

        level = 1^T K^-1 y / 1^T K^-1 1,   variance = (y - level)^T K^-1 (y - level) / m
    """
    origin = inputs.mean(0) if origin is None else origin
    scaled = (inputs - origin) / lengthscales
    covariance = kernel_terms(kernel, scaled, scaled)[0]
    factor = _factor(covariance, noise)
    ones = torch.ones_like(values[:, :1])
    solved = torch.cholesky_solve(torch.cat((ones, values), 1), factor)
    level = solved[:, 1:].sum(0) / solved[:, 0].sum()
    weights = solved[:, 1:] - solved[:, :1] * level
    variance = ((values - level) * weights).sum(0).clamp(min=0.0) / len(inputs)
    return GaussianProcess(kernel, scaled, origin, lengthscales, factor, weights, level, variance)


def log_likelihood(
    inputs: Tensor, values: Tensor, lengthscales: Tensor, noise: float, kernel: Kernel = "matern52"
) -> tuple[float, Tensor, float]:
    """Profiled log marginal likelihood, and its gradients in log lengthscales (d,) and log noise.

    L = -1/2 sum_k (m log variance_k + log det K),  dL = 1/2 tr(M dK)
    M = sum_k weights_k weights_k^T / variance_k - K^-1
    """
    process = condition(inputs, values, lengthscales, noise, kernel)
    count, outputs = values.shape
    variance = process.variance.clamp(min=torch.finfo(values.dtype).tiny)
    logs = process.factor.diagonal().log().sum()
    likelihood = -0.5 * count * variance.log().sum() - outputs * logs
    sensitivity = (process.weights / variance) @ process.weights.T
    sensitivity -= outputs * torch.cholesky_inverse(process.factor)
    scaled = process.inputs
    _, along, across = kernel_terms(kernel, scaled, scaled)
    pull = (sensitivity * along).sum(1, keepdim=True) * scaled + (sensitivity * across) @ scaled
    return (
        float(likelihood),
        -(pull * scaled).sum(0),
        0.5 * noise * float(sensitivity.diagonal().sum()),
    )


def fit(
    inputs: Tensor,
    values: Tensor,
    lengthscales: Tensor,
    noise: float,
    kernel: Kernel = "matern52",
    *,
    shared: bool = False,
    iterations: int = 30,
    noisy: bool = True,
) -> tuple[Tensor, float]:
    """Lengthscales (d,) and noise of the highest posterior density, searched from the given ones.

    inputs: (m, d), standardised. values: (m, k).
    shared: one factor for all lengthscales instead of one for each.
    noisy: search the noise too.
    iterations: of L-BFGS-B at most.
    Priors: log(lengthscale / sqrt(d)) ~ N(sqrt 2, 3), which keeps distances in units of the
    lengthscale of order 1 in every dimension (Hvarfner, Hellsten and Nardi, 2024), and
    log noise ~ N(log 1e-6, 16).
    """
    from scipy.optimize import minimize  # takes 0.2 s to import

    d = inputs.shape[1]
    shift = 0.5 * math.log(d)
    centre = lengthscales.log() - shift

    def unpacked(vector: Any) -> tuple[Tensor, float]:
        numbers = torch.as_tensor(vector, dtype=inputs.dtype, device=inputs.device)
        logs = centre + numbers[0] if shared else numbers[:d]
        return logs, float(numbers[-1])

    def loss(vector: Any) -> tuple[float, Any]:
        logs, log_noise = unpacked(vector)
        scales = (logs + shift).exp()
        likelihood, slopes, noise_slope = log_likelihood(
            inputs, values, scales, math.exp(log_noise), kernel
        )
        away, noise_away = logs - PRIOR_CENTRE, log_noise - NOISE_CENTRE
        prior = float(away.mean() ** 2 if shared else away.square().sum()) / (2 * PRIOR_WIDTH**2)
        prior += noise_away**2 / (2 * NOISE_WIDTH**2)
        if shared:
            pull = slopes.sum()[None] - away.mean() / PRIOR_WIDTH**2
        else:
            pull = slopes - away / PRIOR_WIDTH**2
        noise_slope = noise_slope - noise_away / NOISE_WIDTH**2
        gradient = torch.cat((pull, pull.new_tensor([noise_slope])))
        return prior - likelihood, -gradient.cpu().numpy()

    low, high = math.log(SMALLEST), math.log(LARGEST)
    floor = math.log(max(noise, JITTER))
    if shared:
        first = [0.0]
        bounds = [(low - float(centre.min()), high - float(centre.max()))]
    else:
        first = centre.clamp(low, high).tolist()
        bounds = [(low, high)] * d
    bounds.append((math.log(JITTER), 0.0) if noisy else (floor, floor))
    found = minimize(
        loss, [*first, floor], jac=True, method="L-BFGS-B", bounds=bounds,
        options={"maxiter": iterations},
    )  # fmt: skip
    logs, log_noise = unpacked(found.x)
    return (logs + shift).exp(), math.exp(log_noise)


def _steepness(kernel: Kernel) -> float:
    """Prior variance of each slope in scaled units."""
    return 5 / 3 if kernel == "matern52" else 1.0


def _factor(covariance: Tensor, noise: float) -> Tensor:
    """Cholesky factor of K + noise I; with more jitter where round-off makes that indefinite."""
    jitter = max(noise, JITTER)
    identity = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    for _ in range(12):
        factor, failed = torch.linalg.cholesky_ex(covariance + jitter * identity)
        if not bool(failed):
            return factor
        jitter *= 10
    raise ValueError("covariance must be finite: the inputs are too large or hold NaN")
