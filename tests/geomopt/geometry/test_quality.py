"""Shape of triangles in closed form, faces that cross by construction, and meshes with known
defects.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_shapes import cube, icosphere, joined, mesh, rotation, square, torus

from geomopt.geometry import intersections
from geomopt.geometry.intersections import self_intersections, triangles_cross
from geomopt.geometry.mesh import Mesh
from geomopt.geometry.quality import aspect_ratios, quality, radius_ratios


def triangle(apex_x: float, apex_y: float) -> Mesh:
    return mesh([[0, 0, 0], [1, 0, 0], [apex_x, apex_y, 0]], [[0, 1, 2]])


def test_ratios_of_an_equilateral_triangle_are_one():
    shape = triangle(0.5, math.sqrt(3) / 2)
    assert float(aspect_ratios(shape.vertices, shape.faces)) == pytest.approx(1.0)
    assert float(radius_ratios(shape.vertices, shape.faces)) == pytest.approx(1.0)


@pytest.mark.parametrize("leg", [1.0, 3.0, 20.0])
def test_ratios_of_a_right_triangle(leg):
    shape = triangle(0.0, leg)
    hypotenuse = math.hypot(1, leg)
    inner, outer = (1 + leg - hypotenuse) / 2, hypotenuse / 2
    aspect = float(aspect_ratios(shape.vertices, shape.faces))
    radius = float(radius_ratios(shape.vertices, shape.faces))
    assert aspect == pytest.approx(hypotenuse / (2 * math.sqrt(3) * inner))
    assert radius == pytest.approx(outer / (2 * inner))


def test_triangles_without_area_have_infinite_ratios_and_count():
    shape = mesh([[0, 0, 0], [1, 0, 0], [2, 0, 0], [5, 5, 5], [5, 5, 5]], [[0, 1, 2], [0, 3, 4]])
    assert aspect_ratios(shape.vertices, shape.faces).tolist() == [math.inf] * 2
    found = quality(shape)
    assert (found.aspect_ratio_over_4, found.radius_ratio_over_4, found.angle_under_10) == (1, 1, 1)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(1e-3, 1e3))
def test_ratios_do_not_change_with_motion_and_scale(seed, scale):
    shape = torus()
    moved = Mesh(scale * (shape.vertices @ rotation(seed).T + 1), shape.faces)
    for ratio in (aspect_ratios, radius_ratios):
        before = ratio(shape.vertices, shape.faces)
        assert torch.allclose(ratio(moved.vertices, moved.faces), before, rtol=1e-9)


def pair(first: list, second: list) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([first]).double(), torch.tensor([second]).double()


FLAT = [[0, 0, 0], [4, 0, 0], [0, 4, 0]]


@pytest.mark.parametrize(
    ("other", "crosses"),
    [
        ([[1, 1, -1], [1, 1, 1], [2, 1, 1]], True),  # through the inside
        ([[1, -1, -1], [1, -1, 1], [1, 1, 0]], True),  # over a side
        ([[-1, -1, -1], [-1, -1, 1], [9, 9, 0]], True),  # across two sides
        ([[9, 9, -1], [9, 9, 1], [8, 9, 1]], False),  # straddles the plane elsewhere
        ([[1, 1, 0], [1, 1, 1], [2, 1, 1]], False),  # a corner touches
        ([[1, 1, 0], [2, 1, 0], [1, 1, 1]], False),  # a side lies on it
        ([[1, 1, 0], [2, 1, 0], [1, 2, 0]], False),  # in the same plane
        ([[1, 1, 1e-3], [2, 1, 1e-3], [1, 2, 1e-3]], False),  # parallel
        ([[2, 2, -1], [2, 2, 1], [3, 3, 0]], False),  # touches the long side from outside
    ],
)
def test_crossing_pairs_by_hand(other, crosses):
    first, second = pair(FLAT, other)
    assert bool(triangles_cross(first, second)) is crosses
    assert bool(triangles_cross(second, first)) is crosses
    turned = triangles_cross(first @ rotation(1).T * 1e-3, second @ rotation(1).T * 1e-3)
    assert bool(turned) is crosses


def test_crossing_is_that_of_segments_through_triangles():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 2000, 3, 3, generator=generator, dtype=torch.float64)

    def pierced(segments: torch.Tensor, triangles: torch.Tensor) -> torch.Tensor:
        """Whether a side of one passes through the other, by signs of volumes."""
        a, b, c = (triangles[:, k] for k in range(3))
        hit = torch.zeros(len(a), dtype=torch.bool)

        def signs(p, q, r, s):
            return ((q - p) * torch.linalg.cross(r - p, s - p)).sum(dim=1) > 0

        for k in range(3):
            p, q = segments[:, k], segments[:, (k + 1) % 3]
            sides = [signs(p, q, *ends) for ends in ((a, b), (b, c), (c, a))]
            same = (sides[0] == sides[1]) & (sides[1] == sides[2])
            hit |= same & (signs(p, a, b, c) != signs(q, a, b, c))
        return hit

    expected = pierced(first, second) | pierced(second, first)
    assert torch.equal(triangles_cross(first, second), expected)
    assert 0.1 < float(expected.double().mean()) < 0.9


@pytest.mark.parametrize("shape", [cube(), icosphere(3), torus(), square(20)])
def test_clean_meshes_do_not_intersect_themselves(shape):
    assert len(self_intersections(shape)) == 0
    turned = Mesh(shape.vertices @ rotation(5).T + 100, shape.faces)  # planes with rounding in them
    assert len(self_intersections(turned)) == 0


def test_two_spheres_cross_along_a_ring():
    ball = icosphere(3)
    pairs = self_intersections(
        joined(ball, ball.transformed(1.0, torch.tensor([1.0, 0.1, 0.2]).double()))
    )
    assert len(pairs) > 40
    # each pair joins the two balls, the lower face first
    assert (pairs[:, 0] < len(ball.faces)).all()
    assert (pairs[:, 1] >= len(ball.faces)).all()


def test_pairs_agree_with_a_search_over_all_pairs(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(60, 1, 3, generator=generator) + 0.4 * torch.rand(
        60, 3, 3, generator=generator
    )
    soup = Mesh(corners.reshape(-1, 3).double(), torch.arange(180).reshape(-1, 3).int())
    one, two = torch.triu_indices(60, 60, 1)
    places = soup.vertices[soup.faces.long()]
    crossing = triangles_cross(places[one], places[two])
    expected = set(zip(one[crossing].tolist(), two[crossing].tolist(), strict=True))
    assert len(expected) > 10
    for at_once in (1_000_000, 7):  # all at once, and in many ranges
        monkeypatch.setattr(intersections, "PAIRS_AT_ONCE", at_once)
        found = self_intersections(soup)
        assert {tuple(row) for row in found.tolist()} == expected
        assert len(found) == len(expected)


def test_faces_with_a_common_vertex_do_not_count():
    fan = mesh([[0, 0, 0], [4, 0, 0], [0, 4, 0], [1, 2, -1], [2, 1, 1]], [[0, 1, 2], [0, 3, 4]])
    assert len(self_intersections(fan)) == 0


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "crossing"),
    [
        ("spot.obj", 0),
        ("bob_tri.obj", 0),
        ("blub_low.obj", 0),
        ("wingnut.obj", 2),
        ("goathead.obj", 0),
        ("featuretype.stl", 0),
    ],
)
def test_trial_meshes_intersect_as_their_table_says(trial_mesh, name, crossing):
    shape = Mesh.load(trial_mesh(name), dtype=torch.float64)
    assert len(torch.unique(self_intersections(shape))) == crossing


def test_quality_of_a_torus():
    found = quality(torus(1.0, 0.3))
    assert (found.genus, found.components, found.euler_characteristic) == (1, 1, 0)
    assert (found.boundary_edges, found.nonmanifold_edges, found.nonmanifold_vertices) == (0, 0, 0)
    assert found.self_intersecting == 0
    # of 32 by 32 flat pieces, which cut off less than 2 % in each direction
    assert found.area == pytest.approx(4 * math.pi**2 * 0.3, rel=0.02)
    assert found.volume == pytest.approx(2 * math.pi**2 * 0.09, rel=0.03)
    assert found.as_dict()["genus"] == 1


def test_quality_of_an_empty_mesh_is_zero():
    found = quality(Mesh(torch.zeros(0, 3), torch.zeros(0, 3).int()))
    assert set(found.as_dict().values()) == {0}


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31))
def test_quality_does_not_change_with_the_order(seed):
    shape = joined(torus(), icosphere(1), square(2))
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(shape.vertices), generator=generator)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    faces = place[shape.faces.long()][torch.randperm(len(shape.faces), generator=generator)]
    before, after = quality(shape).as_dict(), quality(Mesh(shape.vertices[order], faces)).as_dict()
    assert after == pytest.approx(before, nan_ok=True)
