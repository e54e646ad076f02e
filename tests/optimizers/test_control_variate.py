"""A cheap model beside gp-gradient: its coefficient, what it saves, and what it may never cost."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from optimizers import Budget, GpGradient, Model, Problem, iterate
from optimizers.surrogate.control_variate import ADVANCE, SHARE, ControlVariate, coefficient
from optimizers.testing import boxed, ellipsoid, rosenbrock, rotated, shifted

D = 12
RATE = 0.01  # price of the cheap models
FEWER = 0.7  # of the true evaluations, at most, where a model is a good one
MORE = 1.3  # times the true evaluations, at most, where it is useless


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


WAVE = normal(D, seed=7) / math.sqrt(D)
quadratic = shifted(rotated(lambda x: ellipsoid(x, 10.0), D, seed=1), 0.3)


def biased(function):
    """Of another unit, off its place, and with a smooth error of its own."""
    return lambda x: 0.5 * function(x + 0.03) + 0.3 * torch.sin(x @ WAVE)


def unrelated(x):
    return torch.sin(3 * math.sqrt(D) * (x @ WAVE)) + (x * WAVE).square().sum(-1)


def flipped(x):
    return -quadratic(x)


def mirrored(x):
    """Its minimum lies on the other side of the origin."""
    return quadratic(-x)


def posed(function, cheap=None, start=1.0, grad=True, cost=RATE, **options) -> Problem:
    """A problem with a cheap model; `asked` counts the true evaluations."""
    options.setdefault("differentiable", False)
    if cheap is not None:
        options["models"] = {0.5: Model(cheap, cost=cost, differentiable=grad)}
    problem = boxed(function, D, -3.0, 3.0, [start] * D, **options)
    evaluate = problem.evaluate
    problem.asked = 0

    def counting(x, order=0, *, fidelity=None, **others):
        problem.asked += len(x) if fidelity is None else 0
        return evaluate(x, order, fidelity=fidelity, **others)

    problem.evaluate = counting
    return problem


def true_evaluations(function, share: float, cheap=None, start=1.0, seeds=2, **options) -> int:
    """Until the value is a share of the first, summed over seeds."""
    total = 0
    for seed in range(seeds):
        problem = posed(function, cheap, start, **options)
        budget = Budget(evaluations=600, target=share * float(function(problem.start)))
        last = list(iterate(problem, "gp-gradient", budget=budget, seed=seed))[-1]
        assert last.reason == "target"
        total += problem.asked
    return total


def test_coefficient_is_the_least_squares_one_times_the_adjusted_determination():
    guesses, error = normal(20, seed=1), normal(20, seed=2)
    assert coefficient(3 - 2 * guesses, guesses) == pytest.approx(-2, rel=1e-12)
    values = 3 - 2 * guesses + error
    columns = torch.stack((guesses, torch.ones_like(guesses)), 1)
    solution = torch.linalg.lstsq(columns, values[:, None]).solution
    rest = values - (columns @ solution)[:, 0]
    unexplained = float(rest.square().sum() / (values - values.mean()).square().sum())
    expected = float(solution[0]) * (1 - unexplained * 19 / 18)
    assert coefficient(values, guesses) == pytest.approx(expected, rel=1e-10)


def test_coefficient_is_zero_for_what_tells_nothing():
    values = normal(30, seed=1)
    centred = values - values.mean()
    other = normal(30, seed=2)
    other = other - other.mean() - (other @ centred) / (centred @ centred) * centred
    assert coefficient(values, other) == 0
    assert coefficient(values, torch.ones_like(values)) == 0
    assert coefficient(values[:2], values[:2]) == 0
    missing = torch.full_like(values, math.nan)
    missing[:2], missing[2] = values[:2], math.inf
    assert coefficient(values, missing) == 0


def test_secant_change_explains_the_last_gradients_of_a_quadratic():
    """r = y - H s vanishes after the change, and H stays symmetric."""
    variate = ControlVariate(posed(quadratic, quadratic))
    variate.slope = normal(D, seed=3)
    step, change = normal(D, seed=4), normal(D, seed=5)
    variate._correct(step, change)
    assert torch.allclose(variate.bend @ step, change, atol=1e-12)
    assert torch.allclose(variate.bend, variate.bend.T, atol=1e-12)


@pytest.mark.parametrize("differentiable", [True, False])
def test_good_model_saves_true_evaluations_on_a_quadratic(differentiable):
    without = true_evaluations(quadratic, 1e-4)
    with_model = true_evaluations(quadratic, 1e-4, biased(quadratic), grad=differentiable)
    assert with_model < FEWER * without


def test_good_model_saves_true_evaluations_in_a_valley():
    without = true_evaluations(rosenbrock, 0.03, start=-0.5)
    with_model = true_evaluations(rosenbrock, 0.03, biased(rosenbrock), -0.5)
    assert with_model < FEWER * without


@pytest.mark.parametrize("cheap", [unrelated, flipped, mirrored])
def test_useless_model_costs_little(cheap):
    without = true_evaluations(quadratic, 1e-4, seeds=3)
    assert true_evaluations(quadratic, 1e-4, cheap, seeds=3) < MORE * without


def test_model_that_always_fails_changes_nothing_but_the_questions():
    def failing(x):
        return math.nan * x.sum(-1)

    def true_points(problem):
        running, points = GpGradient().start(problem, seed=3), []
        while len(points) < 40:
            query = running.ask()
            if query.is_true:
                points.append(query.points)
            running.tell(
                query, problem.evaluate(query.points, query.order, fidelity=query.fidelity)
            )
        return points

    pairs = zip(true_points(posed(quadratic)), true_points(posed(quadratic, failing)), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_answers_of_the_model_never_are_the_result():
    problem = posed(quadratic, lambda x: quadratic(x) - 1e6)
    last = list(iterate(problem, "gp-gradient", budget=Budget(evaluations=30)))[-1]
    assert last.best_value == float(quadratic(last.best_x)) >= 0


@pytest.mark.parametrize("cost", [0.0, 0.01, 0.3, 2.0])
def test_questions_cost_the_promised_share_at_most(cost):
    problem = posed(quadratic, unrelated, cost=cost)
    records = list(iterate(problem, "gp-gradient", budget=Budget(evaluations=60)))
    assert records[-1].evaluations - problem.asked <= ADVANCE + SHARE * problem.asked
    assert records[-1].evaluations < 61


def test_without_use_models_nothing_is_asked_of_them():
    problem = posed(quadratic, quadratic)
    last = list(iterate(problem, GpGradient(use_models=False), budget=Budget(evaluations=30)))[-1]
    assert last.evaluations == problem.asked


@pytest.mark.parametrize("differentiable", [True, False])
def test_resumed_run_with_a_model_equals_the_unbroken_one(differentiable, tmp_path):
    def records(rounds, **options):
        problem = posed(rosenbrock, biased(rosenbrock), -0.5, differentiable)
        stream = iterate(problem, "gp-gradient", seed=1, **options)
        return list(itertools.islice(stream, rounds))

    whole, pieces = records(80), []
    for rounds in (1, 2, 3, 10, 17, 47):
        pieces += records(rounds, checkpoint=tmp_path / "run.pt")
    assert len(pieces) == len(whole)
    for one, other in zip(whole, pieces, strict=True):
        assert torch.equal(one.x, other.x)
        assert (one.value, one.tag, one.evaluations) == (other.value, other.tag, other.evaluations)


def test_constraints_are_kept_beside_a_model_of_the_value():
    def fun(x):
        return quadratic(x), x.sum(-1, keepdim=True) - 1

    def cheap(x):
        return biased(quadratic)(x), x.sum(-1, keepdim=True)

    problem = posed(fun, cheap, constraints=1)
    last = list(iterate(problem, "gp-gradient", budget=Budget(evaluations=150)))[-1]
    reference = posed(fun, constraints=1, differentiable=True)
    best = list(iterate(reference, "scipy-slsqp", budget=Budget(evaluations=600)))[-1]
    assert last.best_violation <= 1e-6
    assert last.best_value <= best.best_value + 1e-2 * float(quadratic(problem.start))


def test_single_precision_and_one_sided_boxes_are_met():
    model = Model(biased(quadratic), cost=RATE)
    for fidelity in (0.1, 0.9):
        problem = Problem.from_callable(
            lambda x: quadratic(x.double()).float(), [0.5] * D, [math.inf] * D, [1.0] * D,
            batched=True, dtype=torch.float32,
            models={fidelity: Model(lambda x: model.function(x.double()).float(), RATE)},
        )  # fmt: skip
        last = list(iterate(problem, "gp-gradient", budget=Budget(evaluations=60)))[-1]
        assert last.best_value < 0.5 * float(quadratic(problem.start.double()))
        assert bool((last.best_x >= 0.5).all())
