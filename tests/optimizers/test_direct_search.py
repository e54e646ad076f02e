"""Direct search: its parts against their definitions, and what it finds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from optimizers import Budget, DirectSearch, Evaluation, Problem, minimize
from optimizers.direct_search.archive import Archive
from optimizers.direct_search.barrier import Barrier, Outcome
from optimizers.direct_search.poll import inside, ordered, poll_directions
from optimizers.direct_search.quadratic import QuadraticModels
from optimizers.direct_search.trust_region import (
    least_in_ball,
    least_in_box,
    least_under_constraints,
)
from optimizers.testing import (
    boxed,
    ellipsoid,
    noisy,
    rosenbrock,
    rotated,
    shifted,
    sphere,
    split_feasible_set,
)

ROUND_OFF = 1e-12  # of float64, with room for some hundred operations


@pytest.mark.parametrize("opposite", [False, True])
@pytest.mark.parametrize("dimension", [1, 2, 7])
def test_some_polled_direction_descends_along_every_slope(dimension, opposite):
    random = np.random.default_rng(dimension)
    directions = poll_directions(random.standard_normal(dimension), opposite)
    assert len(directions) == (2 * dimension if opposite else dimension + 1)
    basis = directions[:dimension] / np.linalg.norm(directions[:dimension], axis=1)[:, None]
    assert np.allclose(basis @ basis.T, np.eye(dimension), atol=ROUND_OFF)
    assert np.allclose(np.abs(directions).max(1), 1.0, atol=ROUND_OFF)
    slopes = random.standard_normal((50, dimension))
    assert ((slopes @ directions.T).min(1) < 0).all()


def test_polled_points_are_in_the_box_and_not_the_center():
    center, lower, upper = np.array([1.0, 0.0]), np.array([-1.0, -1.0]), np.ones(2)
    points = inside(center + np.array([[1.0, 0], [3, 3], [-1, 0]]), center, lower, upper)
    assert points.tolist() == [[1.0, 1.0], [0.0, 0.0]]
    turned = ordered(np.array([[1.0, 0], [0, 2], [-1, 0]]), np.array([-1.0, 0.1]))
    assert turned.tolist() == [[-1.0, 0.0], [0.0, 2.0], [1.0, 0.0]]


def quadratic(dimension, seed, definite=True):
    random = np.random.default_rng(seed)
    root = random.standard_normal((dimension, dimension))
    hessian = root @ root.T if definite else root + root.T
    return random.standard_normal(dimension), hessian


def test_models_meet_a_quadratic_that_the_points_determine():
    d, random = 4, np.random.default_rng(0)
    slopes, hessians = zip(*(quadratic(d, seed, definite=False) for seed in (1, 2)), strict=True)
    center, points = random.standard_normal(d), random.standard_normal((30, d))
    steps = points - center
    values = np.stack(
        [steps @ g + 0.5 * ((steps @ h) * steps).sum(1)
         for g, h in zip(slopes, hessians, strict=True)], 1,
    )  # fmt: skip
    models = QuadraticModels(2, d)
    for _ in range(20):  # each fit lowers the share that the allowed errors leave
        assert models.fit(center, 2.0, points, values, noise=0.0)
    # what is left of FAR after 20 fits
    assert np.allclose(models.gradient, slopes, atol=1e-3)
    assert np.allclose(models.hessian, hessians, atol=1e-3)
    assert np.allclose(models.predicted(steps), values, atol=1e-2)


def test_models_keep_what_the_points_do_not_contradict():
    d = 5
    models = QuadraticModels(1, d)
    slope, hessian = quadratic(d, 3)
    models.gradient[0], models.hessian[0] = slope, hessian
    center = np.full(d, 0.2)
    steps = 0.1 * np.eye(d)[:2]
    moved = slope + hessian @ center
    values = steps @ moved + 0.5 * ((steps @ hessian) * steps).sum(1)
    models.fit(center, 0.1, center + steps, values[:, None], noise=0.0)
    assert np.allclose(models.hessian[0], hessian, atol=1e-9)
    assert np.allclose(models.gradient[0], moved, atol=1e-9)


def test_models_forget_numbers_beyond_repair():
    models = QuadraticModels(1, 2)
    values = np.array([[1e308], [-1e308]])
    assert not models.fit(np.zeros(2), 1e-12, 1e-12 * np.eye(2), values, noise=0.0)
    assert not models.gradient.any()


def test_metric_makes_a_trusted_curvature_round():
    _, hessian = quadratic(6, 4)
    models = QuadraticModels(1, 6)
    models.shape(hessian, trust=1.0)
    basis = models.axes * models.lengths
    round_one = basis.T @ hessian @ basis
    assert np.allclose(round_one, round_one[0, 0] * np.eye(6), rtol=1e-9, atol=1e-9)
    assert math.isclose(models.lengths.prod(), 1.0, rel_tol=1e-9)
    models.shape(hessian, trust=0.0)
    assert np.allclose(models.lengths, 1.0)


@pytest.mark.parametrize("definite", [True, False])
@pytest.mark.parametrize("radius", [0.1, 1.0, 30.0])
def test_no_random_step_in_the_ball_is_lower(definite, radius):
    for seed in range(5):
        slope, hessian = quadratic(4, seed, definite)
        curvatures, axes = np.linalg.eigh(hessian)
        step = axes @ least_in_ball(curvatures, axes.T @ slope, radius)
        assert np.linalg.norm(step) <= radius * (1 + ROUND_OFF)
        random = np.random.default_rng(seed).standard_normal((2000, 4))
        lengths = np.random.default_rng(seed + 1).random((2000, 1)) ** 0.25
        random *= radius * lengths / np.linalg.norm(random, axis=1)[:, None]
        value = slope @ step + 0.5 * step @ hessian @ step
        others = random @ slope + 0.5 * ((random @ hessian) * random).sum(1)
        # the length of a step is right to a thousandth
        assert value <= others.min() + 2e-3 * abs(value)


def test_ball_step_without_slope_follows_the_steepest_fall():
    step = least_in_ball(np.array([-2.0, 1.0, 3.0]), np.zeros(3), 0.5)
    assert np.allclose(np.abs(step), [0.5, 0.0, 0.0])
    step = least_in_ball(np.array([-2.0, 1.0]), np.array([0.0, 0.3]), 0.5)
    assert math.isclose(np.linalg.norm(step), 0.5, rel_tol=1e-9)
    assert step[1] < 0


def test_step_in_a_box_rests_at_the_bounds_that_stop_it():
    metric = (np.eye(2), np.ones(2))
    hessian = np.array([[2.0, 1.0], [1.0, 2.0]])
    step = least_in_box(
        np.array([-4.0, -4.0]), hessian, metric, 10.0, np.array([-1.0, -1.0]), np.array([0.5, 9.0])
    )
    # with the first coordinate at 0.5 the slope of the second is 2 y + 0.5 - 4
    assert np.allclose(step, [0.5, 1.75])


def test_step_under_constraints_meets_the_conditions_of_a_minimum():
    """Minimise (x - 2)^2 + (y - 2)^2 under x + y = 2 and x <= 0.5, from the origin."""
    gradient = np.array([[-4.0, -4.0], [1.0, 0.0], [1.0, 1.0]])
    hessian = np.stack([2 * np.eye(2), np.zeros((2, 2)), np.zeros((2, 2))])
    at_center = np.array([-0.5, -2.0])
    wide = np.full(2, 9.0)
    step, multipliers = least_under_constraints(
        gradient, hessian, at_center, 1, (np.eye(2), np.ones(2)), 20.0, -wide, wide
    )
    assert np.allclose(step, [0.5, 1.5], atol=1e-4)
    assert np.allclose(multipliers, [2.0, 1.0], atol=1e-2)


def judged(progressive, rows):
    archive = Archive(2)
    barrier, outcomes = Barrier(archive, progressive), []
    for value, constraint in rows:
        violation = np.array([max(constraint, 0.0)])
        new = archive.add(np.zeros((1, 2)), np.array([value]), np.array([[constraint]]), violation)
        outcomes.append(barrier.judge(new))
    return barrier, outcomes


def test_progressive_barrier_falls_when_constraints_come_closer():
    rows = [(5.0, 2.0), (4.0, 1.5), (6.0, 1.0), (9.0, 3.0), (7.0, -1.0), (3.0, 1.2), (6.5, -2.0)]
    barrier, outcomes = judged(True, rows)
    assert outcomes == [
        Outcome.DOMINATING,  # the first success
        Outcome.DOMINATING,  # lower in both
        Outcome.IMPROVING,  # closer, but higher
        Outcome.FAILURE,  # beyond the barrier
        Outcome.DOMINATING,  # the first feasible point
        Outcome.FAILURE,  # lower, but beyond the barrier, which has fallen
        Outcome.DOMINATING,  # feasible and lower
    ]
    assert (barrier.feasible, barrier.infeasible) == (6, 2)
    assert {barrier.leader, barrier.second} == {6, 2}


def test_extreme_barrier_leaves_what_is_infeasible():
    rows = [(5.0, 2.0), (9.0, 1.0), (1.0, 3.0), (8.0, -1.0), (0.0, 1e-3), (7.0, 0.0)]
    barrier, outcomes = judged(False, rows)
    good = {0, 1, 3, 5}
    expected = [Outcome.DOMINATING if i in good else Outcome.FAILURE for i in range(6)]
    assert outcomes == expected
    assert (barrier.leader, barrier.second) == (5, -1)


def test_excess_does_not_depend_on_the_units_of_constraints():
    random = np.random.default_rng(0)
    constraints, units = random.standard_normal((6, 2)), np.array([1e-3, 1e4])
    archives = []
    for scaled in (constraints, constraints * units):
        archive = Archive(3)
        for row in scaled:
            archive.add(np.zeros((1, 3)), np.zeros(1), row[None], np.ones(1), equalities=1)
        archives.append(archive.excess)
    assert np.allclose(*archives)


def test_covering_takes_the_farthest_candidate():
    archive = Archive(2)
    archive.add(np.array([[0.0, 0.0], [1.0, 1.0]]), np.zeros(2), None, np.zeros(2))
    assert archive.farthest(np.array([[0.1, 0.1], [0.9, 0.2], [1.2, 1.2]])) == 1


def test_covering_points_appear_near_the_leader_within_reach():
    problem = boxed(sphere, 3)
    search, asked = DirectSearch(covering=2, reach=0.2).start(problem, seed=1), 0
    for _ in range(300):
        query = search.ask()
        if query.tag == "covering":
            center = search.archive.points[search.barrier.leader]
            away = (query.points[0] - problem.start).numpy() / 10 - center
            assert np.abs(away).max() <= 0.2 + ROUND_OFF
            asked += 1
        search.tell(query, problem.evaluate(query.points))
    assert asked > 3


@pytest.mark.parametrize("model", [True, False])
def test_batches_take_whole_polls_and_respect_the_budget(model):
    problem = boxed(rosenbrock, 4, -2.0, 2.0, [-1.2, 1.0, -0.5, 0.3])
    search = DirectSearch(batch=True, model=model, poll="maximal").start(problem, seed=0)
    sizes = set()
    for _ in range(60):
        query = search.ask()
        sizes.add(len(query.points))
        search.tell(query, problem.evaluate(query.points))
    assert max(sizes) == 8
    while len(search.queue) < 8:
        query = search.ask()
        search.tell(query, problem.evaluate(query.points))
        search.ask()
    assert len(search.ask(3.0).points) == 3


def test_without_models_ranks_decide():
    settings, asked = DirectSearch(model=False), []
    for grow in (lambda v: v, torch.exp):
        problem = boxed(lambda x, grow=grow: grow(rosenbrock(x) / 100), 3, -2.0, 2.0, [-1.0] * 3)
        search = settings.start(problem, seed=2)
        points = []
        for _ in range(80):
            query = search.ask()
            points.append(query.points)
            search.tell(query, problem.evaluate(query.points))
        asked.append(torch.cat(points))
    assert torch.equal(*asked)


def test_search_goes_on_from_where_it_is_moved():
    problem = boxed(sphere, 3, start=[3.0] * 3)
    search = DirectSearch().start(problem, seed=0)
    for _ in range(20):
        query = search.ask()
        search.tell(query, problem.evaluate(query.points))
    worse = torch.tensor([4.0, -4.0, 4.0], dtype=torch.float64)
    search.move_to(worse, float(sphere(worse)))
    search.radius = 1e-3
    step = (search.ask().points[0] - worse).abs().max()
    assert float(step) <= 2 * 10 * 1e-3 * math.sqrt(3)  # 2 radii of a width of 10, in any metric
    assert search.best.value < float(sphere(worse))


def test_learnt_points_lead_when_they_are_better():
    problem = boxed(sphere, 3, start=[3.0] * 3)
    search = DirectSearch().start(problem, seed=0)
    query = search.ask()
    search.tell(query, problem.evaluate(query.points))
    elsewhere = torch.tensor([[1.0, 1.0, 1.0], [4.0, 4.0, 4.0]], dtype=torch.float64)
    assert search.learn(elsewhere, Evaluation(sphere(elsewhere))) == Outcome.DOMINATING
    assert search.best.value == 3.0
    assert search.barrier.leader == 1


def test_models_pay_on_a_turned_ellipsoid():
    function = rotated(shifted(ellipsoid, 0.3), 5, seed=1)
    problem = boxed(lambda x: function(x), 5, start=[-2.0] * 5)
    used = minimize(problem, "direct-search", budget=Budget(evaluations=1500, target=1e-6))
    without = DirectSearch(model=False)
    lame = minimize(problem, without, budget=Budget(evaluations=1500, target=1e-6))
    assert used.reason == "target"
    assert lame.reason == "evaluations"


def test_jump_is_no_obstacle():
    """The value jumps at a wall, beside which the minimum lies."""

    def fun(x):
        return sphere(x - 0.5) + 10.0 * (x[..., 0] < 0.5)

    result = minimize(boxed(fun, 2, start=[3.0, -2.0]), "direct-search",
                      budget=Budget(evaluations=800))  # fmt: skip
    assert result.value < 1e-4


def test_search_begins_anew_and_finds_the_better_part():
    problem, best = split_feasible_set()
    result = minimize(problem, "direct-search", budget=Budget(evaluations=1500), seed=1)
    assert result.violation <= 1e-6
    assert result.value == pytest.approx(best, abs=1e-3)


def test_equalities_are_met():
    """Minimise x + y on the unit circle."""

    def fun(x):
        return x.sum(-1), (x.square().sum(-1) - 1)[..., None]

    problem = boxed(fun, 2, start=[1.5, 0.2], equalities=1, constraints=1)
    result = minimize(problem, "direct-search", budget=Budget(evaluations=600))
    assert result.violation <= 1e-6
    assert result.value == pytest.approx(-math.sqrt(2), abs=1e-4)


def test_noise_does_not_stop_the_descent():
    problem = boxed(noisy(shifted(sphere, 0.3), 0.01), 5, start=[-4.0] * 5)
    result = minimize(problem, "direct-search", budget=Budget(evaluations=1000))
    assert float(sphere(result.x - 0.3)) < 1e-2


@pytest.mark.parametrize("dimension", [1, 60])
def test_any_dimension_descends(dimension):
    problem = boxed(shifted(sphere, 0.2), dimension, start=[2.0] * dimension)
    first = float(sphere(problem.start - 0.2))
    result = minimize(problem, "direct-search", budget=Budget(evaluations=20 * dimension))
    assert result.value < 0.5 * first


def test_free_parameters_are_searched():
    problem = Problem.from_callable(
        lambda x: (x - 40.0).square().sum(-1), [-math.inf] * 3, [math.inf, math.inf, 50.0],
        batched=True,
    )  # fmt: skip
    assert minimize(problem, "direct-search", budget=Budget(evaluations=500)).value < 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 0.0}, "radius"),
        ({"floor": 1.0}, "floor"),
        ({"reach": -1.0}, "reach"),
        ({"covering": 0}, "covering"),
        ({"poll": "all"}, "poll"),
        ({"barrier": "none"}, "barrier"),
        ({"batch": 3}, "batch"),
    ],
)
def test_unusable_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        DirectSearch(**options)
