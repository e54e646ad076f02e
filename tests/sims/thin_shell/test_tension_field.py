"""The tension field: taut, wrinkled and loose cloth, against a search and closed forms."""

import math

import pytest
import torch
from torch import Tensor

from sims.thin_shell.energies.stvk import STVK
from sims.thin_shell.energies.tension_field import TENSION_FIELD
from sims.thin_shell.membrane_constants import orthotropic, plane_stress

ROUNDING = 1e-12  # relative: some hundred operations in float64
YOUNG, POISSON = 3.0, 0.3
SHARE = 0.01  # of the stiffness that is kept


def tensor(values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(4)


def relaxed_by_search(stiffness: Tensor, strain: Tensor) -> Tensor:
    """Least energy of one strain (3,) over wrinkling strains, by a search over directions.

    The dual of the relaxed energy: taut, loose, or the best uniaxial stress of many directions.
    """
    angle = torch.linspace(0, math.pi, 200001, dtype=torch.float64)
    v = torch.stack((angle.cos() ** 2, angle.sin() ** 2, angle.cos() * angle.sin()), -1)
    soft = (v @ torch.linalg.inv(stiffness) * v).sum(-1)
    uniaxial = ((v @ strain).clamp(min=0) ** 2 / (2 * soft)).max()
    stress = stiffness @ strain
    taut = stress[0] + stress[1] >= 0 and stress[0] * stress[1] >= stress[2] ** 2
    return strain @ stress / 2 if taut else uniaxial


def of_strain(strains: Tensor) -> tuple[Tensor, Tensor]:
    """Triangles with Green's strain (n, 3), and their inverse_rest."""
    e1, e2, shear = strains.unbind(-1)
    metric = torch.stack((1 + 2 * e1, shear, shear, 1 + 2 * e2), -1).reshape(-1, 2, 2)
    corners = tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]) @ torch.linalg.cholesky(metric)
    rest = torch.eye(2, dtype=torch.float64).expand(len(strains), 2, 2)
    return torch.nn.functional.pad(corners, (0, 1)).flatten(1), rest


@pytest.mark.parametrize("ratio", [1.0, 30.0, 1000.0])
def test_tension_field_is_the_relaxed_energy(ratio: float):
    """Against a search over directions, for cloth up to a thousand times stiffer along the warp."""
    young, weft = tensor(ratio), tensor(1.0)
    stiffness = orthotropic(young, weft, tensor(0.3), tensor(0.3))
    strains = 0.3 * torch.rand(200, 3, generator=generator(), dtype=torch.float64) - 0.15
    local, rest = of_strain(strains)
    no_share = torch.zeros(200).double()
    constants = (rest, stiffness.expand(200, 3, 3), no_share)
    made = TENSION_FIELD.evaluate(local, constants, 2)
    wanted = torch.stack([relaxed_by_search(stiffness, strain) for strain in strains])
    # the search misses the best direction by 1e-5, and the energy by the square
    torch.testing.assert_close(made.value, wanted, rtol=1e-6, atol=1e-9)
    plain = STVK.evaluate(local, (rest, stiffness.expand(200, 3, 3), strains * 0), 2)
    assert (made.value <= plain.value + ROUNDING).all()
    taut = (made.value - plain.value).abs() < ROUNDING
    loose = made.value == 0
    assert min(int(part.sum()) for part in (taut, loose, ~taut & ~loose)) > 5
    # a plain sheet in full tension, and no stiffness below zero in any state
    torch.testing.assert_close(made.hessian[taut], plain.hessian[taut], rtol=0, atol=1e-9)
    assert (torch.linalg.eigvalsh(made.hessian)[:, 0] > -ROUNDING * ratio).all()


def test_tension_field_keeps_its_share_in_compression():
    local, rest = of_strain(tensor([[-0.1, -0.2, 0.02]]))
    stiffness = plane_stress(tensor(YOUNG), tensor(POISSON))[None]
    made = TENSION_FIELD.evaluate(local, (rest, stiffness, tensor([SHARE])), 2)
    plain = STVK.evaluate(local, (rest, stiffness, torch.zeros(1, 3)), 2)
    for found, wanted in zip(made, plain, strict=True):
        torch.testing.assert_close(found, SHARE * wanted, rtol=ROUNDING, atol=ROUNDING)


def test_narrowing_a_pulled_strip_further_changes_nothing():
    """Wrinkled: the stress is uniaxial, E times the strain along it, however narrow the strip."""
    e1, e2 = torch.full((6,), 0.1).double(), torch.linspace(-0.04, -0.4, 6, dtype=torch.float64)
    local, rest = of_strain(torch.stack((e1, e2, torch.zeros(6)), -1))
    stiffness = plane_stress(tensor(YOUNG), tensor(POISSON)).expand(6, 3, 3)
    made = TENSION_FIELD.evaluate(local, (rest, stiffness, torch.zeros(6).double()), 1)
    torch.testing.assert_close(made.value, YOUNG / 2 * e1**2, rtol=ROUNDING, atol=0)
    assert made.gradient[:, 6:].abs().max() < ROUNDING


def test_tension_field_has_a_continuous_gradient():
    """Along a path through all three states the gradient changes by no more than the stiffness."""
    turn = torch.linspace(0, 2 * math.pi, 4001, dtype=torch.float64)
    strains = 0.1 * torch.stack((turn.cos(), turn.sin(), 0.3 * torch.ones_like(turn)), -1)
    local, rest = of_strain(strains)
    moduli = (tensor(value) for value in (5.0, 2.0, 0.4, 0.7))
    stiffness = orthotropic(*moduli).expand(len(turn), 3, 3)
    constants = (rest, stiffness, torch.zeros_like(turn))
    gradient = TENSION_FIELD.evaluate(local, constants, 1).gradient
    # at most the largest modulus, 5.7, and the stress on the turning triangle
    steps = gradient.diff(dim=0).norm(dim=1) / local.diff(dim=0).norm(dim=1)
    assert steps.max() < 10.0
