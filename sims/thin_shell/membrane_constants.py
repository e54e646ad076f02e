"""From rest corners and material numbers to the constants of the membrane energies.

Everything is differentiable in everything, so rest shapes and materials can be fitted. An axis
pair is chosen in the plane of every rest triangle; strain, stress and stiffness are written in it.
Stiffness matrices act on (E11, E22, 2 E12); times rest area and thickness they are the `stiffness`
[J] of the energies.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geomopt.errors import InputError

LEAST_WARP = 1e-6  # part of a warp direction that must lie in the triangle; less has no direction


def rest_axes(corners: Tensor, warp: Tensor | None = None) -> Tensor:
    """Orthonormal axes (F, 2, 3) in the plane of triangles corners (F, 3, 3), counter-clockwise.

    The first axis follows `warp` (3,) or (F, 3), a direction in space laid down on the triangle, or
    the edge from corner 0 to corner 1. Raises InputError where warp is perpendicular to a triangle.
    """
    edge = corners[:, 1] - corners[:, 0]
    across = torch.linalg.cross(edge, corners[:, 2] - corners[:, 0])
    normal = across / torch.linalg.vector_norm(across, dim=-1, keepdim=True)
    first = edge
    if warp is not None:
        direction = warp.expand_as(edge)
        first = direction - (direction * normal).sum(-1, keepdim=True) * normal
        short = first.norm(dim=-1) <= LEAST_WARP * direction.norm(dim=-1)
        if bool(short.any()):
            face = int(short.nonzero()[0])
            raise InputError(
                f"warp must have a part in the plane of every triangle, got "
                f"{direction[face].tolist()} perpendicular to face {face}"
            )
    first = first / torch.linalg.vector_norm(first, dim=-1, keepdim=True)
    return torch.stack((first, torch.linalg.cross(normal, first)), 1)


def inverse_rest(corners: Tensor, axes: Tensor) -> tuple[Tensor, Tensor]:
    """Dm^-1 (F, 2, 2) [1/m] and the rest areas (F,) [m2] of triangles corners (F, 3, 3).

    axes (F, 2, 3): those of `rest_axes`. Dm holds the edges from corner 0 to 1 and 2 as columns.
    """
    edges = (corners[:, 1:] - corners[:, :1]).mT
    (a, b), (c, d) = ((row.unbind(-1)) for row in (axes @ edges).unbind(-2))
    determinant = a * d - b * c
    adjugate = torch.stack((torch.stack((d, -b), -1), torch.stack((-c, a), -1)), -2)
    return adjugate / determinant[:, None, None], determinant / 2


def lame(young: Tensor, poisson: Tensor) -> tuple[Tensor, Tensor]:
    """Plane-stress Lame numbers lam = E nu/(1 - nu^2) and mu = E/(2 (1 + nu)) [Pa]."""
    return young * poisson / (1 - poisson**2), young / (2 * (1 + poisson))


def plane_stress(young: Tensor, poisson: Tensor) -> Tensor:
    """Stiffness (..., 3, 3) [Pa] of an isotropic sheet; young [Pa] and poisson broadcast."""
    lam, mu = torch.broadcast_tensors(*lame(young, poisson))
    return _matrix(lam + 2 * mu, lam + 2 * mu, lam, mu)


def orthotropic(
    young_warp: Tensor, young_weft: Tensor, poisson: Tensor, shear_modulus: Tensor
) -> Tensor:
    """Stiffness (..., 3, 3) [Pa] of a sheet with different moduli along the first and second axis.

    young_warp, young_weft: Young's moduli E1, E2 [Pa]. poisson: nu12, the contraction along the
    weft when pulled along the warp; nu21 = nu12 E2/E1 follows. shear_modulus: G12 [Pa]. With
    E1 = E2 and G12 = E/(2 (1 + nu)) it is `plane_stress`.
    Raises InputError unless nu12 nu21 < 1, without which the energy has no minimum at rest.
    """
    other = poisson * young_weft / young_warp
    product = poisson * other
    if bool((product >= 1).any()):
        raise InputError(
            f"poisson^2 young_weft / young must stay below 1, got {float(product.max())}"
        )
    first, second = young_warp / (1 - product), young_weft / (1 - product)
    return _matrix(*torch.broadcast_tensors(first, second, poisson * second, shear_modulus))


def _matrix(first: Tensor, second: Tensor, coupling: Tensor, shear: Tensor) -> Tensor:
    """Stiffness matrix from its four different entries."""
    zero = torch.zeros_like(first)
    rows = ((first, coupling, zero), (coupling, second, zero), (zero, zero, shear))
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
