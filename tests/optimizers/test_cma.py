"""CMA-ES against pycma, its own theory, and its batch against single runs."""

from __future__ import annotations

import math
import warnings

import cma
import numpy as np
import pytest
import torch

from optimizers import Box, Budget, Cma, Evaluation, Problem, iterate, minimize
from optimizers.population.bounds import BentBox
from optimizers.population.mirroring import mirrored
from optimizers.population.recombination import default_population, recombination
from optimizers.testing import boxed, ellipsoid, rastrigin, rosenbrock, rotated, shifted, sphere


def pycma(start, deviation, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of its own optional packages
        return cma.CMAEvolutionStrategy(start, deviation, {"verbose": -9, **options})


@pytest.mark.parametrize("dimension", [2, 5, 10, 40, 100])
@pytest.mark.parametrize("population", [None, 20, 100])
def test_weights_and_rates_are_those_of_pycma(dimension, population):
    options = {} if population is None else {"popsize": population}
    reference = pycma([0.1] * dimension, 0.3, **options)
    count = population or default_population(dimension)
    rates = recombination(count, dimension)
    assert count == reference.popsize
    assert np.allclose(rates.weights, reference.sp.weights, rtol=1e-12)
    assert rates.rank_one == pytest.approx(reference.sp.c1, rel=1e-12)
    assert rates.rank_mu == pytest.approx(reference.sp.cmu, rel=1e-12)
    assert rates.path_covariance == pytest.approx(reference.sp.cc, rel=1e-12)
    assert rates.path_step == pytest.approx(reference.adapt_sigma.cs, rel=1e-12)


@pytest.mark.parametrize(("population", "dimension"), [(6, 2), (9, 4), (40, 3)])
def test_draws_come_in_pairs_with_orthogonal_directions(population, dimension):
    generator = torch.Generator().manual_seed(0)
    half = (population + 1) // 2
    noise = torch.randn(2000, half, dimension, generator=generator, dtype=torch.float64)
    rows = mirrored(noise, population)
    assert rows.shape == (2000, population, dimension)
    assert torch.equal(rows[:, half:], -rows[:, : population - half])
    first = rows[:, : min(half, dimension)]
    products = first @ first.mT
    apart = products - torch.diag_embed(products.diagonal(dim1=1, dim2=2))
    assert float(apart.abs().max()) < 1e-12
    # each row alone is a normal draw: mean 0 and covariance I, to four standard errors
    for row in (0, half - 1):
        alone = rows[:, row]
        assert float(alone.mean(0).abs().max()) < 4 / math.sqrt(2000)
        excess = alone.T @ alone / 2000 - torch.eye(dimension, dtype=torch.float64)
        assert float(excess.abs().max()) < 4 * math.sqrt(2 / 2000)


@pytest.mark.parametrize("population", [4, 9, 10, 64])
def test_steps_of_random_ranks_leave_the_paths_at_their_length(population):
    """The mean of such steps over the paths' normalisation is a draw of N(0, I)."""
    generator = torch.Generator().manual_seed(1)
    rates, d, count = recombination(population, 5), 5, 4000
    half = torch.randn(count, (population + 1) // 2, d, generator=generator, dtype=torch.float64)
    rows = mirrored(half, population)
    order = torch.rand(count, population, generator=generator).argsort(1)
    weights = torch.tensor(rates.weights, dtype=torch.float64).clamp(min=0.0)[order]
    steps = math.sqrt(rates.effective_paired) * (weights[:, None] @ rows)[:, 0]
    # the mean of count * d squares has a standard error of sqrt(2 / (count d)), one per cent
    assert float(steps.square().mean()) == pytest.approx(1.0, abs=0.04)


def evaluations_to_target(function, dimension, seeds, limit):
    """Medians over seeds, ours and pycma's; inf where the target 1e-8 was not met."""
    ours, theirs = [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        start = torch.rand(dimension, generator=generator, dtype=torch.float64) * 8 - 4
        problem = boxed(function, dimension, start=start)
        budget = Budget(evaluations=limit, target=1e-8)
        result = minimize(problem, Cma(deviation=0.2, restarts=0), budget=budget, seed=seed)
        ours.append(result.evaluations if result.reason == "target" else math.inf)
        reference = pycma(
            start.numpy(), 2.0, seed=seed + 1, ftarget=1e-8, maxfevals=limit, bounds=[-5, 5]
        )
        while not reference.stop():
            points = reference.ask()
            reference.tell(points, function(torch.as_tensor(np.stack(points))).tolist())
        theirs.append(reference.countevals if reference.best.f <= 1e-8 else math.inf)
    return float(np.median(ours)), float(np.median(theirs))


def sphere_outside(x):
    """Its minimum over the box, 0, is a corner with a slope."""
    return sphere(x - 6) - x.shape[1]


@pytest.mark.parametrize(
    ("function", "dimension"),
    [(sphere, 10), (ellipsoid, 10), (rosenbrock, 5), (sphere_outside, 5)],
)
def test_evaluations_to_target_are_those_of_pycma(function, dimension):
    ours, theirs = evaluations_to_target(function, dimension, range(5), 1000 * dimension)
    spread = 1.3  # of a median of five runs whose lengths differ by a quarter
    assert ours <= spread * theirs


def test_runs_of_a_batch_equal_single_runs():
    """Before a restart, up to the round-off of a batched product."""
    batch = Cma(runs=3).start(boxed(rosenbrock, 5), seed=10)
    singles = [Cma().start(boxed(rosenbrock, 5), seed=10 + run) for run in range(3)]
    for _ in range(60):
        query = batch.ask()
        rows = [single.ask() for single in singles]
        assert torch.allclose(
            query.points, torch.cat([row.points for row in rows]), rtol=1e-9, atol=1e-9
        )
        batch.tell(query, Evaluation(rosenbrock(query.points)))
        for single, row in zip(singles, rows, strict=True):
            single.tell(row, Evaluation(rosenbrock(row.points)))


def test_runs_restart_one_by_one():
    problem = boxed(shifted(rastrigin, 0.3), 2)
    optimizer = Cma(runs=4, restarts=2).start(problem, seed=0)
    sizes, restarts = set(), []
    for _ in range(600):
        query = optimizer.ask()
        assert len(query.points) == sum(optimizer.populations)
        optimizer.tell(query, Evaluation(problem.evaluate(query.points).value))
        restarts += optimizer.events()
        sizes.add(tuple(optimizer.populations))
        if optimizer.done is not None:
            break
    assert len(sizes) > 4
    assert any("of run 2 with population 12" in event for event in restarts)
    assert optimizer.done.startswith("converged")
    assert optimizer.best.value < 1e-12


def test_state_of_runs_with_different_populations_is_whole():
    problem = boxed(shifted(rastrigin, 0.3), 2)
    optimizer, other = (Cma(runs=3).start(problem, seed) for seed in (0, 7))
    while len(set(optimizer.populations)) == 1:
        query = optimizer.ask()
        optimizer.tell(query, problem.evaluate(query.points))
    other.load_state_dict(optimizer.state_dict())
    for _ in range(5):
        query, same = optimizer.ask(), other.ask()
        assert torch.equal(query.points, same.points)
        for running in (optimizer, other):
            running.tell(query, problem.evaluate(query.points))


def test_separable_model_learns_axes_fast():
    budget = Budget(evaluations=12000, target=1e-8)
    diagonal = minimize(
        boxed(ellipsoid, 20, start=[3.0] * 20), Cma(covariance="diagonal"), budget=budget
    )
    full = minimize(boxed(ellipsoid, 20, start=[3.0] * 20), Cma(), budget=budget)
    assert diagonal.reason == "target"
    assert diagonal.evaluations < 0.6 * full.evaluations


def test_full_model_does_not_care_about_rotation():
    def needed(function, seed):
        problem = boxed(function, 8, -math.inf, math.inf, [1.0] * 8)
        result = minimize(problem, Cma(), budget=Budget(evaluations=20000, target=1e-8), seed=seed)
        return result.evaluations

    plain = np.median([needed(ellipsoid, seed) for seed in range(3)])
    turned = np.median([needed(rotated(ellipsoid, 8), seed) for seed in range(3)])
    assert turned == pytest.approx(plain, rel=0.2)


def test_covariance_approaches_the_inverse_hessian():
    optimizer = Cma(population=20).start(boxed(sphere, 3, -math.inf, math.inf, [1.0] * 3), seed=1)
    steepness = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    for _ in range(60):
        query = optimizer.ask()
        optimizer.tell(query, Evaluation((steepness * query.points.square()).sum(1)))
    shape = optimizer.covariance[0].diagonal() * steepness
    assert float(shape.max() / shape.min()) < 4  # 100 for a covariance that has learnt nothing


def test_restarts_find_the_global_minimum():
    problem = boxed(shifted(rastrigin, 0.7), 3, start=[-3.0, 3.0, 2.0])
    records = list(iterate(problem, "cma", budget=Budget(evaluations=30000, target=1e-8), seed=2))
    assert records[-1].reason == "target"
    assert any(event.startswith("restart") for record in records for event in record.events)


def test_run_without_restarts_ends():
    result = minimize(boxed(sphere, 2), Cma(restarts=0), budget=Budget(evaluations=20000))
    assert result.reason.startswith("converged")
    assert result.value < 1e-20


def test_linear_value_ends_in_the_corner():
    problem = Problem({"x": Box(3, [0.0, -1.0, 2.0], [1.0, 5.0, 9.0])}, lambda p: -p["x"].sum())
    result = minimize(problem, "cma", budget=Budget(evaluations=3000))
    assert torch.allclose(result.x, problem.upper, atol=1e-9)


def test_bent_box_maps_onto_the_box_smoothly():
    inf = math.inf
    lower = torch.tensor([0.0, -inf, 0.0, -inf], dtype=torch.float64)
    upper = torch.tensor([1.0, 1.0, inf, inf], dtype=torch.float64)
    box = BentBox(lower, upper)
    line = torch.linspace(-4, 4, 80001, dtype=torch.float64)[:, None].expand(-1, 4)
    inside = box.inside(line)
    assert bool(((inside >= lower) & (inside <= upper)).all())
    slope = inside.diff(dim=0) / line.diff(dim=0)
    assert float(slope.abs().max()) <= 1 + 1e-6
    # the bend of the parabola, 1 / (2 margin), times the step of the line
    kink = slope.diff(dim=0).abs().max()
    assert float(kink) <= 1e-4 / (2 * 0.05) * 1.01
    points = torch.rand(500, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(box.inside(box.search_point(points)), points, atol=1e-15)


def test_last_generation_is_cut_to_the_budget():
    records = list(iterate(boxed(sphere, 4), Cma(population=10), budget=Budget(evaluations=37)))
    assert [record.evaluations for record in records] == [10, 20, 30, 37]


def test_value_that_falls_forever_restarts_and_keeps_queries_finite():
    problem = boxed(lambda x: x.sum(1), 2, -math.inf, math.inf, [0.0, 0.0])
    records = list(iterate(problem, "cma", budget=Budget(evaluations=5000)))
    events = [event for record in records for event in record.events]
    assert any("steps grow without end" in event for event in events)
    assert all(bool(record.x.isfinite().all()) for record in records)
