"""Tension field: a cloth that wrinkles instead of carrying compression, relaxed below the mesh.

A thin sheet answers compression with wrinkles far finer than a triangle. They shorten the middle
surface at next to no energy, so the energy a coarse triangle should carry is the least over all
wrinkling strains w that shorten (Pipkin 1994, Relaxed energy densities for large deformations of
membranes, IMA Journal of Applied Mathematics 52):

    W_relaxed(e) = min over positive semi-definite w of 1/2 (e + w) . stiffness (e + w)
                 = max over positive semi-definite s of s . e - 1/2 s . stiffness^-1 s

with e Green's strain. That is the mixed criterion for wrinkles, here for any anisotropy:

    taut      stress of e without compression          W_relaxed = 1/2 e . stiffness e
    slack     strain e without extension               W_relaxed = 0
    wrinkled  otherwise: uniaxial stress along t       W_relaxed = max_t (t.e t)^2 / (2 d(t)),
              d(t) the compliance of a strip along t

W_relaxed is convex and C1 in e; its second derivative lies between 0 and the stiffness and jumps
where the state changes. It carries no compression, so a share of the plain sheet stays:

    W = (1 - slack) W_relaxed + slack W_stvk,    slack (n,) in (0, 1], 1e-3 to 1e-2 for cloth

Without it a slack triangle has no stiffness in its plane and a static problem is singular.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sims.thin_shell.energies.energy import Constants, Elements, Energy
from sims.thin_shell.energies.membrane import (
    evaluate_with,
    extrapolate,
    green_strain,
    random_stiffness,
    random_triangles,
    strain_rate,
)
from sims.thin_shell.energies.tension_field_kernels import ANGLES, CLOSE, ROUNDS, kernel


def value(local: Tensor, inverse_rest: Tensor, stiffness: Tensor, slack: Tensor) -> Tensor:
    """Energy (n,) [J] of triangles local (n, 9)."""
    strain = green_strain(local, inverse_rest)
    stress = (stiffness @ strain.unsqueeze(-1)).squeeze(-1)
    plain = (strain * stress).sum(-1) / 2
    taut, wrinkled = _state(strain, stress)
    _, along, soft = _uniaxial(strain[wrinkled], stiffness[wrinkled])
    relaxed = torch.where(taut, plain, 0.0).masked_scatter(wrinkled, along**2 / (2 * soft))
    return relaxed + slack * (plain - relaxed)


def work(
    local: Tensor, direction: Tensor, inverse_rest: Tensor, stiffness: Tensor, slack: Tensor
) -> Tensor:
    """Derivative (n,) [J] of the energy along a direction (n, 9).

    The best wrinkles make the energy stationary, so the stress is that of wrinkles held still.
    """
    strain = green_strain(local, inverse_rest)
    rate = strain_rate(local, direction, inverse_rest)
    symmetric = (stiffness + stiffness.mT) / 2
    stress = (symmetric @ strain.unsqueeze(-1)).squeeze(-1)
    plain = (stress * rate).sum(-1)
    taut, wrinkled = _state(strain.detach(), stress.detach())
    tension, along, soft = _uniaxial(strain[wrinkled], symmetric[wrinkled])
    uniaxial = along / soft * (tension * rate[wrinkled]).sum(-1)
    relaxed = torch.where(taut, plain, 0.0).masked_scatter(wrinkled, uniaxial)
    return relaxed + slack * (plain - relaxed)


def _state(strain: Tensor, stress: Tensor) -> tuple[Tensor, Tensor]:
    """Which triangles (n,) are taut, and which are wrinkled."""
    taut = (stress[:, 0] + stress[:, 1] >= 0) & (stress[:, 0] * stress[:, 1] >= stress[:, 2] ** 2)
    loose = (strain[:, 0] + strain[:, 1] <= 0) & (
        4 * strain[:, 0] * strain[:, 1] >= strain[:, 2] ** 2
    )
    return taut, ~(taut | loose)


def _uniaxial(strain: Tensor, stiffness: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The uniaxial stress of size one (n, 3) that suits the strain best in wrinkled triangles, the
    strain along it and the compliance.

    The best direction is found without a graph. One more Newton step with a graph moves it by
    nothing and carries its derivative, which makes the second derivative of the result exact.
    """
    compliance = torch.linalg.inv(stiffness)
    angle = _best_direction(strain, compliance)
    slope, bend = _slope(angle, strain, compliance)
    angle = angle - slope / bend.detach()
    along, soft = _strip(angle, strain, compliance)[:2]
    c, s = angle.cos(), angle.sin()
    return torch.stack((c * c, s * s, c * s), -1), along, soft


