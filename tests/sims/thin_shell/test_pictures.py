"""Sheets as scenes of the viewer: what is shown, with which numbers."""

from dataclasses import replace

import pytest
import torch

from geomopt.errors import BackendUnavailable, InputError
from geomopt.viewer.offscreen import require_rendering
from sims.thin_shell import MATERIALS, Scene, Sheet, Simulator
from sims.thin_shell.pictures import film, frame

CARD = MATERIALS["card"]
RADIUS = 0.05  # m
COARSE = 0.02  # relative, of an arc of 16 cells; directors at the sides are free


def rolled(bending, pattern="alternating"):
    """A strip that was flat at rest, on a cylinder."""
    flat = Sheet.rectangle(0.1, 0.03, cells=(16, 5), material=CARD, pattern=pattern)
    turn = flat.vertices[:, 0] / RADIUS
    around = torch.stack(
        [RADIUS * turn.sin(), flat.vertices[:, 1], RADIUS * (1 - turn.cos())], dim=1
    )
    sheet = Sheet(around, flat.faces, CARD, rest_vertices=flat.vertices)
    simulator = Simulator(Scene([sheet], pinned=[0]), bending=bending)
    return simulator, simulator.initial_state()


@pytest.mark.parametrize("bending", ["mid-edge", "hinge"])
def test_the_curvature_of_a_cylinder_is_one_over_its_radius(bending):
    simulator, state = rolled(bending, "diagonal" if bending == "hinge" else "alternating")
    values = frame(simulator, state, "curvature").fields["sheet"]["curvature, 1/m"]
    assert float(values.median()) == pytest.approx(1 / RADIUS, rel=COARSE)


def test_creases_are_shown_by_their_plastic_part():
    simulator, state = rolled("mid-edge")
    state = replace(state, plastic_angles=0.5 * state.angles)
    whole = frame(simulator, state, "curvature").fields["sheet"]["curvature, 1/m"]
    crease = frame(simulator, state, "crease").fields["sheet"]["crease, 1/m"]
    torch.testing.assert_close(crease, whole / 2)


def test_held_vertices_floor_and_title_are_there():
    simulator, state = rolled("mid-edge")
    shown = frame(simulator, state, title="now", floor=-0.01)
    assert shown.title == "now"
    torch.testing.assert_close(shown.points["held"], state.positions[:1])
    assert torch.all(shown.lines["floor"][..., 2] == -0.01)
    low, high = shown.lines["floor"].flatten(0, 1).aminmax(dim=0)
    assert bool((low[:2] < state.positions.amin(0)[:2]).all())
    assert bool((high[:2] > state.positions.amax(0)[:2]).all())
    assert not shown.fields


def test_several_sheets_are_told_apart():
    sheet = Sheet.rectangle(0.1, 0.1, cells=(2, 2), material=CARD)
    moved = replace(sheet, vertices=sheet.vertices + 1.0, rest_vertices=None)
    simulator = Simulator(Scene([sheet, moved]))
    meshes = frame(simulator, simulator.initial_state()).meshes
    assert list(meshes) == ["sheet 1", "sheet 2"]
    torch.testing.assert_close(meshes["sheet 2"].vertices, moved.vertices)


def test_numbers_of_the_user_are_shown():
    simulator, state = rolled("mid-edge")
    speeds = state.velocities.norm(dim=1)
    assert torch.equal(frame(simulator, state, speeds).fields["sheet"]["value"], speeds)


def test_what_cannot_be_shown_is_named(tmp_path):
    simulator, state = rolled("mid-edge")
    with pytest.raises(InputError, match=r"show must be one of \('curvature', 'crease'\)"):
        frame(simulator, state, "stress")
    with pytest.raises(InputError, match=r"show .*\(3,\)"):
        frame(simulator, state, torch.zeros(3))
    with pytest.raises(InputError, match="states must be at least one"):
        film(simulator, [], tmp_path / "a.gif")
    with pytest.raises(InputError, match="show must be 'crease' or None for a Trajectory"):
        film(simulator, simulator.rollout(state, 1), tmp_path / "a.gif", show="curvature")
    with pytest.raises(InputError, match=r"\.gif"):
        film(simulator, [state], tmp_path / "a.avi")


@pytest.mark.render
@pytest.mark.parametrize("suffix", ["gif", "png"])
def test_a_trajectory_is_written_as_a_film(suffix, tmp_path):
    try:
        require_rendering()
    except BackendUnavailable as error:
        pytest.skip(str(error))
    simulator, state = rolled("mid-edge")
    trajectory = simulator.rollout(state, 3)
    file = film(simulator, trajectory, tmp_path / f"a.{suffix}", show="crease", size=(320, 208))
    assert file.stat().st_size > 1000
