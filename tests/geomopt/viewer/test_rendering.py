"""What the viewer draws, off-screen: coverage and colour instead of pixels, and the slider driven
by its own events.
"""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from growing_run import CORNERS, TETRAHEDRON, add_frame, scene_of
from PIL import Image

from geomopt.errors import BackendUnavailable, InputError
from geomopt.geometry.mesh import Mesh
from geomopt.viewer import offscreen
from geomopt.viewer.desktop import Desktop, view
from geomopt.viewer.plotter import Stage, make_plotter
from geomopt.viewer.record import record, record_scenes
from geomopt.viewer.scene import Scene
from geomopt.viewer.timeline import Timeline

SIZE = (320, 192)  # a multiple of a video codec's blocks


@pytest.fixture
def desktop(run):
    window = Desktop(Timeline(run.folder), off_screen=True, size=SIZE)
    yield window
    window.plotter.close()


def slide(window: Desktop, index: int) -> None:
    """What the mouse does to the slider."""
    window.slider.GetRepresentation().SetValue(index)
    window.slider.InvokeEvent("InteractionEvent")


def corners_of(scene: Scene) -> np.ndarray:
    body = scene.meshes["body"]
    return body.vertices[body.faces].reshape(-1, 3).numpy()


def assert_shows(window: Desktop, step: int) -> None:
    assert window.index == step
    assert window.slider.GetRepresentation().GetValue() == step
    np.testing.assert_array_equal(window.stage.mesh_positions("body"), corners_of(scene_of(step)))


@pytest.mark.render
def test_actors_are_made_once_and_updated_in_place():
    plotter = make_plotter(scene_of(0), SIZE)
    stage = Stage(plotter)
    stage.draw(scene_of(0))
    stage.look_at(scene_of(0).bounds)
    actor, data, positions = stage._actors["mesh body"], None, plotter.camera.position
    data = actor.mapper.dataset
    stage.draw(scene_of(1))
    assert stage._actors["mesh body"].mapper.dataset is data
    np.testing.assert_array_equal(data.points, corners_of(scene_of(1)))
    stage.draw(scene_of(3))  # another topology: another input of the same actor
    assert stage._actors["mesh body"] is actor
    assert actor.mapper.dataset is not data
    assert plotter.camera.position == positions
    plotter.close()


@pytest.mark.render
def test_what_is_not_in_a_scene_is_not_shown():
    body = Mesh(CORNERS[:4], TETRAHEDRON)
    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int32))
    plotter = make_plotter(Scene(), SIZE)
    stage = Stage(plotter)
    stage.draw(Scene({"late": empty}))
    stage.draw(
        Scene({"late": body, "other": body}, points={"p": CORNERS}, lines={"l": CORNERS[None, :2]})
    )
    stage.look_at(Scene({"b": body}).bounds)
    full = plotter.screenshot(None, return_img=True).astype(int)
    stage.draw(Scene({"late": empty}))
    assert not any(actor.visibility for actor in stage._actors.values())
    plotter.render()
    blank = plotter.screenshot(None, return_img=True).astype(int)
    assert (np.abs(full - blank).sum(-1) > 30).mean() > 0.05
    assert np.ptp(blank, axis=(0, 1)).max() == 0  # nothing but the background
    plotter.close()


@pytest.mark.render
def test_fields_and_colours_reach_the_picture():
    body = Mesh(CORNERS[:4], TETRAHEDRON)
    red = Mesh(CORNERS[:4], TETRAHEDRON, torch.tensor([[1.0, 0, 0]]).expand(4, 3))
    height = {"body": {"height": torch.tensor([0.0, 1.0, 2.0, 3.0])}}
    for scene in (Scene({"body": red}), Scene({"body": body}, fields=height)):
        plotter = make_plotter(scene, SIZE)
        stage = Stage(plotter)
        stage.draw(scene)
        stage.look_at(scene.bounds)
        picture = plotter.screenshot(None, return_img=True)[:, 60:].astype(int)
        # neither the background nor the plain material is
        saturated = np.ptp(picture, axis=-1) > 60
        assert 0.03 < saturated.mean() < 0.6
        plotter.close()


@pytest.mark.render
def test_a_coloured_mesh_is_seen_beside_points_and_lines(tmp_path):
    square = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    mesh = Mesh(square, torch.tensor([[0, 1, 2], [0, 2, 3]]))
    extras = {"points": {"p": square[:1]}, "lines": {"l": square[None, :2]}}
    fields = {"a": {"height": torch.zeros(4)}}
    file = record_scenes([Scene(meshes={"a": mesh}, fields=fields, **extras)], tmp_path / "a.png")
    middle = np.asarray(Image.open(file).convert("RGB"))[300, 480]
    assert int(middle.min()) < 150  # the background is nearly white


