"""Bending by hinges."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sims.thin_shell.energies.crease import crease_energy
from sims.thin_shell.energies.energy import Constants, Elements, Energy, by_autograd


def wrapped(angle: Tensor) -> Tensor:
    """The angle within half a turn of zero, [-pi, pi]."""
    turn = 2.0 * math.pi
    return angle - turn * torch.round(angle.detach() / turn)


def hinge_angle(local: Tensor) -> Tensor:
    """Angle (n,) [rad] from the normal of the first face to that of the second about the edge.

    local (n, 12): a, b, c, d. The edge runs from a to b, the first face is (a, b, c), the second
    (b, a, d), both counter-clockwise. atan2((n1 x n2) . e, n1 . n2) in (-pi, pi], positive on a
    sphere with outward normals.
    """
    a, b, c, d = local.unflatten(1, (4, 3)).unbind(1)
    edge = b - a
    first = torch.linalg.cross(edge, c - a)
    second = torch.linalg.cross(d - a, edge)
    sine = (torch.linalg.cross(first, second) * edge).sum(1) / edge.norm(dim=1)
    return torch.atan2(sine, (first * second).sum(1))


def _value(
    local: Tensor,
    rest_angle: Tensor,
    stiffness: Tensor,
    bending: Tensor,
    yield_curvature: Tensor,
    hardening: Tensor,
    softness: Tensor,
) -> Tensor:
    turn = wrapped(hinge_angle(local) - rest_angle)
    elastic = 0.5 * stiffness * turn**2
    return crease_energy(elastic, bending, yield_curvature, hardening, softness)


def _evaluate(
    local: Tensor,
    constants: Constants,
    order: int,
    project: bool = False,
    extrapolated: Tensor | None = None,
) -> Elements:
    return by_autograd(_value, local, constants, order, project)


def _sample(generator: torch.Generator, n: int) -> tuple[Tensor, Constants]:
    def uniform(low: float, high: float, *shape: int) -> Tensor:
        drawn = torch.rand(n, *shape, generator=generator, dtype=torch.float64)
        return low + (high - low) * drawn

    flat = torch.tensor([0.0, 0, 0, 0, 1, 0, -0.8, 0.4, 0, 0.8, 0.6, 0], dtype=torch.float64)
    local = 0.01 * (flat + uniform(-0.3, 0.3, 12))
    stiffness = uniform(1e-3, 2e-3)
    constants = (
        uniform(-0.3, 0.3),
        stiffness,
        stiffness * uniform(0.008, 0.01) ** 2,
        torch.where(uniform(0.0, 1.0) < 0.3, math.inf, uniform(10.0, 60.0)),
        uniform(0.0, 0.5),
        uniform(0.2, 0.5),
    )
    return local, constants


HINGE = Energy(name="hinge", size=12, value=_value, evaluate=_evaluate, sample=_sample, points=4)
