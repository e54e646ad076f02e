"""Anchored Coulomb friction: an elastic spring along the surface that slides at its limit.

    W = k/2 |u|^2  while k |u| <= limit,  else  limit |u| - limit^2 / (2 k),
    u = P (sum_i w_i x_i - anchor),    P = 1 - n n^T.

u is how far the two sides of a pair have slid from where the spring was relaxed, and limit is mu N.
That is the yield law of `crease` for the displacement, without hardening, a potential of the
incremental kind for the return map of friction (Simo and Laursen 1992, An augmented Lagrangian
treatment of contact problems involving friction). `softness` rounds the corner in the same manner.
Below the limit (times 1 - softness) nothing slides, however long; the force is the spring's.

Weights, anchor, normal and limit are those at the start of a step, see `contact.friction`. So
friction is symmetric and convex in the positions, and always positive semi-definite.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geomopt.launch import launch
from sims.thin_shell.energies.crease import crease_energy, flow
from sims.thin_shell.energies.energy import Constants, Elements, Energy
from sims.thin_shell.energies.friction_kernels import foresee_kernel, kernel


def slid(local: Tensor, weights: Tensor, anchor: Tensor, normal: Tensor) -> Tensor:
    """u (n, 3) [m] of pairs local (n, 12)."""
    return tangential(moved(local, weights) - anchor, normal)


def moved(local: Tensor, weights: Tensor) -> Tensor:
    """sum_i w_i x_i (n, 3) [m] of pairs local (n, 12)."""
    return (weights[:, None] @ local.unflatten(1, (4, 3)))[:, 0]


def tangential(vectors: Tensor, normal: Tensor) -> Tensor:
    """Vectors (n, 3) without their part along unit normals (n, 3)."""
    return vectors - (vectors * normal).sum(1, keepdim=True) * normal


def value(
    local: Tensor,
    weights: Tensor,
    anchor: Tensor,
    normal: Tensor,
    limit: Tensor,
    stiffness: Tensor,
    softness: Tensor,
) -> Tensor:
    """Energy (n,) [J] of pairs local (n, 12).

    weights (n, 4), which add up to zero. anchor (n, 3) [m]: sum_i w_i x_i where the spring is
    relaxed. normal (n, 3), of length one. limit (n,): the largest force [N], 0 for none.
    stiffness (n,): k [N/m]. softness (n,) in [0, 1).
    """
    square = slid(local, weights, anchor, normal).square().sum(1)
    # without a limit no spring either, also where nothing has slid
    elastic = 0.5 * stiffness * torch.where((limit > 0) | (square > 0), square, 0.0)
    return crease_energy(elastic, stiffness, limit / stiffness, torch.zeros_like(limit), softness)


def work(
    local: Tensor,
    direction: Tensor,
    weights: Tensor,
    anchor: Tensor,
    normal: Tensor,
    limit: Tensor,
    stiffness: Tensor,
    softness: Tensor,
) -> Tensor:
    """Derivative (n,) [J] of the energy along a direction (n, 12)."""
    pull = force(local, weights, anchor, normal, limit, stiffness, softness)
    return (pull * tangential(moved(direction, weights), normal)).sum(1)


def force(
    local: Tensor,
    weights: Tensor,
    anchor: Tensor,
    normal: Tensor,
    limit: Tensor,
    stiffness: Tensor,
    softness: Tensor,
) -> Tensor:
    """dW/du (n, 3) [N], which has no part along the normal, differentiable in everything."""
    u = slid(local, weights, anchor, normal)
    none = torch.zeros_like(limit)
    given, _ = flow(u, stiffness, stiffness, limit / stiffness, none, softness)
    return stiffness[:, None] * (u - given)


def evaluate(
    local: Tensor,
    constants: Constants,
    order: int,
    project: bool = False,
    extrapolated: Tensor | None = None,
) -> Elements:
    """Value, gradient and Hessian by the kernel, which is positive semi-definite as it is."""
    return measured(kernel(), local, constants, order, extrapolated)


def measured(
    kernel: Any, local: Tensor, constants: Constants, order: int, forces: Tensor | None
) -> Elements:
    """Value, gradient and Hessian by a kernel, the latter with forces (n, 3) if there are any."""
    n = len(local)
    value = local.new_empty(n)
    gradient = local.new_empty(n if order > 0 else 0, 12)
    hessian = local.new_empty(n if order > 1 else 0, 12, 12)
    given = [tensor.contiguous() for tensor in (local, *constants)]
    ahead = local.new_empty(0, 3) if forces is None else forces
    launch(kernel, n, [*given, order, ahead], [value, gradient, hessian], split=True)
    return Elements(value, gradient if order > 0 else None, hessian if order > 1 else None)


def forces_ahead(
    kernel: Any, local: Tensor, increment: Tensor, constants: Constants, before: Tensor | None
) -> Tensor:
    """Forces (n, 3) [N] after a linear step by a kernel, from those before it (n, 3) if any."""
    given = [tensor.contiguous() for tensor in (local, increment, *constants)]
    result = local.new_empty(len(local), 3)
    known = local.new_empty(0, 3) if before is None else before
    launch(kernel, len(local), [*given, known], [result], split=True)
    return result


def foresee(
    local: Tensor, increment: Tensor, constants: Constants, before: Tensor | None
) -> Tensor:
    """The forces t (n, 3) [N] that stand in the Hessian after a linear step, from those before.

    Where a pair slides, Newton's method sees a force of constant size, which does nothing against a
    move along it, and the next step is far too long. Chan, Golub and Mulet 1999, A nonlinear
    primal-dual method for total variation-based image restoration, make t an unknown of its own,
    whose law is linear in the step and which ends within the limit:

        H = f P + h/(2f) (u t^T + t u^T),    t+ = f (u + du) + h/f (u . du) t,

    f and h as in `friction_kernels`. At the solution t = f u, and H is the Hessian.
    """
    return forces_ahead(foresee_kernel(), local, increment, constants, before)


def random_pairs(generator: torch.Generator, count: int) -> tuple[Tensor, Constants]:
    """Random local (n, 12) with their weights, anchor and normal; |u| is between 0.2 and 2."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator, dtype=torch.float64)

    def unit() -> Tensor:
        drawn = torch.randn(count, 3, generator=generator, dtype=torch.float64)
        return torch.nn.functional.normalize(drawn, dim=1)

    points = torch.randn(count, 4, 3, generator=generator, dtype=torch.float64)
    s, t = uniform(2).unbind(1)
    corner = torch.stack([torch.ones_like(s), -s * t, s * t - t, t - 1.0], dim=1)
    crossed = torch.stack([1.0 - s, s, t - 1.0, -t], dim=1)
    weights = torch.where((torch.arange(count) % 2 == 0)[:, None], corner, crossed)
    normal = unit()
    along = torch.nn.functional.normalize(tangential(unit(), normal), dim=1)
    moved = (0.2 + 1.8 * uniform(1)) * along + uniform(1) * normal
    anchor = (weights[:, None] @ points)[:, 0] - moved
    return points.flatten(1), (weights, anchor, normal)


def sample(generator: torch.Generator, count: int) -> tuple[Tensor, Constants]:
    """Random pairs that stick or slide, a third of them with a sharp corner."""
    local, places = random_pairs(generator, count)
    drawn = torch.rand(3, count, generator=generator, dtype=torch.float64)
    stiffness, softness = 1.0 + drawn[0], 0.2 + 0.3 * drawn[1]
    sharp = torch.arange(count) % 3 == 0
    limit = stiffness * (0.5 + drawn[2])
    return local, (*places, limit, stiffness, torch.where(sharp, 0.0, softness))


FRICTION = Energy(
    "friction", 12, value, evaluate, sample, points=4, vectors=(1, 2), work=work, foresee=foresee
)
