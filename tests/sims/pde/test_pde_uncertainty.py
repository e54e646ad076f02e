"""Horizons from samples, and the horizons that errors of a size explain."""

import math

import pytest
import torch

from geomopt.errors import InputError
from sims.pde.metrics import (
    ForecastHorizons,
    correlation,
    forecast_horizons,
    horizon_map,
    sampled_horizons,
)
from sims.pde.metrics.horizon import HorizonMap
from sims.pde.rollout import Diverged, rollout
from sims.pde.spectral.kuramoto_sivashinsky import KuramotoSivashinsky

F64 = torch.float64


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Drift:
    """Fields that keep their start and gather noise, at a speed that the field's mean tells."""

    time_step = 0.5

    def step(self, u, condition=None, generator=None):
        noise = torch.randn(u.shape, generator=generator, dtype=u.dtype)
        return u + 0.1 * u.mean(-1, keepdim=True) * noise


def drifting(trajectories, frames, points=64):
    """Fields of Drift, and a truth that is one more sample."""
    own = generator(5)
    speed = torch.rand(trajectories, 1, 1, generator=own, dtype=F64) * 3 + 1
    x = torch.arange(points, dtype=F64) / points * 2 * math.pi
    u = speed + 2**0.5 * torch.cos(x)
    truth, state = [], u
    for _ in range(frames):
        state = Drift().step(state, generator=own)
        truth.append(state)
    return u, torch.stack(truth, 1)


def test_mean_pairwise_correlation_is_that_of_all_pairs():
    samples, truth = drawn(2, 5, 3, 2, 8), drawn(2, 3, 2, 8, seed=1)
    found = sampled_horizons(samples, truth)
    pairs = [
        correlation(samples[:, i], samples[:, j]) for i in range(5) for j in range(5) if i != j
    ]
    mean = torch.stack(pairs).mean(0)
    assert (found.agreement.mean(1) - mean).abs().max() < 1e-12
    each = torch.stack([correlation(samples[:, i], truth) for i in range(5)], 1)
    assert (found.with_truth - each).abs().max() < 1e-12


def test_a_truth_that_is_one_more_sample_is_foretold():
    u, truth = drifting(trajectories=96, frames=60)
    found = forecast_horizons(Drift(), u, truth, samples=24, generator=generator())
    assert found.agreement.shape == (96, 24, 60)
    assert found.squared_correlation > 0.9
    assert found.determination > 0.9
    assert found.rank_correlation > 0.9
    # 0.9 less at most 2 / 24, and 96 trajectories scatter by 0.03
    assert 0.75 < found.coverage(0.9) <= 1.0
    assert found.censored < 0.1


def test_rolled_samples_are_those_of_a_rollout():
    u, truth = drifting(trajectories=3, frames=4)
    found = forecast_horizons(Drift(), u, truth, samples=2, generator=generator(), every=1)
    own, state, frames = generator(), u.repeat_interleave(2, 0), []
    for _ in range(4):
        state = Drift().step(state, generator=own)
        frames.append(state.unflatten(0, (3, 2)))
    kept = sampled_horizons(torch.stack(frames, 2), truth, frame_time=0.5)
    torch.testing.assert_close(found.agreement, kept.agreement)
    torch.testing.assert_close(found.predicted, kept.predicted)


def test_portions_of_trajectories_keep_their_conditions(monkeypatch):
    class Told:
        time_step = 1.0

        def step(self, u, condition=None, generator=None):
            turned = torch.roll(u, 1, -1)
            return torch.where(condition["turn"].view(-1, 1, 1) > 0, turned, u)

    monkeypatch.setattr("sims.pde.metrics.uncertainty._LARGEST", 1)
    u = drawn(3, 1, 8)
    turn = torch.tensor([0.0, 1.0, 0.0])
    found = forecast_horizons(
        Told(), u, u[:, None], 2, generator(), condition={"turn": turn}, perturbation=1e-9
    )
    assert (found.with_truth.mean((1, 2)) > 0.99).tolist() == [True, False, True]
    assert found.censored_predicted == 1.0
    assert found.censored_true == pytest.approx(2 / 3)


def test_perturbed_solvers_part_from_the_truth():
    stepper = KuramotoSivashinsky(length=22.0, points=32, time_step=0.1)
    u = stepper.advance(drawn(4, 1, 32), 1500)
    truth = rollout(stepper, u, steps=1500, every=50)
    found = forecast_horizons(
        stepper, u, truth, samples=4, generator=generator(), every=50, perturbation=1e-2
    )
    assert found.with_truth[:, :, 0].min() > 0.99
    assert bool((found.true > 5.0).all())
    assert "R^2" in str(found)


def test_samples_that_diverge_are_counted():
    class Bursting:
        time_step = 1.0

        def step(self, u, condition=None, generator=None):
            return torch.where(u[:, :1, :1] > 0, torch.inf, u)

    u = torch.stack([1 + drawn(1, 8).abs(), -1 - drawn(1, 8).abs()])
    truth = u[:, None].expand(2, 3, 1, 8)
    with pytest.warns(Diverged, match="2 of 4 samples"):
        found = forecast_horizons(Bursting(), u, truth, 2, generator(), perturbation=1e-9)
    assert found.predicted.tolist() == [1.0, 3.0]


