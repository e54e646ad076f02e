"""Soft bodies: their moduli, surfaces, masses and poses, and what is refused."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.thin_shell import Body, Control, Scene, Simulator, SoftBody
from sims.thin_shell.energies.energy import positive_semidefinite
from sims.thin_shell.energies.stable_neo_hookean import STABLE_NEO_HOOKEAN, cofactors
from sims.thin_shell.pose import placed

CUBE = [[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)]
# six around the diagonal from corner 0 to corner 7
AROUND = [[0, 4, 6, 7], [0, 6, 2, 7], [0, 2, 3, 7], [0, 3, 1, 7], [0, 1, 5, 7], [0, 5, 4, 7]]
RUBBER = {"young": 3e5, "poisson": 0.2, "density": 2000.0}
ROUNDING = 1e-12  # of the largest entry; a few dozen operations in float64


def cube(**changes) -> SoftBody:
    local = torch.tensor(CUBE, dtype=torch.float64)
    return SoftBody(local, torch.tensor(AROUND), **{**RUBBER, **changes})


def gathered(body: SoftBody, positions: Tensor) -> Tensor:
    return positions[body.tetrahedra].flatten(1)


def energy(body: SoftBody, gradient: Tensor) -> float:
    """Of a uniform deformation (3, 3) of the whole body [J]."""
    local = gathered(body, body.rest_vertices @ gradient.T)
    return float(STABLE_NEO_HOOKEAN.evaluate(local, body.constants(), 0).value.sum())


@pytest.mark.parametrize("poisson", [0.0, 0.2, 0.45])
def test_small_strain_has_the_moduli(poisson):
    """Pulled along x and free across, a bar has stress E e and the strain across is -nu e."""
    body = cube(poisson=poisson)
    strain = 1e-6
    across = 1 - poisson * strain
    gradient = torch.diag(torch.tensor([1 + strain, across, across], dtype=torch.float64))
    # the stresses are the derivative of the energy in the corners, summed over a side
    local = gathered(body, body.rest_vertices @ gradient.T)
    forces = STABLE_NEO_HOOKEAN.evaluate(local, body.constants(), 1).gradient.reshape(-1, 3)
    total = torch.zeros(8, 3, dtype=torch.float64).index_add(0, body.tetrahedra.flatten(), forces)
    stress = torch.stack([total[body.rest_vertices[:, k] > 0.5, k].sum() for k in range(3)])
    stress = stress / (3e5 * strain)
    second_order = 10 * strain / (1 - 2 * poisson)
    assert stress[0] == pytest.approx(1.0, abs=second_order)
    assert stress[1:].abs().max() < second_order


def test_small_shear_has_the_modulus():
    body = cube()
    angle = 1e-5
    gradient = torch.eye(3, dtype=torch.float64)
    gradient[0, 1] = angle
    shear_modulus = 3e5 / (2 * 1.2)
    # the difference of energies of order mu leaves ten digits less at this angle
    assert energy(body, gradient) / (shear_modulus * angle**2 / 2) == pytest.approx(1, abs=1e-4)


def test_the_rest_is_free_of_stress_and_the_least_energy():
    """No stretches of a grid have less, not even those of a collapsed body."""
    body = cube(poisson=1e-3)
    rest = STABLE_NEO_HOOKEAN.evaluate(gathered(body, body.rest_vertices), body.constants(), 1)
    assert rest.value.abs().max() <= ROUNDING * 3e5
    assert rest.gradient.abs().max() <= ROUNDING * 3e5
    grid = torch.linspace(0.0, 2.0, 9, dtype=torch.float64)
    others = [made for made in torch.cartesian_prod(grid, grid, grid) if (made != 1).any()]
    assert all(energy(body, torch.diag(made)) > 0 for made in others)


def test_projection_is_that_of_the_deformation_gradient():
    """The kernel's closed form takes away as much as an eigenvalue clamp of the 9x9 matrix."""
    source = torch.Generator().manual_seed(3)
    local, (inverse, mu, lam) = STABLE_NEO_HOOKEAN.sample(source, 50)
    shapes = torch.cat([-inverse.sum(1, keepdim=True), inverse], dim=1)  # (n, 4, 3)
    # dF_ij / dx_ak = delta_ik shape_aj
    eye = torch.eye(3, dtype=torch.float64)
    chain = torch.einsum("ik,naj->nijak", eye, shapes).reshape(len(local), 9, 12)

    def density(gradient: Tensor) -> Tensor:
        growth = torch.linalg.det(gradient) - 1
        squares = gradient.square().sum((-2, -1))
        return mu * ((squares - 3) / 2 - growth) + lam / 2 * growth**2

    gradient = (chain @ local[:, :, None]).reshape(-1, 3, 3).requires_grad_()
    (first,) = torch.autograd.grad(density(gradient).sum(), gradient, create_graph=True)
    rows = [
        torch.autograd.grad(first.flatten(1)[:, k].sum(), gradient, retain_graph=True)[0]
        for k in range(9)
    ]
    second = positive_semidefinite(torch.stack(rows, 1).flatten(2))
    wanted = chain.mT @ second @ chain
    found = STABLE_NEO_HOOKEAN.evaluate(local, (inverse, mu, lam), 2, project=True).hessian
    assert (found - wanted).abs().max() <= 1e-10 * wanted.abs().max()


