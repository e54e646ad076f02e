"""The validation as a study, and small ones of its problems."""

import math

import numpy as np
import pytest
import torch

from geomopt.errors import InputError
from geomopt.runs.spec import apply, find, read_table, resolve
from sims.acoustics import Wall
from sims.acoustics.air import CHARACTERISTIC_IMPEDANCE
from sims.acoustics.exact.box_modes import box_modes
from sims.acoustics.exact.images import image_sum
from sims.acoustics.source import default_width
from sims.acoustics.validation import (
    energy_balance,
    modes,
    orders,
    reciprocity,
    reflection,
    rigid_cube,
)
from sims.acoustics.validation.pictures import draw
from sims.acoustics.validation.rows import Line, Panel, Picture, Row
from sims.acoustics.validation.study import FAMILIES, AcousticsValidation, all_cases


def assert_all_pass(findings):
    judged = [row for row in findings.rows if row.tolerance is not None]
    assert judged
    missed = [
        f"{row.case}, {row.quantity}: {row.error:.3g}"
        for row in judged
        if row.error > row.tolerance
    ]
    assert not missed


def test_the_rigid_cube_agrees_with_its_images():
    assert_all_pass(rigid_cube.early(4, 6.0, torch.float32, rigid_cube.TOLERANCE))


def test_the_images_are_those_that_were_computed_elsewhere():
    """Pressures in the 2 m cube at 2, 5, 8, 12, 20, 30, 40 and 50 ms, rounded to six decimals."""
    times = torch.tensor([2, 5, 8, 12, 20, 30, 40, 50]) / 1e3
    found = image_sum(
        rigid_cube.CUBE, rigid_cube.SOURCE, rigid_cube.RECEIVERS[:2], times, default_width(1000.0)
    )
    first = [0.014905, 0.054548, 0.023049, -0.001995, -0.029285, 0.069001, 0.059150, 0.035524]
    second = [0.053594, -0.014537, 0.035748, -0.018376, 0.018456, -0.005782, -0.005930, 0.033873]
    assert torch.allclose(found, torch.tensor([first, second]).double(), rtol=0, atol=1e-6)


def test_late_sound_is_compared_with_what_starts_along_with_its_images():
    assert_all_pass(rigid_cube.late())


def test_the_miki_layer_reflects_as_its_closed_form_says():
    layer = Wall.miki(1e4, 0.03)
    found = reflection.normal_incidence("Miki", layer, reflection.layer_admittance, "Miki")
    assert_all_pass(found)


def test_a_matched_wall_sends_next_to_nothing_back():
    """Without the correction of resistances, (w dt)² / 24; with it a part of (w dt)³ / 83."""
    frequencies = torch.tensor([200.0, 400.0], dtype=torch.float64)
    found, solver = reflection.in_tube(Wall.impedance(CHARACTERISTIC_IMPEDANCE), frequencies)
    largest = (2 * math.pi * frequencies * solver.time_step) ** 3 / 83
    assert (found.abs() < largest).all()


def test_a_mode_across_a_duct_meets_the_wall_at_an_angle():
    assert_all_pass(reflection.oblique())


def test_the_pencil_finds_what_a_sum_of_exponentials_is_made_of():
    """Two damped oscillations and a decay; to rounding, times how alike the exponentials are."""
    exponents = torch.tensor([-20 + 900j, -35 + 2000j, -300 + 0j], dtype=torch.complex128)
    amplitudes = torch.tensor([1.0, 0.02, 0.1], dtype=torch.complex128)
    step = 4e-4
    times = step * torch.arange(240, dtype=torch.float64)
    signal = (amplitudes[:, None] * torch.exp(exponents[:, None] * times)).sum(0).real
    found, _ = modes.damped_exponentials(signal, step)
    assert abs(found[0].real + 20) < 1e-6
    assert abs(abs(found[0].imag) - 900) < 1e-6


@pytest.mark.parametrize(
    ("name", "wall"), [("hard", Wall.impedance(7400.0)), ("Miki", Wall.miki(1e4, 0.03))]
)
def test_modes_of_the_cube_ring_and_decay_as_the_walls_say(name, wall):
    assert_all_pass(modes.modes_of_cube(name, wall, 2, 400.0))


