"""Neo-Hookean membrane, for rubber and other large strains.

    W = mu/2 (I1 - 2 - 2 ln J) + lam/2 (ln J)^2,    I1 = tr C,    J = sqrt(det C),    C = F^T F

with lam, mu (n,) [J] rest area x thickness x the plane-stress Lame numbers E nu/(1 - nu^2) and
E/(2 (1 + nu)), so that it agrees with the St. Venant-Kirchhoff sheet at small strain. (The
compressible form of Bonet and Wood 2008, equation 6.27, on the two in-plane stretches.)

For lam >= 0 the energy grows without bound as a triangle collapses. A collapsed triangle
(det C <= 0) has the value inf, which a line search refuses; its gradient and Hessian are NaN. So a
finite value says that the derivatives are finite too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sims.thin_shell.energies.energy import Constants, Elements, Energy
from sims.thin_shell.energies.membrane import (
    evaluate_with,
    extrapolate,
    green_strain,
    random_triangles,
    strain_rate,
)
from sims.thin_shell.energies.neo_hookean_kernels import kernel


def value(local: Tensor, inverse_rest: Tensor, lam: Tensor, mu: Tensor) -> Tensor:
    """Energy (n,) [J] of triangles local (n, 9)."""
    first, second, shear = green_strain(local, inverse_rest).unbind(-1)
    growth = 2 * (first + second) + 4 * first * second - shear**2  # det C - 1
    log_stretch = growth.log1p() / 2
    energy = mu * (first + second - log_stretch) + lam / 2 * log_stretch**2
    return torch.where(growth > -1, energy, torch.inf)


def work(local: Tensor, direction: Tensor, inverse_rest: Tensor, lam: Tensor, mu: Tensor) -> Tensor:
    """Derivative (n,) [J] of the energy along a direction (n, 9); zero in collapsed triangles."""
    first, second, shear = green_strain(local, inverse_rest).unbind(-1)
    growth = 2 * (first + second) + 4 * first * second - shear**2
    valid = growth > -1
    growth = torch.where(valid, growth, 0.0)
    log_stretch = growth.log1p() / 2
    first_rate, second_rate, shear_rate = strain_rate(local, direction, inverse_rest).unbind(-1)
    trace = first_rate + second_rate
    rate = trace + 2 * (first_rate * second + first * second_rate) - shear * shear_rate
    stretching = rate / (1 + growth)
    total = mu * (trace - stretching) + lam * log_stretch * stretching
    return torch.where(valid, total, 0.0)


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
    """Random triangles with Lame numbers between 0.5 and 1.5."""
    local, inverse_rest = random_triangles(generator, count)
    lame = torch.rand(2, count, generator=generator, dtype=torch.float64, device=generator.device)
    lam, mu = lame + 0.5
    return local, (inverse_rest, lam, mu)


NEO_HOOKEAN = Energy(
    "neo-hookean", 9, value, evaluate, sample, extrapolate, work=work, projects=True
)