@pytest.mark.parametrize(
    "stretches",
    [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (0.5, 0.5, 0.5), (-1.0, 1.0, 1.0),
     (1e-9, 1e-9, 1.0), (0.3, 1e-20, 1e-200)],
)  # fmt: skip
def test_degenerate_elements_have_finite_projections(stretches):
    """Points, lines, flat and inverted elements, and such with equal stretches."""
    body = cube()
    gradient = torch.diag(torch.tensor(stretches, dtype=torch.float64))
    turn = placed(torch.eye(3, dtype=torch.float64), torch.tensor([0.0, 0, 0, 0.3, -1, 2]).double())
    local = gathered(body, body.rest_vertices @ (turn @ gradient @ turn).T)
    plain = STABLE_NEO_HOOKEAN.evaluate(local, body.constants(), 2).hessian
    made = STABLE_NEO_HOOKEAN.evaluate(local, body.constants(), 2, project=True).hessian
    assert made.isfinite().all()
    largest = made.abs().max()
    assert torch.linalg.eigvalsh(made).min() >= -1e-10 * largest
    assert torch.linalg.eigvalsh(made - plain).min() >= -1e-10 * largest


def test_cofactors_are_the_derivative_of_the_determinant():
    gradient = torch.randn(5, 3, 3, generator=torch.Generator().manual_seed(1)).double()
    gradient.requires_grad_()
    (wanted,) = torch.autograd.grad(torch.linalg.det(gradient).sum(), gradient)
    torch.testing.assert_close(cofactors(gradient.detach()), wanted)


def test_surface_and_masses():
    body = cube(density=torch.tensor([1.0, 2, 3, 4, 5, 6]))
    corners = body.vertices[body.faces]
    assert len(body.faces) == 12
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outwards = corners.mean(1) - 0.5
    assert ((normals * outwards).sum(1) > 0).all()
    # the divergence theorem: the faces enclose the volume
    assert float((normals * corners[:, 0]).sum() / 6) == pytest.approx(1.0)
    assert float(body.volumes().sum()) == pytest.approx(1.0)
    assert float(body.masses().sum()) == pytest.approx(21 / 6)
    assert body.masses()[0] == pytest.approx(21 / 24)


def test_gradients_reach_every_quantity():
    given = {
        "young": torch.tensor(3e5, requires_grad=True),
        "poisson": torch.tensor([0.2] * 6, requires_grad=True),
        "density": torch.tensor(2000.0, requires_grad=True),
        "pose": torch.zeros(6, dtype=torch.float64, requires_grad=True),
        "local": torch.tensor(CUBE, dtype=torch.float64, requires_grad=True),
    }
    body = SoftBody(tetrahedra=torch.tensor(AROUND), **given)
    squares = [part.square().sum() for part in (*body.constants(), body.masses(), body.vertices)]
    torch.stack(squares).sum().backward()
    for name, tensor in given.items():
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().sum() > 0, name


def test_pose_and_driven_vertices():
    pose = [0.1, 0.2, 0.3, 0.0, 0.0, math.pi / 2]
    body = cube(driven=[0, 1], pose=pose)
    assert body.driven.tolist() == [True, True] + [False] * 6
    # x turns to y, and y to -x
    wanted = torch.tensor([0.1, 1.2, 0.3], dtype=torch.float64)
    torch.testing.assert_close(body.vertices[4], wanted)
    again = replace(body, young=1e5)
    torch.testing.assert_close(again.vertices, body.vertices)
    assert torch.equal(again.driven, body.driven)


