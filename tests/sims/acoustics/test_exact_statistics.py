"""Diffuse fields: formulas at the values of a 2 m cube, and their limits."""

import math

import pytest

from geomopt.errors import InputError
from sims.acoustics.exact.box_modes import mode_indices
from sims.acoustics.exact.statistics import eyring, mode_count, sabine, schroeder_frequency


@pytest.mark.parametrize(
    ("alpha", "of_sabine", "of_eyring"),
    [
        (0.19966, 0.2690, 0.2411),
        (0.32272, 0.1664, 0.1378),
        (0.10, 0.5370, 0.5097),
        (0.05, 1.0741, 1.0470),
    ],
)
def test_decay_of_a_cube(alpha, of_sabine, of_eyring):
    assert sabine(8.0, 24.0, alpha) == pytest.approx(of_sabine, abs=5.1e-5)
    assert eyring(8.0, 24.0, alpha) == pytest.approx(of_eyring, abs=5.1e-5)


def test_surfaces_add_up():
    assert sabine(8.0, [4.0, 20.0], [0.5, 0.05]) == pytest.approx(sabine(8.0, 24.0, 3.0 / 24.0))
    assert eyring(8.0, [4.0, 20.0], [0.5, 0.05]) == pytest.approx(eyring(8.0, 24.0, 3.0 / 24.0))
    assert sabine(8.0, 24.0, 0.0) == math.inf
    assert eyring(8.0, 24.0, 1.0) == 0.0


def test_modes_are_counted():
    assert mode_count((2.0, 2.0, 2.0), 1000.0) == pytest.approx(831 + 160 + 9, abs=1)
    lengths = (4.1, 3.3, 2.6)
    # the constant, which the average counts as one of its own
    counted = len(mode_indices(lengths, 800.0)) + 1
    assert mode_count(lengths, 800.0) == pytest.approx(counted, rel=0.01)


def test_modes_overlap_above_the_schroeder_frequency():
    assert schroeder_frequency(200.0, 2.0) == pytest.approx(200.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sabine(0.0, 24.0, 0.1), "volume must be positive"),
        (lambda: sabine(8.0, 24.0, 1.2), "absorptions must be from 0 to 1"),
        (lambda: eyring(8.0, [4.0, -1.0], [0.1, 0.1]), "areas must be from 0"),
        (lambda: eyring(8.0, [4.0], [0.1, 0.1]), "one value for each area"),
        (lambda: sabine(8.0, 0.0, 0.1), "areas must be above 0"),
        (lambda: mode_count((2.0, 2.0), 100.0), "lengths must be three"),
        (lambda: mode_count((2.0, 2.0, 2.0), math.nan), "frequency must be at least 0"),
        (lambda: schroeder_frequency(-8.0, 1.0), "volume must be positive"),
    ],
)
def test_wrong_rooms_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
