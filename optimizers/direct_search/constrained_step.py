"""The step of a quadratic model under linearised constraints in a box."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from optimizers.direct_search.attack_steps import Room
from optimizers.gradient.quasi_newton import History, free_coordinates

Solve = Callable[[Tensor, Tensor], Tensor]  # H v (d,) on free coordinates, from v and their mask

PASSES = 8  # each holds the coordinates that the last one took to a bound
ROUNDS = 12  # of the active set of constraints
MOST = 24  # constraints that a step looks at


def model_step(
    gradient: Tensor,
    solve: Solve,
    room: Room,
    radius: float,
    constraints: Tensor,
    jacobian: Tensor,
    equalities: int = 0,
) -> tuple[Tensor, Tensor]:
    """The step d (d,) and multipliers (m,) of

        min <g, d> + <d, H^-1 d> / 2   where   c + A d <= 0   and d stays in the box,

    shortened to |d|_inf <= radius; what the constraints ask for is then met by the same share.

    solve: applies H. room: to_lower <= 0 <= to_upper, (d,) each. constraints, jacobian: c (m,) and
    A (m, d), the last `equalities` rows of which are to be 0.
    """
    count = len(constraints)
    equal = torch.arange(count, device=gradient.device) >= count - equalities
    rows = _within_reach(constraints, jacobian, equal, radius)
    near, slopes, equal = constraints[rows], jacobian[rows], equal[rows]
    # with constraints a coordinate at its bound may have to leave it
    free = torch.ones_like(gradient, dtype=torch.bool)
    free = free if len(rows) else free_coordinates(gradient, *room)
    step = torch.zeros_like(gradient)
    found = gradient.new_zeros(len(rows))
    for _ in range(PASSES):
        held = step.masked_fill(free, 0.0)
        moved = -solve(gradient * free, free)
        if len(rows):
            away = slopes * free
            responses = torch.stack([solve(row, free) for row in away])
            excess = near + slopes @ held + away @ moved
            found = _active_set(away @ responses.mT, excess, equal)
            moved = moved - responses.mT @ found
        step = torch.where(free, moved, held)
        clamped = step.clamp(*room)
        leaving = free & (clamped != step)
        step = clamped
        if not bool(leaving.any()):
            break
        free = free & ~leaving
    length = float(step.abs().max())
    if length > radius:
        step = step * (radius / length)
    return step, torch.zeros_like(constraints).index_put((rows,), found)


def _within_reach(constraints: Tensor, jacobian: Tensor, equal: Tensor, radius: float) -> Tensor:
    """Rows that a step of the radius could violate, at most `MOST`, the nearest ones."""
    rise = radius * jacobian.abs().sum(1)
    rows = (equal | (constraints + rise > 0)).nonzero()[:, 0]
    if len(rows) <= MOST:
        return rows
    share = constraints[rows] / rise[rows].clamp(min=torch.finfo(rise.dtype).tiny)
    share = share.masked_fill(equal[rows], float("inf"))
    return rows[share.argsort(descending=True, stable=True)[:MOST]]


def _active_set(gram: Tensor, excess: Tensor, equal: Tensor) -> Tensor:
    """l (m,) with gram l = excess where active, gram l >= excess elsewhere; l >= 0 or equal."""
    size = gram.diagonal().abs().max().clamp(min=torch.finfo(gram.dtype).tiny)
    gram = gram + 1e-12 * size * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    slack = 1e-12 * excess.abs().max()
    active = equal | (excess > 0)
    multipliers = torch.zeros_like(excess)
    for _ in range(ROUNDS):
        rows = active.nonzero()[:, 0]
        multipliers = torch.zeros_like(excess)
        multipliers[rows] = torch.linalg.solve_ex(gram[rows][:, rows], excess[rows])[0]
        negative = active & ~equal & (multipliers < 0)
        if bool(negative.any()):
            active = active & ~negative
            continue
        missing = ~active & (excess - gram @ multipliers > slack)
        if not bool(missing.any()):
            break
        active = active | missing
    multipliers = multipliers.nan_to_num(0.0, 0.0, 0.0)
    return torch.where(equal, multipliers, multipliers.clamp(min=0.0))


def steepest(length: float) -> Solve:
    """H = length I: steps along the gradient."""
    return lambda vector, free: length * vector * free


def quasi_newton(history: History) -> Solve:
    """H of the pairs of a history, cut to the free coordinates."""

    def solve(vector: Tensor, free: Tensor) -> Tensor:
        if bool(free.all()):
            return history.product(vector)
        return history.product(vector * free, free) * free

    return solve


def damped_newton(curvature: Tensor, damping: float) -> Solve:
    """H = (curvature + damping I)^-1 on the free coordinates, more damping where not definite."""
    size = float(curvature.diagonal().abs().max())
    factors: dict[str, Tensor] = {}

    def factor(free: Tensor) -> Tensor:
        mask = free[:, None] & free
        matrix = torch.where(mask, curvature, 0.0)
        shift = max(damping, size * torch.finfo(matrix.dtype).eps)
        for _ in range(8):
            matrix.diagonal().copy_(
                torch.where(free, curvature.diagonal() + shift, max(size, shift, 1.0))
            )
            lower, failed = torch.linalg.cholesky_ex(matrix)
            if not bool(failed):
                return lower
            shift = max(100 * shift, 1e-6 * size)
        return torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device) * shift**0.5

    def solve(vector: Tensor, free: Tensor) -> Tensor:
        key = str(free.tolist())
        if key not in factors:
            factors[key] = factor(free)
        return torch.cholesky_solve((vector * free)[:, None], factors[key])[:, 0] * free

    return solve
