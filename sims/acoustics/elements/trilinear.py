"""The trilinear map of a hexahedron from the reference cube [-1, 1]^3, and what follows from it.

Everything is float64 and differentiable in the positions of the corners.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 40  # Newton converges in a few; clamped steps on warped elements need more
CONVERGED = 1e-13
# order in which the six different entries of a symmetric 3 x 3 matrix are stored
FIRST, SECOND = [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]


def _signs(like: Tensor) -> Tensor:
    """Reference coordinates (8, 3) of the corners."""
    ends = torch.tensor([-1.0, 1.0], dtype=like.dtype, device=like.device)
    return torch.cartesian_prod(ends, ends, ends)


def corner_weights(reference: Tensor) -> Tensor:
    """Weights (..., 8) of the corners at reference coordinates (..., 3)."""
    return ((1 + reference[..., None, :] * _signs(reference)) / 2).prod(dim=-1)


def corner_slopes(reference: Tensor) -> Tensor:
    """Derivatives (..., 8, 3) of `corner_weights` in the reference coordinates."""
    signs = _signs(reference)
    half = (1 + reference[..., None, :] * signs) / 2
    x, y, z = half.unbind(dim=-1)
    return torch.stack([y * z, x * z, x * y], dim=-1) * signs / 2


def grid_points(nodes: Tensor) -> Tensor:
    """Reference coordinates (n^3, 3) of the products of 1-D nodes (n,), x slowest."""
    return torch.cartesian_prod(nodes, nodes, nodes)


def positions(corners: Tensor, reference: Tensor) -> Tensor:
    """Positions (E, Q, 3) in elements of corners (E, 8, 3) at reference coordinates (Q, 3)."""
    return torch.einsum("qc,ecx->eqx", corner_weights(reference), corners)


def jacobians(corners: Tensor, reference: Tensor) -> Tensor:
    """J (E, Q, 3, 3), entry (x, a) the derivative of position x in reference coordinate a."""
    return torch.einsum("qca,ecx->eqxa", corner_slopes(reference), corners)


def volumes_and_metric(jacobian: Tensor) -> tuple[Tensor, Tensor]:
    """det(J) (..., ) and the six entries (..., 6) of det(J) J^-1 J^-T, for J (..., 3, 3).

    With C the matrix of cofactors, J^-1 = C^T / det(J), so the metric is C^T C / det(J).
    """
    one, two, three = jacobian.unbind(dim=-1)
    cofactors = torch.stack(
        [
            torch.linalg.cross(two, three),
            torch.linalg.cross(three, one),
            torch.linalg.cross(one, two),
        ],
        dim=-1,
    )
    volume = (one * cofactors[..., 0]).sum(dim=-1)
    products = (cofactors[..., FIRST] * cofactors[..., SECOND]).sum(dim=-2)
    return volume, products / volume[..., None]


def face_areas(corners: Tensor, reference: Tensor) -> Tensor:
    """Area Jacobian (F, Q) of faces of corners (F, 4, 3), in binary order, at (Q, 2)."""
    ends = torch.tensor([-1.0, 1.0], dtype=corners.dtype, device=corners.device)
    signs = torch.cartesian_prod(ends, ends)
    half = (1 + reference[:, None, :] * signs) / 2
    slopes = half.flip(-1) * signs / 2
    one, two = torch.einsum("qca,fcx->afqx", slopes, corners).unbind(dim=0)
    return torch.linalg.vector_norm(torch.linalg.cross(one, two), dim=-1)


def scaled_jacobians(corners: Tensor) -> Tensor:
    """The least det(J) over the product of its columns' lengths at corners and centre, (E,).

    1 for a brick, 0 and less for an element folded at a corner (Knupp, Achieving finite element
    mesh quality via optimization of the Jacobian matrix norm, 2000).
    """
    signs = _signs(corners)
    jacobian = jacobians(corners, torch.cat([signs, signs.new_zeros(1, 3)]))
    lengths = torch.linalg.vector_norm(jacobian, dim=-2).prod(dim=-1)
    return (torch.linalg.det(jacobian) / lengths.clamp(min=1e-300)).amin(dim=1)


def least_widths(corners: Tensor) -> Tensor:
    """Least singular value of 2 J at corners and centre, (E,): the edge of a cube as narrow [m]."""
    signs = _signs(corners)
    jacobian = jacobians(corners, torch.cat([signs, signs.new_zeros(1, 3)]))
    return 2 * torch.linalg.svdvals(jacobian)[..., -1].amin(dim=1)


def inverted(corners: Tensor, targets: Tensor) -> Tensor:
    """Reference coordinates (K, 3) of positions (K, 3), each in the element of corners (K, 8, 3).

    Newton's method, kept near the element, without gradient. A target outside may be given
    coordinates that do not reproduce it; inside, the map of a valid element has one solution.
    """
    corners, targets = corners.detach(), targets.detach()
    reference = torch.zeros_like(targets)
    for _ in range(ROUNDS):
        step = _correction(corners, targets, reference)
        reference = (reference + step).clamp(-2, 2)
        if not len(step) or float(step.abs().amax()) < CONVERGED:
            break
    return reference


def differentiable_inverse(corners: Tensor, targets: Tensor, reference: Tensor) -> Tensor:
    """`reference` (K, 3), the solution, with its derivative in targets and corners.

    One Newton step from the solution has the derivative of the implicit function, J^-1 (dx -
    dX/dcorners dcorners), to first order.
    """
    return reference + _correction(corners, targets, reference)


def _correction(corners: Tensor, targets: Tensor, reference: Tensor) -> Tensor:
    miss = targets - (corner_weights(reference)[..., None] * corners).sum(dim=1)
    jacobian = torch.einsum("kca,kcx->kxa", corner_slopes(reference), corners.detach())
    determinant = torch.linalg.det(jacobian)
    # a fold on the way: no step there, and the solution is judged by the caller
    safe = torch.where(
        (determinant.abs() > 1e-300)[:, None, None], jacobian, torch.eye(3).to(jacobian)
    )
    return torch.linalg.solve(safe, miss)