def test_scores_of_known_times():
    values = torch.tensor([[0.9, 0.1, 0.1], [0.9, 0.9, 0.1], [0.1, 0.1, 0.1]], dtype=F64)
    wrong = values.flip(0)
    both = [one[:, None].expand(3, 2, 3) for one in (values, wrong)]
    found = ForecastHorizons(*both, torch.tensor(1.0, dtype=F64), 0.8)
    assert found.predicted.tolist() == [2.0, 3.0, 1.0]
    assert found.true.tolist() == [1.0, 3.0, 2.0]
    assert found.squared_correlation == pytest.approx(0.25)
    assert found.rank_correlation == pytest.approx(0.5)
    assert found.determination == pytest.approx(0.0)
    assert found.coverage() == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"samples": 1}, "samples"),
        ({"every": 0}, "every"),
        ({"perturbation": -1.0}, "perturbation"),
        ({"perturbation": 0.1}, "generator"),
        ({"reference": drawn(3, 2, 1, 8)}, "reference"),
        ({"threshold": 2.0}, "threshold"),
        ({"u": drawn(2, 8)}, "u must have shape"),
        ({"generator": 3}, r"generator must be a torch\.Generator, got 3"),
        ({"perturbation": "some"}, "perturbation must be a number of at least 0, got 'some'"),
        ({"model": KuramotoSivashinsky(22.0, 8, 0.1)}, "samples of KuramotoSivashinsky are all al"),
    ],
)
def test_bad_input_is_named(change, words):
    given = {"model": Drift(), "u": drawn(2, 1, 8), "reference": drawn(2, 3, 1, 8)} | change
    with pytest.raises(InputError, match=words):
        forecast_horizons(**given)
    with pytest.raises(InputError, match="at least two samples"):
        sampled_horizons(drawn(2, 1, 3, 1, 8), drawn(2, 3, 1, 8))


def made(times, duration=20.0):
    noise = torch.tensor([1e-1, 1e-2, 1e-3, 1e-4], dtype=F64)
    return HorizonMap(noise, torch.tensor(times, dtype=F64), noise, noise, duration, 0.8)


def test_map_between_errors_and_horizons():
    found = made([1.0, 5.0, 9.0, 20.0])
    assert found.horizon(1e-2) == pytest.approx(5.0)
    assert found.horizon(10**-2.5) == pytest.approx(7.0)
    assert found.error(7.0) == pytest.approx(10**-2.5)
    assert found.error(found.horizon(0.03)) == pytest.approx(0.03)
    assert found.rate() == pytest.approx(math.log(10) / 4)
    # chance may turn two around
    assert made([1.0, 5.0, 4.0, 9.0]).horizon(1e-3) == pytest.approx(5.0)
    for asked in (1e-5, 1.0, math.nan):
        with pytest.raises(InputError, match="error must be in"):
            found.horizon(asked)
    for asked in (0.5, 15.0, math.nan):
        with pytest.raises(InputError, match="horizon must be in"):
            found.error(asked)


def test_noise_of_a_solver_that_stands_still():
    class Still:
        time_step = 0.25

        def advance(self, u, steps):
            return u

    # after n frames the disturbance has the variance n e^2: 1 / sqrt(1 + n e^2) < 0.8
    u = drawn(64, 1, 256)
    found = horizon_map(Still(), u, [0.1, 0.2], every=4, frames=70, generator=generator(1))
    assert found.noise.tolist() == [0.2, 0.1]
    exact = [(0.8**-2 - 1) / error**2 for error in (0.2, 0.1)]
    assert abs(float(found.of_mean[0]) - exact[0]) < 1.5  # frames are a second apart
    assert abs(float(found.of_mean[1]) - exact[1]) < 2.5


@pytest.mark.slow
def test_horizons_of_kuramoto_sivashinsky():
    # of 16 trajectories: 11, 31, 62, 87, 109 s for these errors at L = 64
    stepper = KuramotoSivashinsky(length=64.0, points=128, time_step=0.1)
    u = stepper.advance(drawn(96, 1, 128), 2000)
    noise = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5]
    found = horizon_map(stepper, u, noise, frames=200, generator=generator())
    wanted = torch.tensor([11.0, 31.0, 62.0, 87.0, 109.0], dtype=F64)
    # a tenth, and twice the scatter of 16 trajectories
    scatter = torch.tensor([0.7, 3.0, 3.5, 5.5, 7.8], dtype=F64)
    assert bool(((found.of_mean - wanted).abs() < 0.1 * wanted + scatter).all())
    assert abs(found.rate() - 0.095) < 0.01


def test_horizon_map_names_bad_input():
    stepper = KuramotoSivashinsky(length=22.0, points=16, time_step=0.1)
    for change, words in (
        ({"noise": []}, "noise"),
        ({"noise": [0.0]}, "noise"),
        ({"noise": "much"}, "noise"),
        ({"frames": 0}, "frames"),
        ({"every": 1.5}, "every"),
        ({"threshold": 0.0}, "threshold"),
    ):
        with pytest.raises(InputError, match=words):
            horizon_map(stepper, drawn(2, 1, 16), generator=generator(), **change)
    with pytest.raises(InputError, match=r"generator must be a torch\.Generator, got None"):
        horizon_map(stepper, drawn(2, 1, 16), generator=None)
    with pytest.raises(InputError, match=r"stepper must have advance\(u, steps\), got None"):
        horizon_map(None, drawn(2, 1, 16), generator=generator())
