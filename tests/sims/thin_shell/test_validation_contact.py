"""Friction, forces between what touches, and layers beside closed solutions, short and coarse."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from geomopt.errors import InputError
from sims.thin_shell.bodies import Body
from sims.thin_shell.contact.forces import contact_forces, force_between
from sims.thin_shell.contact.settings import Contact
from sims.thin_shell.material import Material
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.validation import (
    contact_layers,
    contact_stack,
    friction_capstan,
    friction_incline,
    friction_pinch,
    friction_stopping,
)

BOTH = (1 - friction_incline.NEAR, 1 + friction_incline.NEAR)
COARSE, FIRST_ORDER = 40, 1.1  # steps; error of implicit Euler in ways is one over them
BALANCE = 1e-6  # of the weight: Newton's tolerance, and what is not quite at rest
SPRING = 1e-4  # relative: friction follows from the normal forces of the step before


def assert_all_pass(findings):
    judged = [row for row in findings.rows if row.tolerance is not None]
    assert judged
    assert not [row for row in judged if row.verdict != "pass"]


def sliding(law="anchored", share=1.5):
    on = friction_incline.slopes((0.5, share), (0.3,))
    scene = friction_incline.plates(on, (2, 2), law)
    down = torch.zeros_like(scene.vertices)
    for slope, part in zip(on, scene.vertex_parts, strict=False):
        down[part] = slope.down
    simulator, track = friction_incline.released(scene, down, 0.3)
    return on, simulator, track.final


def test_plates_slide_just_above_the_threshold_and_not_below():
    assert_all_pass(friction_incline.thresholds(friction_incline.slopes(BOTH), (1, 1), 0.6))


def test_a_soft_block_slides_just_above_the_threshold_and_not_below():
    on = friction_incline.slopes(BOTH, (0.6,))
    assert_all_pass(friction_incline.soft_thresholds(on, (1, 1, 1), 0.6))


def test_friction_that_is_regularised_creeps_by_its_law():
    assert_all_pass(friction_incline.creeping((0.3, 0.8), (1, 1), 0.5))


def test_plates_stop_where_energy_says():
    found = friction_stopping.stopping(COARSE, (1, 1))
    assert max(abs(row.error) for row in found.rows) < FIRST_ORDER / COARSE


def test_ways_have_the_derivatives_of_their_laws():
    found = friction_stopping.sensitivities(COARSE)
    assert max(abs(row.error) for row in found.rows) < FIRST_ORDER / COARSE


@pytest.mark.parametrize("mover", ["end drawn", "drum turned"])
def test_tension_grows_along_a_strip_around_a_drum(mover):
    assert_all_pass(friction_capstan.capstan(math.pi / 2, 2e-3, mover))


@pytest.mark.slow
def test_tension_grows_along_a_helix():
    slant = friction_capstan.SLANT
    assert_all_pass(friction_capstan.capstan(2 * math.pi, 1e-3, "end drawn", slant))


def test_a_wound_strip_is_not_stretched():
    wound = friction_capstan.Wound(2 * math.pi, friction_capstan.SLANT, 1e-3)
    flat = torch.rand(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flat = flat * torch.tensor([wound.length, friction_capstan.WIDTH, 0.0])
    near = flat + 1e-6 * torch.tensor([0.6, 0.8, 0.0], dtype=torch.float64)
    apart = (wound.wrapped(near) - wound.wrapped(flat)).norm(dim=1) / 1e-6
    torch.testing.assert_close(apart, torch.ones_like(apart), rtol=1e-6, atol=0)


def test_a_pinch_holds_where_friction_is_enough():
    assert_all_pass(friction_pinch.pinch("pads", (2, 3), 0.6))


@pytest.mark.slow
def test_fingertips_hold_where_friction_is_enough():
    assert_all_pass(friction_pinch.pinch("fingertips", (3, 5), 0.6))


@pytest.mark.parametrize("aligned", [False, True])
def test_sheets_bear_what_lies_on_them(aligned):
    assert_all_pass(contact_stack.stack(3, (2, 2), 60, aligned))


def test_folded_and_twisted_sheets_never_intersect():
    assert_all_pass(contact_layers.press(6, 12))
    assert_all_pass(contact_layers.twist(10, 30))


@pytest.mark.parametrize("law", ["anchored", "creeping"])
def test_forces_of_contact_are_what_bodies_feel(law):
    on, simulator, state = sliding(law)
    scene = simulator.scene
    forces = contact_forces(simulator, state)
    assert bool((forces.pressing >= 0).all())
    for place, slope in enumerate(on):
        sheet, plane = scene.sheets[place], scene.bodies[place]
        push, drag = force_between(scene, forces, sheet, plane)
        weight = float(simulator.model.mass[scene.vertex_parts[place]].sum()) * 9.81
        felt = state.wrenches[place, :3]
        torch.testing.assert_close(push + drag, felt, rtol=0, atol=BALANCE * weight)
        torch.testing.assert_close(
            push, weight * math.cos(slope.theta) * slope.normal, rtol=0, atol=BALANCE * weight
        )
        rubbed = min(math.sin(slope.theta), slope.mu * math.cos(slope.theta))
        torch.testing.assert_close(
            drag, -weight * rubbed * slope.down, rtol=0, atol=SPRING * weight
        )
        back = force_between(scene, forces, plane, sheet)
        torch.testing.assert_close(torch.stack(back), -torch.stack([push, drag]))
        mine = forces.components[:, 0] == place
        heights = forces.where[mine] @ slope.normal
        assert bool(((heights > 0) & (heights < friction_incline.GAP * 4)).all())


def test_forces_of_contact_have_derivatives():
    on, simulator, state = sliding()
    scene = simulator.scene
    deeper = torch.zeros_like(state.positions)
    part = scene.vertex_parts[1]
    deeper[part] = -on[1].normal

    def pushed(way):
        moved = state.positions + way * deeper
        forces = contact_forces(simulator, replace(state, positions=moved))
        push, drag = force_between(scene, forces, scene.sheets[1], scene.bodies[1])
        return torch.stack([push @ on[1].normal, drag @ on[1].down])

    way = torch.zeros((), dtype=torch.float64, requires_grad=True)
    ours = torch.autograd.functional.jacobian(pushed, way)
    step = 1e-8
    with torch.no_grad():
        central = (pushed(way + step) - pushed(way - step)) / (2 * step)
    assert float(ours[0]) > 0
    torch.testing.assert_close(ours, central, rtol=1e-6, atol=0)


def test_a_scene_without_contact_has_no_forces():
    card = Material(young=1e7, poisson=0.3, thickness=1e-3, density=800.0)
    sheet = Sheet.rectangle(0.1, 0.1, (1, 1), card)
    simulator = Simulator(Scene([sheet]))
    forces = contact_forces(simulator, simulator.initial_state())
    assert len(forces.pressing) == 0


def test_forces_are_between_parts_of_the_scene():
    scene = contact_stack.stacked(2, (1, 1))
    simulator = Simulator(scene)
    forces = contact_forces(simulator, simulator.initial_state())
    with pytest.raises(InputError, match="second must be a sheet or body of the scene"):
        force_between(scene, forces, scene.sheets[0], Body.plane())


def slid_on(ground, turn):
    """How far a plate slides along a direction on a body, over what it does on a plane."""
    plate = friction_incline.PLATE
    flat = Sheet.rectangle(0.1, 0.1, (2, 2), plate)
    height = float(plate.thickness) / 2 + friction_incline.GAP
    middle = flat.vertices - flat.vertices.mean(0) + torch.tensor([0.0, 0.0, height])
    sheet = Sheet(middle, flat.faces, plate)
    contact = Contact(friction={(sheet, ground): 0.4})
    scene = Scene([sheet], gravity=(0.0, 0.0, -9.81), bodies=[ground], contact=contact)
    simulator = Simulator(scene, 4e-3)
    along = torch.tensor([math.cos(turn), math.sin(turn), 0.0], dtype=torch.float64)
    velocities = torch.zeros_like(scene.vertices)
    velocities[: len(middle)] = 0.4 * along
    state = simulator.rollout(simulator.initial_state(), 10).final
    state = replace(state, velocities=state.velocities + velocities)
    track = simulator.rollout(state, 30)
    way = (track.positions[-1] - track.positions[0])[: len(middle)].mean(0)
    return way @ along, (way - (way @ along) * along).norm()


def test_friction_is_the_same_in_all_directions_on_all_bodies():
    plain = Material(young=1e7, poisson=0.3, thickness=1e-3, density=800.0)
    mesh = Sheet.rectangle(0.6, 0.6, (13, 13), plain, "delaunay")
    local = mesh.vertices - mesh.vertices.mean(0)
    grounds = (Body.box((0.6, 0.6, 0.1), (0, 0, -0.05, 0, 0, 0)), Body.mesh(local, mesh.faces))
    plane, _ = slid_on(Body.plane(), 0.0)
    for ground, turn in zip((*grounds, *grounds), (0.3, 1.9, 3.7, 5.2), strict=True):
        way, aside = slid_on(ground, turn)
        assert float(way) == pytest.approx(float(plane), rel=5e-3)
        assert float(aside) < 5e-3 * float(plane)
