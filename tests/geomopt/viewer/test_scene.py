"""A scene is plain data that comes back from its file as it was."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from geomopt.errors import InputError
from geomopt.files import StorageError
from geomopt.geometry.mesh import Mesh
from geomopt.viewer.scene import Scene

FACES = torch.tensor([[0, 1, 2]], dtype=torch.int32)
HALF_STEP = 0.5 / 255 + 1e-6  # images are kept in 8 bits; the rest is float32 rounding


def full_scene() -> Scene:
    generator = torch.Generator().manual_seed(0)

    def random(*shape, dtype=torch.float32):
        return torch.rand(*shape, generator=generator, dtype=dtype)

    return Scene(
        {
            "a/b": Mesh(random(3, 3, dtype=torch.float64), FACES),
            "ü": Mesh(random(3, 3), FACES, random(3, 3)),
        },
        points={"index": random(4, 3)},
        lines={"": random(2, 2, 3), "none": torch.zeros(0, 2, 3)},
        fields={"ü": {"stress": random(3), "other": random(3)}},
        images={"target": random(5, 7, 3)},
        title="a title",
    )


def test_what_is_saved_comes_back(tmp_path):
    scene = full_scene()
    scene.save(tmp_path / "scene.npz")
    back = Scene.load(tmp_path / "scene.npz")
    assert back.title == scene.title
    for name, mesh in scene.meshes.items():
        assert torch.equal(back.meshes[name].vertices, mesh.vertices)
        assert torch.equal(back.meshes[name].faces, mesh.faces)
    assert torch.equal(back.meshes["ü"].colors, scene.meshes["ü"].colors)
    assert back.meshes["a/b"].colors is None
    assert torch.equal(back.points["index"], scene.points["index"])
    assert torch.equal(back.lines[""], scene.lines[""])
    assert list(back.fields["ü"]) == ["stress", "other"]
    assert torch.equal(back.fields["ü"]["stress"], scene.fields["ü"]["stress"])
    torch.testing.assert_close(
        back.images["target"], scene.images["target"], rtol=0, atol=HALF_STEP
    )


def test_an_empty_mesh_and_an_empty_scene_are_scenes(tmp_path):
    empty = Scene({"nothing": Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int32))})
    empty.save(tmp_path / "scene.npz")
    assert len(Scene.load(tmp_path / "scene.npz").meshes["nothing"].vertices) == 0
    assert empty.bounds is None
    assert Scene().bounds is None


def test_bounds_hold_all_that_has_a_place():
    scene = Scene(
        points={"p": torch.tensor([[0.0, 5, 0]])},
        lines={"l": torch.tensor([[[-1.0, 0, 0], [0, 0, 2]]])},
    )
    np.testing.assert_array_equal(scene.bounds, [[-1, 0, 0], [0, 5, 2]])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"points": {"p": torch.zeros(3)}}, r"points\['p'\] must have shape \(any, 3\), got \(3"),
        ({"lines": {"l": torch.zeros(2, 3)}}, r"lines\['l'\] must have shape \(any, 2, 3\)"),
        ({"images": {"i": torch.zeros(4, 4)}}, r"images\['i'\] must have shape \(any, any, 3\)"),
        ({"images": {"i": torch.full((4, 4, 3), torch.nan)}}, r"images\['i'\] must be finite"),
        ({"fields": {"m": {"f": torch.zeros(3)}}}, r"fields\['m'\] has no mesh .* there are: a"),
        ({"fields": {"a": {"f": torch.zeros(4)}}}, r"fields\['a'\]\['f'\] must have shape \(3\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(parts, message):
    with pytest.raises(InputError, match=message):
        Scene({"a": Mesh(torch.rand(3, 3), FACES)}, **parts)


def test_a_file_that_is_no_scene_is_named(tmp_path):
    with pytest.raises(InputError, match=r"there is no scene file .*absent.npz"):
        Scene.load(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("words")
    with pytest.raises(InputError, match=r"text.npz is not a scene"):
        Scene.load(tmp_path / "text.npz")
    full_scene().save(tmp_path / "cut.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:900])
    with pytest.raises(InputError, match=r"cut.npz is not a scene"):
        Scene.load(tmp_path / "cut.npz")


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match=r"scene.npz: the disk is full"):
        full_scene().save(tmp_path / "scene.npz")
    assert not list(tmp_path.iterdir())


def test_a_scene_needs_no_vtk():
    code = "import sys, geomopt.viewer.scene; sys.exit('vtkmodules' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
