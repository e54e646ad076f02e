"""Bayesian optimization: what BoTorch is asked, and that nothing of it leaks."""

from __future__ import annotations

import importlib.util
import math

import pytest
import torch

from optimizers import Budget, Evaluation, Problem, minimize
from optimizers.problem import Model
from optimizers.surrogate.bayes import Bayes
from optimizers.surrogate.gaussian_process import kernel_terms
from optimizers.testing import boxed, shifted, sphere

pytest.importorskip("botorch")


def bowl(d: int = 2, **options) -> Problem:
    return boxed(shifted(sphere, 0.3), d, -1.0, 1.0, [-0.8] * d, differentiable=False, **options)


def test_network_kernel_has_the_slopes_of_its_formula_also_between_equal_points():
    from optimizers.surrogate.bayes_model import _NetworkCovariance

    inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first, second = inputs[:2].clone().requires_grad_(), inputs[2:].clone().requires_grad_()
    assert torch.autograd.gradcheck(_NetworkCovariance.apply, (first, second))
    batch = inputs.repeat(3, 1, 1).requires_grad_()
    value = _NetworkCovariance.apply(batch, inputs)
    assert torch.allclose(value[1], kernel_terms("network", inputs, inputs)[0])
    value.sum().backward()
    assert bool(batch.grad.isfinite().all())


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["matern52", "infinite-width-network"])
def test_smooth_bowl_is_found_in_few_evaluations(kernel):
    result = minimize(bowl(), Bayes(kernel=kernel), budget=Budget(evaluations=22))
    assert result.value < 0.01  # a random search of 22 points has 0.05 on average


def test_first_design_holds_the_start_and_fills_the_box():
    problem = bowl(3)
    query = Bayes().start(problem, seed=4).ask()
    assert query.points.shape == (8, 3)
    assert torch.equal(query.points[0], problem.start)
    assert len(Bayes().start(problem, seed=4).ask(remaining=5).points) == 5


def test_trust_region_halves_after_setbacks_and_begins_anew():
    problem = bowl(2)
    running = Bayes(trust_region=True).start(problem)
    running.tell(running.ask(), problem.evaluate(running.ask().points))
    length = running.length
    for _ in range(4):
        query = running.ask()
        running.tell(query, Evaluation(torch.full((1,), 9.0, dtype=torch.float64)))
    assert running.length == 0.5 * length
    running.length = 0.001
    assert len(running.ask().points) == 6
    assert running.events() == ("restart, the trust region has converged",)


@pytest.mark.slow
def test_free_sides_grow_with_the_best_point():
    problem = Problem.from_callable(
        lambda x: (x - 9.0).square().sum(-1), [-math.inf], [math.inf], [0.0], batched=True
    )
    result = minimize(problem, "bayes", budget=Budget(evaluations=20))
    assert float(result.x) == pytest.approx(9.0, abs=0.5)


def test_cheap_model_is_asked_where_it_tells_more_per_price():
    function = shifted(sphere, 0.3)
    cheap = Model(lambda x: 1.1 * function(x) + 0.1 * x.sum(-1), cost=0.05)
    problem = bowl(2, models={0.5: cheap})
    running = Bayes().start(problem)
    asked = []
    for _ in range(6):
        query = running.ask()
        running.tell(query, problem.evaluate(query.points, fidelity=query.fidelity))
        asked.append(query.fidelity)
    assert 0.5 in asked
    assert None in asked
    true = running.points[running.levels == 1.0]
    assert float(function(true).min()) == running.best.value  # cheap answers are never the best


@pytest.mark.slow
def test_failed_points_are_not_asked_again():
    def fun(x):
        return torch.where(x[..., 0] > 0.5, math.nan, 1.0) * (x - 0.6).square().sum(-1)

    problem = boxed(fun, 2, -1.0, 1.0, [-0.5, -0.5], differentiable=False)
    result = minimize(problem, "bayes", budget=Budget(evaluations=22))
    assert result.value < 0.1


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"geomopt\[bayes\]"):
        Bayes().start(bowl())


@pytest.mark.parametrize("setting", [{"kernel": "rbf"}, {"design": 1}, {"trust_region": 3}])
def test_settings_that_make_no_sense_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        Bayes(**setting)
