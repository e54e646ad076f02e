"""The contact barrier: two primitives that come within a range of each other push, and never meet.

    B = stiffness range^2 beta(g / range) m(c),    beta(y) = -(y - 1)^2 ln y  for y < 1, else 0,

with the gap g = |r| - offset of the closest points, stiffness [N/m]. It is infinite at g = 0 and
below, twice continuously differentiable at g = range. The shape is that of Li et al. 2020,
Incremental potential contact, eq. 6; there it is a function of the distance itself for the theory
and of the squared distance in the code, here of the gap, so the force is -dB/dg = stiffness range
beta'. The offset is the thickness of Li, Kaufman and Jiang 2021, Codimensional IPC.

For two edges p and q, c = |p x q|^2, the mollifier of their eq. 24,

    m = 1 - (1 - c / parallel)^2  for c < parallel, else 1,

takes the energy away from edges that become parallel, whose closest points jump; where they touch
in earnest, other pairs have it. `parallel` [m4] is a constant, so the derivatives of m are exact.

Where the closest point leaves a face or an edge, the second derivative of the distance jumps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sims.thin_shell.contact.closest import closest, gap, normal, separation, touch
from sims.thin_shell.contact.pairs import EDGE_EDGE, VERTEX_EDGE
from sims.thin_shell.energies.barrier_kernels import kernel
from sims.thin_shell.energies.energy import Constants, Elements, Energy, by_kernel


def _mollifier(points: Tensor, kind: Tensor, parallel: Tensor) -> tuple[Tensor, Tensor]:
    """m (n,), and m' (n,) [1/m4]."""
    first, second = points[:, 1] - points[:, 0], points[:, 3] - points[:, 2]
    cross = torch.linalg.cross(first, second)
    square = (cross * cross).sum(1)
    active = (kind.detach().round() == EDGE_EDGE) & (square < parallel)
    scale = torch.where(active, parallel, 1.0)
    share = torch.where(active, square / scale, 1.0)
    return share * (2.0 - share), 2.0 * (1.0 - share) / scale


