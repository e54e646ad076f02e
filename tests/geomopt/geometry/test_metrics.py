"""Comparisons with known answers: a mesh with itself, planes a known distance apart, cubes with
edges.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_shapes import cube, icosphere, mesh, rotation, square, torus

from geomopt.errors import InputError
from geomopt.geometry.mesh import Mesh
from geomopt.geometry.metrics import Comparison, compare, edge_points, f1_score, nearest_samples

EMPTY = Mesh(torch.zeros(0, 3), torch.zeros(0, 3).int())


def moved(shape: Mesh, *offset: float) -> Mesh:
    return shape.transformed(1.0, torch.tensor(offset, dtype=shape.vertices.dtype))


def test_a_mesh_is_at_no_distance_from_itself():
    found = compare(torus(), torus(), samples=20_000)
    assert found.surface_chamfer < 1e-7  # the search for the nearest face is in float32
    # independent samples: nearest ones lie about half a spacing apart, and normals differ by that
    spacing = math.sqrt(found.reference.area * found.scale**2 / found.samples)
    assert found.chamfer_unsquared == pytest.approx(spacing, rel=0.05)  # 1/2 of it, both directions
    assert found.normal_consistency > 0.99
    assert found.scale == pytest.approx(1 / 2.6)
    assert found.surface_chamfer_unscaled == pytest.approx(found.surface_chamfer * 2.6)


def test_planes_apart_in_closed_form():
    gap = 0.05
    found = compare(moved(square(), 0, 0, gap), square(), samples=20_000, scale=None)
    assert found.scale == 1.0
    assert found.accuracy == pytest.approx(gap, rel=1e-6)
    assert found.completeness == pytest.approx(gap, rel=1e-6)
    assert (
        found.surface_chamfer == found.surface_chamfer_unscaled == pytest.approx(2 * gap, rel=1e-6)
    )
    # the in-plane distance to the nearest of n samples has mean square 1 / (pi n)
    in_plane = 1 / (math.pi * found.samples)
    assert found.chamfer == pytest.approx(2 * (gap**2 + in_plane), rel=2e-3)
    assert found.f1 == 0.0
    assert found.normal_consistency == pytest.approx(1.0)
    assert found.normals_over_5 == 0.0


def test_normals_count_their_angle_and_their_sign():
    reference = square()
    for degrees, over in ((4.0, 0.0), (6.0, 1.0)):
        turn = math.radians(degrees)
        tilted = Mesh(
            reference.vertices * torch.tensor([math.cos(turn), 1, 1])
            + reference.vertices[:, :1] * torch.tensor([0, 0, math.sin(turn)]),
            reference.faces,
        )
        found = compare(tilted, reference, samples=2000)
        assert found.normals_over_5 == over
        assert found.normal_consistency == pytest.approx(math.cos(turn))
    flipped = compare(Mesh(reference.vertices, reference.faces.flip(1)), reference, samples=2000)
    assert flipped.normals_over_5 == 1.0  # signed
    assert flipped.normal_consistency == pytest.approx(1.0)  # not signed


def test_a_part_is_accurate_and_not_complete():
    half = Mesh(square().vertices * torch.tensor([0.5, 1, 1]), square().faces)
    found = compare(half, square(), samples=20_000, scale=None)
    assert found.accuracy < 1e-7
    # half the samples are at a mean distance of 1/4 from the border of the part
    assert found.completeness == pytest.approx(0.125, rel=0.03)


def test_f1_is_a_harmonic_mean():
    near, far = torch.zeros(4), torch.tensor([0.0, 1.0, 1.0, 1.0])
    assert f1_score(near, near, 0.5) == 1.0
    assert f1_score(near, far, 0.5) == pytest.approx(2 * 0.25 / 1.25)
    assert f1_score(far + 1, far + 1, 0.5) == 0.0


def test_nearest_samples_agree_with_all_distances():
    generator = torch.Generator().manual_seed(0)
    points, others = torch.rand(2, 300, 3, generator=generator, dtype=torch.float64)
    distance, match = nearest_samples(points, others)
    table = torch.cdist(points, others)
    assert torch.allclose(distance, table.amin(dim=1))
    assert torch.equal(match, table.argmin(dim=1))


def test_edge_points_agree_with_all_pairs(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(400, 3, generator=generator, dtype=torch.float64) * 0.02
    normals = torch.nn.functional.normalize(
        torch.randn(400, 3, generator=generator, dtype=torch.float64), dim=1
    )
    near = torch.cdist(points, points) < 0.004
    expected = points[(near & ((normals @ normals.T).abs() < 0.2)).any(dim=1)]
    assert 0 < len(expected) < 400
    assert torch.equal(edge_points(points, normals), expected)
    monkeypatch.setattr("geomopt.geometry.metrics.PAIRS_AT_ONCE", 100)
    assert torch.equal(edge_points(points, normals), expected)


def test_edges_of_a_cube():
    found = compare(cube(), cube(), samples=100_000)
    # a few hundred edge samples line 12 edges of length 1: a spacing of about 0.05
    assert 0 < found.edge_chamfer < 0.01
    assert 0 < found.edge_f1 < 1
    ball = compare(icosphere(4, radius=0.5), cube(), samples=20_000)
    assert ball.edge_chamfer > 0.4  # no edge points: half the diagonals' squares, from the middle
    assert ball.edge_f1 == 0.0
    smooth = compare(cube(), icosphere(4), samples=20_000)
    assert (smooth.edge_chamfer, smooth.edge_f1) == (0.0, 1.0)


def test_comparison_does_not_depend_on_the_units():
    small, large = torus(), Mesh(1000 * torus().vertices + 500, torus().faces)
    one = compare(moved(small, 0.1, 0, 0), small, samples=2000)
    thousand = compare(moved(large, 100.0, 0, 0), large, samples=2000)
    for name in ("chamfer", "surface_chamfer", "f1", "normal_consistency", "normals_over_5"):
        assert getattr(thousand, name) == pytest.approx(getattr(one, name), rel=1e-5)
    unscaled = thousand.surface_chamfer_unscaled
    assert unscaled == pytest.approx(1000 * one.surface_chamfer_unscaled, rel=1e-5)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**31))
def test_comparison_does_not_depend_on_the_order_of_vertices_and_faces(seed):
    generator = torch.Generator().manual_seed(seed)
    shape, reference = moved(torus(), 0.05, 0, 0), torus()
    order = torch.randperm(len(shape.vertices), generator=generator)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    faces = place[shape.faces.long()][torch.randperm(len(shape.faces), generator=generator)]
    before = compare(shape, reference, samples=20_000)
    after = compare(Mesh(shape.vertices[order], faces), reference, samples=20_000)
    # other samples of one surface: means of 20 000 values
    assert after.surface_chamfer == pytest.approx(before.surface_chamfer, rel=0.02)
    assert after.chamfer == pytest.approx(before.chamfer, rel=0.03)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**31))
def test_unscaled_distances_follow_rigid_motion(seed):
    turn = rotation(seed)
    shape, reference = moved(torus(), 0.05, 0, 0), torus()
    before = compare(shape, reference, samples=2000, scale=None)
    turned = [Mesh(item.vertices @ turn.T + 2, item.faces) for item in (shape, reference)]
    after = compare(*turned, samples=2000, scale=None)
    for name in ("chamfer", "chamfer_unsquared", "surface_chamfer", "normal_consistency"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), rel=1e-5)


def test_the_seed_decides_and_nothing_else_does():
    before = torch.random.get_rng_state()
    one, again = (compare(torus(), icosphere(), samples=500, seed=1) for _ in range(2))
    other = compare(torus(), icosphere(), samples=500, seed=2)
    assert one == again
    assert one.chamfer != other.chamfer
    assert torch.equal(before, torch.random.get_rng_state())


def test_an_empty_prediction_is_infinitely_far():
    found = compare(EMPTY, cube(), samples=50_000)
    assert found.chamfer == found.surface_chamfer == found.surface_chamfer_unscaled == math.inf
    assert found.edge_chamfer == math.inf
    assert (found.f1, found.normal_consistency, found.normals_over_5) == (0.0, 0.0, 1.0)
    assert found.prediction.faces == 0
    flat = mesh([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 1, 2]])
    assert compare(flat, cube(), samples=100).chamfer == math.inf


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match="b, the reference, must have area, got 0 faces"):
        compare(cube(), EMPTY)
    with pytest.raises(InputError, match="samples must be at least 1, got 0"):
        compare(cube(), cube(), samples=0)
    with pytest.raises(InputError, match="scale must be 'unit' or None, got 'big'"):
        compare(cube(), cube(), scale="big")


def test_a_comparison_reads_as_numbers_and_as_a_table():
    found = compare(torus().to(dtype=torch.float32), icosphere(), samples=500)
    assert isinstance(found, Comparison)
    numbers = found.as_dict()
    assert numbers["prediction_genus"] == 1
    assert numbers["reference_genus"] == 0
    assert all(value is None or isinstance(value, int | float) for value in numbers.values())
    table = str(found)
    assert "chamfer" in table
    assert "prediction     reference" in table
    assert "Quality" not in table


def test_meshes_that_carry_gradients_are_judged_like_others(device):
    leaf = torus().vertices.float().to(device).requires_grad_()
    shape = Mesh(leaf * 1.0, torus().faces.long().to(device))
    reference = icosphere().to(device)
    found = compare(shape, reference, samples=500)
    assert found == compare(Mesh(shape.vertices.detach(), shape.faces), reference, samples=500)
    assert math.isfinite(found.chamfer)
