"""Statics against published and closed solutions, on meshes that take seconds."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from geomopt.errors import InputError
from geomopt.runs.spec import apply, find, read_table, resolve
from sims.thin_shell import Simulator
from sims.thin_shell.linearised import NearBuckling
from sims.thin_shell.validation import Row, cantilever, cylinder, heavy_sheet, hemisphere
from sims.thin_shell.validation.elastica import end_force, own_weight, sensitivity
from sims.thin_shell.validation.loading import follow
from sims.thin_shell.validation.pictures import draw
from sims.thin_shell.validation.sensitivities import of_stiffness, of_weight
from sims.thin_shell.validation.study import ShellValidation, all_cases

# Tip of the elastica under an end force k: u / L, w / L, du / dlnE, dw / dlnE; integrated to 1e-6
# with another method than that of `elastica.py`.
END_FORCE = {
    1.0: (0.056433, 0.301721, -0.096278, -0.248876),
    2.0: (0.160642, 0.493457, -0.205754, -0.285092),
    4.0: (0.328941, 0.669964, -0.263428, -0.212107),
}
# The same under its own weight Gamma: H / W, x / L, w / L.
OWN_WEIGHT = {
    0.1: (0.01250, 0.99991, 0.01250),
    5.0: (0.58572, 0.84666, 0.49591),
    100.0: (5.88810, 0.15922, 0.93752),
    10000.0: (69.709, 0.01426, 0.99411),
}


def assert_all_pass(findings):
    judged = [row for row in findings.rows if row.tolerance is not None]
    assert judged
    missed = [row for row in judged if row.verdict != "pass"]
    assert not missed


def test_a_row_is_judged_by_its_error():
    row = Row.of("case", "W", 2.0, 2.02, 0.02, "1x1", 4.0, 1.0)
    assert row.error == pytest.approx(0.01)
    assert row.verdict == "pass"
    assert replace(row, tolerance=0.005).verdict == "miss"
    assert replace(row, tolerance=None).verdict == "report"
    assert Row.of("case", "W", 0.0, -0.5, 0.1, "1x1", 4.0, 1.0, size=10.0).error == -0.05


@pytest.mark.parametrize("k", END_FORCE)
def test_the_elastica_under_an_end_force(k):
    x, w = end_force(k)
    du, dw = sensitivity(end_force, k) * (1, -1)  # of the stiffness: k falls as it grows
    assert (1 - x, w, du, dw) == pytest.approx(END_FORCE[k], abs=2e-6)


@pytest.mark.parametrize("gamma", OWN_WEIGHT)
def test_the_elastica_under_its_own_weight(gamma):
    x, w = own_weight(gamma)
    assert (w / x, x, w) == pytest.approx(OWN_WEIGHT[gamma], rel=1e-5, abs=6e-6)


def test_a_light_strip_sags_by_the_eighth_of_gamma():
    assert own_weight(1e-3)[1] == pytest.approx(1e-3 / 8, rel=1e-4)


def test_the_published_cantilever_is_the_elastica():
    assert_all_pass(cantilever.elastica_check())


@pytest.mark.parametrize(
    ("pattern", "cells"), [("alternating", (32, 2)), ("diagonal", (32, 2)), ("crossed", (24, 2))]
)
def test_dead_end_shear_on_all_rows_of_the_table(pattern, cells):
    findings = cantilever.dead_end_shear(cells, pattern)
    assert_all_pass(findings)
    assert findings.rows[0].iterations < 8  # full steps take 5 to 9, a line search three times more


def test_hinges_with_tied_sections_bend_as_the_elastica():
    findings = cantilever.dead_end_shear((32, 2), bending="hinge", tolerance=0.01, tied=True)
    assert_all_pass(findings)


@pytest.mark.parametrize("pattern", ["alternating", "diagonal"])
def test_a_strip_rolls_up_into_a_circle(pattern):
    assert_all_pass(cantilever.roll_up((16, 1), pattern))


def test_the_hemisphere_on_all_rows_of_the_table():
    assert_all_pass(hemisphere.hemisphere((16, 16)))


def test_the_hemisphere_is_linear_under_a_small_force():
    assert_all_pass(hemisphere.small_force((16, 16), tolerance=0.03))


def test_the_symmetry_of_the_hemisphere_is_that_of_the_whole():
    """The same quarter turned a quarter about the axis: in becomes out, so forces swap signs."""
    scene = hemisphere.quarter((6, 6), "crossed")
    x = scene.vertices
    pulled, pushed = int(x[:, 0].argmax()), int(x[:, 1].argmax())
    moved = []
    for first, second in ((1.0, -1.0), (-1.0, 1.0)):
        loads = torch.zeros_like(x)
        loads[pulled, 0], loads[pushed, 1] = 100 * first, 100 * second
        state = follow(Simulator(scene), [0.5, 1.0], loads).states[-1]
        moved.append(
            sorted([float((state.positions - x)[p, a]) for p, a in ((pulled, 0), (pushed, 1))])
        )
    # a mirror plane at 45 degrees swaps the two, but for the one vertex that keeps its height
    assert moved[0] == pytest.approx(moved[1], rel=1e-6)


@pytest.mark.slow
def test_the_cylinder_on_all_rows_but_the_swing():
    assert_all_pass(cylinder.pull_out((32, 24)))


def test_the_cylinder_before_its_swing():
    findings = cylinder.pull_out((16, 12), tolerance=0.04)
    early = [row for row in findings.rows if float(row.case.rpartition(" ")[2]) <= 0.4]
    assert len(early) == 30
    assert all(row.verdict == "pass" for row in early)


def test_the_weight_of_a_strip_grows_over_three_decades():
    gammas = (0.1, 1, 10, 50)
    assert_all_pass(heavy_sheet.heavy_sheet((32, 3), gammas, tolerance=0.01))


def test_sensitivities_by_the_adjoint_are_those_of_the_elastica():
    assert_all_pass(of_stiffness((32, 2), 2.0))
    assert_all_pass(of_weight((32, 3), 5.0))


def test_a_line_load_gives_corners_half():
    scene = heavy_sheet.strip((3, 4))
    tip = scene.vertices[:, 0] == heavy_sheet.LENGTH
    loads = scene.line_load(tip, (0.0, 0.0, 8.0))
    assert loads[tip, 2].tolist() == pytest.approx([1, 2, 2, 2, 1])
    assert float(loads.sum()) == pytest.approx(8.0)


def test_pictures_are_drawn_of_curves_and_shapes(tmp_path):
    draw(cantilever.roll_up((8, 1), increments=8), tmp_path)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["roll-up-full-moment.png", "roll-up-half-the-moment.png", "roll-up-tip.png"]


def test_the_shipped_spec_runs_the_chosen_cases(tmp_path):
    spec = resolve(apply(read_table(find("shell-validation")), ["cases=['elastica']"]))
    assert spec.settings == ShellValidation(cases=("elastica",))
    plan = spec.settings.plan(torch.device("cpu"), 0)
    assert list(plan) == ["elastica"]
    result = plan["elastica"](tmp_path)
    assert {row["verdict"] for row in result.rows} == {"pass"}
    assert result.metrics["worst error / tolerance"] < 1
    assert {"cantilever-shear", "hemisphere", "cylinder", "heavy-sheet"} <= all_cases().keys()


def test_an_unknown_case_is_refused():
    with pytest.raises(InputError, match="did you mean 'hemisphere'"):
        ShellValidation(cases=("hemispere",))


def test_the_tables_are_whole():
    for table, columns in ((cantilever.SHEAR, 3), (hemisphere.TABLE, 3), (cylinder.TABLE, 4)):
        assert table.shape[1] == columns
        assert np.all(np.diff(table[:, 0]) > 0)
        assert math.isclose(table[-1, 0], 1.0)


@pytest.mark.parametrize(("share", "near"), [(0.9, False), (0.995, True)])
def test_a_column_says_when_it_is_about_to_buckle(share, near):
    """Clamped and free, P = pi^2 B / (4 L^2) (Euler); the load leans by a ten thousandth."""
    logarithm = torch.zeros((), dtype=torch.float64, requires_grad=True)
    material = replace(heavy_sheet.MATERIAL, young=heavy_sheet.YOUNG * logarithm.exp())
    scene = heavy_sheet.strip((32, 3), material=material)
    critical = math.pi**2 * heavy_sheet.RIGIDITY / (4 * heavy_sheet.LENGTH**2)
    tip = scene.vertices[:, 0] == heavy_sheet.LENGTH
    loads = scene.line_load(tip, (-share * critical, 0.0, 1e-4 * critical))
    state = Simulator(scene).equilibrium(loads=loads, increments=4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (slope,) = torch.autograd.grad(state.positions[tip, 2].mean(), logarithm)
    assert [w.category for w in caught] == [NearBuckling] * near
    assert float(slope) < 0
