"""Directional attacks against closed forms, and where they propose in a search."""

from __future__ import annotations

import math

import pytest
import torch

from optimizers import Attack, Model, Problem
from optimizers.direct_search.attack_steps import euclidean_step, newton_step, sign_step
from optimizers.direct_search.constrained_step import damped_newton, model_step, steepest
from optimizers.direct_search.differences import difference_points, differenced

EXACT = 1e-12  # sums of a few products in float64
DIFFERENCES = 1e-6  # forward differences of functions with derivatives of order 1
FREE = math.inf


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def composite(inner, outer, dimension: int, lower=-1.0, upper=1.0, start=0.0, **options) -> Problem:
    options = {"differentiable": True} | options
    bounds = [[float(side)] * dimension for side in (lower, upper)]
    start = [start] * dimension if isinstance(start, float) else start
    return Problem.from_callable(inner, *bounds, start, batched=True, outer=outer, **options)


def linear(dimension: int, outputs: int, seed: int = 0, **options):
    """A problem whose Phi is a matrix, and the matrix."""
    matrix = drawn(outputs, dimension, seed=seed)

    def outer(y):
        return (y - 1).square().sum(-1)

    return composite(lambda x: x @ matrix.T, outer, dimension, **options), matrix


def carried_out(attack, problem: Problem) -> torch.Tensor:
    while not attack.done:
        query = attack.ask()
        attack.tell(
            query,
            problem.evaluate(
                query.points, query.order, fidelity=query.fidelity, target=query.target
            ),
        )
    return attack.points


def corners(dimension: int) -> torch.Tensor:
    return torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * dimension)


@pytest.mark.parametrize("kind", ["fgsm", "pgd"])
def test_sign_attacks_reach_the_least_corner_of_the_ball_of_a_linear_model(kind):
    problem, matrix = linear(4, 3, lower=-5, upper=5)
    start, u, radius = problem.start[None] + 0.2, drawn(1, 3, seed=3), 0.03
    found = carried_out(Attack(kind).start(problem, start, radius, u), problem)
    least = (corners(4) * radius * problem.scale) @ matrix.T @ u[0]
    assert torch.isclose((found - start)[0] @ matrix.T @ u[0], least.min(), rtol=EXACT)
    assert torch.allclose((found - start).abs(), radius * problem.scale, rtol=1e-9)


@pytest.mark.parametrize("kind", ["fgsm", "pgd", "l2", "gauss-newton"])
def test_attacks_stay_in_the_ball_and_in_the_box(kind):
    problem, _ = linear(5, 3, start=[0.9, -1.0, 1.0, 0.0, -0.95])
    start = problem.start.repeat(3, 1)
    radius = torch.tensor([0.01, 0.1, 0.5], dtype=torch.float64)
    found = carried_out(Attack(kind).start(problem, start, radius), problem)
    assert bool(((found >= problem.lower) & (found <= problem.upper)).all())
    lengths = ((found - start) / problem.scale).abs().amax(1)
    assert bool((lengths <= radius * (1 + EXACT)).all())
    assert bool((lengths > 0).all())


def test_projected_attack_bends_where_a_sign_step_cannot():
    """Phi has its least value inside the ball: steps turn back where the gradient does."""

    def inner(x):
        return (x - 0.1).square().sum(-1, keepdim=True)

    problem = composite(inner, lambda y: y.sum(-1), 3)
    u, start = torch.ones(1, 1, dtype=torch.float64), problem.start[None]
    stepped = carried_out(Attack("fgsm").start(problem, start, 0.4, u), problem)
    projected = carried_out(Attack("pgd", steps=40).start(problem, start, 0.4, u), problem)
    assert float(inner(projected)) < 0.05 * float(inner(stepped))


def test_euclidean_step_goes_along_the_negative_gradient_and_slides_along_bounds():
    gradient = torch.tensor([[3.0, -4.0, 2.0]], dtype=torch.float64)
    room = (
        torch.tensor([[-1.0, -1.0, 0.0]], dtype=torch.float64),
        torch.ones(1, 3, dtype=torch.float64),
    )
    step = euclidean_step(gradient, torch.tensor([0.5], dtype=torch.float64), room)
    assert torch.allclose(step, torch.tensor([[-0.3, 0.4, 0.0]], dtype=torch.float64))


def test_sign_step_is_the_exact_least_point_also_at_bounds():
    gradient = drawn(20, 6)
    room = (-drawn(20, 6, seed=1).abs(), drawn(20, 6, seed=2).abs())
    radius = torch.full((20,), 0.7, dtype=torch.float64)
    step = sign_step(gradient, radius, room)
    low, high = room[0].clamp(min=-0.7), room[1].clamp(max=0.7)
    assert torch.allclose(step, torch.where(gradient > 0, low, high), rtol=EXACT)


