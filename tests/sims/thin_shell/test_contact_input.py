"""Scenes with contact that cannot be, and what the errors say."""

import math

import pytest
import torch

from geomopt.errors import InputError
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
    rollout_worlds,
)

PAPER = Material(young=2e9, poisson=0.3, thickness=1e-4, density=800.0)


def sheet(height=0.0, turn=False):
    flat = Sheet.rectangle(0.02, 0.02, cells=(2, 2), material=PAPER)
    vertices = flat.vertices + torch.tensor([0.0, 0.0, height])
    if turn:
        vertices = vertices[:, [2, 1, 0]] + torch.tensor([0.008, 0.0, -0.011])
    return Sheet(vertices, flat.faces, PAPER)


def simulator(*sheets, bodies=(), **options):
    return Simulator(Scene(list(sheets), bodies=bodies, contact=Contact(**options)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"range": 0.0}, "range must be a number above 0, got 0"),
        ({"range": -1e-4}, "range must be a number above 0"),
        ({"stiffness": math.inf}, "stiffness must be a number above 0, got inf"),
        ({"stiffness": "hard"}, "stiffness must be a number above 0, got 'hard'"),
        ({"creep_speed": 0}, "creep_speed must be a number above 0"),
        ({"grip": -1.0}, "grip must be a number above 0"),
        ({"softness": 1.0}, r"softness must be in \[0, 1\), got 1"),
        ({"law": "sticky"}, "law must be one of .*'anchored'.*got 'sticky'"),
        ({"friction": 0.5}, "friction must map pairs of materials or bodies, got float"),
        ({"friction": {PAPER: 0.5}}, "friction must name pairs"),
        ({"friction": {(PAPER, PAPER): -0.1}}, "friction must be a number of at least 0, got -0.1"),
        ({"friction": {(PAPER, 1): 0.1, (1, PAPER): 0.2}}, "a pair once, got one in both orders"),
        ({"passing": [PAPER]}, "passing must name pairs of materials or bodies, got a Material"),
        ({"passing": 3}, "passing must list pairs of materials or bodies, got int"),
    ],
)
def test_settings(options, message):
    with pytest.raises(InputError, match=message):
        Contact(**options)


def test_names_of_no_part_of_the_scene():
    stranger = Body.sphere(0.01)
    for options in ({"friction": {(PAPER, stranger): 0.1}}, {"passing": [(PAPER, stranger)]}):
        with pytest.raises(InputError, match=f"{next(iter(options))} must name materials, sheets"):
            simulator(sheet(), **options)


