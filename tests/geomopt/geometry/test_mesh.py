"""A mesh as a value: derived quantities against closed forms, files that come back as they went."""

import errno
import itertools
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_shapes import cube, icosphere, joined, mesh, rotation, square, tetrahedron, torus
from torch.autograd import gradcheck

from geomopt.errors import InputError
from geomopt.files import StorageError
from geomopt.geometry import mesh as module
from geomopt.geometry.mesh import (
    Mesh,
    corner_angles,
    face_areas,
    face_normals,
    require_closed,
    sample_surface,
    vertex_normals,
    volume,
)

FORMATS = ("ply", "obj", "off", "stl", "glb")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_cube_in_closed_form():
    shape = cube(2.0)
    assert float(shape.area) == pytest.approx(24.0)
    assert float(shape.volume) == pytest.approx(8.0)
    assert shape.bounds.tolist() == [[-1.0] * 3, [1.0] * 3]
    # by symmetry an angle-weighted normal points along the diagonal however the sides are cut
    assert torch.allclose(shape.vertex_normals, shape.vertices / math.sqrt(3), atol=1e-14)


def test_sphere_converges_with_the_square_of_the_edge():
    errors = [
        (1 - float(s.area) / (4 * math.pi), 1 - float(s.volume) * 3 / (4 * math.pi))
        for s in (icosphere(2), icosphere(3), icosphere(4))
    ]
    for coarse, fine in itertools.pairwise(errors):
        for before, after in zip(coarse, fine, strict=True):
            assert before / after == pytest.approx(4, rel=0.05)
    sphere = icosphere(4)
    assert torch.allclose(sphere.vertex_normals, sphere.vertices, atol=5e-3)


def test_volume_changes_sign_with_the_winding_and_not_with_the_place():
    shape = torus()
    far = Mesh(shape.vertices + 1e4, shape.faces.flip(1))
    assert float(far.volume) == pytest.approx(-float(shape.volume), rel=1e-10)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 100.0))
def test_quantities_follow_rigid_motion_and_scale(seed, scale):
    shape, turn = torus(), rotation(seed)
    moved = Mesh(scale * shape.vertices @ turn.T + 3.0, shape.faces)
    assert float(moved.area) == pytest.approx(float(shape.area) * scale**2, rel=1e-9)
    assert float(moved.volume) == pytest.approx(float(shape.volume) * scale**3, rel=1e-7)
    # moving by 3 rounds small shapes to 1e-16 * 3 / 0.01 of their edges
    assert torch.allclose(moved.face_normals, shape.face_normals @ turn.T, atol=1e-9)
    assert torch.allclose(moved.vertex_normals, shape.vertex_normals @ turn.T, atol=1e-9)


@pytest.mark.parametrize(
    "function", [face_areas, face_normals, vertex_normals, corner_angles, volume]
)
def test_gradients_agree_with_differences(function):
    vertices = tetrahedron().vertices + 0.2 * torch.rand(
        4, 3, generator=seeded(), dtype=torch.float64
    )
    vertices.requires_grad_()
    assert gradcheck(lambda v: function(v, tetrahedron().faces), vertices)


@pytest.mark.parametrize("function", [face_areas, face_normals, vertex_normals, corner_angles])
def test_faces_without_area_have_finite_values_and_gradients(function):
    vertices = torch.tensor([[0.0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0], [2, 0, 0]])
    vertices.requires_grad_()
    values = function(vertices, torch.tensor([[0, 1, 2], [2, 3, 4]]))
    (gradient,) = torch.autograd.grad(values.sum(), vertices)
    assert torch.isfinite(values).all()
    assert torch.isfinite(gradient).all()


def test_samples_are_uniform_over_the_area():
    # a right angle of two rectangles with areas 1 and 3
    shape = mesh(
        [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 3], [1, 1, 3]],
        [[0, 1, 2], [0, 2, 3], [1, 4, 5], [1, 5, 2]],
    )
    count = 40_000
    points, normals, face = sample_surface(shape, count, seeded())
    assert points.shape == normals.shape == (count, 3)
    assert torch.allclose(normals, shape.face_normals[face])
    flat = points[face < 2]
    # four standard deviations of a share of 1/4, and of a mean of uniform numbers
    assert len(flat) / count == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / count))
    for axis in (0, 1):
        assert float(flat[:, axis].mean()) == pytest.approx(0.5, abs=4 / math.sqrt(12 * len(flat)))
        assert float(flat[:, axis].var()) == pytest.approx(1 / 12, rel=0.05)


