"""Extreme and progressive barriers, and the augmented Lagrangian, around methods of every kind."""

from __future__ import annotations

import itertools

import pytest
import torch

from optimizers import (
    Adam,
    AugmentedLagrangian,
    Budget,
    Cma,
    ExtremeBarrier,
    ProgressiveBarrier,
    iterate,
    minimize,
)
from optimizers.barriers import of_violation
from optimizers.evaluation import FEASIBLE
from optimizers.testing import boxed, quadratic_program, sphere

ADAPTERS = (AugmentedLagrangian, ExtremeBarrier, ProgressiveBarrier)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_quadratic_program_by_values_alone(adapter):
    problem, solution, _ = quadratic_program()
    result = minimize(problem, adapter("cma"), budget=Budget(evaluations=4000))
    assert result.violation <= FEASIBLE
    assert torch.allclose(result.x, solution, atol=5e-3)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_quadratic_program_by_gradients(adapter):
    """An extreme barrier shows a gradient method no way along its rim, only where not to go."""
    problem, solution, _ = quadratic_program()
    method = adapter(Adam(step_size=0.01, decay=0.997))
    result = minimize(problem, method, budget=Budget(evaluations=6000))
    assert result.violation <= FEASIBLE
    if adapter is not ExtremeBarrier:
        assert torch.allclose(result.x, solution, atol=0.05)


@pytest.mark.parametrize("method", ["cma", "lbfgs"])
def test_equality_by_multipliers(method):
    """Nearest point of the plane sum x = 1 to the origin; multiplier -2/3 by hand."""
    problem = boxed(
        lambda x: (sphere(x), x.sum(-1, keepdim=True) - 1), 3, start=[2.0, -1.0, 0.5], equalities=1
    )
    result = minimize(problem, AugmentedLagrangian(method), budget=Budget(evaluations=8000))
    assert torch.allclose(result.x, torch.full((3,), 1 / 3).double(), atol=1e-3)
    # values alone tell an equality to the precision of their renewals
    assert result.violation <= (FEASIBLE if method == "lbfgs" else 1e-3)


def test_extreme_barrier_never_shows_an_infeasible_value_to_the_method():
    problem, *_ = quadratic_program()
    running = ExtremeBarrier("cma").start(problem, 0)
    told = []
    tell = running.inner.tell
    running.inner.tell = lambda query, evaluation: (
        told.append(evaluation),
        tell(query, evaluation),
    )
    for _ in range(30):
        entered = running.entered
        query = running.ask()
        evaluation = problem.evaluate(query.points)
        running.tell(query, evaluation)
        if entered:
            assert torch.equal(told[-1].ok, evaluation.violation <= FEASIBLE)
        else:
            assert torch.equal(told[-1].value, evaluation.violation)
    assert running.entered


def test_progressive_barrier_ranks_points_beyond_it_behind_all_others():
    problem, *_ = quadratic_program()
    running = ProgressiveBarrier("cma").start(problem, 0)
    running.bound = 0.5
    points = torch.tensor([[0.0, 0.0], [2.0, 2.0], [1.2, 1.2], [0.7, 1.4]], dtype=torch.float64)
    evaluation = problem.evaluate(points)
    running._measure(evaluation)
    merit = running._merit(evaluation)
    inside = evaluation.violation <= 0.5
    assert torch.equal(merit.value[inside], evaluation.value[inside])
    assert float(merit.value[~inside].min()) > float(merit.value[inside].max())
    far, near = merit.value[1], merit.value[2]
    assert far > near  # the larger violation


@pytest.mark.parametrize("adapter", [ExtremeBarrier, ProgressiveBarrier])
def test_gradients_of_what_is_told_are_derivatives(adapter):
    """Central differences of the told value in float64, at points off the rims."""
    problem, *_ = quadratic_program()
    running = adapter("adam").start(problem, 0)
    if adapter is ProgressiveBarrier:
        running.bound, running.top, running.steepness = 0.3, 7.0, 2.5
    merit = running._merit if adapter is ProgressiveBarrier else of_violation
    points = torch.tensor([[2.0, 2.0], [0.9, 1.9], [2.5, -3.0], [-1.0, -0.4]], dtype=torch.float64)
    gradient = merit(problem.evaluate(points, 1)).gradient
    for i in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[i] = 1e-6
        ahead, behind = (merit(problem.evaluate(points + s)).value for s in (step, -step))
        assert torch.allclose(gradient[:, i], (ahead - behind) / 2e-6, atol=1e-7)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_resumed_run_equals_the_unbroken_one(adapter, tmp_path):
    def stream(rounds, **options):
        records = iterate(quadratic_program()[0], adapter(Cma(population=6)), seed=4, **options)
        return list(itertools.islice(records, rounds))

    whole = stream(40)
    pieces = [stream(n, checkpoint=tmp_path / "run.pt")[-1] for n in (13, 27)]
    assert torch.equal(pieces[0].x, whole[12].x)
    assert torch.equal(pieces[1].x, whole[39].x)
    assert pieces[1].best_value == whole[39].best_value


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_without_constraints_adapters_are_not_there(adapter):
    problem = boxed(sphere, 3, start=[1.0, 2.0, 3.0])
    plain = minimize(problem, "cma", budget=Budget(evaluations=300))
    adapted = minimize(problem, adapter("cma"), budget=Budget(evaluations=300))
    assert torch.equal(plain.x, adapted.x)


def test_unknown_methods_inside_are_named():
    with pytest.raises(ValueError, match="unknown method 'cna', did you mean 'cma'"):
        minimize(quadratic_program()[0], ExtremeBarrier("cna"))
