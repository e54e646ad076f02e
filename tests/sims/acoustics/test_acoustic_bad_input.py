"""What cannot be solved is refused with the argument, its value and the remedy."""

import math

import numpy as np
import pytest
import torch

from geomopt.errors import InputError
from sims.acoustics import Emission, Pulse, Room, Solver, Wall

INSIDE = (1.0, 1.0, 1.0)
SIGNAL = np.sin(np.linspace(0.0, 20.0, 100))


@pytest.fixture(scope="module")
def room():
    return Room.box(2.0, 2.0, 2.0, walls=Wall.impedance(2000.0))


@pytest.fixture(scope="module")
def solver(room):
    return Solver(room, fmax=200.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"order": 4.0}, "order"),
        ({"order": True}, "order"),
        ({"time_step": "short"}, "time_step"),
        ({"time_step": 1j}, "time_step"),
        ({"time_step": 1.0}, "time_step"),
        ({"nodes_per_wavelength": 1e5}, "GiB|too many|nodes"),
    ],
)
def test_settings(room, options, said):
    with pytest.raises(InputError, match=said):
        Solver(room, **{"fmax": 200.0, **options})


@pytest.mark.parametrize("boxes", [None, 5, [1, 2], "box"])
def test_boxes(boxes):
    with pytest.raises(InputError, match="bricks must"):
        Room.bricks(boxes, walls=Wall.rigid())
    with pytest.raises(InputError, match="furniture must"):
        Room.bricks([((0, 0, 0), (2, 2, 2))], walls=Wall.rigid(), furniture=boxes)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (torch.tensor([1j, 1.0, 1.0]), "source"),
        (Pulse(INSIDE, width=1e6), "width of a pulse must be .* lower"),
        (Pulse(INSIDE, width=1e-3), "width of a pulse must be .* raise"),
        (Emission(INSIDE, SIGNAL, math.inf), "rate"),
        (Emission(INSIDE, SIGNAL, "fast"), "rate"),
        (Emission(INSIDE, SIGNAL, None), "rate"),
        (Emission(INSIDE, 1j * SIGNAL, 1000.0), "signal"),
    ],
)
def test_sources(solver, source, said):
    with pytest.raises(InputError, match=said):
        solver.simulate(source, [INSIDE], 0.01)


def test_runs(solver):
    with pytest.raises(InputError, match="duration must be at most"):
        solver.simulate(INSIDE, [INSIDE], 1e12)
    with pytest.raises(InputError, match="receivers times steps"):
        solver.simulate(INSIDE, torch.ones(2**12, 3), 1e6 * solver.time_step)
    with pytest.raises(InputError, match="memory"):
        solver.simulate(INSIDE, [INSIDE], 0.01, memory="all")
    with pytest.raises(InputError, match="walls must be"):
        solver.simulate(INSIDE, [INSIDE], 0.01, walls=5)


@pytest.mark.parametrize("low", [(5.0, 5.0, 5.0), (0.5, 0.5, 0.5)])
def test_patches_off_the_walls(room, low):
    high = tuple(place + 1.0 for place in low)
    with pytest.raises(InputError, match="patch 'panel' .* none"):
        Solver(room.with_patch("panel", low, high, Wall.rigid()), fmax=200.0)