def test_newton_step_is_the_damped_one_and_shorter_than_the_radius():
    matrix, gradient = drawn(1, 4, 4), drawn(1, 4, seed=5)
    curvature = matrix @ matrix.mT
    wide = (torch.full((1, 4), -FREE).double(), torch.full((1, 4), FREE).double())
    radius = torch.tensor([0.3], dtype=torch.float64)
    step = newton_step(gradient, curvature, radius, wide)
    damped = curvature[0] + gradient.norm() / 0.3 * torch.eye(4, dtype=torch.float64)
    assert torch.allclose(damped @ step[0], -gradient[0], rtol=1e-9)
    assert float(step.norm()) <= 0.3
    long = newton_step(gradient, curvature, 1e9 * radius, wide)
    assert torch.allclose(curvature[0] @ long[0], -gradient[0], rtol=1e-5)


def test_newton_step_solves_a_bounded_quadratic():
    """With one bound in the way, the other coordinates take it into account."""
    curvature = torch.tensor([[[2.0, 1.0], [1.0, 2.0]]], dtype=torch.float64)
    gradient = torch.tensor([[3.0, 0.0]], dtype=torch.float64)  # free minimum (-2, 1)
    room = (torch.tensor([[-0.5, -9.0]]).double(), torch.tensor([[9.0, 9.0]]).double())
    step = newton_step(gradient, curvature, torch.tensor([1e9], dtype=torch.float64), room)
    assert torch.allclose(step, torch.tensor([[-0.5, 0.25]], dtype=torch.float64), atol=1e-6)


def test_newton_step_survives_an_indefinite_curvature():
    curvature = -torch.eye(3, dtype=torch.float64)[None]
    room = (torch.full((1, 3), -1.0).double(), torch.full((1, 3), 1.0).double())
    gradient = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    step = newton_step(gradient, curvature, torch.tensor([5.0], dtype=torch.float64), room)
    assert float((step * gradient).sum()) < 0


def test_gauss_newton_attack_solves_linear_least_squares():
    problem, matrix = linear(4, 6, lower=-50, upper=50)
    found = carried_out(Attack("gauss-newton").start(problem, problem.start[None], 1e9), problem)
    wanted = torch.linalg.lstsq(matrix, torch.ones(6, 1, dtype=torch.float64)).solution[:, 0]
    assert torch.allclose(found[0], wanted, atol=1e-6)


@pytest.mark.parametrize("kind", ["fgsm", "pgd", "l2", "gauss-newton"])
def test_attacks_by_differences_go_where_those_by_gradients_go(kind):
    matrix = drawn(3, 4)

    def inner(x):
        return torch.tanh(x @ matrix.T)

    def outer(y):
        return (y - 0.5).square().sum(-1)

    white = composite(inner, outer, 4)
    black = composite(inner, outer, 4, differentiable=False)
    start = torch.stack((white.start, white.start + 0.2))
    # small differences, and a start where no entry of the gradient changes its sign
    first, second = (
        carried_out(Attack(kind, steps=3, width=1e-6).start(problem, start, 0.05), problem)
        for problem in (white, black)
    )
    assert torch.allclose(first, second, atol=DIFFERENCES)


def test_differences_give_gradients_constraints_and_curvature():
    matrix = drawn(3, 4)

    def inner(x):
        return torch.sin(x @ matrix.T)

    def outer(y):
        return y.square().sum(-1), torch.stack((y[..., 0] - 1, y[..., 1] * y[..., 2]), -1)

    problem = composite(inner, outer, 4)
    points = torch.stack((problem.start + 0.3, problem.upper))  # the second has room on one side
    around, steps = difference_points(problem, points, torch.zeros(2, dtype=torch.float64))
    assert bool(((around >= problem.lower) & (around <= problem.upper)).all())
    seen = differenced(problem.evaluate(around, 0), steps)
    true = problem.evaluate(points, 2)
    for name in ("value", "gradient", "constraint_gradient", "curvature", "outputs"):
        assert torch.allclose(getattr(seen, name), getattr(true, name), atol=DIFFERENCES), name
    u = drawn(2, 5, seed=8)
    told = differenced(problem.evaluate(around, 0), steps, u)
    wanted = (true.constraint_gradient * u[:, 3:, None]).sum(1)
    rows = [
        torch.autograd.functional.jacobian(lambda x: inner(x[None])[0], point).T @ u[i, :3]
        for i, point in enumerate(points)
    ]
    assert torch.allclose(told.gradient, torch.stack(rows) + wanted, atol=DIFFERENCES)


def test_neighbour_that_failed_tells_of_no_change():
    def inner(x):
        return torch.where(x[..., :1] > 0.5, math.nan, x)

    problem = composite(inner, lambda y: y.sum(-1), 2, start=[0.5, 0.0])
    points, steps = difference_points(
        problem, problem.start[None], torch.zeros(1, dtype=torch.float64)
    )
    seen = differenced(problem.evaluate(points, 0), steps)
    assert bool(seen.ok[0])
    assert torch.allclose(seen.gradient, torch.tensor([[0.0, 1.0]], dtype=torch.float64))


