"""St. Venant-Kirchhoff membrane: a quadratic energy of Green's strain, for stiff sheets.

    W = 1/2 e . stiffness e,    e = (E11, E22, 2 E12) - rest_strain,    E = (F^T F - I)/2

stiffness (n, 3, 3) [J] is rest area x thickness x the plane-stress matrix, of any symmetry class:
isotropic and orthotropic sheets differ in this matrix alone. rest_strain (n, 3) is the strain at
which the sheet is free of stress. The stress is linear in e, so the energy stays finite in a
collapsed triangle and softens under strong compression; for large strain take the neo-Hookean one.
"""

from __future__ import annotations

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
from sims.thin_shell.energies.stvk_kernels import kernel


def value(local: Tensor, inverse_rest: Tensor, stiffness: Tensor, rest_strain: Tensor) -> Tensor:
    """Energy (n,) [J] of triangles local (n, 9)."""
    strain = green_strain(local, inverse_rest) - rest_strain
    return torch.einsum("ni,nij,nj->n", strain, stiffness, strain) / 2


def work(
    local: Tensor,
    direction: Tensor,
    inverse_rest: Tensor,
    stiffness: Tensor,
    rest_strain: Tensor,
) -> Tensor:
    """Derivative (n,) [J] of the energy along a direction (n, 9)."""
    strain = green_strain(local, inverse_rest) - rest_strain
    rate = strain_rate(local, direction, inverse_rest)
    symmetric = (stiffness + stiffness.mT) / 2
    return (rate[:, None] @ symmetric @ strain[:, :, None])[:, 0, 0]


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
    """Random triangles with full stiffness matrices and small rest strains."""
    local, inverse_rest = random_triangles(generator, count)
    stiffness = random_stiffness(generator, count)
    rest_strain = 0.02 * torch.randn(
        count, 3, generator=generator, dtype=torch.float64, device=generator.device
    )
    return local, (inverse_rest, stiffness, rest_strain)


STVK = Energy("stvk", 9, value, evaluate, sample, extrapolate, work=work, projects=True)
