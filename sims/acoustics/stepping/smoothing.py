"""A point of pressure spread into a Gaussian by the room's own operator.

In free air exp(-|x - x₀|²/s²) is what diffusion makes of a point, π^1.5 s³ exp(-τ A) δ(x - x₀) with
τ = s²/(4 c²). Between walls the right-hand side folds back what would fall outside of them, which
is the sum of images in a rigid box, flows around corners, and makes responses between rigid walls
reciprocal wherever the source stands. exp(-τ A) is applied as a Chebyshev series (Tal-Ezer and
Kosloff, J. Chem. Phys. 81 (1984) 3967).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.special import ive
from torch import Tensor

from geomopt.launch import differentiable
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.elements.hexahedra import Hexahedra
from sims.acoustics.elements.space import Space

SMALLEST = 1e-15  # coefficient of the series, beside the first


def diffused(space: Space, point: Tensor, spread: Tensor, largest: float) -> Tensor:
    """exp(-spread A) point (N,), float64.

    point: (N,), zero outside of the air. spread: () [s²]. largest: an upper bound of the
    eigenvalues of A [1/s²]. Differentiable in both, and in the vertices of mapped elements.
    """
    mapped = isinstance(space, Hexahedra)
    held = [space.metric, space.mass] if mapped else [None, None]

    def forward(point: Tensor, spread: Tensor, *_: Tensor | None) -> tuple[list[Tensor], Any]:
        terms = _series(float(spread), largest)
        needed = mapped and any(tensor.requires_grad for tensor in held if tensor is not None)
        kept: list[Tensor] | None = [] if needed else None
        total = _sum(space, point, terms, largest, kept)
        return [total], (total, terms, kept)

    def backward(
        tensors: Any, saved: Any, gradients: Any, needed: Any
    ) -> tuple[Tensor | None, ...]:
        total, terms, kept = saved
        mass = space.mass.detach()
        inside = mass > 0
        (given,) = gradients
        left = torch.where(inside, given / torch.where(inside, mass, 1.0), 0.0)
        pulled, of_metric, of_mass = None, None, None
        if needed[0]:
            pulled = mass * _sum(space, left, terms, largest, None)
        slope = torch.empty_like(total)
        space.accelerate(total, slope)
        if kept is not None and isinstance(space, Hexahedra):
            of_metric, of_mass = _of_shape(space, left, terms, kept, largest)
        return pulled, (given * slope).sum(), of_metric, of_mass

    (field,) = differentiable(forward, backward, point, spread, *held)
    return field


def _series(spread: float, largest: float) -> list[float]:
    """Coefficients of T_k((2/largest) A - 1) in exp(-spread A)."""
    half = spread * largest / 2
    order = np.arange(32 + int(4 * half**0.5) + int(half))
    terms = 2.0 * (-1.0) ** order * ive(order, half)
    terms[0] /= 2
    return terms[: 1 + int(np.flatnonzero(np.abs(terms) > SMALLEST * terms[0])[-1])].tolist()


def _scaled(space: Space, field: Tensor, largest: float) -> Tensor:
    out = torch.zeros_like(field)
    space.accelerate(field, out)
    return out.mul_(-2 / largest).sub_(field)


def _sum(
    space: Space, point: Tensor, terms: list[float], largest: float, kept: list[Tensor] | None
) -> Tensor:
    """The series at a point; `kept` is given its polynomials."""
    before, now = point, _scaled(space, point, largest)
    total = terms[0] * before
    polynomials = [before]
    for term in terms[1:]:
        total.add_(now, alpha=term)
        if kept is not None:
            polynomials.append(now)
        before, now = now, _scaled(space, now, largest).mul_(2).sub_(before)
    if kept is not None:
        kept.extend(polynomials)
    return total


def _of_shape(
    space: Hexahedra, left: Tensor, terms: list[float], kept: list[Tensor], largest: float
) -> tuple[Tensor, Tensor]:
    """The derivatives of left^T M exp(-spread A) point in metric and mass, by the series reversed:
    b_k = terms_k left + 2 Y b_(k+1) - b_(k+2).
    """
    sums = space.metric_sums(torch.float64)
    of_mass = torch.zeros_like(left)
    after, now = torch.zeros_like(left), terms[-1] * left
    slope = torch.empty_like(left)
    for order in range(len(terms) - 1, 0, -1):
        polynomial = kept[order - 1]
        factor = 2.0 if order > 1 else 1.0
        space.metric_gradient(factor * now, polynomial, sums)
        space.accelerate(polynomial, slope)
        of_mass.addcmul_(now, slope, value=factor * 2 / largest)
        following = _scaled(space, now, largest).mul_(2).sub_(after).add_(terms[order - 1] * left)
        after, now = now, following
    return space.of_metric(sums) * (2 * SPEED_OF_SOUND**2 / largest), of_mass
