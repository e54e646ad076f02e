"""Pulses in free space and in rigid boxes: tables, the wave equation, images against modes."""

import math

import pytest
import torch

from geomopt.errors import InputError
from sims.acoustics.exact.images import free_field, image_sum, rigid_modes

SPEED = 343.0
CUBE = (2.0, 2.0, 2.0)
SOURCE = (0.7, 0.9, 1.1)
WIDTH = SPEED / (math.pi * 500.0)  # the pulse of a 1 kHz problem
RECEIVERS = [(1.5, 1.3, 0.6), (0.4, 1.6, 1.5)]
TIMES = torch.tensor([2, 5, 8, 12, 20, 30, 40, 50], dtype=torch.float64) / 1e3
# the sum of images at these times, by an independent program, to the digits given
TABLE = torch.tensor(
    [
        [0.014905, 0.054548, 0.023049, -0.001995, -0.029285, 0.069001, 0.059150, 0.035524],
        [0.053594, -0.014537, 0.035748, -0.018376, 0.018456, -0.005782, -0.005930, 0.033873],
    ],
    dtype=torch.float64,
)


def test_the_table_of_the_cube():
    pressure = image_sum(CUBE, SOURCE, RECEIVERS, TIMES, WIDTH)
    torch.testing.assert_close(pressure, TABLE, rtol=0, atol=6e-7)
    dense = torch.linspace(0.0, 0.05, 5001, dtype=torch.float64)
    pressure = image_sum(CUBE, SOURCE, RECEIVERS, dense, WIDTH)
    assert pressure.square().mean(dim=1).sqrt().tolist() == pytest.approx(
        [0.0339, 0.0231], abs=5.1e-5
    )
    peaks, at = pressure.abs().max(dim=1)
    assert peaks.tolist() == pytest.approx([0.0931, 0.0611], abs=1.1e-4)
    assert dense[at].tolist() == pytest.approx([0.0302, 0.0129], abs=1.1e-4)


@pytest.mark.parametrize("lengths", [CUBE, (5.3, 0.8, 2.1)])
def test_images_and_modes_are_the_same_field(lengths):
    size = torch.tensor(lengths, dtype=torch.float64)
    spread = torch.Generator().manual_seed(0)
    points = torch.rand(6, 3, generator=spread, dtype=torch.float64) * size
    points[0] = 0.0  # in a corner
    points[1] = points[2]  # at the source itself
    times = torch.tensor([0.0, 0.04, 1e-4, 0.013], dtype=torch.float64)
    images = image_sum(lengths, points[2], points, times, 0.25, amplitude=3.0)
    modes = rigid_modes(lengths, points[2], points, times, 0.25, amplitude=3.0)
    torch.testing.assert_close(images, modes, rtol=0, atol=1e-11)


def test_the_mean_pressure_of_a_closed_box_stays():
    # midpoints integrate cosines exactly, of an index below twice their number
    grid = (torch.arange(8, dtype=torch.float64) + 0.5) / 4.0
    points = torch.cartesian_prod(grid, grid, grid)
    pressure = rigid_modes(CUBE, SOURCE, points, [0.0, 0.031, 7.0], 0.5, cutoff=1e-8)
    mean = math.pi**1.5 * 0.5**3 / 8.0
    assert pressure.mean(dim=0).tolist() == pytest.approx([mean] * 3, rel=1e-10)


def test_late_times_are_left_to_modes():
    with pytest.raises(InputError, match="rigid_modes gives the same field"):
        image_sum(CUBE, SOURCE, RECEIVERS, [2.0], WIDTH)
    assert rigid_modes(CUBE, SOURCE, RECEIVERS, [2.0], WIDTH).shape == (2, 1)


@pytest.mark.parametrize("distance", [0.0, 0.0019, 0.0021, 0.3, 4.0])
@pytest.mark.parametrize("time", [0.0, 3e-4, 0.0117])
def test_the_free_field_solves_the_wave_equation(distance, time):
    """d²p/dt² = c² (p'' + 2 p'/r), with p'' + 2 p'/r = 3 p'' at r = 0."""
    r = torch.tensor(distance, dtype=torch.float64, requires_grad=True)
    t = torch.tensor(time, dtype=torch.float64, requires_grad=True)
    pressure = free_field(r, t, 0.2)
    by_r, by_t = torch.autograd.grad(pressure, (r, t), create_graph=True)
    (by_rr,) = torch.autograd.grad(by_r, r, retain_graph=True)
    (by_tt,) = torch.autograd.grad(by_t, t)
    laplacian = 3 * by_rr if distance == 0 else by_rr + 2 * by_r / r
    # in units of c² / width², of which the terms are
    assert float((by_tt / SPEED**2 - laplacian).detach()) * 0.2**2 == pytest.approx(0.0, abs=1e-7)


def test_the_free_field_starts_as_the_pulse():
    r = torch.linspace(0.0, 1.0, 50, dtype=torch.float64)
    start = free_field(r, torch.zeros(1, dtype=torch.float64), 0.2, amplitude=2.0)
    torch.testing.assert_close(start, 2.0 * torch.exp(-((r / 0.2) ** 2)), rtol=0, atol=1e-14)


@pytest.mark.parametrize("field", [image_sum, rigid_modes])
def test_gradients_reach_source_receivers_room_and_pulse(field):
    times = torch.tensor([0.0, 0.004, 0.011], dtype=torch.float64)
    inputs = [
        torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for value in (
            (1.1, 0.9, 1.3),
            (0.5, 0.3, 0.7),
            [(0.5, 0.3, 0.7), (1.0, 0.2, 0.1)],
            0.3,
            1.5,
        )
    ]
    assert torch.autograd.gradcheck(
        lambda size, source, receivers, width, amplitude: field(
            size, source, receivers, times, width, amplitude
        ),
        inputs, eps=1e-6, atol=1e-8, rtol=1e-6,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lengths": (2.0, 2.0)}, "lengths must have shape"),
        ({"lengths": (2.0, -2.0, 2.0)}, "lengths must be positive"),
        ({"source": (0.7, 0.9, 2.1)}, "source must lie in the box"),
        ({"receivers": [(3.0, 0.0, 0.0)]}, "receivers must lie in the box"),
        ({"receivers": (1.0, 1.0, 1.0)}, "receivers must have shape"),
        ({"times": [0.1, -0.1]}, "times must be at least 0"),
        ({"times": [math.nan]}, "times must be finite"),
        ({"width": 0.0}, "width must be positive"),
        ({"source": "here"}, "source must be real numbers"),
    ],
)
def test_wrong_boxes_are_named(changes, message):
    given = {"lengths": CUBE, "source": SOURCE, "receivers": RECEIVERS, "times": TIMES}
    for field in (image_sum, rigid_modes):
        with pytest.raises(InputError, match=message):
            field(**{**given, "width": WIDTH, **changes})
