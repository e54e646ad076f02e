"""Damped modes of boxes: the published form of the equations, tables, and limits."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import root

from geomopt.errors import InputError
from sims.acoustics.exact.box_modes import box_modes, mode_indices
from sims.acoustics.walls.pole_residues import read_pole_residues
from sims.acoustics.walls.wall import Wall, from_parameters

CUBE = (2.0, 2.0, 2.0)
SPEED = 343.0
# modes of a 2 m cube, computed by an independent program: rigid frequency, then frequency and T60
# with walls of 7400 Pa s/m, and with the pole-residue set of a 30 mm porous layer
TABLE = {
    (1, 0, 0): (85.7500, 85.6767, 0.1805, 79.5207, 3.4134),
    (1, 1, 0): (121.2688, 121.2457, 0.1444, 110.4749, 1.5714),
    (1, 1, 1): (148.5234, 148.5234, 0.1203, 132.9999, 0.9745),
    (2, 0, 0): (171.5000, 171.5967, 0.1808, 158.8020, 0.9884),
    (2, 1, 0): (191.7428, 191.8422, 0.1446, 174.4802, 0.7020),
    (2, 1, 1): (210.0437, 210.1429, 0.1204, 187.9468, 0.5370),
    (2, 2, 0): (242.5376, 242.6201, 0.1446, 220.9690, 0.4888),
    (3, 0, 0): (257.2500, 257.4620, 0.1811, 237.2159, 0.4615),
    (3, 2, 1): (320.8471, 320.9922, 0.1205, 287.1425, 0.2744),
    (4, 0, 0): (343.0000, 343.3133, 0.1816, 313.7354, 0.2489),
}
# three branches (D, E, F) of such a layer, s in units of 2 pi 1000 rad/s
THREE = ((9.43156, 71.00901, 13.42341), (0.09252, 0.96457, 3.48327), (0.54388, 0.74841, 2.62558))


def layer() -> Wall:
    return from_parameters(torch.log(torch.tensor(THREE, dtype=torch.float64)))


def column(number: int) -> list[float]:
    return [row[number] for row in TABLE.values()]


def test_rigid_boxes_have_their_own_frequencies():
    modes = box_modes(CUBE, Wall.rigid().admittance_at, list(TABLE))
    assert modes.frequencies.tolist() == pytest.approx(column(0), abs=5.1e-5)
    assert float(modes.s.real.abs().max()) < 1e-9


def test_hard_walls():
    modes = box_modes(CUBE, Wall.impedance(7400.0).admittance_at, list(TABLE))
    assert modes.frequencies.tolist() == pytest.approx(column(1), abs=5.1e-5)
    assert modes.reverberation_times.tolist() == pytest.approx(column(2), abs=5.1e-5)


def test_porous_walls():
    path = Path(__file__).resolve().parents[4] / "shared/data/acoustics/miki_10000_30mm_polefit.csv"
    if not path.exists():
        pytest.skip("the pole-residue set is not here")
    modes = box_modes(CUBE, read_pole_residues(path).admittance_at, list(TABLE))
    assert modes.frequencies.tolist() == pytest.approx(column(3), abs=1e-4)
    assert modes.reverberation_times.tolist() == pytest.approx(column(4), abs=1e-4)


@pytest.mark.parametrize("index", [(1, 0, 0), (2, 1, 1), (3, 2, 1), (4, 0, 0)])
def test_equal_walls_obey_the_equations_of_even_and_odd_modes(index):
    """k tan(k L / 2) = (s/c) y, or k cot(k L / 2) = -(s/c) y; s² = -c² times the sum of k²."""
    lengths = (2.0, 1.7, 2.4)
    modes = box_modes(lengths, layer().admittance_at, [index])
    s = complex(modes.s[0])
    wall = s / SPEED * complex(layer().admittance_at(modes.s)[0])
    k = np.sqrt(modes.squared[0].numpy())
    for number, wave, length in zip(index, k, lengths, strict=True):
        tangent = np.tan(wave * length / 2)
        side = wave * tangent if number % 2 == 0 else -wave / tangent
        assert side == pytest.approx(wall, rel=1e-9)
    assert -(SPEED**2) * np.sum(k**2) == pytest.approx(s**2, rel=1e-12)


def test_three_branches_are_close_to_the_layer_they_stand_for():
    modes = box_modes(CUBE, layer().admittance_at, list(TABLE))
    # the set errs by 0.55 % in y and 2 to 8 % in its real part against the layer
    assert modes.frequencies.tolist() == pytest.approx(column(3), rel=5e-4)
    assert modes.reverberation_times.tolist() == pytest.approx(column(4), rel=0.04)


def test_shapes_meet_the_walls_and_the_helmholtz_equation():
    lengths = (2.0, 1.5, 1.2)
    walls = {
        "left": Wall.impedance(900.0), "right": Wall.rigid(), "front": layer(),
        "back": Wall.impedance(3000.0), "floor": Wall.rigid(), "ceiling": layer(),
    }  # fmt: skip
    modes = box_modes(
        lengths, {n: w.admittance_at for n, w in walls.items()}, [[1, 0, 0], [2, 1, 1], [0, 1, 2]]
    )
    step = 1e-4

    def at(x):
        return modes.shapes(torch.tensor([x], dtype=torch.float64))[:, 0]

    inside = [0.7, 0.4, 0.5]
    for axis, (low, high) in enumerate(
        (("left", "right"), ("front", "back"), ("floor", "ceiling"))
    ):
        for name, end, outward in ((low, 0.0, -1.0), (high, lengths[axis], 1.0)):
            wall, before, after = (list(inside) for _ in range(3))
            wall[axis], before[axis], after[axis] = end, end - step, end + step
            slope = outward * (at(after) - at(before)) / (2 * step)
            # dp/dn = -(s/c) y p
            expected = -modes.s / SPEED * walls[name].admittance_at(modes.s) * at(wall)
            torch.testing.assert_close(slope, expected, rtol=1e-5, atol=1e-6)
    laplacian = -6 * at(inside)
    for axis in range(3):
        for way in (-step, step):
            beside = list(inside)
            beside[axis] += way
            laplacian = laplacian + at(beside)
    torch.testing.assert_close(
        laplacian / step**2, (modes.s / SPEED) ** 2 * at(inside), rtol=1e-4, atol=1e-5
    )


def test_different_walls_agree_with_a_general_root_finder():
    y0, y1, length = 0.3, 0.05, 2.0
    walls = dict.fromkeys(("front", "back", "floor", "ceiling"), Wall.rigid().admittance_at)
    walls |= {"left": lambda s: y0 + 0 * s, "right": lambda s: y1 + 0 * s}
    modes = box_modes((length, 1.0, 1.0), walls, [[1, 0, 0], [3, 0, 0]])
    # waves to and fro: R0 R1 exp(-2 s L / c) = 1, whose decay is the same for all
    reflected = (1 - y0) / (1 + y0) * (1 - y1) / (1 + y1)
    decay = SPEED / (2 * length) * math.log(reflected)
    expected = [complex(decay, math.pi * n * SPEED / length) for n in (1, 3)]
    assert modes.s.tolist() == pytest.approx(expected, rel=1e-10)

    def standing(x):
        s = complex(x[0], x[1])
        value = reflected * np.exp(-2 * s * length / SPEED) - 1
        return value.real, value.imag

    found = root(standing, (decay * 1.1, expected[0].imag * 1.01), tol=1e-12)
    assert complex(*found.x) == pytest.approx(complex(modes.s[0]), rel=1e-8)


def test_gradients_of_modes_reach_walls_and_lengths():
    parameters = torch.log(torch.tensor(THREE, dtype=torch.float64)).requires_grad_()
    lengths = torch.tensor((2.0, 1.7, 2.4), dtype=torch.float64, requires_grad=True)

    def decay(parameters, lengths):
        wall = from_parameters(parameters)
        modes = box_modes(lengths, wall.admittance_at, [[2, 1, 0]])
        return modes.frequencies, modes.reverberation_times

    assert torch.autograd.gradcheck(decay, (parameters, lengths), eps=1e-5, atol=1e-7, rtol=1e-6)


def test_indices_below_a_frequency():
    indices = mode_indices(CUBE, 149.0).tolist()
    assert sorted(indices[:3]) == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert len(indices) == 7
    assert len(mode_indices(CUBE, 500.0)) == 141  # and the constant
    assert len(mode_indices((3.0, 0.1, 0.1), 343.0 / 6 + 1e-9)) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: box_modes(CUBE, lambda s: 0 * s, [[0, 0, 0]]), "one of the three above 0"),
        (lambda: box_modes(CUBE, lambda s: 0 * s, [[-1, 0, 1]]), "indices must be at least 0"),
        (lambda: box_modes(CUBE, lambda s: 0 * s, [1, 0, 0]), "indices must have shape"),
        (lambda: box_modes((2, 0, 2), lambda s: 0 * s, [[1, 0, 0]]), "lengths must be positive"),
        (lambda: box_modes(CUBE, 0.05, [[1, 0, 0]]), "walls must be a function"),  # type: ignore
        (lambda: box_modes(CUBE, {"left": lambda s: s}, [[1, 0, 0]]), "for each of left, right"),
        # walls that take everything leave no mode
        (lambda: box_modes(CUBE, lambda s: 1 + 0 * s, [[1, 0, 0]]), "cannot be followed beyond"),
        (lambda: mode_indices(CUBE, -1.0), "frequency must be positive"),
    ],
)
def test_wrong_modes_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
