"""A local model of outputs, and its minimiser in a box, with or without constraints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optimizers.surrogate.gaussian_process import JITTER, GaussianProcess, Kernel, condition

CALLS = 60  # of the model at most


@dataclass(frozen=True, eq=False)
class LocalModel:
    """A Gaussian process of what a quadratic leaves, over steps s (d,) from a centre.

        m(s) = slope s + s^T curvature s / 2 + process(s)

    slope: (k, d), curvature: (k, d, d), of each of k outputs.
    """

    process: GaussianProcess
    slope: Tensor
    curvature: Tensor

    def mean(self, steps: Tensor) -> Tensor:
        """Foretold outputs (n, k) at steps (n, d)."""
        return self.process.mean(steps) + quadratic(steps, self.slope, self.curvature)

    def __call__(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (k,) at a step (d,), and their gradients (k, d)."""
        mean, gradient = self.process.mean_and_gradient(step[None])
        turned = self.curvature @ step
        return (
            mean[0] + self.slope @ step + 0.5 * turned @ step,
            gradient[0] + self.slope + turned,
        )

    def uncertainty(self) -> tuple[float, Tensor]:
        """Variance of the gradient over its square at the centre, the worst output's, and the
        gradient (d,) of the first output."""
        centre = torch.zeros_like(self.slope[:1])
        slope = self.process.mean_and_gradient(centre)[1][0] + self.slope
        variance = self.process.gradient_variance(centre) * self.process.variance
        return float((variance / slope.square().sum(1).clamp(min=1e-300)).amax()), slope[0]


def learn(
    steps: Tensor, residual: Tensor, lengths: Tensor, kernel: Kernel, deviation: float = 0.0
) -> GaussianProcess:
    """The process of residuals (n, k) at steps (n, d); deviation: of the noise of the first."""
    process = condition(steps, residual, lengths, JITTER, kernel)
    if deviation:
        noise = deviation**2 / max(float(process.variance[0]), 1e-300)
        process = condition(steps, residual, lengths, min(noise, 1.0), kernel)
    return process


def quadratic(steps: Tensor, slope: Tensor, curvature: Tensor) -> Tensor:
    """slope s + s^T curvature s / 2, (n, k), for steps (n, d), slopes (k, d), (k, d, d)."""
    bent = torch.einsum("nd,kde,ne->nk", steps, curvature, steps)
    return steps @ slope.T + 0.5 * bent


def lowest_in_box(
    model: Callable[[Tensor], tuple[Tensor, Tensor]],
    lower: Tensor,
    upper: Tensor,
    penalty: float = 0.0,
    equalities: int = 0,
) -> tuple[Tensor, float]:
    """The step (d,) in a box around 0 with the lowest first output, and a penalty to judge it by.

    model: step (d,) -> outputs (1 + m,) and their gradients (1 + m, d); outputs after the first
        are constraints, the last `equalities` of them to be 0, the others <= 0.
    penalty: so far. It grows to twice the ratio of the gradient norms at 0, so that the merit
        f + penalty * violation has its minimum where the constrained problem has it.

    Without constraints L-BFGS-B, with them SLSQP, both of SciPy.
    """
    from scipy.optimize import minimize  # takes 0.2 s to import

    device = lower.device
    seen: dict[bytes, tuple[Any, Any]] = {}

    def outputs(vector: Any) -> tuple[Any, Any]:
        key = vector.tobytes()
        if key not in seen:
            seen.clear()
            value, gradient = model(torch.as_tensor(vector, device=device))
            seen[key] = value.cpu().numpy(), gradient.cpu().numpy()
        return seen[key]

    zero = torch.zeros_like(lower)
    value, slopes = model(zero)
    bounds = list(zip(lower.tolist(), upper.tolist(), strict=True))
    if len(value) == 1:
        size = float(slopes[0].abs().max()) or 1.0  # units in which L-BFGS-B makes no tiny steps

        def loss(vector: Any) -> tuple[Any, Any]:
            mean, gradient = outputs(vector)
            return mean[0] / size, gradient[0] / size

        found = minimize(
            loss, zero.cpu().numpy(), jac=True, method="L-BFGS-B", bounds=bounds,
            options={"maxiter": CALLS // 2, "maxfun": CALLS, "ftol": 0.0, "gtol": 1e-6},
        )  # fmt: skip
        return torch.as_tensor(found.x, device=device), penalty
    norms = slopes.norm(dim=1)
    steepest = float(norms[0] / norms[1:].clamp(min=1e-300).min()) if bool(norms[1:].all()) else 1.0
    penalty = max(penalty, 2 * steepest, 1e-12)
    sizes = norms.clamp(min=1e-300).cpu().numpy()
    count = len(value) - equalities
    kinds = (("ineq", slice(1, count), -1.0), ("eq", slice(count, None), 1.0))
    conditions = [
        {
            "type": kind,
            "fun": lambda v, rows=rows, sign=sign: sign * outputs(v)[0][rows] / sizes[rows],
            "jac": lambda v, rows=rows, sign=sign: (
                sign * outputs(v)[1][rows] / sizes[rows][:, None]
            ),
        }
        for kind, rows, sign in kinds
        if len(sizes[rows])
    ]
    found = minimize(
        lambda v: outputs(v)[0][0] / sizes[0], zero.cpu().numpy(),
        jac=lambda v: outputs(v)[1][0] / sizes[0], method="SLSQP", bounds=bounds,
        constraints=conditions, options={"maxiter": CALLS // 2, "ftol": 1e-10},
    )  # fmt: skip
    step = torch.as_tensor(found.x, device=device).clamp(lower, upper)
    return torch.where(step.isfinite(), step, zero), penalty
