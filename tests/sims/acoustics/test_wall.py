"""Walls: what they reflect and take, what they are mixed of, and what no wall can be."""

import math

import numpy as np
import pytest
import torch

from geomopt.errors import InputError
from sims.acoustics.air import CHARACTERISTIC_IMPEDANCE, SPEED_OF_SOUND
from sims.acoustics.exact.reflection import random_absorption
from sims.acoustics.walls.miki import characteristic, surface_impedance
from sims.acoustics.walls.wall import Wall, from_parameters, to_parameters

FREQUENCIES = torch.tensor([31.5, 125.0, 500.0, 2000.0, 8000.0], dtype=torch.float64)
# the equations of Miki (1990) for 30 mm of 10 000 Pa s/m², printed to the digits given:
# frequency, Z / (rho c), |R|, absorption at normal and at random incidence
LAYER = [
    (63.0, 1.091 - 21.568j, 0.9953, 0.0093, 0.0172),
    (125.0, 0.887 - 11.051j, 0.9858, 0.0282, 0.0485),
    (250.0, 0.680 - 5.639j, 0.9599, 0.0785, 0.1188),
    (500.0, 0.521 - 2.827j, 0.8932, 0.2022, 0.2506),
    (707.0, 0.470 - 1.948j, 0.8273, 0.3156, 0.3452),
    (1000.0, 0.442 - 1.277j, 0.7233, 0.4768, 0.4583),
    (2000.0, 0.502 - 0.276j, 0.3724, 0.8613, 0.7034),
    (4000.0, 1.422 + 0.490j, 0.2616, 0.9316, 0.9232),
]


def random_wall(seed: int, count: int = 3) -> Wall:
    spread = torch.Generator().manual_seed(seed)
    values = torch.randn(count, 3, generator=spread, dtype=torch.float64)
    return from_parameters(values)


def test_a_hard_wall_reflects_and_absorbs_what_its_impedance_says():
    wall = Wall.impedance(7400.0)
    factor = wall.reflection(FREQUENCIES)
    assert factor.real.tolist() == pytest.approx([0.89462] * 5, abs=5e-6)
    assert factor.imag.tolist() == [0.0] * 5
    assert wall.absorption(FREQUENCIES, "normal").tolist() == pytest.approx([0.19966] * 5, abs=5e-6)
    assert wall.absorption(FREQUENCIES, "random").tolist() == pytest.approx([0.32272] * 5, abs=5e-6)


@pytest.mark.parametrize("row", LAYER)
def test_the_closed_form_of_a_porous_layer(row):
    frequency, normalised, reflected, normal, diffuse = row
    z = surface_impedance(frequency, 1e4, 0.03) / CHARACTERISTIC_IMPEDANCE
    assert complex(z) == pytest.approx(normalised, abs=1e-3)
    assert abs((z - 1) / (z + 1)) == pytest.approx(reflected, abs=5.1e-5)
    assert 1 - abs((z - 1) / (z + 1)) ** 2 == pytest.approx(normal, abs=5.1e-5)
    assert float(random_absorption(torch.tensor(1 / complex(z)))) == pytest.approx(
        diffuse, abs=5.1e-5
    )


def test_a_thin_gap_and_no_layer_are_limits_of_the_closed_form():
    f = np.array([100.0, 400.0, 1500.0])
    without = surface_impedance(f, 2e4, 0.05)
    np.testing.assert_allclose(surface_impedance(f, 2e4, 0.05, air_gap=1e-9), without, rtol=1e-6)
    # a layer of nothing leaves the gap: Z = -i rho c cot(k d0 cos) / cos
    k = 2 * np.pi * f / SPEED_OF_SOUND
    gap = -1j * CHARACTERISTIC_IMPEDANCE / np.tan(k * 0.1 * np.cos(0.6)) / np.cos(0.6)
    np.testing.assert_allclose(
        surface_impedance(f, 2e4, 1e-9, air_gap=0.1, angle=0.6), gap, rtol=1e-5, atol=1e-3
    )


