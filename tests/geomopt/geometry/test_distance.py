"""Distances to triangles against a search over all of them, and signs against the winding
number.
"""

import math

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_shapes import cube, icosphere, mesh, rotation, square, torus
from torch import Tensor
from torch.autograd import gradcheck

from geomopt.errors import InputError
from geomopt.geometry import sdf
from geomopt.geometry.distance import closest_points, signed_distance, surface_distance
from geomopt.geometry.mesh import Mesh, sample_surface

SEARCH = 3e-7  # the nearest face is found in float32 at size one


def random_points(count: int, shape: Mesh, seed: int = 0, margin: float = 0.3) -> Tensor:
    low, high = shape.bounds
    share = torch.rand(
        count, 3, generator=torch.Generator().manual_seed(seed), dtype=shape.vertices.dtype
    )
    return low + (high - low) * (share * (1 + 2 * margin) - margin)


def distance_by_loop(points: Tensor, shape: Mesh) -> Tensor:
    """The least distance over every pair of point and triangle, by another implementation."""
    triangles = shape.vertices[shape.faces.long()].numpy()
    repeated = np.tile(triangles, (len(points), 1, 1))
    places = np.repeat(points.numpy(), len(triangles), axis=0)
    nearest = trimesh.triangles.closest_point(repeated, places)
    gaps = np.linalg.norm(nearest - places, axis=1).reshape(len(points), -1)
    return torch.from_numpy(gaps.min(axis=1))


def winding_number(points: Tensor, shape: Mesh) -> Tensor:
    """Sum of solid angles over 4 pi (van Oosterom and Strackee, 1983)."""
    corners = shape.vertices[shape.faces.long()]
    a, b, c = (corners[None, :, k] - points[:, None] for k in range(3))
    la, lb, lc = (torch.linalg.vector_norm(v, dim=2) for v in (a, b, c))
    ab, bc, ca = ((x * y).sum(2) for x, y in ((a, b), (b, c), (c, a)))
    triple = (a * torch.linalg.cross(b, c)).sum(2)
    angle = 2 * torch.atan2(triple, la * lb * lc + ab * lc + bc * la + ca * lb)
    return angle.sum(dim=1) / (4 * math.pi)


@pytest.mark.parametrize("shape", [icosphere(1), torus(), cube(), square()])
def test_distance_is_the_least_over_all_triangles(shape):
    points = random_points(200, shape)
    expected = distance_by_loop(points, shape)
    assert torch.allclose(surface_distance(points, shape), expected, rtol=0, atol=SEARCH)


def test_closest_points_lie_on_their_faces():
    shape = torus()
    points = random_points(500, shape)
    nearest, face, weights = closest_points(points, shape)
    corners = shape.vertices[shape.faces[face].long()]
    assert torch.allclose((weights[..., None] * corners).sum(dim=1), nearest)
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(dim=1), torch.ones(500, dtype=torch.float64))


def test_distance_above_a_square_in_closed_form():
    points = torch.tensor(
        [[0.5, 0.5, 2.0], [0.3, 0.7, -1.0], [1.0 + 3, 0.5, 4.0], [-1.0, -2.0, 2.0]]
    )
    distance = surface_distance(points, square().to(dtype=torch.float32))
    assert distance.tolist() == pytest.approx([2.0, 1.0, 5.0, 3.0], rel=1e-6)


def test_distance_far_away_and_of_no_points():
    far = torch.tensor([[1e6, 0, 0]], dtype=torch.float64)
    assert float(surface_distance(far, icosphere(3))) == pytest.approx(1e6 - 1, rel=1e-7)  # float32
    assert surface_distance(far[:0], icosphere(1)).shape == (0,)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.001, 1000.0))
def test_distance_follows_rigid_motion_and_scale(seed, scale):
    shape, turn = torus(), rotation(seed)
    points = random_points(50, shape, seed)
    moved = Mesh(scale * (shape.vertices @ turn.T + 5), shape.faces)
    expected = scale * signed_distance(points, shape)
    found = signed_distance(scale * (points @ turn.T + 5), moved)
    assert torch.allclose(found, expected, rtol=0, atol=SEARCH * scale * 3)


