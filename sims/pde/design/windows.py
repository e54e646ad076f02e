"""Longer and longer parts of the observations, so that chaos never hides the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from geomopt.errors import InputError
from optimizers import Budget, RegularizedNewton, Result, minimize
from sims.pde.design.problems import InverseProblem

SHARES = (0.1, 0.25, 0.5, 1.0)
ROUNDS, SMALL = 25, 1e-12


def in_windows(
    problem: InverseProblem,
    method: Any = None,
    *,
    shares: Sequence[float] = SHARES,
    budget: Budget | None = None,
    seed: int = 0,
) -> Result:
    """Minimise over the first frames, then over more of them from where that ended, up to all.

    Differences of two flows grow like exp(lambda_1 t), so that over long times J has many minima
    and steep walls; over short ones it is nearly a parabola. Each window starts near enough to its
    minimum (quasi-static variational assimilation: Pires, Vautard and Talagrand 1996, Tellus A 48,
    96). shares: of the last frame's time, increasing to 1. method: of each window, by default
    Gauss-Newton, for up to some hundred unknowns. budget: of each window, by default 25 rounds, or
    until J is 1e-12. An initial field of a flow that damps short waves is found far better with a
    `spin_up` of the problem, after which those waves are the flow's own: what was damped before the
    first frame cannot be seen.

    The result is the last window's; its evaluations, gradients, iterations and seconds are sums
    over all, where a rollout of a shorter window is counted as its share of the whole one. Raises
    InputError for shares that do not increase to 1.
    """
    rising = all(a < b for a, b in zip((0.0, *shares), shares, strict=False))
    if not shares or not rising or shares[-1] != 1.0:
        raise InputError(f"shares must increase from above 0 to 1, got {tuple(shares)}")
    method = RegularizedNewton(curvature="gauss-newton") if method is None else method
    budget = Budget(iterations=ROUNDS, target=SMALL) if budget is None else budget
    times = torch.as_tensor(problem.observations.times)
    lasting, taken = float(times[-1]), 0
    x, spent = problem.start, [0.0, 0, 0, 0.0]
    for share in shares:
        count = int((times <= share * lasting * (1 + 1e-9)).sum())
        if count == taken or not bool(problem.observations.seen[:, :count].any()):
            continue
        taken = count
        part = problem if count == len(times) else problem.until(count)
        found = minimize(part.starting(x), method, budget=budget, seed=seed)
        x = found.x
        weight = float(times[count - 1] + problem.spin_up) / (lasting + problem.spin_up)
        new = (weight * found.evaluations, found.gradients, found.iterations, found.seconds)
        spent = [old + more for old, more in zip(spent, new, strict=True)]
    evaluations, gradients, iterations, seconds = spent
    return replace(
        found,  # pyright: ignore[reportPossiblyUnboundVariable] - the last share takes all frames
        evaluations=evaluations,
        gradients=int(gradients),
        iterations=int(iterations),
        seconds=seconds,
    )
