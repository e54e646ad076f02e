"""Closest points against independent solvers, and what the barrier has beyond its derivatives."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear, nnls
from torch import Tensor

from sims.thin_shell.contact.closest import closest, gap, normal, separation
from sims.thin_shell.contact.pairs import EDGE_EDGE, VERTEX_EDGE, VERTEX_FACE, VERTEX_PLANE
from sims.thin_shell.energies.barrier import BARRIER, normal_force
from sims.thin_shell.energies.energy import by_autograd, positive_semidefinite

SOLVER = 1e-9  # what the bounded least squares leave, with edges of order one
ROUNDING = 1e-10
STEP = 1e-6
DIFFERENCE = 1e-6  # relative, of a central difference of a gradient with that step
KINDS = {
    "vertex-face": VERTEX_FACE,
    "edge-edge": EDGE_EDGE,
    "vertex-plane": VERTEX_PLANE,
    "vertex-edge": VERTEX_EDGE,
}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> int:
    return KINDS[request.param]


def source(seed: int = 4) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_points(kind: int, count: int) -> Tensor:
    points = torch.rand(count, 4, 3, generator=source(), dtype=torch.float64)
    if kind == VERTEX_EDGE:
        points[:, 3] = points[:, 2]
    return points


def weights_of(points: Tensor, kind: int) -> Tensor:
    return closest(points, torch.full((len(points),), kind))


def distance_of(points: Tensor, kind: int) -> Tensor:
    return gap(points, weights_of(points, kind), torch.zeros(len(points), dtype=torch.float64))


def smallest_distance(points: np.ndarray, kind: int) -> float:
    """By least squares with bounds, on other parameters than the ones of `closest`."""
    a, b, c, d = points
    if kind == VERTEX_FACE:  # barycentric coordinates, whose sum a heavy row keeps at one
        heavy = 1e6
        matrix = np.vstack([np.stack([b, c, d], axis=1) - a[:, None], np.full(3, heavy)])
        shares = nnls(matrix, np.array([0.0, 0.0, 0.0, heavy]))[0]
        return float(np.linalg.norm((np.stack([b, c, d], axis=1) - a[:, None]) @ shares))
    if kind == VERTEX_PLANE:
        sides = np.linalg.svd(np.stack([c - b, d - b]))[2]
        return abs(float(sides[2] @ (a - b)))
    if kind == EDGE_EDGE:
        matrix, start = np.stack([b - a, c - d], axis=1), a - c
    else:
        matrix, start = (b - c)[:, None], a - b
    made = lsq_linear(matrix, -start, bounds=(0, 1), tol=1e-14)
    return float(np.linalg.norm(matrix @ made.x + start))


def test_closest_points_are_those_of_least_squares(kind: int):
    points = random_points(kind, 150)
    found = distance_of(points, kind)
    wanted = [smallest_distance(pair, kind) for pair in points.numpy()]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=SOLVER)


def test_weights_lie_on_the_primitives(kind: int):
    weights = weights_of(random_points(kind, 400), kind)
    assert weights.sum(1).abs().max() < ROUNDING
    ends = 2 if kind == EDGE_EDGE else 1
    if kind != VERTEX_PLANE:
        assert (weights[:, :ends] >= 0).all()
        assert (weights[:, ends:] <= 0).all()
    counts = torch.unique((weights != 0).sum(1)).tolist()
    assert counts == ([4] if kind == VERTEX_PLANE else list(range(2, 5 - (kind == VERTEX_EDGE))))


def test_the_apart_vector_is_normal_to_what_is_free(kind: int):
    points = random_points(kind, 400)
    weights = weights_of(points, kind)
    axis = normal(points, weights)
    assert (axis.norm(dim=1) - 1).abs().max() < ROUNDING
    inside = (weights.abs() > 0).all(1)
    if kind == VERTEX_EDGE:
        inside = (weights[:, :3] != 0).all(1)
    assert inside.any()
    sides = [(3, 2)] if kind == EDGE_EDGE else [(2, 1)]
    sides += {EDGE_EDGE: [(1, 0)], VERTEX_EDGE: []}.get(kind, [(3, 1)])
    for i, j in sides:
        along = ((points[:, i] - points[:, j]) * axis).sum(1)[inside]
        assert along.abs().max() < 1e-8


DEGENERATE = {
    "parallel edges": (EDGE_EDGE, [[0, 0, 0], [1, 0, 0], [0.25, 1, 0], [1.5, 1, 0]], 1.0),
    "parallel edges in a line": (EDGE_EDGE, [[0, 0, 0], [1, 0, 0], [3, 0, 0], [5, 0, 0]], 2.0),
    "the same edge": (EDGE_EDGE, [[0, 0, 0], [1, 2, 0], [0, 0, 0], [1, 2, 0]], 0.0),
    "edge without length": (EDGE_EDGE, [[0, 0, 0], [2, 0, 0], [1, 1, 0], [1, 1, 0]], 1.0),
    "two points as edges": (EDGE_EDGE, [[0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0]], 1.0),
    "edges that cross": (EDGE_EDGE, [[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0]], 0.0),
    "two points": (VERTEX_EDGE, [[0, 0, 0], [2, 0, 0], [2, 0, 0], [2, 0, 0]], 2.0),
    "a point on an edge": (VERTEX_EDGE, [[1, 0, 0], [0, 0, 0], [2, 0, 0], [2, 0, 0]], 0.0),
    "face without area": (VERTEX_FACE, [[1, 1, 0], [0, 0, 0], [3, 0, 0], [2, 0, 0]], 1.0),
    "face without extent": (VERTEX_FACE, [[0, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]], 1.0),
    "a point on a face": (VERTEX_FACE, [[0.2, 0.2, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0]], 0.0),
    "a point on a corner": (VERTEX_FACE, [[0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0]], 0.0),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_pairs_have_finite_answers(name: str):
    """A distance, and two derivatives without NaN, of the barrier too."""
    kind, points, wanted = DEGENERATE[name]
    local = torch.tensor([points], dtype=torch.float64).requires_grad_()
    distance = distance_of(local, kind)
    assert abs(float(distance.detach()) - wanted) < ROUNDING
    parts = torch.cat([closest(local, torch.tensor([kind])).flatten(), distance])
    (first,) = torch.autograd.grad(parts.square().sum(), local, create_graph=True)
    assert first.isfinite().all()
    (second,) = torch.autograd.grad(first.square().sum(), local)
    assert second.isfinite().all()
    constants = [torch.tensor([number]) for number in (float(kind), 1.0, 3.0, 0.0, 1e-3)]
    made = BARRIER.evaluate(local.detach().flatten(1), tuple(c.double() for c in constants), 2)
    assert made.value.isfinite().all() == (wanted > 0)
    assert made.gradient.isfinite().all()
    assert made.hessian.isfinite().all()


# where a parameter reaches its bound at x = 0: the vertex, or the edge, is moved along x
CHANGES = {
    "face to edge": (VERTEX_FACE, [[0, 0.5, 0.3], [0, 0, 0], [0, 1, 0], [1, 0.5, 0]]),
    "face to corner": (VERTEX_FACE, [[0, 0, 0.3], [0, 0, 0], [1, 0.5, 0], [1, -0.4, 0]]),
    "edge to corner": (VERTEX_FACE, [[0, 0.4, 0.3], [0, 0, 0], [1, 0, 0], [0.4, -1, 0]]),
    "inside to end": (EDGE_EDGE, [[0, 0, 0.3], [1, 0.2, 0.3], [0, -1, 0], [0, 1, 0]]),
    "end to end": (EDGE_EDGE, [[0, 0.3, 0.3], [-1, 0.8, 0.4], [0, 0, 0], [1, 0, 0]]),
    "edge to end": (VERTEX_EDGE, [[0, 0.2, 0.3], [0, 0, 0], [1, 0, 0], [1, 0, 0]]),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("room", [-1e-4, 1e-4])
def test_second_derivatives_near_a_change_of_feature(name: str, room: float):
    """On either side of it, and the gradient goes on across it."""
    kind, points = CHANGES[name]
    local = torch.tensor([points], dtype=torch.float64)
    local[:, : 2 if kind == EDGE_EDGE else 1, 0] += room
    constants = tuple(
        torch.tensor([number], dtype=torch.float64) for number in (kind, 2.0, 0.8, 0.1, 1e-3)
    )
    flat = local.flatten(1)
    made = BARRIER.evaluate(flat, constants, 2)
    steps = STEP * torch.eye(12, dtype=torch.float64)
    many = tuple(constant.expand(12) for constant in constants)
    ends = [BARRIER.evaluate(flat + sign * steps, many, 1).gradient for sign in (1.0, -1.0)]
    wanted = (ends[0] - ends[1]) / (2 * STEP)
    scale = wanted.abs().max()
    assert scale > 0
    assert (made.hessian[0] - wanted).abs().max() < DIFFERENCE * scale
    other = local.clone()
    other[:, : 2 if kind == EDGE_EDGE else 1, 0] -= 2 * room
    across = BARRIER.evaluate(other.flatten(1), constants, 1).gradient
    assert (across - made.gradient).abs().max() < 4 * abs(room) * scale


def test_the_feature_does_change_there():
    for kind, points in CHANGES.values():
        counts = []
        for room in (-1e-4, 1e-4):
            local = torch.tensor([points], dtype=torch.float64)
            local[:, : 2 if kind == EDGE_EDGE else 1, 0] += room
            counts.append(int((weights_of(local, kind).abs() > 1e-12).sum()))
        assert counts[0] != counts[1]


def crossing(sine: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Two edges 0.3 apart with that sine between them."""
    points = [[-1, 0.0, 0.3], [1, 0, 0.3], [-0.7, -sine, 0], [0.9, 1.4 * sine, 0]]
    local = torch.tensor([points], dtype=torch.float64).flatten(1)
    numbers = (float(EDGE_EDGE), 1.5, 0.5, 0.1, 1e-3 * 4 * 2.6)
    return local, tuple(torch.tensor([number], dtype=torch.float64) for number in numbers)