@pytest.mark.render
def test_moments_of_a_motion_share_camera_and_colours(tmp_path):
    import imageio.v3 as iio

    square = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    scenes = [
        Scene(meshes={"a": Mesh(square, faces)}, fields={"a": {"value": torch.full((4,), value)}})
        for value in (0.0, 1.0, 0.0)
    ]
    file = record_scenes(scenes, tmp_path / "a.gif", size=(320, 200), motion=True)
    pictures = iio.imread(file)
    first, last = (pictures[place].astype(int) for place in (0, -1))
    assert np.abs(first - last).max() < 8  # rounding of a palette
    assert max(np.abs(first - picture).max() for picture in pictures) > 60


@pytest.mark.render
def test_the_slider_shows_the_frame_it_points_at(desktop):
    assert_shows(desktop, 5)
    for step in (0, 4, 2):
        slide(desktop, step)
        assert_shows(desktop, step)


@pytest.mark.render
def test_keys_and_timer_move_through_the_frames(desktop):
    desktop.toggle()  # from the last frame it begins again
    assert_shows(desktop, 0)
    desktop.tick()
    desktop.tick()
    assert_shows(desktop, 2)
    desktop.step(1)
    assert not desktop.playing
    desktop.tick()
    assert_shows(desktop, 3)
    desktop.step(-99)
    assert_shows(desktop, 0)
    desktop.toggle()
    for _ in range(9):
        desktop.tick()
    assert_shows(desktop, 5)
    assert not desktop.playing


@pytest.mark.render
def test_a_growing_run_is_followed_from_its_last_frame_only(desktop, run):
    add_frame(run, 6)
    desktop.follow()
    assert_shows(desktop, 6)
    slide(desktop, 3)
    add_frame(run, 7)
    desktop.follow()
    assert_shows(desktop, 3)
    desktop.step(99)
    assert_shows(desktop, 7)


@pytest.mark.render
def test_a_picture_has_mesh_and_target_side_by_side(run, tmp_path):
    file = record(Timeline(run.folder), tmp_path / "out" / "view.png", SIZE)
    picture = np.asarray(Image.open(file).convert("RGB")).astype(int)
    assert picture.shape == (SIZE[1], SIZE[0], 3)
    left, right = picture[:, : SIZE[0] // 2], picture[:, SIZE[0] // 2 :]
    blueish = (left[..., 2] - left[..., 0]) > 20
    assert 0.1 < blueish.mean() < 0.8
    reddish = (right == [255, 0, 0]).all(-1)
    black = (right == 0).all(-1)
    # 9 of 16 rows of the last target are red, and row 0 is on top
    assert reddish.sum() / (reddish.sum() + black.sum()) == pytest.approx(9 / 16, abs=0.05)
    assert np.nonzero(reddish)[0].mean() < np.nonzero(black)[0].mean()


# the reader of films leaves its pipes to the garbage collector
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.render
def test_animations_have_pictures_that_change(run, tmp_path):
    import imageio.v3 as iio

    for suffix in ("gif", "mp4"):
        file = record(Timeline(run.folder), tmp_path / f"view.{suffix}", SIZE)
        pictures = iio.imread(file).astype(int)
        assert len(pictures) > 30
        assert pictures.shape[1:3] == (SIZE[1], SIZE[0])
        # 4 rows of the first target are red, 9 of the last
        red = [((p[..., 0] > 200) & (p[..., 1] < 60)).sum() for p in (pictures[0], pictures[-1])]
        assert red[1] / red[0] == pytest.approx(9 / 4, rel=0.2)
    gc.collect()
    assert sorted(path.suffix for path in tmp_path.iterdir() if path.is_file()) == [".gif", ".mp4"]


@pytest.mark.render
def test_a_failure_while_recording_leaves_no_file(tmp_path):
    bad = scene_of(0)

    class Broken(list):
        def __getitem__(self, index):
            if index not in (0, -1):
                raise ZeroDivisionError
            return super().__getitem__(index)

    with pytest.raises(ZeroDivisionError):
        record_scenes(Broken([bad] * 4), tmp_path / "x.gif", SIZE)
    assert not list(tmp_path.iterdir())


def test_another_suffix_is_refused(run, tmp_path):
    with pytest.raises(InputError, match=r"must end in .png, .gif, .mp4, got 'view.bmp'"):
        record(Timeline(run.folder), tmp_path / "view.bmp")


def test_no_opengl_library_is_said_with_the_package(monkeypatch):
    monkeypatch.setattr(offscreen, "_renders", lambda _: False)
    with pytest.raises(BackendUnavailable, match=r"libegl1 .* or libosmesa6"):
        offscreen.require_rendering.__wrapped__()


def test_no_display_is_said_with_what_to_do(run, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BackendUnavailable, match="--save"):
        view(run.folder)
