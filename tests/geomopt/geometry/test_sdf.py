"""Signed distances against sampled surfaces, slopes of one where they are exact, and gradients that
never break.
"""

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from geomopt.geometry import sdf

EXACT = {
    "sphere": lambda p: sdf.sphere(p, 0.7),
    "box": lambda p: sdf.box(p, (0.6, 0.4, 0.5)),
    "rounded_box": lambda p: sdf.rounded_box(p, (0.6, 0.4, 0.5), 0.1),
    "torus": lambda p: sdf.torus(p, 0.6, 0.2),
    "cylinder": lambda p: sdf.cylinder(p, 0.5, 0.6),
    "capsule": lambda p: sdf.capsule(p, (-0.3, 0.1, 0.2), (0.4, 0.2, -0.1), 0.3),
    "cone": lambda p: sdf.cone(sdf.translate(p, (0, 0, -0.4)), 0.6, 0.9),
    "plane": lambda p: sdf.plane(p, (1.0, 2.0, 2.0), 0.2),
}
BOUNDS = {
    "ellipsoid": lambda p: sdf.ellipsoid(p, (0.8, 0.5, 0.3)),
    "gyroid": lambda p: sdf.gyroid(p, 1.3),
    "union": lambda p: sdf.union(EXACT["sphere"](p), EXACT["box"](p), EXACT["torus"](p)),
    "intersection": lambda p: sdf.intersection(EXACT["sphere"](p), EXACT["box"](p)),
    "difference": lambda p: sdf.difference(EXACT["sphere"](p), EXACT["torus"](p)),
    "smooth_union": lambda p: sdf.smooth_union(EXACT["sphere"](p), EXACT["plane"](p), 0.3),
}


def random_points(count: int = 2000, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, generator=generator, dtype=torch.float64) * 3 - 1.5


def gradient_of(shape, points: Tensor) -> Tensor:
    points = points.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(shape(points).sum(), points)
    return gradient


@pytest.mark.parametrize("name", EXACT)
def test_exact_distances_have_slope_one_and_end_on_the_surface(name):
    points = random_points()
    distance, gradient = EXACT[name](points), gradient_of(EXACT[name], points)
    slope = torch.linalg.vector_norm(gradient, dim=1)
    assert torch.allclose(slope, torch.ones_like(slope))
    # walking down the gradient by the distance arrives at the surface, which no shorter walk does
    foot = points - distance[:, None] * gradient
    assert torch.allclose(EXACT[name](foot), torch.zeros_like(slope), atol=1e-12)


@pytest.mark.parametrize("name", [*EXACT, *BOUNDS])
def test_no_distance_changes_faster_than_the_place(name):
    shape = (EXACT | BOUNDS)[name]
    one, two = random_points(seed=1), random_points(seed=2)
    apart = torch.linalg.vector_norm(one - two, dim=1)
    assert ((shape(one) - shape(two)).abs() <= apart * (1 + 1e-12)).all()


@pytest.mark.parametrize("name", [*EXACT, *BOUNDS])
def test_gradients_to_points_agree_with_differences(name):
    points = random_points(20).requires_grad_()
    assert gradcheck((EXACT | BOUNDS)[name], points, eps=1e-7, atol=1e-6)


@pytest.mark.parametrize("name", [*EXACT, *BOUNDS])
def test_values_and_gradients_are_finite_at_centres_axes_and_edges(name):
    steps = torch.tensor([-0.6, -0.5, -0.4, 0.0, 0.4, 0.5, 0.6], dtype=torch.float64)
    points = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), dim=-1)
    shape = (EXACT | BOUNDS)[name]
    assert shape(points).shape == (7, 7, 7)
    assert torch.isfinite(shape(points)).all()
    assert torch.isfinite(gradient_of(shape, points)).all()


PARAMETERS = {
    sdf.sphere: (0.7,),
    sdf.box: ((0.6, 0.4, 0.5),),
    sdf.rounded_box: ((0.6, 0.4, 0.5), 0.1),
    sdf.torus: (0.6, 0.2),
    sdf.cylinder: (0.5, 0.6),
    sdf.capsule: ((-0.3, 0.1, 0.2), (0.4, 0.2, -0.1), 0.3),
    sdf.cone: (0.6, 0.9),
    sdf.plane: ((1.0, 2.0, 2.0), 0.2),
    sdf.ellipsoid: ((0.8, 0.5, 0.3),),
    sdf.gyroid: (1.3,),
}


@pytest.mark.parametrize("shape", PARAMETERS, ids=lambda shape: shape.__name__)
def test_parameters_are_numbers_or_tensors_with_gradients(shape):
    points = random_points(20)
    tensors = [
        torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in PARAMETERS[shape]
    ]
    assert torch.equal(shape(points, *tensors), shape(points, *PARAMETERS[shape]))
    assert gradcheck(lambda *given: shape(points, *given), tensors, eps=1e-7, atol=1e-6)
    at_centre = shape(torch.zeros(1, 3, dtype=torch.float64), *tensors)
    for gradient in torch.autograd.grad(at_centre.sum(), tensors):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("shape", PARAMETERS, ids=lambda shape: shape.__name__)
