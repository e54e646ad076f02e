"""Bending by hinges: the angle between the two faces of an edge, fast and of limited use.

    W = stiffness / 2 (theta - rest_angle)^2,    theta = atan2((n1 x n2) . e, n1 . n2),

with the unit normals of the faces and the direction e of the edge (Grinspun, Hirani, Desbrun and
Schroeder 2003, Discrete shells; Bridson, Marino and Fedkiw 2003 for the gradient). With
`hinge_stiffness` the coefficient is the one that is right for cylinders on good meshes. Hinges have
no unknowns of their own, but they are no discretisation of a plate: refining does not help where
the mesh is not one of the good ones. Energy over that of the continuum without Poisson's ratio,
inside of an endless sheet that is bent slightly (tests compute this table):

    mesh                            cylinder at 0 / 15 / 30 / 45 / 60 / 90   sphere  saddle 0 / 45
    right triangles, one diagonal   1 / 1.75 / 2.62 / 3 / 2.62 / 1           1       1 / 3
        bent the other way          1 / 0.75 / 0.88 / 1 / 0.88 / 1
    right triangles, alternating    1 / 1.12 / 1.38 / 1.5 / 1.38 / 1         1       1 / 2
    right triangles, crossed        1.5 / 1.38 / 1.12 / 1 / 1.12 / 1.5       1       2 / 1
    equilateral triangles           1 in every direction                     0.67    1.33 / 1.33
    relaxed Delaunay                1.03 to 1.09                             0.71    1.43 / 1.39

(Degrees from an axis of the grid to the direction of curvature, towards the diagonals first.) So a
hinge sheet has a Poisson ratio of its own, -1/3 on equilateral triangles as the lattice of Seung
and Nelson 1988 has, and Material.poisson enters through D only. Take it for sheets that bend one
way, along the axes of a grid or on irregular meshes; not where curvature is double, where Poisson's
ratio is felt, or for figures. The table is of sheets held in shape; free vertices give way and make
them softer: the tip of a cantilever with free sections, ten times as long as wide, goes 24 % too
far on squares with one diagonal or alternating ones and 3 % short on crossed ones, however fine (a
test too). With rigid sections it is right.

Differences of angles are taken within half a turn, so that a crease folded shut stays continuous
when its faces pass through each other. The yield law is that of `crease`, with curvature
|theta - rest_angle| / height, which is exact for a bend along the edge only.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sims.thin_shell.energies.crease import crease_energy, crease_work, wrapped
from sims.thin_shell.energies.energy import Constants, Elements, Energy, by_kernel
from sims.thin_shell.energies.hinge_kernels import kernel
from sims.thin_shell.energies.tilt import edge_vectors, tilt_rates

FLATTEST = 1e-12  # double area over the longest edge squared; below it a face has no normal


def hinge_angle(local: Tensor) -> Tensor:
    """Angle (n,) [rad] from the normal of the first face to that of the second about the edge.

    local (n, 12): a, b, c, d. The edge runs from a to b, the first face is (a, b, c), the second
    (b, a, d), both counter-clockwise. atan2((n1 x n2) . e, n1 . n2) in (-pi, pi], positive on a
    sphere with outward normals; zero where a face has no normal.
    """
    return _angle(local)[0]


def _angle(local: Tensor) -> tuple[Tensor, Tensor]:
    """The angle, and whether the hinge (n,) has one."""
    a, b, c, d = local.unflatten(1, (4, 3)).unbind(1)
    edge = b - a
    normals, valid = [], torch.ones(len(local), dtype=torch.bool, device=local.device)
    for side, sign in ((c - a, 1.0), (d - b, -1.0)):
        normal = torch.linalg.cross(sign * edge, side)
        longest = torch.maximum(edge.square().sum(1), side.square().sum(1))
        valid &= normal.square().sum(1) > (FLATTEST * longest) ** 2
        normals.append(normal)
    along = torch.where(valid[:, None], edge, 1.0)
    sine = (torch.linalg.cross(*normals) * along).sum(1) / torch.linalg.vector_norm(along, dim=1)
    cosine = (normals[0] * normals[1]).sum(1)
    return torch.atan2(torch.where(valid, sine, 0.0), torch.where(valid, cosine, 1.0)), valid


def value(
    local: Tensor,
    rest_angle: Tensor,
    stiffness: Tensor,
    bending: Tensor,
    yield_curvature: Tensor,
    hardening: Tensor,
    softness: Tensor,
) -> Tensor:
    """Energy (n,) [J] of hinges local (n, 12); infinite where a face has no normal."""
    angle, valid = _angle(local)
    elastic = 0.5 * stiffness * wrapped(angle - rest_angle) ** 2
    energy = crease_energy(elastic, bending, yield_curvature, hardening, softness)
    return torch.where(valid, energy, math.inf)


def work(local: Tensor, direction: Tensor, rest_angle: Tensor, *crease: Tensor) -> Tensor:
    """Derivative (n,) [J] of the energy along a direction (n, 12)."""
    places, moves = local.unflatten(1, (4, 3)), direction.unflatten(1, (4, 3))
    first, second = (
        tilt_rates(edge_vectors(places[:, face]), moves[:, face])[:, 2:]
        for face in ([0, 1, 2], [1, 0, 3])
    )
    difference = wrapped(hinge_angle(local) - rest_angle)
    return crease_work(difference[:, None], first + second, *crease)


def evaluate(
    local: Tensor,
    constants: Constants,
    order: int,
    project: bool = False,
    extrapolated: Tensor | None = None,
) -> Elements:
    """Value, gradient and Hessian by the kernel; derivatives are zero at an infinite energy."""
    return by_kernel(kernel(), local, constants, order, project)


def random_yield(generator: torch.Generator, n: int) -> Constants:
    """Random constants of hinges of a centimetre: a third elastic, others near or over yield."""

    def uniform(low: float, high: float) -> Tensor:
        drawn = torch.rand(n, generator=generator, dtype=torch.float64)
        return low + (high - low) * drawn

    stiffness = uniform(1e-3, 2e-3)
    return (
        uniform(-0.3, 0.3),
        stiffness,
        stiffness * uniform(0.008, 0.01) ** 2,
        torch.where(uniform(0.0, 3.0) < 1.0, math.inf, uniform(10.0, 60.0)),
        uniform(0.0, 0.5),
        uniform(0.2, 0.5),
    )


def sample(generator: torch.Generator, n: int) -> tuple[Tensor, Constants]:
    """Random pairs of triangles of a centimetre, bent up to about a radian."""
    flat = torch.tensor([0.0, 0, 0, 0, 1, 0, -0.8, 0.4, 0, 0.8, 0.6, 0], dtype=torch.float64)
    noise = torch.rand(n, 12, generator=generator, dtype=torch.float64) - 0.5
    return 0.01 * (flat + 0.6 * noise), random_yield(generator, n)


HINGE = Energy("hinge", 12, value, evaluate, sample, points=4, work=work)
