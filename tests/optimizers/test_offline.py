"""Designs from data alone: where they may lie, what they minimise, and what is reported of them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from optimizers import Box, Budget, Problem, minimize
from optimizers.surrogate.ensemble import Ensemble
from optimizers.surrogate.offline import offline_designs, pessimistic, trust_region
from optimizers.surrogate.training import SurrogateTrainer

F64 = torch.float64


def data(count=200, dimension=3, seed=0, dtype=F64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, dimension, generator=generator, dtype=dtype)
    return x, (x - 0.3).square().sum(1)


@pytest.fixture(scope="module")
def surrogate():
    points, values = data()
    trainer = SurrogateTrainer(members=3, epochs=60, step_size=5e-3)
    return trainer.fit(points, values), points, values


def test_the_pessimist_adds_the_deviation_at_its_price():
    ensemble = Ensemble(3, members=4)
    x = torch.rand(5, 3, dtype=F64)
    mean, deviation = ensemble.predict(x)
    torch.testing.assert_close(pessimistic(ensemble, 2.5)(x), mean + 2.5 * deviation)
    torch.testing.assert_close(pessimistic(ensemble, 0.0)(x), ensemble(x))


def test_the_pessimist_is_differentiable():
    ensemble = Ensemble(3, members=4).requires_grad_(False)
    x = torch.rand(5, 3, dtype=F64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(pessimistic(ensemble, 2.0), (x,))


def test_the_pessimist_is_the_function_of_a_problem(surrogate):
    ensemble, points, _ = surrogate
    problem = Problem.from_callable(
        pessimistic(ensemble), [0.0] * 3, [1.0] * 3, batched=True, differentiable=True
    )
    result = minimize(problem, "lbfgs", budget=Budget(evaluations=100))
    assert result.value <= float(pessimistic(ensemble)(points).min())


def test_the_region_lies_around_the_best_designs():
    points, values = data()
    region = trust_region(points, values, count=10, radius=0.5)
    assert region.shape == (10, 3)
    torch.testing.assert_close(region.start, points[values.argsort()[:10]])
    reach = 0.5 * points.std(0).expand(10, 3)
    torch.testing.assert_close(region.upper - region.start, reach)
    torch.testing.assert_close(region.start - region.lower, reach)


def test_the_region_ends_at_the_bounds_and_starts_within_them():
    points, values = data()
    region = trust_region(points, values, count=10, radius=5.0, lower=0.25, upper=[0.5, 0.6, 2.0])
    upper = torch.tensor([0.5, 0.6, 2.0], dtype=F64)
    assert (region.lower == 0.25).all()
    assert (region.upper <= upper).all()
    assert ((region.start >= 0.25) & (region.start <= upper)).all()


def test_designs_keep_a_coordinate_that_the_data_never_varied():
    points, values = data()
    points[:, 1] = 7.0
    ensemble = SurrogateTrainer(members=2, epochs=5).fit(points, values)
    found = offline_designs(ensemble, points, values, count=5, steps=10)
    assert (found.x[:, 1] - 7.0).abs().max() < 1e-4
    assert (found.x[:, 0] - found.start[:, 0]).abs().max() > 1e-3


def test_designs_are_lower_than_their_starts_and_no_farther_than_allowed(surrogate):
    ensemble, points, values = surrogate
    found = offline_designs(ensemble, points, values, count=20, radius=0.5)
    value = pessimistic(ensemble)
    assert (value(found.x) < value(found.start)).all()
    reach = 0.5 * points.std(0)
    assert ((found.x - found.start).abs() <= reach * (1 + 1e-9)).all()
    assert (found.x - 0.3).square().sum(1).max() < 0.05  # the true minimum is 0 at 0.3


def test_designs_minimise_the_pessimist_in_their_regions(surrogate):
    ensemble, points, values = surrogate
    found = offline_designs(ensemble, points, values, count=5, radius=0.3, steps=400)
    region, order = trust_region(points, values, 5, 0.3), []
    for start in found.start:
        order.append(int((region.start - start).abs().sum(1).argmin()))
    value = pessimistic(ensemble)
    for row, k in zip(found.x, order, strict=True):
        box = Box(3, region.lower[k], region.upper[k], region.start[k])
        alone = Problem(
            {"x": box}, lambda named: value(named["x"]), batched=True, differentiable=True
        )
        best = minimize(alone, "lbfgs", budget=Budget(evaluations=300)).value
        # Adam ends with steps of 5e-4 radii
        assert float(value(row)) <= best + 1e-3 * float(values.std())


def test_what_is_reported_is_what_the_surrogate_says(surrogate):
    ensemble, points, values = surrogate
    found = offline_designs(ensemble, points, values, count=20, disagreement=2.0)
    mean, deviation = ensemble.predict(found.x)
    torch.testing.assert_close(found.value, mean)
    torch.testing.assert_close(found.deviation, deviation)
    pessimist = mean + 2.0 * deviation
    assert (pessimist[1:] >= pessimist[:-1]).all()
    assert sorted(found.start_value.tolist()) == values.sort().values[:20].tolist()
    torch.testing.assert_close((found.start - 0.3).square().sum(1), found.start_value)


def test_disagreement_keeps_designs_where_the_members_agree(surrogate):
    ensemble, points, values = surrogate
    bold, shy = (
        offline_designs(ensemble, points, values, count=20, radius=3.0, disagreement=kappa)
        for kappa in (0.0, 10.0)
    )
    assert shy.deviation.mean() < bold.deviation.mean()
    assert shy.value.mean() > bold.value.mean()


def test_failed_rows_are_no_starts(surrogate):
    ensemble, points, values = surrogate
    broken = values.clone()
    best = int(values.argmin())
    broken[best] = float("nan")
    found = offline_designs(ensemble, points, broken, count=3, steps=2)
    assert not (found.start == points[best]).all(1).any()


def test_the_precision_is_that_of_the_ensemble_and_the_generator_is_left_alone():
    points, values = data(60, dtype=torch.float32)
    ensemble = SurrogateTrainer(members=2, epochs=3).fit(points, values)
    before = torch.get_rng_state()
    one, other = (
        offline_designs(ensemble, points.double(), values.double(), count=4, steps=5)
        for _ in range(2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert one.x.dtype == torch.float32
    assert torch.equal(one.x, other.x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 201}, "count must be at most 200"),
        ({"radius": 0.0}, "radius"),
        ({"disagreement": -1.0}, "disagreement"),
        ({"steps": 0}, "steps"),
        ({"lower": 2.0}, "count must be at most 0"),
    ],
)
def test_unusable_arguments_are_named(surrogate, change, message):
    ensemble, points, values = surrogate
    arguments = {"count": 5} | change
    with pytest.raises(ValueError, match=message):
        offline_designs(ensemble, points, values, **arguments)


def test_data_that_does_not_fit_is_named(surrogate):
    ensemble, points, values = surrogate
    with pytest.raises(ValueError, match="points and values"):
        offline_designs(ensemble, points[:, :2], values)
    with pytest.raises(TypeError, match="points and values"):
        offline_designs(ensemble, points.tolist(), values)
    with pytest.raises(ValueError, match="one value a design"):
        offline_designs(Ensemble(3, 2), points, values)
    with pytest.raises(TypeError, match="Ensemble"):
        pessimistic(lambda x: x)  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_the_example_finds_designs_better_than_any_in_its_data(tmp_path):
    script = Path(__file__).resolve().parents[2] / "examples" / "offline_design.py"
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, check=True, timeout=300, capture_output=True
    )
    costs = dict(re.findall(r"^(.+?) {2,}(-?\d+\.\d+)", done.stdout.decode(), flags=re.MULTILINE))
    assert float(costs["median, true"]) < float(costs["best old flight"])
    assert (tmp_path / "offline_design.png").stat().st_size > 10_000
