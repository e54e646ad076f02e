"""Bending of a triangle by directors on its edges, with yield.

Each edge carries a director, a unit vector that may turn about the edge by an angle psi of its own.
Its tilt away from the normal of a face, outward, is the angle alpha of the face at that edge, and
the three angles give the curvature tensor of the face, sum_i 2 alpha_i / h_i m_i m_i^T, with m_i
the outward normal of edge i in the plane and h_i the height over it. This is the mid-edge operator
of Grinspun, Gingold, Reisman and Zorin 2006 (Computing discrete shape operators on general meshes)
with its edge angles kept as unknowns, so that an element sees its own triangle only; for small
deflections it is Morley's triangle and converges on any mesh.

    W = bending phi(kappa),   kappa = sqrt(g^T K g / bending),   g = alpha - alpha_rest

where phi is kappa^2 / 2 below yield. K comes from `directors.mid_edge_stiffness`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sims.thin_shell.energies.crease import crease_energy, crease_work, wrapped
from sims.thin_shell.energies.energy import Constants, Elements, Energy, by_kernel
from sims.thin_shell.energies.mid_edge_kernels import FLATTEST, kernel
from sims.thin_shell.energies.tilt import edge_vectors, tilt_rates, twist_rates


def corner_angles(local: Tensor, directors: Tensor, signs: Tensor) -> Tensor:
    """Tilt (n, 3) [rad] of the director of each edge away from the face normal, outward positive.

    local (n, 12): corners x0, x1, x2 (counter-clockwise) [m], then psi0, psi1, psi2 [rad] of the
    edges opposite to them. directors (n, 3, 3): row i is the reference director of edge i; it need
    not be perpendicular to the edge, only its perpendicular part counts. signs (n, 3): +1 where the
    edge runs as the face does, -1 where it runs against it. Angles stay within half a turn of zero:

        alpha_i = signs_i psi_i + atan2(d_i . m_i, d_i . n)

    A face without a normal, or with a director along its edge, gives zeros here and an infinite
    energy.
    """
    return _angles(local, directors, signs)[0]


def _angles(local: Tensor, directors: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
    """The angles, and whether the face (n,) has them at all."""
    corners = local[:, :9].unflatten(1, (3, 3))
    edges = corners.roll(-2, dims=1) - corners.roll(-1, dims=1)
    normal = torch.linalg.cross(edges[:, 0], edges[:, 1])
    along = torch.linalg.cross(directors, edges)
    lengths = torch.linalg.vector_norm(edges.detach(), dim=-1)
    valid = torch.linalg.vector_norm(normal.detach(), dim=-1) > FLATTEST * lengths.amax(1) ** 2
    # a director along its edge has no angle about it
    reach = lengths * torch.linalg.vector_norm(directors.detach(), dim=-1)
    valid &= (torch.linalg.vector_norm(along.detach(), dim=-1) > FLATTEST * reach).all(1)
    edges = torch.where(valid[:, None, None], edges, 1.0)
    normal = torch.where(valid[:, None], normal, 1.0)
    out = (along * normal[:, None]).sum(-1) / torch.linalg.vector_norm(edges, dim=-1)
    up = (directors * normal[:, None]).sum(-1)
    tilt = torch.atan2(torch.where(valid[:, None], out, 0.0), torch.where(valid[:, None], up, 1.0))
    angles = wrapped(signs * local[:, 9:] + tilt)
    return torch.where(valid[:, None], angles, 0.0), valid


def value(
    local: Tensor,
    directors: Tensor,
    signs: Tensor,
    rest_angles: Tensor,
    stiffness: Tensor,
    bending: Tensor,
    yield_curvature: Tensor,
    hardening: Tensor,
    softness: Tensor,
) -> Tensor:
    """Energy (n,) [J]; infinite for a face without a normal."""
    angles, valid = _angles(local, directors, signs)
    g = angles - rest_angles
    elastic = (g[:, None] @ stiffness @ g[:, :, None])[:, 0, 0] / 2
    energy = crease_energy(elastic, bending, yield_curvature, hardening, softness)
    return torch.where(valid, energy, math.inf)


def work(
    local: Tensor, direction: Tensor, directors: Tensor, signs: Tensor, *crease: Tensor
) -> Tensor:
    """Derivative (n,) [J] of the energy along a direction (n, 12)."""
    corners, moves = local[:, :9].unflatten(1, (3, 3)), direction[:, :9].unflatten(1, (3, 3))
    edges, changes = edge_vectors(corners), edge_vectors(moves)
    rates = tilt_rates(edges, moves) + twist_rates(directors, edges, changes)
    rates = rates + signs * direction[:, 9:]
    angles = corner_angles(local, directors, signs)
    return crease_work(angles - crease[0], rates, *crease[1:])


def evaluate(
    local: Tensor,
    constants: Constants,
    order: int,
    project: bool = False,
    extrapolated: Tensor | None = None,
) -> Elements:
    """Value, gradient and Hessian by the kernel; derivatives are zero at an infinite energy.

    The Hessian is J^T S J + sum_i M_i d2 alpha_i with moments M and the tangent S of the law, which
    is never indefinite. Projection clamps the eigenvalues of the whole 12 by 12 matrix.
    """
    return by_kernel(kernel(), local, constants, order, project)


def sample(generator: torch.Generator, n: int) -> tuple[Tensor, Constants]:
    """Random triangles near the unit one, bent and tilted; one in two elastic, the others yield."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.4, 0.9]], dtype=torch.float64)
    corners = torch.cat([corners + 0.15 * normal(n, 3, 2), 0.2 * normal(n, 3, 1)], dim=2)
    local = torch.cat([corners.flatten(1), 0.3 * normal(n, 3)], dim=1)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    directors = up + 0.4 * normal(n, 3, 3)
    directors = directors / torch.linalg.vector_norm(directors, dim=-1, keepdim=True)
    signs = torch.where(uniform(n, 3) < 0.5, -1.0, 1.0).double()
    root = torch.eye(3, dtype=torch.float64) + 0.3 * normal(n, 3, 3)
    yield_curvature = torch.where(uniform(n) < 0.5, math.inf, 0.2 + 0.5 * uniform(n))
    return local, (
        directors,
        signs,
        0.3 * normal(n, 3),
        root @ root.mT,
        0.5 + uniform(n),
        yield_curvature,
        uniform(n),
        0.1 + 0.5 * uniform(n),
    )


MID_EDGE = Energy(
    name="mid-edge",
    size=12,
    value=value,
    evaluate=evaluate,
    sample=sample,
    vectors=(0,),
    work=work,
)