def test_samples_depend_on_the_seed_alone_and_are_differentiable():
    shape = torus()
    before = torch.random.get_rng_state()
    first, _, _ = sample_surface(shape, 100, seeded(3))
    again, _, _ = sample_surface(shape, 100, seeded(3))
    other, _, _ = sample_surface(shape, 100, seeded(4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.random.get_rng_state())
    vertices = shape.vertices.clone().requires_grad_()
    points, _, _ = sample_surface(Mesh(vertices, shape.faces), 100, seeded(3))
    (gradient,) = torch.autograd.grad(points.sum(), vertices)
    assert float(gradient.sum()) == pytest.approx(300)  # weights of each point sum to one


def test_sampling_a_mesh_without_area_is_refused():
    with pytest.raises(InputError, match="mesh must have area to be sampled, got 0 faces"):
        sample_surface(Mesh(torch.zeros(3, 3), torch.zeros(0, 3).int()), 5, seeded())


def test_merging_undoes_a_split_into_loose_triangles():
    shape = torus()
    corners = shape.vertices[shape.faces.long()].reshape(-1, 3)
    loose = Mesh(corners, torch.arange(len(corners)).reshape(-1, 3))
    merged = loose.merged()
    assert len(merged.vertices) == len(shape.vertices)
    assert merged.topology().genus == 1
    assert torch.equal(merged.vertices[merged.faces], shape.vertices[shape.faces.long()])


def test_merging_keeps_the_order_of_first_appearance_and_averages_colors():
    vertices = torch.tensor([[2.0, 0, 0], [1, 0, 0], [2, 1e-9, 0], [0, 1, 0]])
    colors = torch.tensor([[0.0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 1]])
    merged = Mesh(vertices, torch.tensor([[0, 1, 3], [2, 3, 1]]), colors).merged()
    assert torch.equal(merged.vertices, vertices[[0, 1, 3]])
    assert merged.faces.tolist() == [[0, 1, 2], [0, 2, 1]]
    assert merged.colors is not None
    assert merged.colors[0].tolist() == [0.5, 0, 0]
    separate = Mesh(vertices, torch.tensor([[0, 1, 3]])).merged(tolerance=0.0)
    assert len(separate.vertices) == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_saved_mesh_comes_back(tmp_path, kind, dtype):
    shape = torus().to(dtype=dtype)
    vertices = shape.vertices * math.pi + 1000  # digits that a short decimal would lose
    colors = torch.rand(len(vertices), 3, generator=seeded(), dtype=dtype)
    Mesh(vertices, shape.faces, colors).save(tmp_path / f"a.{kind}")
    back = Mesh.load(tmp_path / f"a.{kind}", dtype=dtype, merge=kind == "stl")
    stored = vertices.float().to(dtype) if kind in ("stl", "glb") else vertices
    # STL has no indices, so vertices come back in the order of the faces
    assert torch.equal(back.vertices[back.faces.long()], stored[shape.faces.long()])
    if kind != "stl":
        assert torch.equal(back.vertices, stored)
    if kind in ("ply", "obj", "glb"):
        assert back.colors is not None
        assert float((back.colors - colors).abs().max()) <= 0.5 / 255 + 1e-6
    else:
        assert back.colors is None
    assert os.listdir(tmp_path) == [f"a.{kind}"]


def test_load_takes_device_and_dtype_and_joins_seams(tmp_path, device):
    text = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3\nf 4 5 6\n"
    (tmp_path / "a.obj").write_text(text)
    joined_mesh = Mesh.load(tmp_path / "a.obj", device=device)
    assert joined_mesh.vertices.dtype == torch.float32
    assert joined_mesh.vertices.device.type == device.type
    assert len(joined_mesh.vertices) == 4
    assert len(joined_mesh.topology().boundary_edges()) == 4
    assert len(Mesh.load(tmp_path / "a.obj", merge=False).vertices) == 6


def test_polygons_are_cut_into_triangles(tmp_path):
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4\n")
    assert float(Mesh.load(tmp_path / "a.obj").area) == pytest.approx(1.0)


CORNERS = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.obj", CORNERS, r"a\.obj holds no faces \(3 vertices\)"),
        ("a.obj", "", "a.obj"),
        ("a.obj", CORNERS + "f 1 2 9\n", r"a\.obj cannot be read as OBJ"),
        ("a.obj", CORNERS + "f 1 2 2\n", r"all of its 1 faces are degenerate"),
        (
            "a.obj",
            "v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n",
            r"a\.obj: vertices must be finite, got 1 NaN",
        ),
        ("a.ply", "ply\nformat ascii 1.0\nelement ver", "a.ply"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n", "a.off"),
        ("a.stl", "", "a.stl"),
        ("a.glb", "glTF", "a.glb"),
        ("a.step", "", r"must end in one of .obj, .ply, .stl, .off, .glb, got '.step'"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        Mesh.load(tmp_path / name)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.obj does not exist"):
        Mesh.load(tmp_path / "nothing.obj")
    (tmp_path / "folder.obj").mkdir()
    with pytest.raises(InputError, match=r"folder\.obj is not a file"):
        Mesh.load(tmp_path / "folder.obj")
    with pytest.raises(StorageError, match=r"cannot write .*folder\.obj"):
        cube().save(tmp_path / "folder.obj")
    assert os.listdir(tmp_path) == ["folder.obj"]


def test_saving_an_empty_mesh_is_refused(tmp_path):
    with pytest.raises(InputError, match="mesh must have faces to be saved"):
        Mesh(torch.zeros(0, 3), torch.zeros(0, 3).int()).save(tmp_path / "a.ply")


@pytest.mark.parametrize(
    ("reason", "message"),
    [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "no permission to write there")],
)
def test_what_cannot_be_written_leaves_the_old_file_whole(tmp_path, monkeypatch, reason, message):
    file = tmp_path / "a.ply"
    cube().save(file)
    old = file.read_bytes()

    def refuse(path, content):
        with path.open("wb") as started:
            started.write(content[:10])
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(StorageError, match=rf"cannot write .*a\.ply: {message}"):
        torus().save(file)
    monkeypatch.undo()
    assert file.read_bytes() == old
    assert os.listdir(tmp_path) == ["a.ply"]


def test_meshes_convert():
    shape = Mesh(
        cube().vertices, cube().faces.long(), torch.rand(8, 3, generator=seeded()).double()
    )
    small = shape.to(dtype=torch.float32)
    assert small.vertices.dtype == torch.float32
    assert small.colors is not None
    assert small.colors.dtype == torch.float32
    assert small.faces.dtype == torch.int64
    moved = shape.transformed(2.0, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    assert moved.bounds.tolist() == [[0, -1, -1], [2, 1, 1]]


@pytest.mark.parametrize(
    ("vertices", "faces", "colors", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(0, 3).int(), None, r"vertices must have shape \(any, 3\)"),
        (torch.zeros(3, 3).int(), torch.zeros(0, 3).int(), None, "vertices must be a floating"),
        (torch.full((1, 3), math.nan), torch.zeros(0, 3).int(), None, "vertices must be finite"),
        (torch.zeros(3, 3), torch.tensor([[0, 1, 3]]), None, r"faces must index into \[0, 3\)"),
        (torch.zeros(3, 3), torch.tensor([[0, 1, -1]]), None, r"faces must index into \[0, 3\)"),
        (torch.zeros(3, 3), torch.tensor([[0, 1, 2]]), torch.zeros(2, 3), "colors must have shape"),
        (np.zeros((3, 3)), torch.tensor([[0, 1, 2]]), None, "vertices must be a torch tensor"),
    ],
)
def test_bad_arrays_are_refused(vertices, faces, colors, message):
    with pytest.raises(InputError, match=message):
        Mesh(vertices, faces, colors)


def test_require_closed_says_what_is_open():
    assert require_closed(torus(), "target").genus == 1
    with pytest.raises(InputError, match=r"target must be a closed.*16 boundary edges"):
        require_closed(square(4), "target")
    faces = cube().faces.clone()
    faces[0] = faces[0].flip(0)
    with pytest.raises(InputError, match="3 edges whose faces wind against each other"):
        require_closed(Mesh(cube().vertices, faces), "target")
    with pytest.raises(InputError, match="got one without faces"):
        require_closed(Mesh(torch.zeros(0, 3), torch.zeros(0, 3).int()), "target")
    shared = joined(cube(), tetrahedron())
    faces = torch.where(shared.faces >= 8, shared.faces - 8, shared.faces)
    with pytest.raises(InputError, match="edges with more than two faces"):
        require_closed(Mesh(cube().vertices, faces), "target")


def test_the_module_states_its_functions():
    assert module.bounds(torch.ones(3, 3), torch.tensor([[0, 1, 2]])).tolist() == [[1] * 3] * 2
    with pytest.raises(InputError, match="faces must hold at least one face"):
        module.bounds(torch.ones(3, 3), torch.zeros(0, 3).int())
    assert float(volume(torch.ones(3, 3), torch.zeros(0, 3).int())) == 0


def test_an_obj_with_seams_keeps_the_vertices_of_its_file(tmp_path):
    texture = "vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
    corners = "v 0 1 0\nv 1 1 0\nv 1 0 0\nv 0 0 0\n"
    (tmp_path / "a.obj").write_text(corners + texture + "f 1/1 3/2 2/3\nf 1/4 4/1 3/3\n")
    loaded = Mesh.load(tmp_path / "a.obj", merge=False)
    assert loaded.vertices.tolist() == [[0, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert loaded.faces.tolist() == [[0, 2, 1], [0, 3, 2]]


def test_load_leaves_out_faces_that_merging_collapses(tmp_path):
    file = tmp_path / "sliver.obj"
    file.write_text(CORNERS + "v 0 1 0\nf 1 2 3\nf 1 3 4\n")
    assert Mesh.load(file).faces.tolist() == [[0, 1, 2]]
