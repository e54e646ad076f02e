"""The hinge between a face and the wall that clamps one of its edges.

Hinges have no unknown for the slope at a boundary edge, so a clamp that only held the edge would be
a support. Here the wall carries a director, the normal of the sheet as it leaves the wall, and

    W = stiffness / 2 (alpha - rest_angle)^2,    alpha = atan2(d . m, d . n),

with the unit normal n of the face and the outward normal m = e x n of the edge in its plane: the
same angle, with the same sign, as the tilt of a director in the mid-edge energy. The stiffness is
that of half of the hinge between the face and its mirror image behind the wall. In the angle of the
face it is twice that of a plain hinge, since half a cell is all that bends between the wall and the
middle of the face; see `hinge_constants`. So a strip with rigid cross-sections converges to the
clamped beam at second order: under an end load its tip goes too far by the share (h / L)^2 / 2 for
cells of length h. Two fixed rows of vertices with a plain hinge between them would leave half a
cell of compliance inside the wall, and converge at first order. Yield works as in the hinge.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sims.thin_shell.energies.crease import crease_energy, crease_work, wrapped
from sims.thin_shell.energies.energy import Constants, Elements, Energy, by_kernel
from sims.thin_shell.energies.hinge import FLATTEST, random_yield
from sims.thin_shell.energies.tilt import edge_vectors, tilt_rates, twist_rates
from sims.thin_shell.energies.wall_hinge_kernels import kernel


def wall_angle(local: Tensor, director: Tensor) -> Tensor:
    """Tilt (n,) [rad] of the wall's director away from the face normal, outward positive.

    local (n, 9): a, b, c, counter-clockwise, with the clamped edge from a to b. director (n, 3):
    direction of the wall's normal, of any length; only its part perpendicular to the edge counts.
    In (-pi, pi]; zero where the face has no normal or the director lies along the edge.
    """
    return _angle(local, director)[0]


def _angle(local: Tensor, director: Tensor) -> tuple[Tensor, Tensor]:
    """The angle, and whether the hinge (n,) has one."""
    a, b, c = local.unflatten(1, (3, 3)).unbind(1)
    edge, side = b - a, c - a
    normal = torch.linalg.cross(edge, side)
    longest = torch.maximum(edge.square().sum(1), side.square().sum(1))
    valid = normal.square().sum(1) > (FLATTEST * longest) ** 2
    valid &= torch.linalg.cross(edge, director).square().sum(1) > 0
    edge = torch.where(valid[:, None], edge, 1.0)
    outward = torch.linalg.cross(edge, normal) / torch.linalg.vector_norm(edge, dim=1)[:, None]
    sine, cosine = (director * outward).sum(1), (director * normal).sum(1)
    return torch.atan2(torch.where(valid, sine, 0.0), torch.where(valid, cosine, 1.0)), valid


def value(
    local: Tensor,
    director: Tensor,
    rest_angle: Tensor,
    stiffness: Tensor,
    bending: Tensor,
    yield_curvature: Tensor,
    hardening: Tensor,
    softness: Tensor,
) -> Tensor:
    """Energy (n,) [J] of hinges local (n, 9); infinite where they have no angle."""
    angle, valid = _angle(local, director)
    elastic = 0.5 * stiffness * wrapped(angle - rest_angle) ** 2
    energy = crease_energy(elastic, bending, yield_curvature, hardening, softness)
    return torch.where(valid, energy, math.inf)


def work(
    local: Tensor, direction: Tensor, director: Tensor, rest_angle: Tensor, *crease: Tensor
) -> Tensor:
    """Derivative (n,) [J] of the energy along a direction (n, 9)."""
    moves = direction.unflatten(1, (3, 3))
    edges, changes = edge_vectors(local.unflatten(1, (3, 3))), edge_vectors(moves)
    rate = tilt_rates(edges, moves)[:, 2] + twist_rates(director, edges[:, 2], changes[:, 2])
    difference = wrapped(wall_angle(local, director) - rest_angle)
    return crease_work(difference[:, None], rate[:, None], *crease)


def evaluate(
    local: Tensor,
    constants: Constants,
    order: int,
    project: bool = False,
    extrapolated: Tensor | None = None,
) -> Elements:
    """Value, gradient and Hessian by the kernel; derivatives are zero at an infinite energy."""
    return by_kernel(kernel(), local, constants, order, project)


def sample(generator: torch.Generator, n: int) -> tuple[Tensor, Constants]:
    """Random triangles of a centimetre, with tilted directors, near or over yield."""
    flat = torch.tensor([0.0, 0, 0, 0, 1, 0, -0.8, 0.4, 0], dtype=torch.float64)
    noise = torch.rand(n, 12, generator=generator, dtype=torch.float64) - 0.5
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    angle, *others = random_yield(generator, n)
    return 0.01 * (flat + 0.6 * noise[:, :9]), (up + 0.8 * noise[:, 9:], angle, *others)


WALL_HINGE = Energy("wall hinge", 9, value, evaluate, sample, vectors=(0,), work=work)
