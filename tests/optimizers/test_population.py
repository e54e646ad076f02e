"""iCEM, MPPI and consensus: their noise, their weights, and what each promises."""

from __future__ import annotations

import math

import pytest
import torch

from optimizers import Box, Budget, Consensus, Evaluation, Icem, Mppi, Problem, minimize
from optimizers.population.noise import ColouredNoise, KnotNoise
from optimizers.population.softmin import merit, softmin_weights
from optimizers.testing import boxed, breaking_wall, noisy, rosenbrock, shifted, sphere

SAMPLES = 20_000  # five deviations of a variance are then 5 %


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def trajectory_problem(steps=40, channels=2):
    return Problem(
        {
            "mass": Box(lower=0.0, upper=1.0),
            "path": Box((steps, channels), lower=-1.0, upper=1.0, trajectory=True),
        },
        lambda named: named["path"].square().sum((1, 2)) + named["mass"],
        batched=True,
        differentiable=True,
    )


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.5])
def test_noise_has_unit_variance_and_independent_channels(exponent):
    noise = ColouredNoise(trajectory_problem(), exponent).draw(SAMPLES, generator())
    assert noise.shape == (SAMPLES, 81)
    variance = 5 * math.sqrt(2 / SAMPLES)
    assert torch.allclose(noise.var(0), torch.ones(81, dtype=torch.float64), atol=variance)
    path = noise[:, 1:].view(SAMPLES, 40, 2)
    between = (path[..., 0] * path[..., 1]).mean(0)
    assert between.abs().max() < 5 / math.sqrt(SAMPLES)


def test_noise_has_the_power_of_its_colour():
    """Waves over 2 T of wave number k are k^-b strong; seen over T alone, neighbours agree so far:
    the covariance at lag h is sum s_k^2 cos(pi k h / T)."""
    exponent, steps = 2.0, 40
    path = ColouredNoise(trajectory_problem(steps), exponent).draw(SAMPLES, generator())[:, 1::2]
    waves = torch.arange(1, steps + 1, dtype=torch.float64)
    power = waves**-exponent / (waves**-exponent).sum()
    for lag in (1, 5, 20):
        expected = float((power * torch.cos(math.pi * waves * lag / steps)).sum())
        measured = (path[:, :-lag] * path[:, lag:]).mean()
        assert abs(float(measured) - expected) < 0.02


def test_noise_of_knots_doubles_up_to_every_step():
    noise = KnotNoise(trajectory_problem(64), 5, earliest=0.5)
    counts = [stage[0][1].count for stage in noise.stages]
    assert counts == [5, 7, 11, 19, 35, 64]
    drawn = noise.draw(SAMPLES, 0, generator())
    deviation = drawn.std(0)
    assert float(deviation[0]) == pytest.approx(1, rel=0.05)  # no trajectory
    assert float(deviation[1]) == pytest.approx(0.5, rel=0.05)  # clamped ends are knots
    assert float(deviation[-1]) == pytest.approx(1, rel=0.05)
    assert len(KnotNoise(boxed(sphere, 3), 5, 1.0).stages) == 1


@pytest.mark.parametrize("effective", [1.5, 5.0, 40.0])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_weights_have_the_effective_number_whatever_the_unit(effective, scale):
    values = torch.randn(100, generator=generator(), dtype=torch.float64)
    weights = softmin_weights(3 * scale + scale * values, effective)
    assert float(weights.sum()) == pytest.approx(1)
    # two rounds of 48 temperatures fix one to 2 %
    assert 1 / float(weights.square().sum()) == pytest.approx(effective, rel=0.05)
    assert torch.equal(weights.argsort(descending=True), values.argsort())
    ratios = weights[:50].log() - weights[50:].log()  # exponential in the value
    differences = values[50:] - values[:50]
    known = weights[:50] * weights[50:] > 1e-200
    slope = ratios[known] / differences[known]
    assert float(slope.max() / slope.min()) == pytest.approx(1, rel=1e-3)