def test_a_bar_that_is_pulled_stretches_by_its_modulus():
    """And what holds its other end feels the pull; its derivative is minus that over E."""
    young = torch.tensor(3e5, dtype=torch.float64, requires_grad=True)
    body = SoftBody.block((0.02, 0.01, 0.01), (4, 2, 2), young, 0.0, 1000.0)
    body = replace(body, driven=body.local[:, 0] < -0.01 + 1e-9)
    scene = Scene([], bodies=[body])
    end = body.local[:, 0] > 0.01 - 1e-9
    corners = body.faces[end[body.faces].all(dim=1)]
    places = body.local[corners]
    areas = torch.linalg.cross(places[:, 1] - places[:, 0], places[:, 2] - places[:, 0])
    force = 0.01
    share = torch.zeros_like(body.local).index_add(
        0, corners.flatten(), (areas / 6).repeat_interleave(3, dim=0)
    )
    simulator = Simulator(scene, time_step=100.0)  # so long that inertia does not matter
    pulled = simulator.step(
        simulator.initial_state(), Control(forces=share.detach() * force / 1e-4)
    )
    strain = force / 1e-4 / 3e5
    longer = (pulled.positions - body.vertices)[end, 0].mean()
    assert float(longer.detach()) == pytest.approx(0.02 * strain, rel=5 * strain)
    assert float(pulled.wrenches[0, 0].detach()) == pytest.approx(-force, rel=1e-6)
    (slope,) = torch.autograd.grad(longer, young)
    assert float(slope) == pytest.approx(-float(longer.detach()) / 3e5, rel=5 * strain)


def test_bodies_go_to_a_device_and_stay_what_they_are(device):
    soft = cube(driven=[0, 1], pose=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], young=torch.tensor(2e5))
    for body in (soft, Body.plane(normal=(0.0, 1.0, 1.0)), Body.box((1.0, 2.0, 3.0))):
        there = body.to(device)
        for name in ("vertices", "faces", "driven", "pose", "lone_edges", "planes"):
            assert getattr(there, name).device.type == device.type, name
            torch.testing.assert_close(getattr(there, name).cpu(), getattr(body, name))
    for made, wanted in zip(soft.to(device).constants(), soft.constants(), strict=True):
        torch.testing.assert_close(made.cpu(), wanted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"local": torch.zeros(8, 2)}, "local must have shape"),
        ({"tetrahedra": torch.zeros(0, 4, dtype=torch.int64)}, "at least one row"),
        ({"tetrahedra": torch.tensor([[0, 1, 2, 9]])}, "tetrahedra must index into"),
        ({"tetrahedra": torch.tensor(AROUND[:3])}, "that belong to none, the first is vertex 1"),
        (
            {"tetrahedra": torch.tensor(AROUND)[:, [0, 2, 1, 3]]},
            "6 of 6 inside out.*: 0, 1, 2, 3, 4, 5",
        ),
        ({"tetrahedra": torch.tensor([*AROUND, [0, 2, 4, 6]])}, "1 of 7 degenerate: 6"),
        ({"tetrahedra": torch.tensor([*AROUND, AROUND[0]])}, "with two on one side"),
        ({"rest_vertices": -torch.tensor(CUBE)}, "rest_vertices must give .* inside out"),
        ({"rest_vertices": torch.zeros(3, 3)}, "rest_vertices must have 8 rows"),
        ({"poisson": 0.5}, r"poisson must be in \[0, 0.5\), got 0.5"),
        ({"poisson": -0.1}, "poisson must be in"),
        ({"young": 0.0}, "young must be positive and finite"),
        ({"young": torch.ones(4)}, "young must have one value for each of the 6 tetrahedra"),
        ({"density": math.nan}, "density must be positive and finite, got nan"),
        ({"friction": -0.1}, "friction must be a number of at least 0"),
        ({"driven": [8]}, "driven must index into"),
        ({"driven": torch.ones(3, dtype=torch.bool)}, "driven must be a mask of the 8 vertices"),
        ({"driven": "base"}, "driven must be a mask"),
        ({"pose": [0.0] * 5}, "pose must be six finite numbers"),
    ],
)
def test_wrong_bodies_are_named(changes, message):
    given = {"local": torch.tensor(CUBE), "tetrahedra": torch.tensor(AROUND), **RUBBER}
    with pytest.raises(InputError, match=message):
        SoftBody(**{**given, **changes})
