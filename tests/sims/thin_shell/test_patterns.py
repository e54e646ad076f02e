"""Meshes of rectangles: area, winding, angles, boundaries, and edges along creases."""

import math

import pytest
import torch

from geomopt.errors import InputError
from sims.thin_shell import Material, Sheet
from sims.thin_shell.patterns import PATTERNS

FILM = Material(young=4e9, poisson=0.38, thickness=1e-4, density=1400.0)
ROUND_OFF = 1e-12
SMALLEST_ANGLE = 25.0  # degrees; 20 is what good mesh generators guarantee
SHARPEST = 10.0  # degrees where creases of the test meet at 34 and end beside corners


def rectangle(width=1.0, height=1.0, cells=(10, 10), **options):
    return Sheet.rectangle(width, height, cells=cells, material=FILM, **options)


def angles(sheet):
    """Corner angles (F, 3) in degrees."""
    corners = sheet.vertices[sheet.faces.long()]
    ahead, behind = corners.roll(-1, 1) - corners, corners.roll(1, 1) - corners
    cross = torch.linalg.cross(ahead, behind).norm(dim=-1)
    return torch.atan2(cross, (ahead * behind).sum(-1)).rad2deg()


def signed_areas(sheet):
    a, b, c = sheet.vertices[sheet.faces.long()].unbind(1)
    return torch.linalg.cross(b - a, c - a)[:, 2] / 2


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("width", "height", "cells"), [(0.1, 0.02, (40, 8)), (10.0, 1.0, (16, 1))])
def test_faces_cover_the_rectangle_once_and_counter_clockwise(pattern, width, height, cells):
    sheet = rectangle(width, height, cells, pattern=pattern)
    areas = signed_areas(sheet)
    assert float(areas.min()) > 0
    assert float(areas.sum()) == pytest.approx(width * height, rel=ROUND_OFF)
    assert len(sheet.faces.unique()) == len(sheet.vertices)
    # Euler's formula for a disc
    assert len(sheet.vertices) - len(sheet.edges) + len(sheet.faces) == 1


@pytest.mark.parametrize("pattern", PATTERNS)
def test_sides_are_exact_and_evenly_divided(pattern):
    sheet = rectangle(0.3, 0.1, (30, 10), pattern=pattern)
    x, y = sheet.vertices[:, 0], sheet.vertices[:, 1]
    for side, along, count, length in (
        (x <= 0, y, 10, 0.1),
        (x >= 0.3, y, 10, 0.1),
        (y <= 0, x, 30, 0.3),
        (y >= 0.1, x, 30, 0.3),
    ):
        places = along[side].sort().values
        even = torch.linspace(0, length, count + 1, dtype=torch.float64)
        torch.testing.assert_close(places, even, atol=1e-15, rtol=0)


@pytest.mark.parametrize(
    ("width", "height", "cells"),
    [
        (1, 1, (5, 5)),
        (1, 1, (20, 20)),
        (1, 1, (50, 50)),
        (0.1, 0.02, (40, 8)),
        (10, 1, (64, 4)),
        (3, 2, (5, 7)),
    ],
)
def test_irregular_triangles_have_good_angles(width, height, cells):
    sheet = rectangle(width, height, cells, pattern="delaunay")
    found = angles(sheet)
    assert float(found.min()) > SMALLEST_ANGLE
    assert float(found.amin(1).mean()) > 45.0 or len(found) < 100
    cell = width * height / math.prod(cells)
    assert 0.5 < len(sheet.vertices) * cell / (width * height) < 1.8


def test_irregular_meshes_have_no_preferred_direction():
    sheet = rectangle(1.0, 1.0, (30, 30), pattern="delaunay")
    ends = sheet.vertices[sheet.edges.long()]
    along = ends[:, 1] - ends[:, 0]
    twice = 2 * torch.atan2(along[:, 1], along[:, 0])
    order = torch.stack([twice.cos().mean(), twice.sin().mean()]).norm()
    assert float(order) < 0.1  # 0 for evenly spread directions, 1 for a single one


def test_the_same_arguments_give_the_same_mesh_and_leave_the_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = rectangle(pattern="delaunay")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = rectangle(pattern="delaunay")
    assert torch.equal(first.vertices, second.vertices)
    assert torch.equal(first.faces, second.faces)


CREASES = {
    "across": [((0.3, 0.0), (0.7, 1.0))],
    "diagonals": [((0, 0), (1, 1)), ((0, 1), (1, 0))],
    "inside": [((0.2, 0.3), (0.8, 0.35))],
    "three that cross": [((0, 0.52), (1, 0.48)), ((0.5, 0), (0.5, 1)), ((0.1, 0.1), (0.9, 0.3))],
    "overlapping": [((0, 0.5), (0.6, 0.5)), ((0.3, 0.5), (1, 0.5))],
    "along a side": [((0, 0), (1, 0))],
    "a fan": [((0.5, 0.5), (1, 0.5)), ((0.5, 0.5), (1, 0.8)), ((0.5, 0.5), (0.2, 1))],
}