def test_weights_of_special_batches():
    infinity = math.inf
    assert softmin_weights(torch.full((4,), infinity), 2.0).tolist() == [0, 0, 0, 0]
    assert softmin_weights(torch.ones(4), 2.0).tolist() == [0.25] * 4
    one = softmin_weights(torch.tensor([infinity, 3.0, infinity]), 1.5)
    assert one.tolist() == [0, 1, 0]
    huge = softmin_weights(torch.tensor([0.0, 1e-12, 1e12, infinity], dtype=torch.float64), 1.9)
    assert huge[3] == 0
    assert float(huge.sum()) == pytest.approx(1)


def test_merit_puts_feasible_points_first():
    evaluation = Evaluation(
        torch.tensor([5.0, -9.0, 1.0, -7.0, 0.0]),
        torch.tensor([[-1.0], [0.5], [0.0], [0.2], [math.nan]]),
    )
    order = merit(evaluation).argsort().tolist()
    assert order == [2, 0, 3, 1, 4]
    assert merit(evaluation)[4] == math.inf


@pytest.mark.parametrize("settings", [Icem(), Mppi(), Consensus()], ids=lambda s: s.name)
def test_trajectories_are_searched_where_white_noise_fails(settings):
    """The wall breaks only after a run-up: pushes that last, which no white noise makes."""
    toy = breaking_wall()
    solved = 0
    for seed in range(3):
        budget = Budget(evaluations=3000, target=toy.success)
        solved += minimize(toy.problem, settings, budget=budget, seed=seed).reason == "target"
    assert solved >= 2


@pytest.mark.parametrize("settings", [Icem(), Mppi(), Consensus()], ids=lambda s: s.name)
@pytest.mark.parametrize("dimension", [2, 20])
def test_noise_on_values_is_survived(settings, dimension):
    function = noisy(shifted(sphere, 0.7), 0.1)
    problem = boxed(function, dimension, start=[-3.0] * dimension)
    result = minimize(problem, settings, budget=Budget(evaluations=300 * dimension), seed=1)
    assert float(sphere(result.x - 0.7)) < 1e-3 * float(sphere(problem.start - 0.7))


def test_icem_shrinks_its_generations_and_keeps_the_mean_among_them():
    problem = boxed(rosenbrock, 4, constraints=0)
    optimizer, rows = Icem().start(problem, seed=0), []
    for _ in range(6):
        query = optimizer.ask()
        rows.append(len(query.points))
        assert torch.equal(query.points[0], optimizer.mean.clamp(-5, 5))
        optimizer.tell(query, problem.evaluate(query.points))
    assert rows == [40, 32, 26, 21, 20, 20]


def test_icem_proposes_its_kept_elites_a_step_earlier_or_later():
    problem = trajectory_problem(10, 1)
    optimizer = Icem().start(problem, seed=0)
    for _ in range(2):
        query = optimizer.ask()
        optimizer.tell(query, problem.evaluate(query.points))
    kept = optimizer.elites[:, 1:]
    asked = optimizer.ask().points[1 : 1 + len(kept), 1:]
    for before, after in zip(kept, asked, strict=True):
        later = torch.equal(after[1:], before[:-1])
        earlier = torch.equal(after[:-1], before[1:])
        assert later or earlier


def test_icem_starts_anew_with_more_elites_when_it_stalls():
    problem = boxed(lambda x: x.square().sum(-1).round(), 3, -4.0, 4.0)
    optimizer, events = Icem(restarts=2).start(problem, seed=0), []
    for _ in range(400):
        query = optimizer.ask()
        optimizer.tell(query, problem.evaluate(query.points))
        events += optimizer.events()
        if optimizer.done is not None:
            break
    assert events[0].startswith("restart with 20 elites")
    assert len(events) == 2
    assert optimizer.done is not None


