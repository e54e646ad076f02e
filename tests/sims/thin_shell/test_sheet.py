"""Sheets and scenes: meshes from anywhere, and bad input by name."""

import math

import pytest
import torch

from geomopt.errors import InputError
from geomopt.geometry import Mesh
from sims.thin_shell import Material, Scene, Sheet, Simulator

FILM = Material(young=4e9, poisson=0.38, thickness=1e-4, density=1400.0)
SQUARE = [[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
HALVES = [[0, 1, 2], [0, 2, 3]]


def sheet_of(vertices=SQUARE, faces=HALVES, material=FILM, **options):
    if isinstance(vertices, list):
        vertices = torch.tensor(vertices)
    if isinstance(faces, list):
        faces = torch.tensor(faces)
    return Sheet(vertices, faces, material, **options)


def test_a_sheet_is_double_precision_whatever_came():
    sheet = sheet_of()
    assert sheet.vertices.dtype == torch.float64
    assert sheet.rest_vertices.dtype == torch.float64
    assert sheet.edges.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [2, 3]]


def test_a_curved_rest_shape_has_no_bending_energy():
    flat = Sheet.rectangle(1.0, 0.3, cells=(10, 3), material=FILM, pattern="delaunay")
    angle = flat.vertices[:, 0]
    rolled = torch.stack([angle.sin(), flat.vertices[:, 1], 1 - angle.cos()], dim=1)
    sheet = Sheet(rolled, flat.faces, FILM)
    simulator = Simulator(Scene([sheet], clamped=angle <= 0), time_step=1e-3)
    state = simulator.step(simulator.initial_state())
    assert float((state.positions - rolled).abs().max()) < 1e-9  # m, of a sheet of 1 m


@pytest.mark.data
@pytest.mark.parametrize("name", ["spot.obj", "featuretype.stl", "bob_tri.obj"])
def test_meshes_from_files_are_sheets(trial_mesh, name):
    mesh = Mesh.load(trial_mesh(name))
    sheet = Sheet(mesh.vertices, mesh.faces, FILM)
    assert len(sheet.edges) == len(sheet.faces) * 3 / 2  # they are closed
    area = torch.linalg.cross(*_spans(sheet)).norm(dim=1).sum() / 2
    mass = FILM.density * FILM.thickness * float(area)
    assert float(Scene([sheet]).masses().sum()) == pytest.approx(mass)


@pytest.mark.data
def test_a_mesh_from_a_file_falls_freely_without_a_change_of_shape(trial_mesh):
    mesh = Mesh.load(trial_mesh("spot.obj"))
    sheet = Sheet(mesh.vertices, mesh.faces, FILM)
    simulator = Simulator(Scene([sheet], gravity=(0, 0, -10.0)), time_step=0.01)
    state = simulator.step(simulator.initial_state())
    fallen = torch.tensor([0.0, 0.0, -1e-3]).to(sheet.vertices)  # g h^2
    assert float((state.positions - sheet.vertices - fallen).abs().max()) < 1e-9  # m, of 2 m


def _spans(sheet):
    a, b, c = sheet.vertices[sheet.faces.long()].unbind(1)
    return b - a, c - a


def test_gradients_reach_rest_vertices_and_materials():
    young = torch.tensor(4e9, requires_grad=True)
    material = Material(young=young, poisson=0.38, thickness=1e-4, density=1400.0)
    vertices = torch.tensor(SQUARE, dtype=torch.float64, requires_grad=True)
    scene = Scene([sheet_of(vertices, material=material)], clamped=[0, 3], gravity=(0, 0, -9.81))
    state = Simulator(scene).equilibrium()
    state.positions[1, 2].backward()
    assert float(young.grad) > 0  # stiffer sags less
    assert float(vertices.grad.norm()) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"material": 3.0}, "material must be a Material, got float"),
        ({"vertices": torch.zeros(4, 2)}, r"vertices .*\(4, 2\)"),
        ({"vertices": torch.zeros(4, 3, dtype=torch.int64)}, "vertices"),
        ({"vertices": [[0.0, 0, 0], [1, 0, 0], [1, math.nan, 0], [0, 1, 0]]}, "vertices .*finite"),
        ({"faces": torch.zeros(2, 4, dtype=torch.int64)}, r"faces .*\(2, 4\)"),
        ({"faces": torch.zeros(0, 3, dtype=torch.int64)}, "faces must have at least one row"),
        ({"faces": torch.zeros(2, 3)}, "faces"),
        ({"faces": [[0, 1, 2], [0, 2, 4]]}, "faces .*4"),
        ({"faces": [[0, 1, 2], [0, 2, -1]]}, "faces .*-1"),
        ({"faces": [[0, 1, 2], [0, 3, 2]]}, "faces must be wound alike.*vertices 0 and 2"),
        ({"faces": [[0, 1, 2], [0, 2, 3], [0, 2, 1]]}, "faces must be manifold.*vertices 0 and 2"),
        ({"faces": [[0, 1, 2], [0, 2, 2]]}, "faces must name three different vertices"),
        ({"faces": [[0, 1, 2]]}, "vertices must all belong to faces.*the first is vertex 3"),
        (
            {"vertices": [[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [2, 2, 0]]},
            "degenerate faces?, the first is face 1",
        ),
        (
            {"vertices": [[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0.9, 0.2, 0]]},
            "no inverted faces.*faces 0 and 1",
        ),
        ({"rest_vertices": torch.zeros(3, 3)}, r"rest_vertices .*\(3, 3\)"),
        ({"rest_vertices": torch.zeros(4, 3)}, "rest_vertices .*degenerate"),
        ({"rest_angles": torch.zeros(4)}, r"rest_angles .*\(4,\)"),
    ],
)
def test_wrong_sheets_are_named(options, message):
    with pytest.raises(InputError, match=message):
        sheet_of(**options)