def test_attack_asks_the_surrogate():
    matrix = drawn(2, 3)
    model = Model(lambda x: x @ matrix.T, cost=0.1, differentiable=True)
    problem, _ = linear(3, 2, differentiable=False, models={0.5: model})
    attack = Attack().start(problem, problem.start[None], 0.1, fidelity=0.5)
    query = attack.ask()
    assert (query.fidelity, query.order, query.is_true) == (0.5, 1, False)
    found = carried_out(attack, problem)
    slope = matrix.T @ (2 * (matrix @ problem.start - 1))
    assert torch.allclose(found, problem.start - 0.1 * problem.scale * slope.sign())


def test_direction_may_raise_one_output_alone():
    problem, matrix = linear(5, 3)
    u = torch.tensor([[0.0, -1.0, 0.0]], dtype=torch.float64)
    found = carried_out(Attack().start(problem, problem.start[None], 0.1, u), problem)
    change = matrix @ (found[0] - problem.start)
    assert torch.isclose(change[1], (0.1 * problem.scale * matrix[1].abs()).sum())


def test_attack_resumes_exactly():
    problem, _ = linear(4, 3)
    first = Attack("pgd").start(problem, problem.start[None], 0.2)
    for _ in range(4):
        query = first.ask()
        first.tell(query, problem.evaluate(query.points, query.order, target=query.target))
    second = Attack("pgd").start(problem, problem.start[None], 0.2)
    second.load_state_dict(first.state_dict())
    assert torch.equal(carried_out(first, problem), carried_out(second, problem))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 0.0}, "radius"),
        ({"points": torch.zeros(2)}, "points"),
        ({"direction": torch.zeros(3, 2)}, "direction"),
        ({"kind": "gauss-newton", "direction": torch.zeros(1, 2)}, "direction"),
    ],
)
def test_attack_refuses_what_does_not_fit(options, message):
    problem, _ = linear(3, 2)
    kind = options.pop("kind", "fgsm")
    arguments = {"points": problem.start[None], "radius": 0.1} | options
    with pytest.raises(ValueError, match=message):
        Attack(kind).start(problem, **arguments)


def test_unknown_attack_is_refused():
    with pytest.raises(ValueError, match="fgsm"):
        Attack("sideways")


def test_constrained_step_is_the_projection_for_a_unit_metric():
    """min |d + g|^2 / 2 with one plane: the unconstrained step minus its part across the plane."""
    gradient, normal = drawn(5), drawn(5, seed=2)
    normal = normal * -torch.sign(normal @ gradient)  # the free step -g crosses the plane
    room = (torch.full((5,), -FREE).double(), torch.full((5,), FREE).double())
    step, multipliers = model_step(
        gradient, steepest(1.0), room, 1e9, torch.zeros(1).double(), normal[None]
    )
    across = normal * (normal @ gradient) / (normal @ normal)
    assert torch.allclose(step, -(gradient - across), atol=1e-9)
    assert torch.isclose(multipliers[0], -(normal @ gradient) / (normal @ normal), rtol=1e-9)


def test_constrained_step_solves_a_quadratic_program():
    """As `quadratic_program`: from (0, 0) the exact step, with both multipliers."""
    gradient = torch.tensor([-4.0, -4.0], dtype=torch.float64)
    curvature = 2 * torch.eye(2, dtype=torch.float64)
    room = (torch.full((2,), -FREE).double(), torch.full((2,), FREE).double())
    constraints = torch.tensor([-2.0, -0.5, -9.0], dtype=torch.float64)
    jacobian = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    step, multipliers = model_step(
        gradient, damped_newton(curvature, 0.0), room, 1e9, constraints, jacobian
    )
    assert torch.allclose(step, torch.tensor([0.5, 1.5], dtype=torch.float64), atol=1e-9)
    assert torch.allclose(multipliers, torch.tensor([1.0, 2.0, 0.0]).double(), atol=1e-9)


def test_constrained_step_meets_equalities_with_multipliers_of_either_sign():
    gradient = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    room = (torch.full((3,), -FREE).double(), torch.full((3,), FREE).double())
    jacobian = torch.tensor([[0.0, 1.0, 1.0]], dtype=torch.float64)
    step, multipliers = model_step(
        gradient, steepest(1.0), room, 1e9, torch.tensor([-3.0]).double(), jacobian, equalities=1
    )
    assert torch.isclose(step[1] + step[2], torch.tensor(3.0).double())
    assert float(multipliers[0]) < 0


def test_step_that_is_too_long_is_shortened_and_keeps_its_direction():
    gradient = torch.tensor([4.0, -2.0], dtype=torch.float64)
    room = (torch.full((2,), -9.0).double(), torch.full((2,), 9.0).double())
    none = torch.zeros(0).double(), torch.zeros(0, 2).double()
    step, _ = model_step(gradient, steepest(1.0), room, 0.1, *none)
    assert torch.allclose(step, torch.tensor([-0.1, 0.05], dtype=torch.float64))