def test_mppi_anneals_over_the_budget_it_is_given():
    problem = boxed(sphere, 6, start=[3.0] * 6, constraints=0)
    for total in (400, 4000):
        optimizer, spent = Mppi().start(problem, seed=0), 0
        while total - spent >= optimizer.rows:
            query = optimizer.ask(total - spent)
            if spent > total / 2:  # before that the box cuts the noise
                width = 0.3 * 10 * 3e-3 ** (spent / total)
                measured = float((query.points[1:] - query.points[0]).std())
                assert measured == pytest.approx(width, rel=0.35)  # of 114 draws, 5 deviations
            optimizer.tell(query, problem.evaluate(query.points))
            spent += len(query.points)


def test_mppi_noise_is_smooth_first_and_free_at_the_end():
    problem = trajectory_problem(64, 1)
    optimizer, left, rough = Mppi().start(problem, seed=0), 3000, []
    while left > 0:
        query = optimizer.ask(left)
        noise = query.points[1:, 1:] - query.points[0, 1:]
        rough.append(float(noise.diff(dim=1).norm() / noise.norm()))
        optimizer.tell(query, problem.evaluate(query.points))
        left -= len(query.points)
    assert rough[0] < 0.2
    assert rough[-2] == pytest.approx(math.sqrt(2), rel=0.1)  # of independent steps


def test_particles_agree_and_are_spread_anew():
    problem = boxed(shifted(sphere, 1.0), 5, constraints=0)
    optimizer, events = Consensus().start(problem, seed=0), []
    for _ in range(200):
        query = optimizer.ask()
        optimizer.tell(query, problem.evaluate(query.points))
        events += optimizer.events()
    assert len(events) >= 3
    assert optimizer.best.value < 1e-3


@pytest.mark.parametrize("isotropic", [False, True])
def test_particles_of_a_flat_value_contract_at_the_rate_of_the_formula(isotropic):
    """With equal weights E |x - c|^2 falls by (1 - dt)^2 + noise^2 dt, c moving little."""
    problem = boxed(lambda x: 0 * x.sum(-1), 30, constraints=0)
    settings = Consensus(particles=4000, noise=0.5, isotropic=isotropic, deviation=0.05)
    optimizer = settings.start(problem, seed=0)
    first = optimizer.particles.var(0).mean()
    query = optimizer.ask()
    optimizer.tell(query, problem.evaluate(query.points))
    rate = (1 - 0.5) ** 2 + 0.5**2 * 0.5
    assert float(optimizer.particles.var(0).mean() / first) == pytest.approx(rate, rel=0.03)


def test_drift_asks_for_gradients_and_goes_down_them():
    problem = boxed(shifted(sphere, 0.5), 20, start=[-3.0] * 20, constraints=0)
    budget = Budget(evaluations=3000)
    result = minimize(problem, Consensus(drift=0.5), budget=budget)
    assert result.gradients == 1000
    assert result.value < minimize(problem, Consensus(), budget=budget).value
    plain = boxed(sphere, 4, differentiable=False)
    assert Consensus(drift=0.5).start(plain).ask().order == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Icem(elites=1), "elites must be at least 2, got 1"),
        (lambda: Icem(population=10), "population must be at least 20, got 10"),
        (lambda: Icem(decay=0.5), "decay must be >= 1, got 0.5"),
        (lambda: Mppi(effective=0.0), "effective must be > 0"),
        (lambda: Mppi(final=2.0), "final must be > 0 and <= 1, got 2"),
        (lambda: Mppi(knots=0), "knots must be at least 1"),
        (lambda: Consensus(step=1.5), "step must be > 0 and <= 1, got 1.5"),
        (lambda: Consensus(particles=2), "particles must be at least 4, got 2"),
        (lambda: Consensus(isotropic="yes"), "isotropic must be True or False, got 'yes'"),
    ],
)
def test_unusable_settings_are_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
