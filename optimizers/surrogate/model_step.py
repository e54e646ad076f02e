"""The minimiser of a cheap smooth model in a box, with or without constraints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

CALLS = 60  # of the model at most


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