def _active(room: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    """Which pairs push, and their gap over the range, one half where they do not."""
    active = (room > 0) & (room < reach)
    return active, torch.where(active, room / reach, 0.5)


def _slope(y: Tensor) -> Tensor:
    """beta'."""
    return -2.0 * (y - 1.0) * y.log() - (y - 1.0).square() / y


def value(
    local: Tensor,
    kind: Tensor,
    stiffness: Tensor,
    reach: Tensor,
    offset: Tensor,
    parallel: Tensor,
) -> Tensor:
    """Energy (n,) [J] of pairs local (n, 12); infinite where they touch.

    kind (n,) of `contact.pairs`, as floating point numbers. stiffness (n,) [N/m]. reach (n,): the
    range [m]. offset (n,) [m]. parallel (n,) [m4], of two edges only.
    """
    points = local.unflatten(1, (4, 3))
    room = gap(points, closest(points, kind), offset)
    active, y = _active(room, reach)
    energy = -stiffness * reach.square() * (y - 1.0).square() * y.log()
    # the kind is a constant as the others are, and has a derivative, of zero
    energy = energy * _mollifier(points, kind, parallel)[0] * (1.0 + 0.0 * kind)
    return torch.where(active, energy, torch.where(room > 0, 0.0, math.inf))


def work(
    local: Tensor,
    direction: Tensor,
    kind: Tensor,
    stiffness: Tensor,
    reach: Tensor,
    offset: Tensor,
    parallel: Tensor,
) -> Tensor:
    """Derivative (n,) [J] of the energy along a direction (n, 12)."""
    points, moves = local.unflatten(1, (4, 3)), direction.unflatten(1, (4, 3))
    weights, distance, axis = touch(points.detach(), kind)
    active, y = _active(distance - offset, reach)
    opening = (axis * separation(moves, weights)).sum(1)
    first, second = points[:, 1] - points[:, 0], points[:, 3] - points[:, 2]
    turning = torch.linalg.cross(moves[:, 1] - moves[:, 0], second)
    turning = turning + torch.linalg.cross(first, moves[:, 3] - moves[:, 2])
    widening = 2.0 * (torch.linalg.cross(first, second) * turning).sum(1)
    level, growth = _mollifier(points, kind, parallel)
    push = level * reach * _slope(y) * opening
    fade = growth * reach.square() * (y - 1.0).square() * y.log() * widening
    return torch.where(active, stiffness * (push - fade), 0.0 * kind)


def normal_force(
    points: Tensor,
    distance: Tensor,
    kind: Tensor,
    stiffness: Tensor,
    reach: Tensor,
    offset: Tensor,
    parallel: Tensor,
) -> Tensor:
    """-dB/dg (n,) [N], what a pair pushes with along its normal, differentiable in everything.

    points (n, 4, 3) [m] at the distance |r| (n,) [m]; the rest as in `value`. Zero out of range and
    where a pair touches.
    """
    active, y = _active(distance - offset, reach)
    force = -stiffness * reach * _slope(y) * _mollifier(points, kind, parallel)[0]
    return torch.where(active, force, 0.0)


def evaluate(
    local: Tensor,
    constants: Constants,
    order: int,
    project: bool = False,
    extrapolated: Tensor | None = None,
) -> Elements:
    """Value, gradient and Hessian by the kernel; derivatives are zero at an infinite energy.

    With `project` the Hessian is a bound from above that is positive semi-definite, without
    eigenvalues, see `barrier_kernels`.
    """
    return by_kernel(kernel(), local, constants, order, project, projects=True)


def sample(generator: torch.Generator, count: int) -> tuple[Tensor, Constants]:
    """Random pairs of all kinds and features, with edges of order one.

    One in five is out of range; half of the edges are nearly parallel, half have a mollifier.
    """

    def uniform(low: float, high: float) -> Tensor:
        drawn = torch.rand(count, generator=generator, dtype=torch.float64)
        return low + (high - low) * drawn

    row = torch.arange(count)
    kind = (row % 4).to(torch.float64)
    edges = (row % 4 == EDGE_EDGE)[:, None]
    near = edges & (row // 4 % 2 == 0)[:, None]
    noise = torch.randn(count, 4, 3, generator=generator, dtype=torch.float64).clamp(-2, 2)
    face = torch.tensor([[0, 0, 0], [1, 0, 0], [-0.5, 0.9, 0], [-0.5, -0.9, 0]]) * 1.5
    cross = torch.tensor([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
    slant = torch.tensor([[1, 0, 0], [-1, 0, 0], [0.8, 0.5, 0], [-0.8, -0.5, 0]])
    points = torch.where(edges[:, None], torch.where(near[:, None], slant, cross), face) + noise / 6
    points[:, 2:] += torch.where(edges, noise[:, 0], 0.0)[:, None]
    points[:, 0] += torch.where(edges, 0.0, noise[:, 0])
    points[:, 3] = torch.where((row % 4 == VERTEX_EDGE)[:, None], points[:, 2], points[:, 3])
    reach, offset = uniform(0.4, 0.6), uniform(0.0, 0.2)
    weights = closest(points, kind)
    wanted = torch.where(row % 5 == 4, uniform(1.2, 2.0), uniform(0.3, 0.9)) * reach
    shift = (wanted - gap(points, weights, offset))[:, None] * normal(points, weights)
    points[:, 0] += shift
    points[:, 1] += torch.where(edges, shift, 0.0)
    area = torch.linalg.cross(points[:, 1] - points[:, 0], points[:, 3] - points[:, 2])
    fading = torch.where(row // 8 % 2 == 0, uniform(1.2, 4.0), uniform(0.2, 0.5))
    parallel = torch.where(edges[:, 0], fading * area.square().sum(1), 1.0)
    return points.flatten(1), (kind, uniform(1.0, 2.0), reach, offset, parallel)


BARRIER = Energy("barrier", 12, value, evaluate, sample, points=4, work=work, projects=True)