def test_a_sheet_may_start_crumpled_over_a_good_rest_shape():
    folded = [[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [1.0, 0.001, 0]]
    sheet = sheet_of(folded, rest_vertices=torch.tensor(SQUARE))
    assert sheet.vertices[3, 1] == pytest.approx(0.001)


@pytest.mark.parametrize("name", ["young", "thickness", "density", "yield_curvature"])
def test_a_quantity_of_faces_fits_the_sheet(name):
    values = {"young": 1e6, "poisson": 0.3, "thickness": 1e-3, "density": 1e3}
    material = Material(**{**values, name: torch.ones(3)})
    with pytest.raises(InputError, match=f"{name} must have one value for each of the 2 faces"):
        Simulator(Scene([sheet_of(material=material)], clamped=[0, 1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clamped": torch.ones(3, dtype=torch.bool)}, "clamped must be a mask of the 4 vertices"),
        ({"clamped": [0, 4]}, "clamped .*4"),
        ({"pinned": [-1]}, "pinned .*-1"),
        ({"pinned": torch.tensor([0.5])}, "pinned"),
        ({"pinned": torch.zeros(2, 2, dtype=torch.int64)}, "pinned"),
        ({"fixed": torch.ones(4, dtype=torch.bool)}, r"fixed must be a bool tensor of shape"),
        ({"fixed": torch.ones(4, 3)}, r"fixed must be a bool tensor of shape"),
        ({"symmetry": {3: [0]}}, "symmetry must have axes 0, 1 or 2 as keys, got 3"),
        ({"symmetry": {0: [7]}}, r"symmetry\[0\] .*7"),
        ({"gravity": (0, 9.81)}, "gravity must be three finite numbers"),
        ({"gravity": (0, 0, math.inf)}, "gravity must be three finite numbers"),
        ({"sheets": []}, "sheets must be a list of at least one Sheet"),
        ({"sheets": [3]}, "sheets must be a list of at least one Sheet"),
    ],
)
def test_wrong_scenes_are_named(options, message):
    with pytest.raises(InputError, match=message):
        Scene(**{"sheets": [sheet_of()], **options})


def test_masks_and_indices_mean_the_same():
    sheet = Sheet.rectangle(1.0, 1.0, cells=(4, 4), material=FILM)
    mask = sheet.vertices[:, 0] <= 0
    indices = torch.nonzero(mask).flatten()
    scenes = [Scene(sheet, clamped=given) for given in (mask, indices, indices.tolist())]
    for scene in scenes[1:]:
        assert torch.equal(scene.held, scenes[0].held)
        assert torch.equal(scene.held_edges, scenes[0].held_edges)


def test_two_sheets_keep_their_materials_and_creases():
    first = sheet_of()
    second = sheet_of(material=Material(young=1e6, poisson=0.4, thickness=1e-3, density=1e3))
    scene = Scene([first, second.creased([0, 2], 0.5)])
    assert scene.of_faces("young").tolist() == [4e9, 4e9, 1e6, 1e6]
    assert scene.faces[2:].tolist() == [[4, 5, 6], [4, 6, 7]]
    assert scene.rest_angles.tolist() == [0, 0, 0, 0, 0, 0, 0.5, 0, 0, 0]
