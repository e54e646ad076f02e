"""Gradients from past values: what they save, noise, constraints and settings."""

from __future__ import annotations

import math

import pytest
import torch

from optimizers import Budget, Evaluation, GpGradient, Problem, iterate, minimize
from optimizers.surrogate.model_step import lowest_in_box
from optimizers.testing import boxed, ellipsoid, noisy, rosenbrock, rotated, shifted, sphere


def valued(function, d, **options) -> Problem:
    return boxed(function, d, -3.0, 3.0, options.pop("start", [1.0] * d), differentiable=False)


def test_step_in_a_box_reaches_the_bound_that_the_slope_points_to():
    slope = torch.tensor([1.0, -2.0], dtype=torch.float64)

    def model(step):
        return (slope @ step)[None], slope[None]

    one = torch.ones(2, dtype=torch.float64)
    step, _ = lowest_in_box(model, -one, 0.5 * one)
    assert torch.allclose(step, step.new_tensor([-1.0, 0.5]))


def test_step_under_constraints_is_that_of_the_multiplier_rule():
    """min x + y under x^2 + y^2 <= 1/2 and x = y: both -1/2, and the merit's minimum there."""

    def model(step):
        x, y = step
        values = torch.stack((x + y, x * x + y * y - 0.5, x - y))
        one = torch.ones_like(x)
        rows = ((one, one), (2 * x, 2 * y), (one, -one))
        return values, torch.stack([torch.stack(row) for row in rows])

    one = torch.ones(2, dtype=torch.float64)
    step, penalty = lowest_in_box(model, -one, one, equalities=1)
    assert torch.allclose(step, -0.5 * one, atol=1e-6)
    assert penalty > 0


def test_few_evaluations_reach_the_bottom_of_a_turned_ellipsoid():
    """A forward difference needs d + 1 = 21 for one gradient; 20 of those are not enough."""
    d = 20
    function = shifted(rotated(lambda x: ellipsoid(x, 10.0), d, seed=1), 0.3)
    problem = valued(function, d)
    first = float(function(problem.start))
    result = minimize(problem, "gp-gradient", budget=Budget(evaluations=400, target=1e-6 * first))
    assert result.reason == "target"


def test_virtual_steps_ask_one_point_each_and_the_slope_is_asked_first():
    tags = [
        it.tag for it in iterate(valued(sphere, 10), "gp-gradient", budget=Budget(evaluations=60))
    ]
    assert tags[:3] == ["slope"] * 3
    assert tags.count("step") > 10


def test_noise_is_noticed_by_a_repeat_and_does_not_stop_the_search():
    problem = valued(noisy(shifted(lambda x: 1 + sphere(x), 0.2), 0.01, seed=3), 10)
    running = GpGradient().start(problem, seed=0)
    for _ in range(300):
        query = running.ask()
        running.tell(query, problem.evaluate(query.points))
    assert running.noisy
    # noise has the deviation 0.01 at the bottom, where the value is 1
    assert float(sphere(running.best.x - 0.2)) < 0.3


def test_exact_values_are_never_taken_for_noise():
    problem = valued(rosenbrock, 5, start=[-1.0] * 5)
    running = GpGradient().start(problem, seed=0)
    for _ in range(120):
        query = running.ask()
        running.tell(query, problem.evaluate(query.points))
    assert not running.noisy


def test_equality_and_inequality_are_met_together():
    """min |x|^2 with sum x = 1 and x_0 <= 0.1: x_0 = 0.1 and the others 0.3."""

    def fun(x):
        return sphere(x), torch.stack((x[..., 0] - 0.1, x.sum(-1) - 1), -1)

    problem = boxed(fun, 4, start=[1.0] * 4, differentiable=False, constraints=2, equalities=1)
    result = minimize(problem, "gp-gradient", budget=Budget(evaluations=120))
    assert result.violation <= 1e-6
    assert torch.allclose(result.x, result.x.new_tensor([0.1, 0.3, 0.3, 0.3]), atol=1e-3)


def test_constant_function_ends():
    problem = valued(lambda x: 0 * x.sum(-1), 3)
    result = minimize(problem, GpGradient(restarts=0), budget=Budget(evaluations=500))
    assert result.reason.startswith("converged")


def test_failed_steps_shrink_the_region_and_teach_nothing():
    problem = valued(sphere, 3)
    running = GpGradient().start(problem, seed=0)
    while (query := running.ask()).tag != "step":
        running.tell(query, problem.evaluate(query.points))
    known, radius = len(running.points), running.radius
    running.tell(query, Evaluation(torch.full((1,), math.nan, dtype=torch.float64)))
    assert len(running.points) == known
    assert running.radius < radius


@pytest.mark.parametrize(
    "setting",
    [{"window": 2}, {"radius": 0.0}, {"uncertainty": -1.0}, {"batch": 0}, {"kernel": "linear"}],
)
def test_settings_that_make_no_sense_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        GpGradient(**setting)
