"""Bodies as scenes of the viewer: closed surfaces where contact has them, and where they touch."""

import math
from dataclasses import replace

import pytest
import torch

from geomopt.errors import BackendUnavailable
from geomopt.viewer.offscreen import require_rendering
from sims.thin_shell import MATERIALS, Body, Contact, Control, Scene, Sheet, Simulator, SoftBody
from sims.thin_shell.pictures import film, frame

CARD = MATERIALS["card"]
FACETED = 0.02  # relative: how much less than round bodies their facets hold
RADIUS, LENGTH, SIDE = 0.01, 0.04, 0.02  # m
TURN = [0.3, -0.2, 0.5]  # rad
CORNERS = SIDE * torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
TETRAHEDRON = torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
BALL = 4 / 3 * math.pi * RADIUS**3
# the volume of a cube and a ball's radius around it (Steiner's formula)
ROUNDED = SIDE**3 + 6 * SIDE**2 * RADIUS + 3 * math.pi * SIDE * RADIUS**2 + BALL


def shown(body, **options):
    """The frame of a body above a small sheet."""
    sheet = Sheet.rectangle(0.1, 0.1, cells=(2, 2), material=CARD)
    scene = Scene([sheet], bodies=[body], contact=Contact())
    simulator = Simulator(scene)
    return frame(simulator, simulator.initial_state(), **options), simulator


@pytest.mark.parametrize(
    ("body", "volume"),
    [
        (Body.sphere(RADIUS, (0.0, 0.0, 0.1)), BALL),
        (
            Body.cylinder(RADIUS, LENGTH, (0.0, 0.0, 0.1, *TURN)),
            BALL + math.pi * RADIUS**2 * LENGTH,
        ),
        (Body.box((SIDE,) * 3, (0.0, 0.0, 0.1, *TURN)), SIDE**3),
        (Body.box((SIDE,) * 3, (0.0, 0.0, 0.1, *TURN), radius=RADIUS), ROUNDED),
        (Body.mesh(CORNERS, TETRAHEDRON, (0.0, 0.0, 0.1, *TURN)), SIDE**3 / 6),
        (SoftBody.ball(RADIUS, 1e5, 0.3, 1e3, pose=(0.0, 0.0, 0.1, *TURN)), BALL),
    ],
)
def test_bodies_are_closed_surfaces_of_their_volume(body, volume):
    mesh = shown(body)[0].meshes["body"]
    assert mesh.topology().is_closed
    soft = isinstance(body, SoftBody)  # of few cells
    assert float(mesh.volume) == pytest.approx(volume, rel=0.2 if soft else FACETED)


def test_a_mesh_that_is_not_convex_is_moved_out_by_its_radius():
    dented = torch.cat([CORNERS, CORNERS.mean(0, keepdim=True)])
    faces = torch.cat([TETRAHEDRON[:2], torch.tensor([[0, 3, 4], [3, 2, 4], [2, 0, 4]])])
    faces = torch.cat([faces, TETRAHEDRON[2:3]])
    radius = 1e-3
    body = Body.mesh(dented, faces, (0.0, 0.0, 0.1, *TURN), radius=radius)
    mesh = shown(body)[0].meshes["body"]
    moved = (mesh.vertices - body.vertices).norm(dim=1)
    torch.testing.assert_close(moved, torch.full_like(moved, radius))


def test_a_body_is_shown_where_its_pose_is():
    body = Body.cylinder(RADIUS, LENGTH, (0.0, 0.0, 0.1, math.pi / 2, 0.0, 0.0))
    before, simulator = shown(body)
    pose = torch.tensor([[0.01, 0.0, 0.1, 0.0, math.pi / 2, 0.0]], dtype=torch.float64)
    state = simulator.step(simulator.initial_state(), Control(poses=pose))
    after = frame(simulator, state).meshes["body"].vertices
    sides = [
        vertices.amax(0) - vertices.amin(0) for vertices in (before.meshes["body"].vertices, after)
    ]
    long, wide = LENGTH + 2 * RADIUS, 2 * RADIUS
    for found, wanted in zip(sides, ((wide, long, wide), (long, wide, wide)), strict=True):
        torch.testing.assert_close(found, found.new_tensor(wanted), rtol=FACETED, atol=0.0)
    middle = (after.amax(0) + after.amin(0)) / 2
    torch.testing.assert_close(middle, pose[0, :3], atol=1e-6, rtol=0.0)


def test_a_plane_is_a_grid_on_it_around_the_scene():
    point, normal = torch.tensor([0.3, 0.2, -0.3]).double(), torch.tensor([0.6, 0.0, 0.8]).double()
    found, simulator = shown(Body.plane(point, normal))
    lines = found.lines["body"].flatten(0, 1)
    assert list(found.meshes) == ["sheet"]
    assert float(((lines - point) @ normal).abs().max()) < 1e-12
    flat = simulator.scene.vertices[:9]
    below = flat - ((flat - point) @ normal)[:, None] * normal
    low, high = lines.aminmax(dim=0)
    assert bool((low <= below.amin(0)).all())
    assert bool((high >= below.amax(0)).all())


def test_contacts_are_where_surfaces_touch():
    sheet = Sheet.rectangle(0.1, 0.1, cells=(2, 2), material=CARD)
    gap, half = 1e-5, float(CARD.thickness) / 2
    at = (0.05, 0.05, RADIUS + gap + half)  # above the vertex in the middle
    scene = Scene([sheet], bodies=[Body.sphere(RADIUS, at)], contact=Contact(range=1e-4))
    simulator = Simulator(scene)
    state = simulator.initial_state()
    assert "contacts" not in frame(simulator, state).points
    points = frame(simulator, state, contacts=True).points["contacts"]
    assert len(points)
    expected = points.new_tensor([0.05, 0.05, half + gap / 2]).expand_as(points)
    torch.testing.assert_close(points, expected, atol=1e-9, rtol=0.0)


def test_colours_are_those_of_the_sheets_alone():
    body = SoftBody.fingertip(pose=(0.05, 0.05, 0.1, 0.0, 0.0, 0.0))
    found, simulator = shown(body, show="curvature")
    assert found.fields["sheet"]["curvature, 1/m"].shape == (9,)
    assert found.meshes["sheet"].vertices.shape == (9, 3)
    assert "held" not in found.points  # what drives the finger is inside of it
    heights = simulator.scene.vertices[:, 2]
    found = frame(simulator, simulator.initial_state(), show=heights)
    assert torch.equal(found.fields["sheet"]["value"], heights[:9])


def test_a_scene_without_sheets_is_shown():
    ball = SoftBody.ball(RADIUS, 1e5, 0.3, 1e3, cells=2)
    other = replace(ball, pose=torch.tensor([0.05, 0.0, 0.0, 0.0, 0.0, 0.0]))
    simulator = Simulator(Scene([], bodies=[ball, other]))
    found = frame(simulator, simulator.initial_state())
    assert list(found.meshes) == ["body 1", "body 2"]
    assert not found.fields


@pytest.mark.render
def test_bodies_are_filmed(tmp_path):
    try:
        require_rendering()
    except BackendUnavailable as error:
        pytest.skip(str(error))
    _, simulator = shown(Body.sphere(RADIUS, (0.05, 0.05, 0.05)))
    poses = simulator.scene.poses.expand(3, 1, 6).clone()
    poses[:, 0, 0] += torch.tensor([0.0, 0.01, 0.02])
    motion = simulator.rollout(simulator.initial_state(), Control(poses=poses))
    file = film(simulator, motion, tmp_path / "a.gif", contacts=True, size=(320, 208))
    assert file.stat().st_size > 1000
