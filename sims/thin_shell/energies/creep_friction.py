"""Coulomb friction that is regularised in the velocity: smooth, without memory, and it creeps.

    W = limit f0(|u|),
    f0(y) = y  for y > reach,  else  -y^3 / (3 reach^2) + y^2 / reach + reach / 3,

with u of `friction`, from an anchor at the start of the step, and reach = eps_v h, the speed below
which friction counts as sticking, times the step (Li et al. 2020, Incremental potential contact,
eq. 12). A pair that carries the share r < 1 of its limit moves at v = eps_v (1 - sqrt(1 - r)), so
nothing holds for ever; `friction` does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sims.thin_shell.energies.creep_friction_kernels import foresee_kernel, kernel
from sims.thin_shell.energies.energy import Constants, Elements, Energy
from sims.thin_shell.energies.friction import (
    forces_ahead,
    measured,
    moved,
    random_pairs,
    slid,
    tangential,
)


def value(
    local: Tensor, weights: Tensor, anchor: Tensor, normal: Tensor, limit: Tensor, reach: Tensor
) -> Tensor:
    """Energy (n,) [J] of pairs local (n, 12).

    weights, anchor, normal and limit as in `friction`. reach (n,) [m], above zero.
    """
    square = slid(local, weights, anchor, normal).square().sum(1)
    slides = square > 0
    distance = torch.where(slides, torch.where(slides, square, 1.0).sqrt(), 0.0)
    slow = square * (1.0 - distance / (3.0 * reach)) / reach + reach / 3.0
    return limit * torch.where(distance < reach, slow, distance)


def work(
    local: Tensor,
    direction: Tensor,
    weights: Tensor,
    anchor: Tensor,
    normal: Tensor,
    limit: Tensor,
    reach: Tensor,
) -> Tensor:
    """Derivative (n,) [J] of the energy along a direction (n, 12)."""
    pull = force(local, weights, anchor, normal, limit, reach)
    return (pull * tangential(moved(direction, weights), normal)).sum(1)


def force(
    local: Tensor, weights: Tensor, anchor: Tensor, normal: Tensor, limit: Tensor, reach: Tensor
) -> Tensor:
    """dW/du (n, 3) [N], which has no part along the normal, differentiable in everything."""
    u = slid(local, weights, anchor, normal)
    square = u.square().sum(1)
    slides = square > 0
    length = torch.where(slides, square, 1.0).sqrt()
    distance = torch.where(slides, length, 0.0)
    slope = torch.where(distance < reach, (2.0 - distance / reach) / reach, 1.0 / length)
    return (limit * slope)[:, None] * u


def evaluate(
    local: Tensor,
    constants: Constants,
    order: int,
    project: bool = False,
    extrapolated: Tensor | None = None,
) -> Elements:
    """Value, gradient and Hessian by the kernel, which is positive semi-definite as it is."""
    return measured(kernel(), local, constants, order, extrapolated)


def foresee(
    local: Tensor, increment: Tensor, constants: Constants, before: Tensor | None
) -> Tensor:
    """Forces (n, 3) [N] after a linear step, see `energies.friction`."""
    return forces_ahead(foresee_kernel(), local, increment, constants, before)


def sample(generator: torch.Generator, count: int) -> tuple[Tensor, Constants]:
    """Random pairs, slow and fast."""
    local, places = random_pairs(generator, count)
    drawn = torch.rand(2, count, generator=generator, dtype=torch.float64)
    return local, (*places, 1.0 + drawn[0], 0.7 + drawn[1])


CREEP = Energy(
    "creep-friction",
    12,
    value,
    evaluate,
    sample,
    points=4,
    vectors=(1, 2),
    work=work,
    foresee=foresee,
)
