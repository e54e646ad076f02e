"""Gauss-Lobatto-Legendre nodes of an element: quadrature, derivatives and interpolation.

The nodes in [-1, 1] are the ends and the extrema of the Legendre polynomial L_P. Used both to
interpolate and to integrate they make the mass of spectral elements diagonal (Patera, J. Comput.
Phys. 54 (1984) 468; Canuto et al., Spectral Methods, 2006, section 2.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from numpy.polynomial import Legendre
from torch import Tensor

from geomopt.errors import InputError

LARGEST_ORDER = 6


@dataclass(frozen=True)
class Element:
    """The reference element [-1, 1] of one order P, in float64.

    nodes: (P+1,), rising. weights: (P+1,), 2 / (P (P+1) L_P(x_i)²); the quadrature is exact to
    degree 2P - 1. derivative: (P+1, P+1), D_ij = the slope at node i of the polynomial that is 1
    at node j and 0 at the others. stiffness: (P+1, P+1), Dᵀ diag(weights) D.
    """

    order: int
    nodes: Tensor
    weights: Tensor
    derivative: Tensor
    stiffness: Tensor


@cache
def element(order: int) -> Element:
    """The reference element of order P = 1 to 6; raises InputError for another order."""
    if isinstance(order, bool) or order not in range(1, LARGEST_ORDER + 1):
        raise InputError(f"order must be a whole number from 1 to {LARGEST_ORDER}, got {order!r}")
    legendre = Legendre.basis(order)
    slope, curvature = legendre.deriv(), legendre.deriv(2)
    inner = slope.roots().real
    inner = inner - slope(inner) / curvature(inner)
    # the nodes are symmetric; rounding is not
    inner = torch.from_numpy((inner - inner[::-1]) / 2)
    nodes = torch.cat([torch.tensor([-1.0], dtype=torch.float64), inner, inner.new_tensor([1.0])])
    values = torch.from_numpy(legendre(nodes.numpy()))
    weights = 2.0 / (order * (order + 1) * values**2)
    apart = nodes[:, None] - nodes + torch.eye(order + 1, dtype=torch.float64)
    derivative = values[:, None] / (values * apart)
    derivative.fill_diagonal_(0.0)
    # the slope of a constant is exactly zero
    derivative -= torch.diag(derivative.sum(1))
    stiffness = derivative.T @ (weights[:, None] * derivative)
    return Element(order, nodes, weights, derivative, (stiffness + stiffness.T) / 2)


def interpolation_weights(order: int, positions: Tensor) -> Tensor:
    """Values (..., P+1) of the element's polynomials at `positions` (...,) in [-1, 1].

    The value of a field there is the sum of weights times nodal values. A product over nodes, so
    that it can be differentiated anywhere, at the nodes too.
    """
    nodes = element(order).nodes.to(positions)
    count = order + 1
    apart = nodes[:, None] - nodes
    own = torch.eye(count, dtype=torch.bool, device=nodes.device)
    ratios = (positions[..., None, None] - nodes) / apart.masked_fill(own, 1.0)
    return ratios.masked_fill(own, 1.0).prod(-1)
