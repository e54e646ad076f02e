"""Vibrations, motion, buckling and shapes beside closed solutions, on meshes that take seconds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sims.thin_shell.integrators import INTEGRATORS
from sims.thin_shell.validation import buckling, conservation, dynamics, shapes

# Frequencies of plates in the centre of a cell's error: second order, 16 to 24 cells across
COARSE_STRIP = 0.02
COARSE_PLATE = 0.065


def worst(findings, quantity=""):
    return max(abs(row.error) for row in findings.rows if row.quantity.startswith(quantity))


def assert_all_pass(findings):
    judged = [row for row in findings.rows if row.tolerance is not None]
    assert judged
    assert not [row for row in judged if row.verdict != "pass"]


def test_four_bending_modes_of_a_cantilever_strip():
    found = dynamics.strips((32, 2))
    assert_all_pass(found)
    assert worst(found, "w") < COARSE_STRIP


@pytest.mark.parametrize("support", ["supported", "free"])
def test_four_modes_of_a_plate_converge_at_second_order(support):
    coarse, fine = (dynamics.plates(cells, support) for cells in (16, 32))
    assert worst(coarse, "w") < COARSE_PLATE
    assert 3 < worst(coarse, "w") / worst(fine, "w") < 5
    assert_all_pass(fine)


def test_a_clamped_plate_comes_from_below():
    found = dynamics.plates(24, "clamped", judged=False)
    errors = [row.error for row in found.rows]
    assert all(-COARSE_PLATE < error < 0 for error in errors)


def test_plates_on_supports_have_the_closed_frequencies():
    a, b = 0.2, 0.1
    first, second = dynamics.supported_frequencies((a, b), 2)
    unit = math.pi**2 * dynamics.speed(dynamics.PLATE)
    assert first == pytest.approx(unit * (1 / a**2 + 1 / b**2))
    assert second == pytest.approx(unit * (4 / a**2 + 1 / b**2))


def test_a_strip_swings_at_its_first_frequency():
    scene = dynamics.strip((20, 1))
    exact = (dynamics.ROOTS[0] / dynamics.LENGTH) ** 2 * dynamics.speed(dynamics.STRIP)
    found = dynamics.history(scene, "strip", exact, dynamics.FIRST, "20x1", periods=1.25)
    assert_all_pass(found)
    (curve,) = found.curves
    phase, moved = curve.ours.T
    assert abs(moved - np.cos(phase)).max() < 0.1  # 1 percent of phase over eight radians


@pytest.mark.parametrize("membrane", ["stvk", "neo-hookean"])
@pytest.mark.parametrize("strain", conservation.STRAINS)
@pytest.mark.parametrize("pattern", ["alternating", "delaunay"])
def test_uniform_strain_passes_through_random_meshes(pattern, strain, membrane):
    assert_all_pass(conservation.patch((5, 5), pattern, strain, membrane))


@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_sheets_fall_and_spin_as_particles_do(integrator):
    assert_all_pass(conservation.free_fall(integrator, steps=30))
    assert_all_pass(conservation.rotation(integrator, steps=30))


def test_newmark_keeps_the_energy_of_a_flapping_sheet_and_bdf2_loses_a_little():
    kept = {
        name: conservation.energy_drift(name, "rubber", conservation.RUBBER, 1e-3, 100, (5, 5))
        for name in ("bdf2", "newmark")
    }
    end = {name: found.rows[0].ours for name, found in kept.items()}
    assert abs(end["newmark"] - 1) < 0.01
    assert 0.9 < end["bdf2"] < end["newmark"]


@pytest.mark.parametrize("kind", buckling.LOADS)
def test_columns_buckle_at_their_loads(kind):
    assert_all_pass(buckling.column_load(kind, (40, 2)))


def test_deep_strips_tip_over_as_beams_when_they_are_narrow():
    narrow, wide = (buckling.tipping_load((60, 4), slender) for slender in (0.025, 0.05))
    assert_all_pass(narrow)
    assert_all_pass(wide)
    assert worst(narrow) < worst(wide)


def test_a_bowed_strip_goes_far_at_the_load_at_which_a_straight_one_tips():
    found = buckling.seeded_tipping((48, 4))
    assert_all_pass(found)
    straight = buckling.tipping_load((48, 4)).rows[0].ours
    assert found.rows[0].ours == pytest.approx(straight, rel=0.02)  # the bow blunts it


def test_a_hanging_strip_is_a_catenary():
    assert_all_pass(shapes.hanging(1.2, (64, 1)))


def test_catenaries_of_the_literature():
    # a and sag for a span of 1 and these lengths
    for length, expected in ((1.1, (0.65496, 0.20030)), (3.0, (0.17615, 1.33416))):
        assert shapes.catenary(length) == pytest.approx(expected, abs=1e-5)


def test_a_disc_mesh_is_a_disc():
    vertices, faces = shapes.disc(4, 2.0)
    assert vertices.shape == (61, 3)
    assert faces.shape == (96, 3)
    a, b, c = vertices[faces].unbind(1)
    normals = torch.linalg.cross(b - a, c - a) / 2
    assert (normals[:, 2] > 0).all()
    polygon = 24 / 2 * 4 * math.sin(2 * math.pi / 24)
    assert float(normals[:, 2].sum()) == pytest.approx(polygon)


def test_stiffer_cloth_drapes_less():
    found = shapes.drapes(5, shapes.STIFFNESSES[2:4])
    assert_all_pass(found)
    limp, stiff = (row.ours for row in found.rows if row.quantity.startswith("drape"))
    assert 0 < limp < stiff < 1
