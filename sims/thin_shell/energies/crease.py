"""Plastic creases: the yield law that every bending energy shares.

A bending element has a curvature kappa [1/m] that does not depend on the mesh: with the quadratic
energy E of the element and its rigidity `bending` [J m2], kappa = sqrt(2 E / bending). Within a
step the element is a potential of the incremental kind, E minimised over the plastic curvature that
flows (Ortiz and Stainier 1999; for one variable a Huber function):

    W = bending * phi(kappa),    phi'(kappa) = kappa - flow(kappa),
    flow(kappa) = softmax(kappa - yield_curvature) / (1 + hardening).

So the moment grows with slope one up to yield and with hardening / (1 + hardening) beyond it.
softmax is the positive part, rounded over the width w = softness * yield_curvature on either side
and with nothing outside of it: 0 below -w, (x + w)^2 / (4 w) between, x above w. So no element
creeps below yield_curvature * (1 - softness), and phi has two continuous derivatives when softness
is above 0, one when it is 0. A soft element that is held above that onset goes on flowing a little
in each step, as softness is a smoothing for gradients and no law of a material.

After the step, `flow` tells what stays: rest angles take flow / kappa of the difference of angles,
the yield curvature grows by hardening * flow, and `remaining_stiffness` is the damage. An infinite
yield curvature is an elastic element. All of it can be differentiated twice, also at kappa = 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def wrapped(angle: Tensor) -> Tensor:
    """The same angle within half a turn of zero [rad]."""
    turn = 2.0 * math.pi
    return angle - turn * torch.round(angle.detach() / turn)


def _flowing(
    square: Tensor, yield_curvature: Tensor, softness: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which elements flow, then their curvature, its excess and the width, safe where none flows.

    square: kappa^2. Where an element is elastic the three hold harmless numbers: a square root at
    zero or an infinite yield curvature would put NaN into derivatives that are not even used.
    """
    plastic = torch.isfinite(yield_curvature)
    limit = torch.where(plastic, yield_curvature, 1.0)
    flowing = plastic & (square > (limit * (1.0 - softness)) ** 2)
    curvature = torch.where(flowing, square, 1.0).sqrt()
    return flowing, curvature, curvature - limit, softness * limit


def crease_energy(
    elastic: Tensor, bending: Tensor, yield_curvature: Tensor, hardening: Tensor, softness: Tensor
) -> Tensor:
    """The energy W = bending * phi(kappa) (n,) [J] of elements that can yield.

    elastic (n,): the energy without yield [J]. bending (n,): rigidity [J m2], in the convention
    kappa = sqrt(2 elastic / bending). yield_curvature (n,) [1/m], hardening (n,), softness (n,) in
    [0, 1).
    """
    square = 2.0 * elastic / bending
    flowing, _, excess, width = _flowing(square, yield_curvature, softness)
    soft = flowing & (excess < width)
    divisor = torch.where(soft, width, 1.0)
    integral = torch.where(
        soft, (excess + width) ** 3 / (12.0 * divisor), 0.5 * excess**2 + width**2 / 6.0
    )
    return elastic - torch.where(flowing, bending * integral / (1.0 + hardening), 0.0)


def flow(
    angle_difference: Tensor,
    stiffness: Tensor,
    bending: Tensor,
    yield_curvature: Tensor,
    hardening: Tensor,
    softness: Tensor,
) -> tuple[Tensor, Tensor]:
    """What a step leaves: plastic angles (n, k) [rad] and plastic curvature (n,) [1/m] to add.

    angle_difference (n, k): angles less rest angles [rad]. stiffness (n, k, k), or (n,) when k = 1
    [J]: elastic energy is half of difference . stiffness . difference. The rest as in
    `crease_energy`. The elastic curvature that is left is phi'(kappa).
    """
    if stiffness.ndim == 1:
        moments = stiffness[:, None] * angle_difference
    else:
        moments = (stiffness @ angle_difference[:, :, None])[:, :, 0]
    square = (angle_difference * moments).sum(1) / bending
    flowing, curvature, excess, width = _flowing(square, yield_curvature, softness)
    soft = flowing & (excess < width)
    divisor = torch.where(soft, width, 1.0)
    rounded = torch.where(soft, (excess + width) ** 2 / (4.0 * divisor), excess)
    amount = torch.where(flowing, rounded / (1.0 + hardening), 0.0)
    return (amount / curvature)[:, None] * angle_difference, amount


def crease_work(
    angle_difference: Tensor,
    rate: Tensor,
    stiffness: Tensor,
    bending: Tensor,
    yield_curvature: Tensor,
    hardening: Tensor,
    softness: Tensor,
) -> Tensor:
    """Derivative (n,) [J] of the energy when the angles (n, k) change by `rate` (n, k).

    The moment is the stiffness times what is left of the difference after `flow`.
    """
    turned, _ = flow(angle_difference, stiffness, bending, yield_curvature, hardening, softness)
    left = angle_difference - turned
    if stiffness.ndim == 1:
        return stiffness * (left * rate).sum(1)
    symmetric = (stiffness + stiffness.mT) / 2
    return (rate[:, None] @ symmetric @ left[:, :, None])[:, 0, 0]


def remaining_stiffness(
    accumulated: Tensor, damage: Tensor | float, first_yield_curvature: Tensor
) -> Tensor:
    """The factor on stiffness and bending alike that damage leaves, from 1 down to 1 - damage.

    1 - damage * (1 - exp(-accumulated / first_yield_curvature)), with the plastic curvature
    `accumulated` [1/m] over all steps and the yield curvature before any hardening [1/m].
    """
    return 1.0 + damage * torch.expm1(-accumulated / first_yield_curvature)