@pytest.mark.parametrize("name", CREASES)
def test_creases_are_paths_of_edges(name):
    creases = CREASES[name]
    sheet = rectangle(cells=(16, 16), pattern="delaunay", creases=creases)
    assert float(signed_areas(sheet).sum()) == pytest.approx(1.0, rel=ROUND_OFF)
    assert float(angles(sheet).min()) > SHARPEST
    folded = sheet
    for start, end in creases:
        path = sheet.vertices_on_line(start, end)
        ends = sheet.vertices[path[[0, -1]], :2]
        torch.testing.assert_close(ends, ends.new_tensor([start, end]), atol=1e-9, rtol=0)
        places = sheet.vertices[path, :2]
        steps = (places[1:] - places[:-1]).norm(dim=1)
        assert float(steps.sum()) == pytest.approx(math.dist(start, end), rel=1e-9)
        folded = folded.creased(path, 0.1)
    assert folded.rest_angles is not None


def test_creases_close_to_each_other_and_to_a_side_are_kept():
    near = [((0.2, 0.30), (0.8, 0.35)), ((0.2, 0.31), (0.8, 0.351)), ((0, 0.01), (1, 0.01))]
    sheet = rectangle(cells=(10, 10), pattern="delaunay", creases=near)
    for start, end in near:
        sheet.creased(sheet.vertices_on_line(start, end), 0.1)


def test_a_crease_turns_the_rest_angle_of_its_edges_alone():
    line = ((0.0, 0.4), (1.0, 0.6))
    sheet = rectangle(pattern="delaunay", creases=[line])
    path = sheet.vertices_on_line(*line)
    turns = torch.linspace(0.1, 0.5, len(path) - 1, dtype=torch.float64)
    folded = sheet.creased(path, turns)
    wanted = {tuple(sorted(pair)) for pair in zip(path.tolist(), path[1:].tolist(), strict=False)}
    touched = torch.nonzero(folded.rest_angles).flatten()
    assert {tuple(edge) for edge in sheet.edges[touched].tolist()} == wanted
    assert float(folded.rest_angles.sum()) == pytest.approx(float(turns.sum()))


def test_grids_take_creases_along_their_edges():
    sheet = rectangle(cells=(10, 4), creases=[((0.5, 0), (0.5, 1)), ((0, 0.25), (1, 0.25))])
    assert len(sheet.vertices_on_line((0.5, 0), (0.5, 1))) == 5
    diagonal = rectangle(cells=(6, 6), pattern="diagonal", creases=[((0, 0), (1, 1))])
    assert len(diagonal.vertices_on_line((1, 1), (0, 0))) == 7
    assert diagonal.vertices_on_line((1, 1, 0), (0, 0, 0))[0] == len(diagonal.vertices) - 1


@pytest.mark.parametrize(
    "line", [((0.55, 0), (0.55, 1)), ((0.0, 0.0), (1.0, 0.5)), ((0.02, 0), (0.9, 0))]
)
def test_grids_refuse_other_creases_and_name_the_pattern_that_takes_them(line):
    with pytest.raises(InputError, match=r"creases\[0\] .*pattern='delaunay'"):
        rectangle(creases=[line])
    rectangle(pattern="delaunay", creases=[line])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (((0, 0), (2, 1)), r"creases\[0\] must lie in the rectangle"),
        (((0.2, 0.2), (0.2, 0.2)), r"creases\[0\] must have two different ends"),
        (((0, 0), (1, 1), (2, 2)), r"creases\[0\] must be two points"),
        (((0, 0, 0), (1, 1, 0)), r"creases\[0\] must be two points"),
        (((0, 0), (math.nan, 1)), r"creases\[0\] must be two points"),
        (3.0, r"creases\[0\] must be two points"),
        (("a", "b"), r"creases\[0\] must be two points"),
    ],
)
def test_wrong_creases_are_named(line, message):
    with pytest.raises(InputError, match=message):
        rectangle(pattern="delaunay", creases=[line])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0.0}, "width must be a positive number"),
        ({"width": -1.0}, "width must be a positive number"),
        ({"height": math.nan}, "height must be a positive number"),
        ({"height": "1"}, "height must be a positive number"),
        ({"cells": (0, 3)}, "cells must be two positive whole numbers"),
        ({"cells": (2.5, 3)}, "cells must be two positive whole numbers"),
        ({"cells": (3,)}, "cells must be two positive whole numbers"),
        ({"cells": 3}, "cells must be two positive whole numbers"),
        ({"pattern": "hexagons"}, "pattern must be one of .*'delaunay'.*, got 'hexagons'"),
    ],
)
def test_wrong_rectangles_are_named(options, message):
    with pytest.raises(InputError, match=message):
        rectangle(**options)


def test_a_line_without_vertices_is_named():
    sheet = rectangle()
    with pytest.raises(InputError, match="start and end must be of a line with vertices on it"):
        sheet.vertices_on_line((0.05, 0.01), (0.05, 0.09))
    with pytest.raises(InputError, match="start and end must be different points"):
        sheet.vertices_on_line((0.5, 0.5), (0.5, 0.5))
    with pytest.raises(InputError, match="end must be two or three"):
        sheet.vertices_on_line((0.5, 0.5), (0.5,))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ([0], "at least two vertex indices"),
        ([0, 60], "vertices 0 and 60 share none"),
        ([0, 1000], "polyline"),
        ([0, -1], "polyline"),
    ],
)
def test_wrong_polylines_are_named(path, message):
    with pytest.raises(InputError, match=message):
        rectangle().creased(path, 0.1)


@pytest.mark.parametrize("angle", [[0.1, 0.2, 0.3], math.nan, [[0.1]]])
def test_wrong_crease_angles_are_named(angle):
    with pytest.raises(InputError, match="angle must be a finite number or one for each of the 2"):
        rectangle().creased([0, 1, 2], torch.tensor(angle))