def test_parameters_broadcast_and_the_points_give_the_dtype(shape):
    points = random_points(5).float()
    many = [
        torch.tensor(value, dtype=torch.float64).expand(
            5, *([3] if isinstance(value, tuple) else [])
        )
        for value in PARAMETERS[shape]
    ]
    assert shape(points, *many).dtype == torch.float32
    assert torch.equal(shape(points, *many), shape(points, *PARAMETERS[shape]))


def test_known_distances():
    points = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 3, 4], [0, 0, -1]])
    assert sdf.sphere(points, 1.0).tolist() == [-1, 1, 4, 0]
    assert sdf.box(points, (1.0, 1.0, 1.0)).tolist() == pytest.approx([-1, 1, math.sqrt(13), 0])
    rounded = sdf.rounded_box(points, (1.0, 1.0, 1.0), 0.5).tolist()
    assert rounded == pytest.approx([-1, 1, math.hypot(2.5, 3.5) - 0.5, 0])
    assert sdf.torus(points, 2.0, 0.5).tolist() == pytest.approx(
        [1.5, -0.5, math.hypot(1, 4) - 0.5, math.sqrt(5) - 0.5]
    )
    assert sdf.cylinder(points, 1.0, 2.0).tolist() == pytest.approx([-1, 1, math.hypot(2, 2), -1])
    assert sdf.plane(points, (0.0, 0.0, 2.0), 1.0).tolist() == [-1, -1, 3, -2]
    assert sdf.capsule(points, (0.0, 0, 0), (1.0, 0, 0), 0.5).tolist() == [-0.5, 0.5, 4.5, 0.5]


def test_cone_by_hand():
    points = torch.tensor([[0.0, 0, 0], [0, 0, 2], [0, 0, -1], [3, 0, 0], [1, 0, 1], [0, 0, 0.5]])
    half = math.sqrt(0.5)
    expected = [0, 1, 1, 2, half, -half / 2]
    assert sdf.cone(points, 1.0, 1.0).tolist() == pytest.approx(expected)


def test_a_capsule_of_no_length_is_a_sphere():
    points = random_points(50)
    ball = sdf.capsule(points, (0.1, 0.2, 0.3), (0.1, 0.2, 0.3), 0.4)
    assert torch.allclose(ball, sdf.sphere(sdf.translate(points, (0.1, 0.2, 0.3)), 0.4))


def test_ellipsoid_with_equal_axes_is_a_sphere():
    points = random_points(50)
    assert torch.allclose(sdf.ellipsoid(points, (0.5, 0.5, 0.5)), sdf.sphere(points, 0.5))


def test_gyroid_divides_space_in_halves():
    inside = sdf.gyroid(random_points(50_000) * 10, 1.0) < 0
    assert float(inside.double().mean()) == pytest.approx(0.5, abs=0.01)  # four standard deviations


def test_solids_join_as_sets_do():
    points = random_points()
    a, b = EXACT["sphere"](points), EXACT["box"](sdf.translate(points, (0.3, 0.0, 0.0)))
    in_a, in_b = a < 0, b < 0
    assert torch.equal(sdf.union(a, b) < 0, in_a | in_b)
    assert torch.equal(sdf.intersection(a, b) < 0, in_a & in_b)
    assert torch.equal(sdf.difference(a, b) < 0, in_a & ~in_b)
    assert torch.equal(sdf.union(a), a)


def test_a_smooth_union_holds_both_and_is_plain_where_they_are_far():
    points = random_points()
    a, b = EXACT["sphere"](points), EXACT["plane"](points)
    smooth, plain = sdf.smooth_union(a, b, 0.2), sdf.union(a, b)
    assert (smooth <= plain).all()
    assert (plain - smooth <= 0.05 + 1e-12).all()  # a quarter of the width, where a = b
    far = (a - b).abs() >= 0.2
    assert torch.equal(smooth[far], plain[far])


def test_moved_solids_are_where_they_were_moved_to():
    points = random_points(100)
    moved = sdf.box(sdf.translate(points, (0.5, 0.0, 0.0)), (0.1, 0.2, 0.3))
    assert torch.equal(moved, sdf.box(points - torch.tensor([0.5, 0, 0]).double(), (0.1, 0.2, 0.3)))
    # a rod along x that is turned a quarter about z lies along y
    rod = sdf.box(sdf.rotate(points, (0.0, 0.0, 2.0), math.pi / 2), (1.0, 0.1, 0.2))
    assert torch.allclose(rod, sdf.box(points, (0.1, 1.0, 0.2)))
    bead = sdf.rotate(torch.tensor([[0.0, 1.0, 0.0]]), (0.0, 0.0, 1.0), math.pi / 2)
    assert torch.allclose(bead, torch.tensor([[1.0, 0.0, 0.0]]), atol=1e-6)
    twice = 2 * sdf.torus(sdf.scale(points, 2.0), 0.5, 0.1)
    assert torch.allclose(twice, sdf.torus(points, 1.0, 0.2))


def test_moves_are_differentiable_in_their_parameters():
    points = random_points(10)
    offset = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64, requires_grad=True)
    axis = torch.tensor([1.0, 0.5, 0.2], dtype=torch.float64, requires_grad=True)
    angle = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    factor = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)

    def placed(offset: Tensor, axis: Tensor, angle: Tensor, factor: Tensor) -> Tensor:
        return sdf.scale(sdf.rotate(sdf.translate(points, offset), axis, angle), factor)

    assert gradcheck(placed, (offset, axis, angle, factor))
