"""Least squares with a prior, by damped Gauss-Newton steps (Levenberg and Marquardt)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

STEP = 0.75  # of the prior's spread, the longest step
SETTLED = 1e-3  # share by which a step must lower the sum of squares to be worth another
STUCK = 1e6  # damping at which no step lowers the sum any more

# residuals (N,) at parameters (P,), and their Jacobian (N, P), or None where the last one will do
Residuals = Callable[[Tensor], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True, eq=False)
class Prior:
    """Normal: parameters (P,) are expected at `mean`, give or take `spread`."""

    mean: Tensor
    spread: Tensor

    def cost(self, parameters: Tensor) -> Tensor:
        """Half the sum of squares that the prior adds."""
        return 0.5 * ((parameters - self.mean) / self.spread).square().sum()


@dataclass(frozen=True, eq=False)
class Fit:
    """Where a fit ended. cost: half the sum of squares with the prior's. residual: (N,) there.
    jacobian: (N, P), the last one. evaluations: of the residuals.
    """

    parameters: Tensor
    cost: float
    residual: Tensor
    jacobian: Tensor
    evaluations: int


def gauss_newton(
    residuals: Residuals, start: Tensor, prior: Prior, steps: int, rows: Tensor | None = None
) -> Fit:
    """Lower 0.5 |r(x)|² and the prior's part in at most so many steps.

    rows: the Jacobian to begin with where `residuals` gives none.
    """
    x = start
    r, given = residuals(x)
    rows = given if rows is None else rows
    if rows is None:
        raise ValueError("residuals gave no Jacobian at the start, and none was given")
    cost = float(0.5 * r.square().sum() + prior.cost(x))
    damping = 1e-3
    evaluations = 1
    for _ in range(steps):
        normal = rows.T @ rows + torch.diag(prior.spread**-2)
        gradient = rows.T @ r + (x - prior.mean) / prior.spread**2
        step = torch.linalg.solve(normal + damping * torch.diag(normal.diagonal()), -gradient)
        longest = float((step / prior.spread).abs().max())
        trial = x + step * min(1.0, STEP / max(longest, STEP))
        found, slopes = residuals(trial)
        evaluations += 1
        new = float(0.5 * found.square().sum() + prior.cost(trial))
        if new < cost:
            settled = cost - new < SETTLED * cost
            x, cost, r, damping = trial, new, found, damping / 5
            rows = rows if slopes is None else slopes
            if settled:
                break
        else:
            damping = max(10 * damping, 1e-2)
            if damping > STUCK:
                break
    return Fit(x, cost, r, rows, evaluations)
