"""Scenes that nobody made for the solver: fast impacts, unlike stacks, grips that turn."""

import math

import pytest
import torch

from sims.thin_shell import (
    Body,
    Contact,
    Control,
    Material,
    Scene,
    Sheet,
    Simulator,
    SoftBody,
    contact_forces,
    force_between,
)
from sims.thin_shell.contact.intersections import intersections

GRAVITY = (0.0, 0.0, -9.81)
FORCES = 1e-9  # relative, of a stack at rest; the states are converged to 1e-8 m/s
ROUNDING = 1e-12
CREEP = 1e-9  # m, of a sheet of 8 cm in a second


def vector(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def placed(material, sides, cells, centre, turn=0.0):
    flat = Sheet.rectangle(*sides, cells=cells, material=material)
    c, s = math.cos(turn), math.sin(turn)
    local = flat.vertices - flat.vertices.mean(0)
    turned = local @ vector(c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0).reshape(3, 3).T
    return Sheet(turned + vector(*centre), flat.faces, material)


def faces_of(scene):
    parts = zip(scene.bodies, scene.body_parts, strict=True)
    return torch.cat([scene.faces.long(), *(body.faces + part.start for body, part in parts)])


def test_a_stack_of_unlike_layers_bears_what_is_above():
    sheets, height = [], 0.0
    for place, thickness in enumerate((5e-4, 2e-3, 3e-4)):
        material = Material(1e7 * (1 + place), 0.3, thickness, 500.0 * (1 + place))
        height += thickness / 2 + 6e-5
        centre = (0.002 * place, 0.0, height)
        sheets.append(placed(material, (0.05, 0.05), (3, 2 + place), centre, 0.13 * place))
        height += thickness / 2
    pose = vector(0.003, 0.0, height + 0.0101, 0.0, 0.0, 0.2)
    block = SoftBody.block((0.03, 0.03, 0.02), (2, 2, 2), 2e5, 0.3, 1500.0, pose=pose)
    scene = Scene(sheets, gravity=GRAVITY, bodies=[block, Body.plane()], contact=Contact(1e-4))
    simulator = Simulator(scene)
    state = simulator.rollout(simulator.initial_state(), 90).final
    forces = contact_forces(simulator, state)
    weights = [float(scene.masses()[part].sum()) * 9.81 for part in scene.vertex_parts]
    layers = [*sheets, block]
    for place, (upper, lower) in enumerate(
        zip(layers, [scene.bodies[1], *layers[:-1]], strict=True)
    ):
        push, drag = force_between(scene, forces, upper, lower)
        above = sum(weights[place : len(layers)])
        assert float(push[2] + drag[2]) == pytest.approx(above, rel=FORCES)


@pytest.mark.parametrize("step", [1e-3, 5e-3])
def test_a_fast_impact_on_an_edge(step):
    paper = Material(young=2e9, poisson=0.3, thickness=1e-4, density=800.0)
    sheet = placed(paper, (0.1, 0.1), (8, 8), (0.0, 0.0, 0.03))
    box = Body.box((0.04, 0.04, 0.02), (0.0, 0.0, 0.0, 0.6, 0.4, 0.0))
    scene = Scene([sheet], gravity=GRAVITY, bodies=[box])
    simulator = Simulator(scene, step)
    velocities = torch.zeros_like(scene.vertices)
    velocities[: len(sheet.vertices), 2] = -10.0
    track = simulator.rollout(simulator.initial_state(velocities=velocities), 12)
    energies = (scene.masses() * track.velocities.square().sum(2)).sum(1) / 2
    assert not any(len(intersections(x, faces_of(scene))) for x in track.positions)
    assert float(energies.max()) < 1.01 * float(energies[0])


def test_a_free_collision_keeps_the_momentum():
    rubber = Material(young=1e6, poisson=0.3, thickness=1e-3, density=1000.0)
    below = placed(rubber, (0.05, 0.05), (4, 4), (0.0, 0.0, 0.0))
    above = placed(rubber, (0.04, 0.05), (3, 4), (0.015, 0.01, 0.002), 0.4)
    contact = Contact(2e-4, friction={(below, above): 0.6})
    scene = Scene([below, above], contact=contact)
    simulator = Simulator(scene, 1e-3)
    velocities = torch.zeros_like(scene.vertices)
    velocities[len(below.vertices) :] = vector(0.3, -0.1, -1.0)
    track = simulator.rollout(simulator.initial_state(velocities=velocities), 10)
    momenta = (scene.masses()[:, None] * track.velocities).sum(1)
    energies = (scene.masses() * track.velocities.square().sum(2)).sum(1)
    assert float((momenta - momenta[0]).norm(dim=1).max()) < ROUNDING * float(momenta[0].norm())
    assert float(energies[-1]) < 0.99 * float(energies[0])  # they did meet
    assert bool((energies <= energies[0] * (1 + ROUNDING)).all())


def test_what_is_gripped_turns_with_the_gripper_and_does_not_creep():
    card = Material(young=1e8, poisson=0.3, thickness=1e-3, density=1000.0)
    flat = Sheet.rectangle(0.04, 0.08, cells=(4, 8), material=card)
    upright = (flat.vertices - vector(0.02, 0.07, 0.0))[:, [0, 2, 1]]
    sheet = Sheet(upright, flat.faces, card)
    jaws = [Body.box((0.02, 0.01, 0.01), (0.0, y, 0.0, 0.0, 0.0, 0.0)) for y in (5.57e-3, -5.57e-3)]
    contact = Contact(1e-4, friction={(sheet, jaw): 0.5 for jaw in jaws})
    scene = Scene([sheet], gravity=GRAVITY, bodies=jaws, contact=contact)
    simulator = Simulator(scene, 1e-2)
    state, steps = simulator.initial_state(), 60
    for _ in range(5):  # another 5 um from either side, for ten times its weight and more
        poses = state.poses.clone()
        poses[:, 1] -= 1e-6 * poses[:, 1].sign()
        state = simulator.step(state, Control(poses=poses, forces=-simulator.weight))
    for part in range(1, steps + 1):
        share = 0.5 - 0.5 * math.cos(math.pi * part / steps)
        poses[:, 2], poses[:, 4] = 0.03 * share, math.pi / 2 * share
        state = simulator.step(state, Control(poses=poses))
    rested = simulator.rollout(state, 50).final
    there = rested.positions[: len(upright)]
    turned = vector(0.0, 0.0, 1.0, 0.0, 1.0, 0.0, -1.0, 0.0, 0.0).reshape(3, 3)
    assert (
        float((there - poses[0, 2] * vector(0.0, 0.0, 1.0) - upright @ turned.T).abs().max()) < 1e-4
    )
    later = simulator.rollout(rested, 100).final.positions[: len(upright)]
    assert float((later - there).abs().max()) < CREEP
