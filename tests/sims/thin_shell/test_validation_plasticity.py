"""Creases beside the return map: mandrels, moments, folds, damage."""

from __future__ import annotations

import math

import pytest
import torch

from sims.thin_shell import Sheet
from sims.thin_shell.validation import plasticity

CELLS = (18, 6)


def assert_all_pass(findings):
    assert findings.rows
    assert not [row for row in findings.rows if row.verdict != "pass"]


def test_a_mandrel_has_its_curvature_in_any_direction():
    sheet = Sheet.rectangle(0.06, 0.02, (12, 4), plasticity.CARD)
    flat = sheet.vertices - sheet.vertices.mean(dim=0)
    for turn in (0.0, 0.5, -1.2):
        wound = plasticity.mandrel(flat, 20.0, turn)
        found = plasticity.cylinder_curvature(wound, sheet.faces)
        # chords of 5 mm on a radius of 50 mm: the normals find the axis to a thousandth
        assert found == pytest.approx(20.0, rel=5e-3)


@pytest.mark.parametrize("pattern", plasticity.PATTERNS)
def test_what_stays_of_a_mandrel_is_the_law_on_every_mesh(pattern):
    assert_all_pass(plasticity.release(CELLS, pattern))


@pytest.mark.parametrize("hardening", [0.1, 1.0])
def test_hardening_keeps_less(hardening):
    assert_all_pass(plasticity.release(CELLS, "alternating", hardening))


def test_oblique_creases_differ_by_less_than_a_tenth():
    straight, oblique = (
        plasticity.release((12, 4), "diagonal", turn=math.radians(turn)).rows[0]
        for turn in (0.0, 30.0)
    )
    assert abs(oblique.ours / straight.ours - 1) < plasticity.ALIKE


def test_moments_harden_and_release_elastically():
    found = plasticity.moment_curve((12, 4))
    assert_all_pass(found)
    (curve,) = found.curves
    torch.testing.assert_close(
        torch.from_numpy(curve.ours), torch.from_numpy(curve.reference), rtol=5e-3, atol=5e-3
    )


def test_damage_softens():
    assert_all_pass(plasticity.softening((12, 4)))


def test_a_fold_keeps_its_angle_but_for_springback():
    assert_all_pass(plasticity.crease((12, 4)))