def _strip(angle: Tensor, strain: Tensor, compliance: Tensor) -> tuple[Tensor, ...]:
    """Strain N and compliance D along a direction, then N', D', N'', D'' in the angle."""
    c, s = angle.cos(), angle.sin()
    v = torch.stack((c * c, s * s, c * s), -1)
    dv = torch.stack((-2 * c * s, 2 * c * s, c * c - s * s), -1)
    ddv = torch.stack((2 * (s * s - c * c), 2 * (c * c - s * s), -4 * c * s), -1)
    soft = (compliance @ v.unsqueeze(-1)).squeeze(-1)
    dsoft = (compliance @ dv.unsqueeze(-1)).squeeze(-1)
    return (
        _dot(v, strain),
        _dot(v, soft),
        _dot(dv, strain),
        2 * _dot(dv, soft),
        _dot(ddv, strain),
        2 * (_dot(ddv, soft) + _dot(dv, dsoft)),
    )


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)


def _slope(angle: Tensor, strain: Tensor, compliance: Tensor) -> tuple[Tensor, Tensor]:
    """2 N' D - N D', zero at the best direction, and its derivative in the angle."""
    n, d, dn, dd, ddn, ddd = _strip(angle, strain, compliance)
    return 2 * dn * d - n * dd, 2 * ddn * d + dn * dd - n * ddd


@torch.no_grad()
def _best_direction(strain: Tensor, compliance: Tensor) -> Tensor:
    """Angle (n,) of the largest N / sqrt(D): the best of a fan, then Newton in its interval."""
    step = math.pi / ANGLES
    fan = step * torch.arange(ANGLES, dtype=strain.dtype, device=strain.device)
    v = torch.stack((fan.cos() ** 2, fan.sin() ** 2, fan.cos() * fan.sin()), -1)
    soft = torch.einsum("ki,nij,kj->nk", v, compliance, v)
    angle = fan[(strain @ v.mT / soft.sqrt()).argmax(-1)]
    low, high = angle - step, angle + step
    for _ in range(ROUNDS):
        slope, bend = _slope(angle, strain, compliance)
        low, high = torch.where(slope > 0, angle, low), torch.where(slope > 0, high, angle)
        newton = angle - slope / bend
        inside = (newton >= low) & (newton <= high)
        before, angle = angle, torch.where(inside, newton, (low + high) / 2)
        if not ((angle - before).abs() > CLOSE).any():
            break
    return angle


def evaluate(
    local: Tensor,
    constants: Constants,
    order: int,
    project: bool = False,
    extrapolated: Tensor | None = None,
) -> Elements:
    """Value, gradient and Hessian of triangles by kernels; see `evaluate_with`."""
    return evaluate_with(kernel(), local, constants, order, project, extrapolated)


def sample(generator: torch.Generator, count: int) -> tuple[Tensor, Constants]:
    """Random triangles, taut, wrinkled and loose, that keep a few percent of the stiffness."""
    local, inverse_rest = random_triangles(generator, count)
    stiffness = random_stiffness(generator, count)
    slack = torch.rand(count, generator=generator, dtype=torch.float64, device=generator.device)
    return local, (inverse_rest, stiffness, 0.01 + 0.1 * slack)


TENSION_FIELD = Energy(
    "tension-field", 9, value, evaluate, sample, extrapolate, work=work, projects=True
)
