"""The target-space surrogate: what one costly gradient of the outer function can feed."""

from __future__ import annotations

import itertools

import pytest
import torch

from optimizers import Budget, Problem, TargetSurrogate, iterate, minimize
from optimizers.testing import boxed, rosenbrock, sphere


def tanh_network(dimension: int, outputs: int, seed: int = 0):
    """x -> tanh(A x) + 0.1 A x and the outputs of a point inside the box."""
    generator = torch.Generator().manual_seed(seed)
    size = dimension**-0.5
    matrix = size * torch.randn(outputs, dimension, generator=generator, dtype=torch.float64)
    inside = torch.rand(dimension, generator=generator, dtype=torch.float64) * 2 - 1

    def inner(x):
        return torch.tanh(x @ matrix.T) + 0.1 * x @ matrix.T

    return inner, inner(inside)


def problem_of(curvature: float = 1.0, share: float = 0.05, dimension: int = 10) -> Problem:
    """A network whose 15 outputs are cheap, judged by L / 2 |y - y*|^2."""
    inner, wanted = tanh_network(dimension, 15)
    return boxed(
        inner,
        dimension,
        -2.0,
        2.0,
        outer=lambda y: 0.5 * curvature * (y - wanted).square().sum(-1),
        inner_share=share,
    )


def outer_values(problem: Problem, method, rounds: int) -> list[float]:
    """True values of the outer steps, in their order."""
    records = itertools.islice(iterate(problem, method), rounds)
    return [record.value for record in records if record.tag == "outer"]


@pytest.mark.parametrize("curvature", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_outer_steps_never_go_up_while_eta_is_at_most_one_over_the_curvature(curvature, share):
    method = TargetSurrogate(step=share / curvature, inner_steps=10)
    values = outer_values(problem_of(curvature), method, 150)
    assert len(values) > 3
    falls = [after - before for before, after in itertools.pairwise(values)]
    assert max(falls) <= 1e-12 * values[0]  # round-off


def test_eta_too_long_for_the_curvature_goes_up():
    """The bound is not idle: at 4 / L the same steps rise."""
    values = outer_values(problem_of(30.0), TargetSurrogate(step=4 / 30, inner_steps=40), 300)
    assert any(after > before for before, after in itertools.pairwise(values[:5]))


def test_eta_that_is_not_given_finds_the_curvature():
    for curvature in (1e-3, 1.0, 1e4):
        values = outer_values(problem_of(curvature), TargetSurrogate(), 300)
        assert values[-1] < 1e-8 * values[0]


def test_costly_gradients_are_saved_against_lbfgs():
    """Outputs at a twentieth of the price: half the charge for the same value, or less."""
    for seed in range(2):
        inner, wanted = tanh_network(30, 45, seed)

        def make(inner=inner, wanted=wanted):
            return boxed(
                inner,
                30,
                -2.0,
                2.0,
                outer=lambda y: 0.5 * (y - wanted).square().sum(-1),
                inner_share=0.05,
            )

        goal = Budget(evaluations=2000, target=1e-6)
        ours, theirs = (
            minimize(make(), name, budget=goal) for name in ("target-surrogate", "lbfgs")
        )
        assert ours.reason == "target"
        assert ours.evaluations < 0.5 * theirs.evaluations


def test_first_inner_step_uses_the_gradient_that_the_outer_one_paid_for():
    problem = problem_of()
    optimizer = TargetSurrogate().start(problem)
    first = optimizer.ask()
    assert (first.order, first.target) == (1, None)
    optimizer.tell(first, problem.evaluate(first.points, 1))
    second = optimizer.ask()
    assert second.target is not None
    slope = problem.evaluate(first.points, 1).gradient[0]
    assert float((second.points[0] - first.points[0]).dot(slope)) < 0


def test_surrogate_agrees_with_the_gradient_of_the_value_where_it_was_made():
    problem = problem_of()
    optimizer = TargetSurrogate().start(problem)
    query = optimizer.ask()
    answer = problem.evaluate(query.points, 1)
    optimizer.tell(query, answer)
    target = optimizer.ask().target
    at_base = problem.evaluate(query.points, 1, target=target)
    assert torch.allclose(at_base.gradient, optimizer.eta * answer.gradient, rtol=1e-10)
    assert float(at_base.value) == pytest.approx(0.0, abs=1e-14)


def test_answers_of_the_surrogate_never_become_the_best():
    problem = problem_of()
    for record in itertools.islice(iterate(problem, "target-surrogate"), 60):
        true = problem.evaluate(record.best_x[None]).value
        assert record.best_value == pytest.approx(float(true), rel=1e-12)


def test_bounds_hold_the_solution():
    """The outputs are the parameters: the nearest point of the box to (3, 0.5, -3)."""
    far = torch.tensor([3.0, 0.5, -3.0], dtype=torch.float64)
    problem = boxed(torch.clone, 3, -1.0, 1.0, outer=lambda y: sphere(y - far), inner_share=0.1)
    result = minimize(problem, "target-surrogate", budget=Budget(evaluations=200))
    assert torch.allclose(result.x, far.clamp(-1, 1), atol=1e-6)


def test_constraints_join_the_outputs():
    """Minimise |y - 2|^2 under sum y <= 2 and y_0 <= 0.5, as `quadratic_program`, y = x + x^3."""
    problem = boxed(
        lambda x: x + x**3,
        2,
        outer=lambda y: (sphere(y - 2), torch.stack((y.sum(-1) - 2, y[..., 0] - 0.5), -1)),
        inner_share=0.2,
    )
    result = minimize(problem, "target-surrogate", budget=Budget(evaluations=1500))
    assert result.violation <= 1e-6
    wanted = torch.tensor([0.5, 1.5], dtype=torch.float64)
    assert torch.allclose(result.x + result.x**3, wanted, atol=1e-4)


def test_curved_outer_function_is_followed():
    """The gradient of F has no common Lipschitz constant: eta has to adapt on the way."""
    problem = boxed(torch.clone, 2, -2.0, 2.0, [-1.2, 1.0], outer=rosenbrock, inner_share=0.05)
    result = minimize(problem, "target-surrogate", budget=Budget(evaluations=2000))
    assert result.value < 2e-2 * float(rosenbrock(problem.start))


def test_problem_must_be_composite():
    with pytest.raises(ValueError, match="outer"):
        minimize(boxed(sphere, 2), "target-surrogate")


def test_problem_must_be_differentiable():
    problem = boxed(torch.clone, 2, outer=sphere, differentiable=False)
    with pytest.raises(ValueError, match="gradients"):
        minimize(problem, "target-surrogate")


@pytest.mark.parametrize("options", [{"inner_steps": 0}, {"step": 0.0}, {"tolerance": -1.0}])
def test_unusable_settings_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        TargetSurrogate(**options)
