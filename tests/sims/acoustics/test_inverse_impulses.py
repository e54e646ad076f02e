"""Walls that are found from impulse responses as measurements give them."""

import math

import pytest
import torch

from sims.acoustics import Room, Solver, Wall
from sims.acoustics.auralize.deconvolution import LOWEST, impulse_response
from sims.acoustics.inverse.identify_walls import identify_walls
from sims.acoustics.inverse.measurement import Measurement
from sims.acoustics.inverse.modal_spectra import modal_room, modal_spectra
from sims.acoustics.inverse.point_response import impulse_over_point, point_pressure
from sims.acoustics.inverse.spectra import damped_spectrum, frequencies_of
from sims.acoustics.inverse.wall_check import wall_check
from sims.acoustics.source import default_width
from sims.acoustics.take import read_take, write_take

SIZE = (2.6, 2.1, 2.0)
SOURCE = (0.5, 0.6, 0.7)
# the nearest is 1.3 m from the source: the default pulse of FMAX is 1.1 m wide
RECEIVERS = [(2.2, 1.3, 0.6), (0.4, 1.7, 1.5), (2.1, 0.61, 1.4), (1.3, 0.4, 1.7)]
HELD_OUT = [(1.9, 0.9, 0.9), (0.9, 1.7, 0.5), (1.4, 1.6, 1.4)]
FMAX, WIDER, RATE, DURATION = 200.0, 500.0, 8000, 0.5
EARLIER = 80  # samples of silence before the source sounds
NOISE = 3e-4  # of the loudest sample
WALLS = {
    "left": Wall.impedance(6000.0),
    "right": Wall.miki(1e4, 0.06, band=(60.0, 1000.0)),
    "front": Wall.impedance(15000.0),
    "back": Wall.impedance(9000.0),
    "floor": Wall.impedance(20000.0),
    "ceiling": Wall(torch.tensor([[2e-3, 8.0, 1600.0], [0.0, 25.0, 0.0]])),
}


@pytest.fixture(scope="module")
def heard():
    """Impulse responses (R, T) at the receivers and at the places that are held out, of a solver
    whose band and mesh are 2.5 times finer.
    """
    solver = Solver(Room.box(*SIZE, walls=WALLS), WIDER)
    pressure = solver.simulate(SOURCE, RECEIVERS + HELD_OUT, DURATION).double()
    return impulse_response(pressure, solver.time_step, default_width(WIDER), rate=RATE)


def test_a_point_answers_as_an_impulse_of_the_solvers_pulse_does(heard):
    """Times the high-pass of `impulse_response`; 2 % are the mesh at 200 Hz, and what the wider
    pulse's response loses where it fades out.
    """
    solver = Solver(Room.box(*SIZE, walls=WALLS), FMAX)
    s = frequencies_of(50.0, FMAX, DURATION).s
    source = torch.tensor(SOURCE, dtype=torch.float64)
    receivers = torch.tensor(RECEIVERS, dtype=torch.float64)
    pressure = point_pressure(solver, source, receivers, DURATION)
    found = damped_spectrum(pressure, solver.time_step, s) * impulse_over_point(solver, s)
    z = 2 * math.pi * LOWEST / s
    exact = RATE * damped_spectrum(heard[: len(RECEIVERS)], 1 / RATE, s)
    apart = found / (1 + math.sqrt(2) * z + z.square()) - exact
    assert float(apart.norm() / exact.norm()) < 0.02
    room = modal_room(solver, source, receivers, FMAX)
    y = torch.stack([WALLS[name].admittance_at(s) for name in room.surfaces])
    modal = modal_spectra(room, s, y, torch.zeros_like(y)).of_impulse(s).pressure
    assert float((modal - found).norm() / found.norm()) < 0.01


def test_walls_are_found_from_impulse_responses(heard, tmp_path):
    """T30 and C50 at places that were not measured within a just noticeable difference of ISO
    3382-1, from files with a delay, noise, another gain and the other sign.
    """
    recorded = torch.nn.functional.pad(heard, (EARLIER, 0))
    recorded = -0.5 * recorded / recorded.abs().max()
    generator = torch.Generator().manual_seed(0)
    recorded += 0.5 * NOISE * torch.randn(recorded.shape, generator=generator, dtype=torch.float64)
    count = len(RECEIVERS)
    write_take(tmp_path, recorded[:count], RATE, SOURCE, RECEIVERS, "CC0-1.0")
    room = Room.box(*SIZE, walls=Wall.rigid())
    found = identify_walls(read_take(tmp_path), room, fmax=FMAX, branches=2)
    assert found.nuisance.impulse
    assert found.nuisance.sign == -1
    assert abs(found.speed_of_sound - 343.0) < 0.01 * 343.0
    place = torch.tensor(SOURCE).double(), torch.tensor(HELD_OUT).double()
    unheard = Measurement(recorded[count:], RATE, *place)
    for check in (*found.checks, wall_check(Solver(found.room, FMAX), unheard, found.nuisance)):
        assert bool((check.differences["t30"] <= 1).all())
        assert bool((check.differences["c50"] <= 1).all())
