"""Newton on the conditions of an optimum, on problems of Hock and Schittkowski (1981)."""

from __future__ import annotations

import pytest
import torch

from optimizers import Budget, LagrangeNewton, Problem, minimize
from optimizers.evaluation import FEASIBLE
from optimizers.testing import boxed, quadratic_program, rosenbrock, sphere


def problem_7(x):
    value = torch.log(1 + x[..., 0] ** 2) - x[..., 1]
    return value, ((1 + x[..., 0] ** 2) ** 2 + x[..., 1] ** 2 - 4)[..., None]


def problem_39(x):
    a, b, c, d = x.unbind(-1)
    return -a, torch.stack((b - a**3 - c**2, a**2 - b - d**2), -1)


def problem_40(x):
    a, b, c, d = x.unbind(-1)
    return -x.prod(-1), torch.stack((a**3 + b**2 - 1, a**2 * d - c, d**2 - b), -1)


def problem_71(x):
    a, b, c, d = x.unbind(-1)
    value = a * d * (a + b + c) + c
    return value, torch.stack((25 - x.prod(-1), x.square().sum(-1) - 40), -1)


CASES = {
    "7": (problem_7, [2.0, 2.0], 1, (-5.0, 5.0), -(3**0.5)),
    "39": (problem_39, [2.0] * 4, 2, (-5.0, 5.0), -1.0),
    "40": (problem_40, [0.8] * 4, 3, (-5.0, 5.0), -0.25),
    "71": (problem_71, [1.0, 5.0, 5.0, 1.0], 1, (1.0, 5.0), 17.0140173),
}


def posed(name: str, **options) -> tuple[Problem, float]:
    function, start, equalities, (lower, upper), best = CASES[name]
    dimension = len(start)
    return (
        boxed(function, dimension, lower, upper, start, equalities=equalities, **options),
        best,
    )


@pytest.mark.parametrize("curvature", ["bfgs", "hessian"])
@pytest.mark.parametrize("name", CASES)
def test_published_optima(name, curvature):
    """To the digits that are published, with learnt and with exact curvature."""
    problem, best = posed(name)
    method = LagrangeNewton(curvature=curvature)
    result = minimize(problem, method, budget=Budget(evaluations=1000))
    assert result.reason == "converged: constrained optimum"
    assert result.violation <= FEASIBLE
    assert result.value == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_units_of_parameters_and_value_do_not_matter(unit):
    function, start, equalities, _, best = CASES["40"]

    def scaled(x):
        value, constraints = function(x / unit)
        return unit * value, constraints

    problem = boxed(
        scaled, 4, -5.0 * unit, 5.0 * unit, [unit * s for s in start], equalities=equalities
    )
    result = minimize(problem, "lagrange-newton", budget=Budget(evaluations=1000))
    assert result.value / unit == pytest.approx(best, abs=1e-6)


def test_multipliers_of_a_quadratic_program():
    problem, solution, multipliers = quadratic_program()
    running = LagrangeNewton().start(problem)
    while running.done is None:
        query = running.ask()
        answer = problem.evaluate(query.points, query.order, target=query.target)
        running.tell(query, answer)
    assert torch.allclose(running.best.x, solution, atol=1e-6)
    assert torch.allclose(running.l / running.units, multipliers, atol=1e-6)


def test_slope_is_the_derivative_of_the_merit():
    """Central differences of the merit along the step, in float64."""
    problem, _ = posed("39")
    running = LagrangeNewton("hessian", first_penalty=3.0, second_penalty=0.4).start(problem)
    while running.phase != "search":
        query = running.ask()
        running.tell(query, problem.evaluate(query.points, query.order, target=query.target))

    def merit(length: float) -> float:
        w = running.w + length * running.step[:4]
        l = running.l + length * running.step[4:]
        answer = problem.evaluate((w * problem.scale)[None], 1)
        value, constraints, gradient, jacobian = running._measured(answer)
        lagrangian = running._lagrangian_gradient(gradient, jacobian, l)
        return running._merit(value, constraints, lagrangian, l)

    short = 1e-6 / float(running.step.norm())
    slope = (merit(short) - merit(-short)) / (2 * short)
    lagrangian = running._lagrangian_gradient(running.gradient, running.jacobian, running.l)
    exact = running._slope(
        running.matrix, running.jacobian, lagrangian, running.step[:4], running.step[4:]
    )
    assert slope == pytest.approx(exact, rel=1e-6)


def test_saddle_is_left():
    """x^2 - y^2 on the unit circle from beside its maximum: the minima are (0, 1) and (0, -1)."""
    problem = boxed(
        lambda x: (x[..., 0] ** 2 - x[..., 1] ** 2, sphere(x)[..., None] - 1),
        2,
        start=[1.2, 0.05],
        equalities=1,
    )
    assert minimize(problem, "lagrange-newton").value == pytest.approx(-1.0, abs=2 * FEASIBLE)


def test_without_constraints_it_is_newton():
    result = minimize(boxed(rosenbrock, 4, start=[0.5] * 4), "lagrange-newton")
    assert result.value < 1e-14
    assert result.reason == "converged: gradient"


def test_composite_value_under_an_equality():
    """The nearest point of a plane, with the Gauss-Newton matrix in place of the Hessian."""
    problem = Problem.from_callable(
        lambda x: torch.cat((x, x.sum(-1, keepdim=True)), -1),
        [-5.0] * 3,
        [5.0] * 3,
        [2.0, -1.0, 0.5],
        batched=True,
        differentiable=True,
        outer=lambda y: (y[..., :3].square().sum(-1), y[..., 3:] - 1),
        equalities=1,
    )
    result = minimize(problem, "lagrange-newton")
    assert torch.allclose(result.x, torch.full((3,), 1 / 3).double(), atol=1e-8)


def test_unusable_curvature_is_named():
    with pytest.raises(ValueError, match='"bfgs" or "hessian", got \'newton\''):
        LagrangeNewton("newton")  # pyright: ignore[reportArgumentType]


def test_contradictory_equalities_end_with_a_reason():
    problem = boxed(
        lambda x: (sphere(x), torch.stack((x.sum(-1) - 1, x.sum(-1) - 2), -1)), 3, equalities=2
    )
    result = minimize(problem, "lagrange-newton", budget=Budget(evaluations=3000))
    assert result.violation == pytest.approx(1.0, abs=1e-2)
