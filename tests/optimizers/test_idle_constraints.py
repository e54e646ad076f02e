import pytest
import torch

from optimizers import Budget, Problem, minimize


@pytest.mark.parametrize("method", ["direct-search", "attack-search"])
@pytest.mark.parametrize("idle", [0.0, -1.0])
def test_constraints_that_never_change_are_no_hindrance(method, idle):
    """Such as a concentration that starts at zero: its least value over time is exactly that."""

    def fun(x):
        assert bool(x.isfinite().all())
        constraints = torch.stack((x.sum() - 1, idle + 0 * x[0], idle + 0 * x[1]))
        return (x - 1).square().sum(), constraints

    problem = Problem.from_callable(fun, [-2.0] * 2, [2.0] * 2, [-1.0, 0.5], constraints=3)
    result = minimize(problem, method, budget=Budget(evaluations=300))
    assert result.violation <= 1e-6
    assert result.value == pytest.approx(0.5, abs=1e-4)  # at (1/2, 1/2)