def test_the_layer_at_complex_frequencies_goes_on_from_the_closed_form():
    frequencies = torch.tensor([100.0, 300.0, 900.0], dtype=torch.float64)
    s = 2j * math.pi * frequencies
    assert torch.allclose(modes.layer(s), reflection.layer_admittance(frequencies), rtol=1e-12)


def test_hard_walls_have_the_modes_of_the_table():
    """f and T60 of the 2 m cube, xi = 17.979, to the digits given."""
    table = {
        (1, 0, 0): (85.6767, 0.1805),
        (2, 1, 1): (210.1429, 0.1204),
        (4, 0, 0): (343.3133, 0.1816),
    }
    found = box_modes((2.0,) * 3, Wall.impedance(7400.0).admittance_at, list(table))
    exact = torch.tensor(list(table.values()), dtype=torch.float64)
    assert torch.allclose(found.frequencies, exact[:, 0], rtol=0, atol=1e-4)
    assert torch.allclose(found.reverberation_times, exact[:, 1], rtol=0, atol=1e-4)


def test_orders_of_convergence():
    assert_all_pass(orders.in_elements(2, (4, 6)))
    assert_all_pass(orders.in_elements(4, (2, 3)))
    assert_all_pass(orders.in_time((1.0, 0.7)))


def test_the_default_walls_are_closer_than_those_of_the_safe_mode():
    default, safe = (orders.at_a_wall((1.0, 0.6, 0.4), flag) for flag in (False, True))
    assert_all_pass(default)
    assert_all_pass(safe)
    assert default.rows[1].error < 0.01 * safe.rows[1].error


def test_energy_in_a_tube_and_in_a_box():
    rooms = energy_balance.ROOMS
    assert_all_pass(energy_balance.rigid("box", rooms["box"], torch.float64, 200))
    walls = energy_balance.random_walls(5, ("left", "right"))
    assert_all_pass(energy_balance.passive("tube", rooms["tube"], walls, 200, False))


def test_reciprocity_between_two_places():
    assert_all_pass(reciprocity.swapped(torch.float64))


def test_verdicts():
    def row(error, tolerance):
        return Row("case", "quantity", 1.0, 1.0, error, tolerance, "", "")

    assert row(0.1, 0.2).verdict == "pass"
    assert row(0.3, 0.2).verdict == "miss"
    assert row(math.nan, 0.2).verdict == "miss"
    assert row(0.3, None).verdict == "report"


def test_pictures_are_named_by_their_titles(tmp_path):
    x = np.linspace(1, 2, 5)
    lines = [Line(style, x, x, style) for style in ("line", "points", "exact", "limit")]
    path = draw(Picture("Error, P=4", [Panel(("x [m]", "y"), lines, (True, False))] * 2), tmp_path)
    assert path.name == "error-p-4.png"
    assert path.stat().st_size > 1000


def test_the_shipped_spec_runs_the_chosen_cases(tmp_path):
    spec = resolve(apply(read_table(find("acoustics-validation")), ["cases=['reciprocity']"]))
    assert spec.settings == AcousticsValidation(cases=("reciprocity",))
    plan = spec.settings.plan(torch.device("cpu"), 0)
    assert list(plan) == ["reciprocity"]
    result = plan["reciprocity"](tmp_path)
    assert {row["verdict"] for row in result.rows} == {"pass"}
    assert result.metrics["worst error / tolerance"] < 1


def test_each_family_has_cases_of_its_own_name():
    assert len(all_cases()) == sum(len(family.CASES) for family in FAMILIES)
    assert {"rigid-cube", "reflection", "modes", "energy", "orders"} <= all_cases().keys()


def test_an_unknown_case_and_another_device_are_refused():
    with pytest.raises(InputError, match="did you mean 'reflection'"):
        AcousticsValidation(cases=("refection",))
    with pytest.raises(InputError, match="cpu"):
        AcousticsValidation().plan(torch.device("cuda"), 0)