def test_a_layer_twice_as_thick_is_two_layers():
    # cot(2 x) = (cot(x) - tan(x)) / 2, of which a surface is -i Zs cot(x), Zs = Zc k / kx
    f, angle = np.array([200.0, 900.0]), 0.7
    impedance, wavenumber = characteristic(f, 1e4)
    inward = np.sqrt(wavenumber**2 - (2 * np.pi * f / SPEED_OF_SOUND * np.sin(angle)) ** 2)
    single = surface_impedance(f, 1e4, 0.03, angle=angle)
    double = (single + (impedance * wavenumber / inward) ** 2 / single) / 2
    np.testing.assert_allclose(surface_impedance(f, 1e4, 0.06, angle=angle), double, rtol=1e-12)
    assert np.all(inward.imag < 0)  # waves of exp(+iwt) die out on their way in


@pytest.mark.parametrize("seed", range(5))
def test_random_incidence_is_the_integral_over_angles(seed):
    wall = random_wall(seed)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    angles, weights = (nodes + 1) * math.pi / 4, weights * math.pi / 4
    each = torch.stack([wall.absorption(FREQUENCIES, float(angle)) for angle in angles])
    whole = (torch.from_numpy(weights * np.sin(2 * angles))[:, None] * each).sum(dim=0)
    torch.testing.assert_close(wall.absorption(FREQUENCIES), whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_no_branches_give_out_energy(seed):
    wall = random_wall(seed, count=4)
    f = torch.logspace(-1, 5, 200, dtype=torch.float64)
    assert float(wall.admittance(f).real.min()) >= 0
    assert float(wall.reflection(f, 1.2).abs().max()) <= 1 + 1e-15
    alpha = wall.absorption(f)
    assert float(alpha.min()) >= 0
    assert float(alpha.max()) <= 0.9512  # what y = 0.638 takes, the most at random incidence


def test_at_rest_a_spring_holds_and_a_damper_yields():
    walls = [[0.0, 0.0, 50.0], [0.0, 4.0, 0.0], [1e-3, 2.0, 0.0], [1e-3, 2.0, 80.0]]
    for branch, expected in zip(walls, (0.0, 0.25, 0.5, 0.0), strict=True):
        assert complex(Wall(torch.tensor([branch])).admittance(0.0)) == pytest.approx(expected)
    with pytest.raises(InputError, match="above 0 for a wall with a branch of mass alone"):
        Wall(torch.tensor([[1e-3, 0.0, 0.0]])).admittance([0.0, 10.0])


def test_rigid_walls_take_nothing():
    wall = Wall.rigid()
    assert wall.admittance(FREQUENCIES).abs().max() == 0
    assert wall.reflection(FREQUENCIES, math.pi / 2).real.tolist() == [1.0] * 5
    assert wall.absorption(FREQUENCIES).tolist() == [0.0] * 5
    assert "rigid" in repr(wall)


def test_shares_of_a_mix_add_their_admittances():
    hard, soft = Wall.impedance(7400.0), random_wall(3)
    mixed = Wall.mix([(hard, 0.7), (soft, 0.2)])
    torch.testing.assert_close(
        mixed.admittance(FREQUENCIES),
        0.7 * hard.admittance(FREQUENCIES) + 0.2 * soft.admittance(FREQUENCIES),
    )
    assert mixed.name == "0.7 7400 Pa s/m + 0.2 wall"


def test_gradients_reach_branches_weights_and_shares():
    # beside three whole branches one of a damper alone, and one without a damper
    present = torch.tensor([[1, 1, 1]] * 3 + [[0, 1, 0], [1, 0, 1]], dtype=torch.float64)
    parameters = to_parameters(random_wall(1, count=5)).requires_grad_()
    weights = torch.linspace(0.2, 1.0, 5, dtype=torch.float64, requires_grad=True)
    share = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)

    def responses(parameters, weights, share):
        branches = from_parameters(parameters).branches * present
        wall = Wall.mix([(Wall(branches, weights), share), (Wall.impedance(900.0), 0.5)])
        y = wall.admittance(FREQUENCIES)
        return y.real, y.imag, wall.absorption(FREQUENCIES), wall.reflection(FREQUENCIES).abs()

    assert torch.autograd.gradcheck(responses, (parameters, weights, share), atol=1e-7, rtol=1e-6)