@pytest.mark.parametrize("sine", [1e-1, 1e-2, 1e-3, 1e-4, 1e-6])
def test_edges_that_become_parallel(sine: float):
    """Kernel and twin agree, and the Hessian stays bounded as the closest points run away."""
    local, constants = crossing(sine)
    wanted = by_autograd(BARRIER.value, local, constants, 2)
    made = BARRIER.evaluate(local, constants, 2)
    lost = 1e-14 / sine  # of the closest points, where the difference of two edges is small
    for found, other in zip(made, wanted, strict=True):
        assert (found - other).abs().max() <= max(ROUNDING, lost) * other.abs().max()
    bounded = BARRIER.evaluate(local, constants, 2, project=True)
    largest = bounded.hessian.abs().max()
    assert largest < 1e3
    assert torch.linalg.eigvalsh(bounded.hessian).min() >= -ROUNDING * largest
    assert torch.linalg.eigvalsh(bounded.hessian - made.hessian).min() >= -ROUNDING * largest


def test_parallel_edges_have_no_energy():
    local, constants = crossing(0.0)
    made = BARRIER.evaluate(local, constants, 1)
    assert float(made.value) == 0
    assert float(made.gradient.abs().max()) == 0
    local, constants = crossing(0.5)
    plain = (torch.full_like(constants[0], EDGE_EDGE), *constants[1:4], torch.zeros(1).double())
    for found, wanted in zip(
        BARRIER.evaluate(local, constants, 2), BARRIER.evaluate(local, plain, 2), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def face_at(height: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    points = [[0.3, 0.3, height], [0, 0, 0], [1, 0, 0], [0, 1, 0]]
    local = torch.tensor([points], dtype=torch.float64).flatten(1)
    numbers = (float(VERTEX_FACE), 2.0, 0.4, 0.1, 1.0)
    return local, tuple(torch.tensor([number], dtype=torch.float64) for number in numbers)


def test_barrier_has_the_value_of_its_formula():
    local, constants = face_at(0.2)
    y = 0.1 / 0.4
    wanted = -2.0 * 0.4**2 * (y - 1) ** 2 * math.log(y)
    assert float(BARRIER.value(local, *constants)) == pytest.approx(wanted, rel=1e-12)
    assert float(BARRIER.evaluate(local, constants, 0).value) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("height", [0.1, 0.05, 0.0])
def test_barrier_is_infinite_where_surfaces_meet(height: float):
    local, constants = face_at(height)
    made = BARRIER.evaluate(local, constants, 2)
    assert float(made.value) == math.inf
    assert float(BARRIER.value(local, *constants)) == math.inf
    assert float(made.gradient.abs().max()) == 0
    assert float(made.hessian.abs().max()) == 0


def test_barrier_ends_smoothly_at_its_range():
    inside, constants = face_at(0.5 * (1 - 1e-5))
    made = BARRIER.evaluate(inside, constants, 2)
    # beta'' is about 6 (1 - y) there
    assert 0 < float(made.hessian.abs().max()) < 2.0 * 6 * 1e-4
    outside, _ = face_at(0.5)
    for part in BARRIER.evaluate(outside, constants, 2):
        assert float(part.abs().max()) == 0


def test_normal_force_is_what_the_barrier_pushes_with():
    local, constants = BARRIER.sample(source(), 60)
    kind = constants[0]
    points = local.unflatten(1, (4, 3))
    weights = closest(points, kind)
    distance = gap(points, weights, torch.zeros_like(kind))
    force = normal_force(points, distance, *constants)
    forces = -BARRIER.evaluate(local, constants, 1).gradient.unflatten(1, (4, 3))
    crossed = kind == EDGE_EDGE
    push = forces[:, 0] + torch.where(crossed[:, None], forces[:, 1], 0.0)
    # the mollifier turns edges, and does not push
    torch.testing.assert_close((push * normal(points, weights)).sum(1), force)
    assert (force >= 0).all()
    assert (force == 0).any()


def test_projection_adds_about_as_much_as_eigenvalues_would():
    """The bound without eigenvalues is no more than twice the stiffness of the clamped Hessian."""
    local, constants = BARRIER.sample(source(), 400)
    plain = BARRIER.evaluate(local, constants, 2).hessian
    bounded = BARRIER.evaluate(local, constants, 2, project=True).hessian
    trace, clamped = (
        torch.diagonal(matrices, dim1=1, dim2=2).sum(1)
        for matrices in (bounded, positive_semidefinite(plain))
    )
    active = clamped > 0
    assert (trace[active] / clamped[active]).median() < 2.0


def test_separation_points_to_the_first_primitive():
    local, constants = face_at(0.2)
    points = local.unflatten(1, (4, 3))
    weights = closest(points, constants[0])
    wanted = torch.tensor([[0.0, 0.0, 0.2]], dtype=torch.float64)
    torch.testing.assert_close(separation(points, weights), wanted)
    torch.testing.assert_close(normal(points, weights), wanted / 0.2)


@pytest.mark.gpu
def test_closest_points_on_a_device(kind: int, device: torch.device):
    points = random_points(kind, 50)
    found = weights_of(points.to(device), kind)
    torch.testing.assert_close(found.cpu(), weights_of(points, kind))
