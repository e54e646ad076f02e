"""Many worlds: the same as one by one, together and in processes, and failures stay alone."""

import pytest
import torch

from geomopt.errors import InputError
from geomopt.workers import Workers
from sims.thin_shell import Control, Material, Scene, Sheet, Simulator, Softness
from sims.thin_shell.bodies import Body
from sims.thin_shell.contact.settings import Contact
from sims.thin_shell.worlds import rollout_worlds

STEPS = 14
SAME = 1e-9  # m; steps end within 1e-8 m/s x 2 ms of the solution


def world(stiffness, friction, bending="hinge", height=-0.0104):
    """A strip that falls on a ball and a floor, one end held."""
    paper = Material(
        2e9 * torch.exp(stiffness), poisson=0.3, thickness=2e-4, density=800.0, yield_curvature=20.0
    )
    sheet = Sheet.rectangle(0.1, 0.04, cells=(6, 2), material=paper)
    ball = Body.sphere(0.01, (0.09, 0.02, height))
    return Simulator(
        Scene(
            [sheet],
            clamped=sheet.vertices[:, 0] <= 0,
            gravity=(0.0, 0.0, -9.81),
            bodies=[ball, Body.plane((0.0, 0.0, -0.03))],
            contact=Contact(friction={(paper, ball): friction}),
        ),
        time_step=2e-3,
        bending=bending,
    )


def parameters():
    return [torch.tensor(0.2 * i, dtype=torch.float64, requires_grad=True) for i in range(3)]


def loss(worlds):
    return sum(world.trajectory.positions[-1].square().sum() for world in worlds if world.ok)


@pytest.mark.parametrize("bending", ["hinge", "mid-edge"])
def test_together_is_the_same_as_alone(bending):
    logs = parameters()
    worlds = [world(log, 0.2 * i, bending, -0.0105 - 1e-3 * i) for i, log in enumerate(logs)]
    paths = []
    for i, one in enumerate(worlds):
        pose = one.scene.poses.expand(STEPS, 2, 6).clone()
        pose[:, 0, 0] += torch.linspace(0, 1e-3 * i, STEPS)
        paths.append(Control(poses=pose))
    together = rollout_worlds(worlds, controls=paths, together=True)
    alone = [w.rollout(w.initial_state(), path) for w, path in zip(worlds, paths, strict=True)]
    assert all(found.ok for found in together)
    assert max(len(trajectory.final.touched.kind) for trajectory in alone) > 0
    for found, wanted in zip(together, alone, strict=True):
        for name in ("positions", "plastic_angles", "poses"):
            here, there = getattr(found.trajectory, name), getattr(wanted, name)
            torch.testing.assert_close(here, there, rtol=0, atol=SAME)
        torch.testing.assert_close(found.trajectory.wrenches, wanted.wrenches, rtol=1e-4, atol=1e-8)
    found = torch.autograd.grad(loss(together), logs, retain_graph=True)
    total = sum(trajectory.positions[-1].square().sum() for trajectory in alone)
    for here, there in zip(found, torch.autograd.grad(total, logs), strict=True):
        torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("together", [True, False])
def test_a_world_that_fails_costs_that_world_alone(together):
    logs = parameters()
    worlds = [world(log, 0.3) for log in logs]
    forces = torch.zeros(STEPS, len(worlds[1].scene.vertices), 3, dtype=torch.float64)
    forces[4:] = 1e9
    with Workers(1) as workers:
        found = rollout_worlds(
            worlds,
            controls=[STEPS, Control(forces=forces), [None] * STEPS],
            together=together,
            workers=workers,
        )
        assert [world.ok for world in found] == [True, False, True]
        assert "Newton's method" in found[1].error
        slopes = torch.autograd.grad(loss(found), logs, allow_unused=True, retain_graph=True)
    for place in (0, 2):
        alone = worlds[place].rollout(worlds[place].initial_state(), STEPS)
        trajectory = found[place].trajectory
        torch.testing.assert_close(trajectory.positions, alone.positions, rtol=0, atol=SAME)
        (wanted,) = torch.autograd.grad(alone.positions[-1].square().sum(), logs[place])
        torch.testing.assert_close(slopes[place], wanted, rtol=1e-5, atol=1e-12)
    assert slopes[1] is None or not slopes[1]


def test_softened_worlds_are_soft_together_too():
    soft = [world(log, 0.3).softened(Softness(), 0.5) for log in parameters()]
    found = rollout_worlds(soft, controls=[STEPS] * len(soft), together=True)
    for here, simulator in zip(found, soft, strict=True):
        alone = simulator.rollout(simulator.initial_state(), STEPS)
        torch.testing.assert_close(here.trajectory.positions, alone.positions, rtol=0, atol=SAME)
    plain = world(parameters()[0], 0.3)
    with pytest.raises(InputError, match="one softness and progress"):
        rollout_worlds([soft[0], plain], controls=[1, 1], together=True)


def test_bad_input():
    worlds = [world(log, 0.3) for log in parameters()]
    with pytest.raises(InputError, match="must be as many"):
        rollout_worlds(worlds, controls=[1, 2])
    with pytest.raises(InputError, match="one number of steps"):
        rollout_worlds(worlds, controls=[1, 2, 1], together=True)
    other = Simulator(worlds[1].scene, time_step=1e-3, bending="hinge")
    with pytest.raises(InputError, match="one time_step"):
        rollout_worlds([worlds[0], other], controls=[1, 1], together=True)
    assert rollout_worlds([], controls=[]) == []