def test_offsets_are_one_for_each_component():
    for offset in ([1e-4], torch.tensor([-1e-4, 0.0]), "ab"):
        with pytest.raises(InputError, match="offset must be 2 lengths"):
            simulator(sheet(), bodies=[Body.plane((0, 0, -1))], offset=offset)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Body.sphere(0.0), "radius must be a number above 0, got 0"),
        (lambda: Body.sphere(-1.0), "radius must be"),
        (lambda: Body.cylinder(0.1, 0.0), "length must be a number above 0"),
        (lambda: Body.box((1.0, 0.0, 1.0)), "size must be three positive lengths"),
        (lambda: Body.plane(normal=(0.0, 0.0, 0.0)), "normal must be a direction"),
        (lambda: Body.plane(point=(0.0, math.nan, 0.0)), "point must be three finite numbers"),
        (lambda: Body.box((1.0, 1.0, 1.0), pose=(0.0,) * 7), "pose must be"),
        (lambda: Body.plane(friction=-0.5), "friction must be a number of at least 0, got -0.5"),
        (
            lambda: Body.mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 3]])),
            r"faces must index into \[0, 3\)",
        ),
    ],
)
def test_bodies(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_friction_of_a_material_is_not_negative():
    with pytest.raises(InputError, match="friction must be at least 0"):
        Material(young=1e9, poisson=0.3, thickness=1e-4, density=800.0, friction=-0.1)


def test_soft_bodies_inside_out_are_listed():
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    with pytest.raises(InputError, match=r"inside out .*: 0"):
        SoftBody(corners, torch.tensor([[0, 2, 1, 3]]), 1e5, 0.3, 1000.0)


def test_scenes_name_what_is_no_sheet_or_body():
    with pytest.raises(InputError, match="bodies must be a list of Body and SoftBody"):
        Scene([sheet()], bodies=[sheet()])
    with pytest.raises(InputError, match="contact must be a Contact or None, got float"):
        Scene([sheet()], contact=0.3)
    with pytest.raises(InputError, match="sheets must be a list of at least one Sheet"):
        Scene([], bodies=[Body.plane()])


def test_surfaces_that_intersect_are_listed_by_face():
    crossed = simulator(sheet(), sheet(turn=True))
    with pytest.raises(InputError, match=r"intersect .* face \d+ of sheets\[0\] and face \d+ of"):
        crossed.initial_state()
    apart = sheet().vertices + torch.tensor([0.0, 0.0, 0.1])
    fine = simulator(sheet(), sheet(0.1))
    there = fine.scene.vertices.clone()
    there[9:] = crossed.scene.vertices[9:]
    with pytest.raises(InputError, match="intersect"):
        fine.initial_state(there)
    assert torch.equal(fine.initial_state().positions[9:], apart)


def test_surfaces_nearer_than_they_are_thick_are_listed():
    near = simulator(sheet(), sheet(0.5e-4))
    with pytest.raises(InputError, match=r"must move apart by more than 5e-05 m"):
        near.initial_state()
    ball = simulator(sheet(), bodies=[Body.sphere(0.01, (0.01, 0.01, 0.0099))])
    with pytest.raises(InputError, match=r"vertex 0 of bodies\[0\] and face"):
        ball.initial_state()


def test_a_sheet_below_a_plane_is_refused():
    with pytest.raises(InputError, match=r"above bodies\[0\] .* got 9 vertices"):
        simulator(sheet(), bodies=[Body.plane((0, 0, 1e-3))]).initial_state()


def test_poses_are_one_for_each_body():
    one = simulator(sheet(1e-3), bodies=[Body.plane()])
    start = one.initial_state()
    with pytest.raises(InputError, match=r"control.poses must have shape \(1, 6\), got \(2, 6\)"):
        one.step(start, Control(poses=torch.zeros(2, 6)))
    parts = {"poses": torch.zeros(3, 1, 6), "forces": torch.zeros(2, 12, 3)}
    with pytest.raises(InputError, match=r"controls must have tensors with one common number"):
        one.rollout(start, Control(**parts))


def test_one_body_twice():
    floor = Body.plane((0, 0, -1))
    with pytest.raises(InputError, match="bodies must be different ones"):
        Scene([sheet()], bodies=[floor, floor])


def test_forces_of_another_scene():
    ours, theirs = simulator(sheet()), simulator(sheet(), bodies=[Body.plane((0, 0, -1))])
    state = theirs.initial_state()
    with pytest.raises(InputError, match=r"state\..* must have shape"):
        contact_forces(ours, state)
    with pytest.raises(InputError, match="simulator must be a Simulator, got Scene"):
        contact_forces(ours.scene, state)
    with pytest.raises(InputError, match="scene must be a Scene, got Simulator"):
        force_between(theirs, contact_forces(theirs, state), *theirs.scene.bodies * 2)
    with pytest.raises(InputError, match="simulators must be a list of Simulators, got Simulator"):
        rollout_worlds(ours, [state], [1])


def test_a_level_plane_has_a_derivative_in_its_normal():
    normal = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    plane = Body.plane(normal=normal)
    plane.vertices[1, 2].backward()  # z of the point one ahead along x falls with the tilt
    assert normal.grad is not None
    assert torch.allclose(normal.grad, normal.new_tensor([-1.0, 0.0, 0.0]))