def test_an_empty_mesh_is_infinitely_far():
    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3).int())
    assert surface_distance(torch.zeros(2, 3), empty).tolist() == [math.inf] * 2
    with pytest.raises(InputError, match="mesh must have faces to measure"):
        closest_points(torch.zeros(2, 3), empty)


@pytest.mark.parametrize("function", [surface_distance, signed_distance])
def test_gradients_to_points_and_vertices_agree_with_differences(function):
    shape = icosphere(1)
    points = random_points(30, shape).requires_grad_()
    vertices = shape.vertices.clone().requires_grad_()
    # a small step, as distances kink where the nearest face changes
    assert gradcheck(
        lambda p, v: function(p, Mesh(v, shape.faces)), (points, vertices), eps=1e-7, atol=1e-5
    )


def test_the_gradient_on_the_surface_is_finite():
    shape = square()
    points = shape.vertices.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(surface_distance(points, shape).sum(), points)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("shape", [icosphere(1), torus(), cube()])
def test_sign_is_that_of_the_winding_number(shape):
    points = random_points(500, shape, seed=1)
    inside = winding_number(points, shape) > 0.5
    assert torch.equal(signed_distance(points, shape) < 0, inside)


@pytest.mark.parametrize("depth", [1e-3, 1e-5, 1e-7, 1e-10])
def test_sign_is_right_close_to_faces_edges_and_corners(depth):
    shape = cube()
    samples, normals, _ = sample_surface(shape, 200, torch.Generator().manual_seed(0))
    corners, edges = shape.vertices, shape.vertices[shape.topology().edges.long()].mean(dim=1)
    places = torch.cat([samples, corners, edges])
    outward = torch.cat([normals, corners.sign(), edges.sign()])
    # at 1e-10 the coordinates themselves hold six digits of the offset
    assert (signed_distance(places + depth * outward, shape) > 0).all()
    assert (signed_distance(places - depth * outward, shape) < 0).all()
    assert (signed_distance(places, shape).abs() < 1e-15).all()


def test_signed_distance_of_a_cube_is_that_of_a_box():
    shape = cube(2.0)
    points = random_points(500, shape)
    expected = sdf.box(points, (1.0, 1.0, 1.0))
    assert torch.allclose(signed_distance(points, shape), expected, rtol=0, atol=SEARCH * 2)


@pytest.mark.data
@pytest.mark.parametrize("name", ["blub_low.obj", "wingnut.obj", "featuretype.stl"])
def test_trial_meshes_have_the_sign_of_the_winding_number(trial_mesh, name):
    shape = Mesh.load(trial_mesh(name), dtype=torch.float64)  # wingnut intersects itself
    points = random_points(300, shape)
    inside = winding_number(points, shape) > 0.5
    assert torch.equal(signed_distance(points, shape) < 0, inside)


def test_float32_and_int64_give_the_same_numbers(device):
    shape = torus()
    points = random_points(300, shape)
    expected = signed_distance(points, shape)
    single = Mesh(shape.vertices.float(), shape.faces.long()).to(device)
    found = signed_distance(points.float().to(device), single)
    assert found.dtype == torch.float32
    assert found.device.type == device.type
    assert torch.allclose(found.double().cpu(), expected, rtol=0, atol=2e-6)


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match=r"points must have shape \(any, 3\), got \(3, 2\)"):
        surface_distance(torch.zeros(3, 2).double(), torus())
    with pytest.raises(InputError, match=r"points must have dtype torch\.float64"):
        surface_distance(torch.zeros(3, 3), torus())
    with pytest.raises(InputError, match="points must be finite"):
        surface_distance(torch.full((3, 3), math.nan).double(), torus())
    with pytest.raises(InputError, match="mesh must be a closed"):
        signed_distance(torch.zeros(3, 3).double(), square())


def test_a_triangle_without_area_is_a_segment():
    needle = mesh([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 1, 2]])
    points = torch.tensor([[0.5, 3, 4], [-3, 4, 0]], dtype=torch.float64)
    assert surface_distance(points, needle).tolist() == [5.0, 5.0]
