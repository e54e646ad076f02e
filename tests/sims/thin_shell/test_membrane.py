"""Membranes: closed forms, symmetries of the material, states of a tension field, patch tests."""

import pytest
import torch
from torch import Tensor

from sims.thin_shell.energies.energy import Energy, by_autograd, positive_semidefinite
from sims.thin_shell.energies.membrane import green_strain
from sims.thin_shell.energies.neo_hookean import NEO_HOOKEAN
from sims.thin_shell.energies.stvk import STVK
from sims.thin_shell.energies.tension_field import TENSION_FIELD
from sims.thin_shell.membrane_constants import (
    inverse_rest,
    lame,
    plane_stress,
    rest_axes,
)

ROUNDING = 1e-12  # relative: some hundred operations in float64
BALANCE = 1e-10  # of the largest corner force: the patch test
YOUNG, POISSON = 3.0, 0.3
ENERGIES = (STVK, NEO_HOOKEAN, TENSION_FIELD)
SHARE = 0.01  # of the stiffness that a tension field keeps in these tests


def tensor(values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture(params=ENERGIES, ids=lambda energy: energy.name)
def energy(request: pytest.FixtureRequest) -> Energy:
    return request.param


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(4)


def random_turn(source: torch.Generator) -> Tensor:
    """A random rotation."""
    turn = torch.linalg.qr(torch.randn(3, 3, generator=source, dtype=torch.float64))[0]
    return turn * torch.linalg.det(turn).sign()


def isotropic(energy: Energy, rest: Tensor, area: Tensor, poisson: float = POISSON):
    """Constants of an isotropic sheet of thickness 1."""
    if energy is NEO_HOOKEAN:
        return rest, *(area * number for number in lame(tensor(YOUNG), tensor(poisson)))
    stiffness = area[:, None, None] * plane_stress(tensor(YOUNG), tensor(poisson))
    last = torch.zeros(len(rest), 3).double() if energy is STVK else torch.full_like(area, SHARE)
    return rest, stiffness, last


def stretched(gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One triangle for each F (n, 2, 2): local, inverse_rest and area, at area 1/2."""
    corners = tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    places = torch.nn.functional.pad(corners @ gradients.mT, (0, 1))
    count = len(gradients)
    return (
        places.flatten(1),
        torch.eye(2).double().expand(count, 2, 2),
        torch.ones(count).double() / 2,
    )


def densities(energy: Energy, gradients: Tensor, poisson: float = POISSON) -> Tensor:
    """Energy per rest area of an isotropic sheet under each F (n, 2, 2), from the kernels."""
    local, rest, area = stretched(gradients)
    return energy.evaluate(local, isotropic(energy, rest, area, poisson), 0).value / area


def diagonal(first: Tensor, second: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack(torch.broadcast_tensors(first, second), -1))


# closed forms


@pytest.mark.parametrize("energy", [STVK, TENSION_FIELD], ids=lambda energy: energy.name)
def test_pulled_strip_has_the_stress_of_young(energy: Energy):
    """Sides free: E22 = -nu E11, and W = E E11^2 / 2 whatever nu is."""
    for poisson in (0.0, 0.3, 0.49, -0.4):
        strain = torch.linspace(0.01, 0.6, 9, dtype=torch.float64)
        gradients = diagonal((1 + 2 * strain).sqrt(), (1 - 2 * poisson * strain).sqrt())
        torch.testing.assert_close(
            densities(energy, gradients, poisson), YOUNG / 2 * strain**2, rtol=ROUNDING, atol=0
        )
        local, rest, area = stretched(gradients)
        made = energy.evaluate(local, isotropic(energy, rest, area, poisson), 1)
        # corner 2 takes half of the traction on the top, which is free: area times P e2
        assert made.gradient[:, 6:].abs().max() < ROUNDING
        pull = area * (1 + 2 * strain).sqrt() * YOUNG * strain
        torch.testing.assert_close(made.gradient[:, 3], pull, rtol=ROUNDING, atol=0)


def test_stvk_in_simple_shear():
    """F = [[1, g], [0, 1]]: E22 = g^2/2 and 2 E12 = g."""
    g = torch.linspace(-0.8, 0.8, 9, dtype=torch.float64)
    lam, mu = lame(tensor(YOUNG), tensor(POISSON))
    gradients = torch.eye(2).double().repeat(9, 1, 1)
    gradients[:, 0, 1] = g
    wanted = (lam / 2 + mu) * g**4 / 4 + mu * g**2 / 2
    torch.testing.assert_close(densities(STVK, gradients), wanted, rtol=ROUNDING, atol=1e-16)


def test_neo_hookean_in_closed_form():
    """Equal biaxial stretch s, J = s^2; simple shear, J = 1."""
    s = torch.linspace(0.1, 4.0, 9, dtype=torch.float64)
    lam, mu = lame(tensor(YOUNG), tensor(POISSON))
    wanted = mu / 2 * (2 * s**2 - 2 - 4 * s.log()) + lam / 2 * (2 * s.log()) ** 2
    torch.testing.assert_close(
        densities(NEO_HOOKEAN, diagonal(s, s)), wanted, rtol=ROUNDING, atol=1e-15
    )
    gradients = torch.eye(2).double().repeat(9, 1, 1)
    gradients[:, 0, 1] = s
    torch.testing.assert_close(
        densities(NEO_HOOKEAN, gradients), mu / 2 * s**2, rtol=ROUNDING, atol=0
    )


def test_neo_hookean_is_stvk_at_small_strain():
    """The two differ at third order: the Hessians at rest are equal."""
    local, rest, area = stretched(torch.eye(2).double()[None])
    hessians = [e.evaluate(local, isotropic(e, rest, area), 2).hessian for e in (STVK, NEO_HOOKEAN)]
    torch.testing.assert_close(*hessians, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("energy", [STVK, NEO_HOOKEAN], ids=lambda energy: energy.name)
def test_small_strains_keep_their_digits(energy: Energy):
    """At strain 1e-9 the energy is that of linear elasticity; forming ln J would leave noise."""
    strain = tensor([1e-9])
    wanted = YOUNG / (1 - POISSON) * strain**2  # equal biaxial
    gradients = diagonal(1 + strain, 1 + strain)
    # 1 + 1e-9 is itself rounded by 1e-16, which is 1e-7 of the strain
    torch.testing.assert_close(densities(energy, gradients), wanted, rtol=1e-6, atol=0)


# meshes


def bumpy_mesh(cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """A square cut into random triangles: positions (V, 2), faces (F, 3), inner vertices."""
    line = torch.arange(cells + 1, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1)
    jitter = 0.6 * torch.rand(grid.shape, generator=generator(), dtype=torch.float64) - 0.3
    inner = torch.zeros(grid.shape[:2], dtype=torch.bool)
    inner[1:-1, 1:-1] = True
    grid = torch.where(inner[..., None], grid + jitter, grid)
    index = torch.arange((cells + 1) ** 2).reshape(cells + 1, cells + 1)
    a, b, c, d = (
        part.flatten() for part in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:])
    )
    one = torch.stack((torch.stack((a, b, c), -1), torch.stack((a, c, d), -1)), 1)
    other = torch.stack((torch.stack((a, b, d), -1), torch.stack((b, c, d), -1)), 1)
    flip = torch.rand(len(a), generator=generator()) < 0.5
    faces = torch.where(flip[:, None, None], one, other).flatten(0, 1)
    return grid.flatten(0, 1), faces, inner.flatten()


def test_uniform_strain_is_in_balance(energy: Energy):
    """Patch test: one F on any mesh leaves no force on a vertex that is not on the border."""
    places, faces, inner = bumpy_mesh(7)
    corners = torch.nn.functional.pad(places, (0, 1))[faces]
    # the warp keeps the axes parallel over the mesh
    rest, area = inverse_rest(corners, rest_axes(corners, tensor([1.0, 0.0, 0.0])))
    for gradient in (
        [[1.3, 0.2], [0.1, 1.1]],  # taut
        [[1.2, 0.1], [0.0, 0.7]],  # wrinkled
        [[0.9, 0.1], [0.0, 0.8]],  # loose
    ):
        bent = torch.nn.functional.pad(places @ tensor(gradient).mT, (0, 1))
        turn = random_turn(generator())
        moved = bent @ turn.mT + 5.0
        made = energy.evaluate(moved[faces].flatten(1), isotropic(energy, rest, area), 1)
        forces = torch.zeros_like(moved).index_add(0, faces.flatten(), made.gradient.reshape(-1, 3))
        assert forces[inner].norm(dim=1).max() < BALANCE * made.gradient.abs().max()


def test_rotated_sheet_at_rest_has_no_energy(energy: Energy):
    places, faces, _ = bumpy_mesh(5)
    corners = torch.nn.functional.pad(places, (0, 1))[faces]
    rest, area = inverse_rest(corners, rest_axes(corners))
    turn = random_turn(generator())
    made = energy.evaluate((corners @ turn.mT - 3.0).flatten(1), isotropic(energy, rest, area), 1)
    assert made.value.abs().max() < 1e-28  # square of rounding
    assert made.gradient.abs().max() < 1e-13


# derivatives


def test_kernels_agree_with_the_twin_to_rounding(energy: Energy, device: torch.device):
    local, constants = energy.sample(generator(), 500)
    wanted = by_autograd(energy.value, local, constants, 2)
    made = energy.evaluate(local.to(device), tuple(c.to(device) for c in constants), 2)
    for found, other in zip(made, wanted, strict=True):
        size = other.reshape(500, -1).abs().amax(1)
        assert ((found.cpu() - other).reshape(500, -1).abs().amax(1) <= ROUNDING * size).all()


def test_projection_is_the_clamp_of_the_derivatives_in_f(energy: Energy):
    """The kernel splits F into the plane and its normal; here all six numbers are clamped."""
    local, constants = energy.sample(generator(), 200)
    rest = constants[0]
    hessian = energy.evaluate(local, constants, 2).hessian
    # x1 - x0 and x2 - x0 as functions of F (3x2, row by row), with x0 held
    rows = torch.zeros(200, 6, 6).double()
    edges = torch.linalg.inv(rest)
    for c in range(3):
        for edge in range(2):
            rows[:, 3 * edge + c, 2 * c : 2 * c + 2] = edges[:, :, edge]
    clamped = positive_semidefinite(rows.mT @ hessian[:, 3:, 3:] @ rows)
    back = torch.linalg.inv(rows)
    wanted = back.mT @ clamped @ back
    found = energy.evaluate(local, constants, 2, project=True).hessian
    size = hessian.abs().amax((1, 2))
    assert ((found[:, 3:, 3:] - wanted).abs().amax((1, 2)) < 1e-11 * size).all()
    definite = torch.linalg.eigvalsh(rows.mT @ hessian[:, 3:, 3:] @ rows)[:, 0] > 0
    assert 10 < definite.sum() < 190  # both kinds are there
    assert torch.equal(found[definite].isfinite(), torch.ones(int(definite.sum()), 9, 9).bool())
    change = (found - hessian)[definite].abs().amax((1, 2))
    assert (change < ROUNDING * size[definite]).all()


def test_extrapolated_strain_is_exact_but_for_the_square(energy: Energy):
    """It lacks dF^T dF / 2, so half the step leaves a quarter of the error."""
    source = generator()
    local, constants = energy.sample(source, 50)
    step = 0.1 * torch.randn(local.shape, generator=source, dtype=torch.float64)
    errors = []
    for size in (1.0, 0.5):
        found = energy.extrapolate(local, size * step, constants)
        errors.append(green_strain(local + size * step, constants[0]) - found)
    torch.testing.assert_close(errors[0] / 4, errors[1], rtol=1e-10, atol=1e-14)
    square = green_strain(step, constants[0]) + tensor([0.5, 0.5, 0.0])
    torch.testing.assert_close(errors[0], square, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("project", [False, True])
def test_extrapolated_stress_stands_in_the_geometric_term(project: bool):
    """As if the rest strain made that stress; value and gradient do not see it."""
    source = generator()
    local, constants = STVK.sample(source, 50)
    rest, stiffness, rest_strain = constants
    strain = 0.2 * torch.randn(50, 3, generator=source, dtype=torch.float64)
    found = STVK.evaluate(local, constants, 2, project, extrapolated=strain)
    shifted = (rest, stiffness, rest_strain + green_strain(local, rest) - strain)
    wanted = STVK.evaluate(local, shifted, 2, project).hessian
    torch.testing.assert_close(found.hessian, wanted, rtol=1e-10, atol=1e-10)
    plain = STVK.evaluate(local, constants, 1)
    assert torch.equal(found.value, plain.value)
    assert torch.equal(found.gradient, plain.gradient)


def test_extrapolated_strain_of_no_step_changes_nothing(energy: Energy):
    local, constants = energy.sample(generator(), 50)
    strain = energy.extrapolate(local, torch.zeros_like(local), constants)
    found = energy.evaluate(local, constants, 2, extrapolated=strain).hessian
    wanted = energy.evaluate(local, constants, 2).hessian
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_neo_hookean_ignores_a_foreseen_collapse():
    """A linear step may foresee C with a negative eigenvalue, which has no stress."""
    local, constants = NEO_HOOKEAN.sample(generator(), 5)
    strain = tensor([-0.7, 0.1, 0.0]).expand(5, 3)
    found = NEO_HOOKEAN.evaluate(local, constants, 2, extrapolated=strain).hessian
    assert torch.equal(found, NEO_HOOKEAN.evaluate(local, constants, 2).hessian)


# collapsed triangles


COLLAPSED = {
    "line": [[1.0, 0.5], [0.0, 0.0]],
    "folded line": [[1.0, -1.0], [0.0, 0.0]],
    "edge lost": [[1.0, 0.0], [0.0, 0.0]],
    "point": [[0.0, 0.0], [0.0, 0.0]],
}


@pytest.mark.parametrize("gradient", COLLAPSED.values(), ids=COLLAPSED)
def test_collapsed_triangles(energy: Energy, gradient: list[list[float]]):
    """Finite where the energy is; where it is not, the value says so."""
    local, rest, area = stretched(tensor(gradient)[None])
    constants = isotropic(energy, rest, area)
    for project in (False, True):
        made = energy.evaluate(local, constants, 2, project)
        if energy is NEO_HOOKEAN:
            assert made.value == torch.inf
            assert energy.value(local, *constants) == torch.inf
            continue
        assert all(part.isfinite().all() for part in made)
        if project:
            assert torch.linalg.eigvalsh(made.hessian)[0, 0] > -ROUNDING
        else:
            twin = by_autograd(energy.value, local, constants, 2)
            for found, wanted in zip(made, twin, strict=True):
                torch.testing.assert_close(found, wanted, rtol=ROUNDING, atol=ROUNDING)


def test_neo_hookean_resists_collapse():
    s = torch.logspace(-0.1, -7, 12, dtype=torch.float64)
    found = densities(NEO_HOOKEAN, diagonal(s, tensor(1.0)))
    assert (found.diff() > 0).all()