def test_absorption_has_a_gradient_at_every_admittance():
    y = torch.tensor(
        [0.0, 1e-6, 0.638, 1.999, 2.001, 300.0, 0.1 + 1e-7j, 0.2 - 3j, 1e-3 + 40j],
        dtype=torch.complex128, requires_grad=True,
    )  # fmt: skip
    (slope,) = torch.autograd.grad(random_absorption(y).sum(), y)
    assert bool(torch.isfinite(torch.view_as_real(slope)).all())
    step = 1e-6
    for way, part in ((1.0, slope.real), (1j, slope.imag)):
        change = random_absorption(y[2:].detach() + way * step) - random_absorption(
            y[2:].detach() - way * step
        )
        torch.testing.assert_close(part[2:], change / (2 * step), rtol=1e-6, atol=1e-8)


def test_parameters_of_an_optimiser_come_back_as_the_wall():
    wall = Wall.mix([(random_wall(2), 0.3)])
    parameters = to_parameters(wall).requires_grad_()
    again = from_parameters(parameters, wall)
    torch.testing.assert_close(again.branches, wall.branches, rtol=1e-12, atol=0)
    assert again.name == wall.name
    assert torch.equal(again.weights, wall.weights)
    again.absorption(FREQUENCIES).sum().backward()
    assert parameters.grad is not None
    assert bool(torch.isfinite(parameters.grad).all())
    # a damper alone: what stands for its mass and its spring changes nothing that counts
    hard = Wall.impedance(7400.0)
    torch.testing.assert_close(
        from_parameters(to_parameters(hard)).admittance(FREQUENCIES), hard.admittance(FREQUENCIES),
        rtol=1e-5, atol=1e-8,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Wall.impedance(0.0), "impedance must be a positive finite number"),
        (lambda: Wall.impedance(-5.0), "got -5"),
        (lambda: Wall.impedance(math.inf), r"Wall.rigid\(\)"),
        (lambda: Wall.impedance(math.nan), "impedance must be a positive finite number"),
        (lambda: Wall.impedance(400 + 3j), "give it to Wall.from_impedance"),  # type: ignore
        (lambda: Wall.impedance("hard"), "impedance must be a positive finite number"),  # type: ignore
        (lambda: Wall.impedance([1.0, 2.0]), "impedance must have shape"),  # type: ignore
        (lambda: Wall(torch.zeros(2, 3)), "a branch of zeros alone"),
        (lambda: Wall(torch.tensor([[1.0, -1.0, 0.0]])), "branches must be at least 0"),
        (lambda: Wall(torch.tensor([[1.0, math.nan, 0.0]])), "branches must be at least 0"),
        (lambda: Wall(torch.ones(2)), "branches must have shape"),
        (lambda: Wall("a"), "branches must be numbers"),  # type: ignore
        (lambda: Wall(torch.ones(2, 3), torch.ones(3)), "weights must have shape"),
        (lambda: Wall(torch.ones(1, 3), torch.tensor([-1.0])), "weights must be at least 0"),
        (lambda: Wall.mix([]), "parts must be pairs"),
        (lambda: Wall.mix([(1.0, 0.5)]), "parts must be pairs"),  # type: ignore
        (lambda: Wall.mix(Wall.rigid()), "parts must be pairs"),  # type: ignore
        (lambda: Wall.mix([(Wall.rigid(), -0.5)]), r"share must be in \[0, 1\]"),
        (lambda: Wall.mix([(Wall.rigid(), 0.7), (Wall.rigid(), 0.4)]), "at most 1 together"),
        (lambda: Wall.rigid().admittance(-1.0), "frequencies must be at least 0"),
        (lambda: Wall.rigid().admittance([math.nan]), "frequencies must be at least 0"),
        (lambda: Wall.rigid().reflection(100.0, 60.0), r"pi/2 \(grazing\) \[rad\]"),
        (lambda: Wall.rigid().absorption(100.0, "oblique"), "incidence 'random'"),  # type: ignore
    ],
)
def test_impossible_walls_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()
