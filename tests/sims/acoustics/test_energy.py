"""The discrete energy: what it is worth, and that the time loop keeps it."""

import math
from dataclasses import replace

import pytest
import torch

from sims.acoustics import Room, Solver, Wall
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.stepping.energy import energy, smoothed, solved
from sims.acoustics.stepping.marching import Stencils, march
from sims.acoustics.validation.energy_balance import (
    FIRST,
    energies,
    random_walls,
    rough_field,
)

SIZE = (1.1, 0.9, 0.7)
ROUNDING = 1e-12  # of the energy at the start, over a few hundred steps in float64
SIDES = ("left", "right", "front", "back", "floor", "ceiling")


def room_of(walls) -> Solver:
    return Solver(Room.box(*SIZE, walls=walls), 500.0, dtype=torch.float64)


def test_the_inverse_of_the_smoothing_undoes_it():
    solver = room_of(Wall.rigid())
    field = rough_field(solver)
    found = solved(solver.space, field, solver.time_step)
    back = smoothed(solver.space, found, solver.time_step)
    # the limit of conjugate gradients times the condition of T
    assert torch.allclose(back, field, rtol=0, atol=1e-11)


def test_a_mode_has_the_energy_of_its_amplitude():
    """p = cos(w t) cos(pi x / L) holds w² V / 4."""
    solver = room_of(Wall.rigid())
    omega = SPEED_OF_SOUND * math.pi / SIZE[0]
    shape = torch.cos(math.pi * solver.space.points[:, 0] / SIZE[0])
    _, found = energies(solver, shape, 20, 5)
    exact = omega**2 * math.prod(SIZE) / 4
    # second order in the step, (w dt)² / 12
    assert torch.allclose(found, found.new_tensor(exact), rtol=(omega * solver.time_step) ** 2)


@pytest.mark.parametrize("safe", [False, True])
def test_rigid_walls_keep_the_energy(safe):
    solver = Solver(Room.box(*SIZE, walls=Wall.rigid()), 500.0, safe=safe, dtype=torch.float64)
    _, found = energies(solver, rough_field(solver), 300, 20)
    assert torch.allclose(found, found[0], rtol=ROUNDING)


def test_walls_of_masses_and_springs_keep_the_energy_with_what_they_hold():
    """Without a resistance nothing is lost: air and branches exchange their energy."""
    scale = 2.0 * math.pi * 500.0
    wall = Wall(torch.tensor([[0.8 / scale, 0.0, 0.5 * scale], [0.0, 0.0, 2.0 * scale]]))
    solver = room_of(wall)
    _, found = energies(solver, rough_field(solver), 300, 10)
    assert torch.allclose(found, found[0], rtol=1e-10)  # walls are solved for to 1e-12
    shares = []
    walls = solver.walls()
    march(
        solver.space,
        walls,
        rough_field(solver),
        Stencils(torch.zeros(0, 1, dtype=torch.int32), torch.zeros(0, 1, dtype=torch.float64)),
        60,
        solver.time_step,
        follow=lambda motion: shares.append(
            energy(solver.space, walls, motion, solver.time_step).walls
        ),
    )
    assert max(shares) > 0.01 * float(found[0])
    assert min(shares[FIRST + 5 :]) > 0


@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_step_between_passive_walls_adds_energy(safe, seed):
    room = Room.box(*SIZE, walls=random_walls(seed, SIDES))
    solver = Solver(room, 500.0, safe=safe, dtype=torch.float64)
    _, found = energies(solver, rough_field(solver, seed), 150, 1)
    assert float(found.diff().max()) <= ROUNDING * float(found[0])
    assert float(found[-1]) < 0.9 * float(found[0])


def test_single_precision_is_weighed_by_a_twin_in_double():
    solver = Solver(Room.box(*SIZE, walls=Wall.rigid()), 500.0, dtype=torch.float32)
    _, found = energies(solver, rough_field(solver), 200, 50)
    assert found.dtype == torch.float64
    assert torch.allclose(found, found[0], rtol=1e-5)  # rounding of float32 over the steps


def test_a_share_of_a_resistance_takes_its_share():
    """Half of the weight takes half of the energy, to first order in what is taken."""
    lost = []
    for weight in (1e-3, 5e-4):
        hard = Wall.impedance(412.0)
        wall = replace(hard, weights=torch.tensor([weight], dtype=torch.float64))
        solver = room_of(wall)
        shape = torch.cos(math.pi * solver.space.points[:, 0] / SIZE[0])
        _, found = energies(solver, shape, 60, 59)
        lost.append(float(1 - found[-1] / found[0]))
    assert lost[0] == pytest.approx(2 * lost[1], rel=0.01)
