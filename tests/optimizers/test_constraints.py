"""The augmented Lagrangian and feasible-first ranking on problems with known answers."""

from __future__ import annotations

import pytest
import torch

from optimizers import Adam, Budget, Lbfgs, minimize
from optimizers.constraints import RunningAugmentedLagrangian
from optimizers.evaluation import ranking
from optimizers.testing import boxed, quadratic_program, rosenbrock, sphere, split_feasible_set


def run(problem, settings, rounds):
    """The adapter after some rounds or its end."""
    adapter = RunningAugmentedLagrangian(settings.start(problem, 0), problem)
    for _ in range(rounds):
        query = adapter.ask()
        adapter.tell(query, problem.evaluate(query.points, query.order))
        if adapter.done is not None:
            break
    return adapter


def test_multipliers_of_a_quadratic_program():
    problem, solution, multipliers = quadratic_program()
    adapter = run(problem, Lbfgs(), 400)
    assert adapter.done == "converged: constrained optimum"
    # the violation at which the run ends, over the curvature of the problem
    assert torch.allclose(adapter.best.x, solution, atol=1e-5)
    assert torch.allclose(adapter.multipliers[0], multipliers, atol=1e-5)


def test_units_of_value_and_constraints_do_not_matter():
    plain, solution, multipliers = quadratic_program()
    units = torch.tensor([1e-3, 1e3], dtype=torch.float64)

    def scaled(x):
        answer = plain.evaluate(x, 0) if not x.requires_grad else None
        value = (x - 2).square().sum(-1)
        constraints = torch.stack((x.sum(-1) - 2, x[..., 0] - 0.5), -1)
        assert answer is None or torch.equal(answer.value, value)
        return 1e4 * value, constraints * units

    adapter = run(boxed(scaled, 2), Lbfgs(), 600)
    assert torch.allclose(adapter.best.x, solution, atol=1e-2)
    assert torch.allclose(adapter.multipliers[0] * units / 1e4, multipliers, rtol=1e-2)


def test_inactive_constraints_change_nothing():
    def inactive(x):
        return rosenbrock(x), x.square().sum(-1, keepdim=True) - 1000

    def none(x):
        return rosenbrock(x), x[:, :0]

    with_one = minimize(boxed(inactive, 4, start=[-1.0] * 4), "lbfgs")
    without = minimize(boxed(rosenbrock, 4, start=[-1.0] * 4), "lbfgs")
    empty = minimize(boxed(none, 4, start=[-1.0] * 4), "lbfgs")
    assert without.value < 1e-15
    assert with_one.value < 1e-15
    assert torch.equal(empty.x, without.x)


@pytest.mark.parametrize("method", ["lbfgs", "adam", "cma"])
def test_curved_constraint(method):
    """Nearest point of the unit ball to (2, ..., 2)."""
    problem = boxed(lambda x: (sphere(x - 2), sphere(x)[:, None] - 1), 3, start=[-2.0, 1.0, 2.0])
    result = minimize(problem, method, budget=Budget(evaluations=4000))
    expected = torch.full((3,), 3**-0.5, dtype=torch.float64)
    assert result.violation <= 1e-6
    assert torch.allclose(result.x, expected, atol=2e-2 if method == "adam" else 2e-3)


def test_each_start_has_multipliers_of_its_own():
    problem, solution, _ = quadratic_program()
    adapter = run(problem, Adam(starts=3, decay=0.998), 1500)
    assert adapter.multipliers.shape == (3, 2)
    assert adapter.best.violation <= 1e-6
    assert torch.allclose(adapter.best.x, solution, atol=2e-2)


def test_split_feasible_set_is_found_by_sampling():
    problem, best = split_feasible_set()
    result = minimize(problem, "cma", budget=Budget(evaluations=6000))
    assert result.violation <= 1e-6
    assert result.value == pytest.approx(best, abs=1e-3)


def test_ranking_puts_feasible_rows_first():
    value = torch.tensor([3.0, 1.0, 2.0, 0.0, 9.0])
    violation = torch.tensor([0.0, 5.0, 1e-7, 0.5, float("inf")])
    assert ranking(value, violation).tolist() == [2, 0, 3, 1, 4]
    assert ranking(value, None).tolist() == [3, 1, 2, 0, 4]
