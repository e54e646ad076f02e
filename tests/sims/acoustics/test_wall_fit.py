"""Passive walls fitted to formulas and to tables: how close, how smooth, and what is refused."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from geomopt.errors import InputError
from sims.acoustics.exact.box_modes import box_modes
from sims.acoustics.walls.miki import surface_impedance
from sims.acoustics.walls.pole_residues import read_pole_residues
from sims.acoustics.walls.wall import Wall

BANDS = [125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0]
BAND = np.geomspace(40.0, 2000.0, 80)
POLES = "miki_10000_30mm_polefit.csv"


@pytest.fixture
def pole_residues():
    folder = Path(__file__).resolve().parents[4] / "shared" / "data" / "acoustics"
    if not (folder / POLES).exists():
        pytest.skip(f"{POLES} is not here")
    return read_pole_residues(folder / POLES)


def test_a_porous_layer_by_few_branches():
    wall = Wall.miki(flow_resistivity=1e4, thickness=0.03)
    assert len(wall.branches) == 4
    assert wall.fit_error.admittance < 2e-3
    assert wall.fit_error.reflection < 1e-3
    assert wall.fit_error.dissipation < 1e-2
    # also between the frequencies of the fit
    f = np.linspace(40.0, 2000.0, 997)
    z = torch.from_numpy(surface_impedance(f, 1e4, 0.03) / 411.6)
    assert float((wall.reflection(f) - (z - 1) / (z + 1)).abs().max()) < 1e-3
    assert Wall.miki(flow_resistivity=1e4, thickness=0.03) is wall


@pytest.mark.parametrize(
    ("flow_resistivity", "thickness", "air_gap", "reflection"),
    # thick layers and deep gaps have more resonances in the band than there are branches
    [
        (5e4, 0.1, 0.0, 0.002),
        (1e4, 0.05, 0.05, 0.002),
        (3e3, 0.2, 0.0, 0.01),
        (2e4, 0.05, 0.1, 0.02),
    ],
)
def test_other_layers(flow_resistivity, thickness, air_gap, reflection):
    wall = Wall.miki(flow_resistivity, thickness, air_gap)
    z = torch.from_numpy(surface_impedance(BAND, flow_resistivity, thickness, air_gap) / 411.6)
    error = float((wall.reflection(BAND) - (z - 1) / (z + 1)).abs().max())
    assert error < reflection
    assert wall.fit_error.reflection == pytest.approx(error, rel=1e-3)


def test_where_the_formula_is_active_the_band_begins_higher():
    wall = Wall.miki(142467.0, 0.005)
    assert wall.fit_error.band[0] > 40.0
    assert wall.fit_error.reflection < 0.01


def test_decay_of_a_cube_with_the_fit_is_that_of_its_data(pole_residues):
    s = 2j * np.pi * torch.from_numpy(BAND)
    wall = Wall.from_impedance(BAND, 411.6 / pole_residues.admittance_at(s))
    indices = [[1, 0, 0], [1, 1, 1], [2, 1, 0], [3, 2, 1], [4, 0, 0]]
    given = box_modes((2.0, 2.0, 2.0), pole_residues.admittance_at, indices)
    fitted = box_modes((2.0, 2.0, 2.0), wall.admittance_at, indices)
    torch.testing.assert_close(fitted.frequencies, given.frequencies, rtol=1e-4, atol=0)
    torch.testing.assert_close(
        fitted.reverberation_times, given.reverberation_times, rtol=5e-3, atol=0
    )


def test_decay_of_a_cube_with_a_porous_layer_is_that_of_its_formula():
    def formula(s):
        z = surface_impedance((s / 2j / np.pi).numpy(), 1e4, 0.03)
        return torch.from_numpy(411.6 / z)

    indices = [[1, 0, 0], [1, 1, 1], [2, 1, 0], [3, 2, 1], [4, 0, 0]]
    given = box_modes((2.0, 2.0, 2.0), formula, indices)
    fitted = box_modes((2.0, 2.0, 2.0), Wall.miki(1e4, 0.03).admittance_at, indices)
    torch.testing.assert_close(fitted.frequencies, given.frequencies, rtol=1e-4, atol=0)
    torch.testing.assert_close(
        fitted.reverberation_times, given.reverberation_times, rtol=5e-3, atol=0
    )


@pytest.mark.parametrize(
    "branch", [[0.0, 18.0, 0.0], [2e-3, 1.5, 0.0], [0.0, 0.7, 4e3], [3e-4, 0.2, 9e3], [1e-3, 0, 0]]
)
def test_data_of_one_branch_give_the_branch(branch):
    source = Wall(torch.tensor([branch]))
    data = 411.6 / source.admittance(BAND)
    wall = Wall.from_impedance(torch.from_numpy(BAND), data)
    assert len(wall.branches) == 1
    torch.testing.assert_close(wall.admittance(BAND), source.admittance(BAND), rtol=1e-5, atol=0)


def test_one_frequency_is_enough_for_one_branch():
    wall = Wall.from_impedance([500.0], [300.0 - 800.0j])
    assert complex(411.6 / wall.admittance(500.0)) == pytest.approx(300 - 800j, rel=1e-4)


def test_noise_in_the_data_does_not_spoil_the_fit():
    spread = np.random.default_rng(0)
    z = surface_impedance(BAND, 1e4, 0.03)
    noisy = z * (1.0 + 0.02 * spread.standard_normal(len(z)))
    wall = Wall.from_impedance(BAND, noisy)
    truth = (z / 411.6 - 1) / (z / 411.6 + 1)
    error = np.abs(wall.reflection(BAND).numpy() - truth)
    assert error.max() < 0.02  # the noise itself moves R by up to 0.035
    assert np.sqrt((error**2).mean()) < 0.004


def test_long_tables_are_fitted_as_well_as_short_ones():
    f = np.arange(40.0, 2000.0)
    wall = Wall.from_impedance(f, surface_impedance(f, 1e4, 0.03))
    assert wall.fit_error.reflection < 1e-3
    alpha = 1 - wall.reflection(f).abs() ** 2
    tube = Wall.from_absorption(f, alpha, incidence="normal")
    assert tube.fit_error.absorption < 0.02  # the tolerance of absorption


# octave bands of typical surfaces: hard, carpet, curtain, panel that resonates, tile
TABLES = {
    "concrete": [0.01, 0.01, 0.02, 0.02, 0.02, 0.03],
    "carpet": [0.02, 0.06, 0.14, 0.37, 0.60, 0.65],
    "curtain": [0.07, 0.31, 0.49, 0.75, 0.70, 0.60],
    "panel": [0.28, 0.22, 0.17, 0.09, 0.10, 0.11],
    "tile": [0.70, 0.66, 0.72, 0.92, 0.88, 0.75],
}


@pytest.mark.parametrize(
    ("name", "incidence"), [*((name, "random") for name in TABLES), ("tile", "normal")]
)
def test_tables_of_absorption(name, incidence):
    alpha = np.array(TABLES[name])
    wall = Wall.from_absorption(BANDS, alpha, incidence)
    reached = wall.absorption(BANDS, incidence).numpy()
    assert np.abs(reached - alpha).max() == pytest.approx(wall.fit_error.absorption, abs=1e-12)
    assert np.all(np.abs(reached - alpha) < 0.05 * (alpha + 0.02))
    # no resonance between the bands, nor half an octave beside them
    f = np.geomspace(90.0, 5600.0, 200)
    between = wall.absorption(f, incidence).numpy()
    within = np.interp(np.log(f), np.log(BANDS), alpha)
    assert np.abs(between - within).max() < 0.12


@pytest.mark.parametrize("incidence", ["random", "normal"])
@pytest.mark.parametrize("alpha", [1e-3, 0.05, 0.32272, 0.8, 0.95])
def test_equal_absorption_is_a_resistance_above_that_of_air(alpha, incidence):
    wall = Wall.from_absorption(BANDS, [alpha] * 6, incidence=incidence)
    assert wall.branches[:, 0].tolist() == [0.0]
    assert wall.branches[:, 2].tolist() == [0.0]
    assert float(wall.branches[0, 1]) > 1.0
    assert wall.absorption(37.0, incidence) == pytest.approx(alpha, abs=1e-12)


def test_the_hard_wall_has_the_absorption_of_its_table():
    # 7400 Pa s/m takes 0.19966 at normal and 0.32272 at random incidence
    normal = Wall.from_absorption([500.0], [0.19966], incidence="normal")
    random = Wall.from_absorption([500.0], [0.32272])
    for wall in (normal, random):
        assert float(wall.branches[0, 1]) * 411.6 == pytest.approx(7400.0, rel=1e-4)


def test_the_ends_of_the_scale():
    assert len(Wall.from_absorption(BANDS, [0.0] * 6).branches) == 0
    all_of_it = Wall.from_absorption([500.0], [1.0], incidence="normal")
    assert float(all_of_it.absorption(500.0, "normal")) == pytest.approx(1.0)
    # no locally reacting wall takes more than 0.951 from all sides
    most = Wall.from_absorption(BANDS, [1.0] * 6)
    assert float(most.absorption(500.0)) == pytest.approx(0.951, abs=5e-4)
    assert most.fit_error is not None
    assert most.fit_error.absorption == pytest.approx(0.049, abs=5e-4)
    some = Wall.from_absorption(BANDS, [0.3, 0.6, 0.9, 1.0, 1.0, 0.98])
    assert some.absorption(BANDS).tolist() == pytest.approx(
        [0.3, 0.6, 0.9, 0.951, 0.951, 0.951], abs=0.03
    )


GOOD = [100.0, 200.0, 400.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Wall.from_absorption(GOOD, [0.1, -0.2, 0.3]), "got -0.2 at 200 Hz"),
        (lambda: Wall.from_absorption(GOOD, [0.1, 0.2, 1.05]), "replace them by 1 or less"),
        (lambda: Wall.from_absorption(GOOD, [0.1, math.nan, 0.3]), "alpha must be finite, got nan"),
        (lambda: Wall.from_absorption(GOOD, [0.1, 0.2]), "alpha must have shape"),
        (lambda: Wall.from_absorption([100, 400, 200], [0.1] * 3), "bands must be rising, got 200"),
        (lambda: Wall.from_absorption([100, 100], [0.1] * 2), "bands must be rising"),
        (lambda: Wall.from_absorption([0.0, 100], [0.1] * 2), "bands must be positive"),
        (lambda: Wall.from_absorption([], []), "bands must be numbers"),
        (lambda: Wall.from_absorption("125 Hz", [0.1]), "bands must be numbers"),
        (lambda: Wall.from_absorption(500.0, 0.1), "bands must be numbers"),
        (lambda: Wall.from_absorption(GOOD, [0.1j] * 3), "alpha must be real"),
        (lambda: Wall.from_absorption(GOOD, [0.1] * 3, "oblique"), "incidence must be"),
        (lambda: Wall.from_absorption(GOOD, [0.1] * 3, tolerance=0.0), "tolerance must be"),
        (lambda: Wall.from_impedance(GOOD, [9 + 1j, -1 + 5j, 3j]), "passive.*at 200 Hz"),
        (lambda: Wall.from_impedance(GOOD, [9, 0, 9]), "impedance must not be 0, got 0 at 200 Hz"),
        (lambda: Wall.from_impedance(GOOD, [9, 9, math.inf]), "impedance must be finite"),
        (lambda: Wall.from_impedance(GOOD, [9, 9]), "impedance must have shape"),
        (lambda: Wall.from_impedance(GOOD, None), "impedance must be numbers"),
        (lambda: Wall.from_impedance([1, 2, -3], [9, 9, 9]), "frequencies must be positive"),
        (lambda: Wall.miki(1e4, 0.03, 0.2), "the band has to end below"),
        (lambda: Wall.miki(1e5, 0.003, band=(20.0, 60.0)), "formula gives out energy up to"),
        (lambda: Wall.miki(0.0, 0.03), "flow_resistivity must be positive"),
        (lambda: Wall.miki(1e4, -0.03), "thickness must be positive"),
        (lambda: Wall.miki(1e4, math.nan), "thickness must be positive"),
        (lambda: Wall.miki(1e4, "30 mm"), "thickness must be positive"),  # type: ignore
        (lambda: Wall.miki(1e4, 0.03, -0.1), "air_gap must be at least 0"),
        (lambda: Wall.miki(1e4, 0.03, band=(500.0, 100.0)), "band must be two rising"),
        (lambda: Wall.miki(1e4, 0.03, band=500.0), "band must be two frequencies"),  # type: ignore
    ],
)
def test_tables_that_cannot_be_walls_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind,p1\nodd,1,2\n", "kind must be one of real, pair, Yinf"),
        ("kind,p1\nreal,1\n", "must hold 2 finite numbers"),
        ("real,a,b\n", "must hold numbers"),
        ("", "empty"),
    ],
)
def test_files_of_poles_that_cannot_be_read_are_named(tmp_path, text, message):
    path = tmp_path / "poles.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_pole_residues(path)
    with pytest.raises(InputError, match="readable CSV file"):
        read_pole_residues(tmp_path / "none.csv")


def test_poles_and_residues_add_up(tmp_path):
    path = tmp_path / "poles.csv"
    path.write_text("# Y\nkind,p1,p2,p3,p4\nreal,2,30\npair,1,3,40,500\nYinf,1e-3\n", "utf-8")
    s = torch.tensor([200j, 10 + 5j], dtype=torch.complex128)
    pair = (1 + 3j) / (s + 40 + 500j) + (1 - 3j) / (s + 40 - 500j)
    expected = 411.6 * (1e-3 + 2 / (s + 30) + pair)
    torch.testing.assert_close(read_pole_residues(path).admittance_at(s), expected)
