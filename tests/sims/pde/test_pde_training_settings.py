"""Settings of a training, its rates, and the average of its weights."""

import itertools

import pytest
import torch

from geomopt.errors import InputError
from sims.pde.training import TrainingSettings
from sims.pde.training.average import Average


def test_the_average_covers_parameters_and_buffers_by_its_formula():
    module = torch.nn.BatchNorm1d(2, dtype=torch.float64)
    average = Average(module, 0.5)
    wanted = {name: value.clone() for name, value in module.state_dict().items()}
    for step in range(1, 8):
        for value in module.state_dict().values():
            value += 1
        average.update(module)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            kept = wanted[name] * decay + value * (1 - decay)
            wanted[name] = kept if value.is_floating_point() else value.clone()
    own = {name: value.clone() for name, value in module.state_dict().items()}
    with average.in_place(module):
        for name, value in module.state_dict().items():
            assert torch.allclose(value, wanted[name], rtol=1e-14)
    assert all(torch.equal(value, own[name]) for name, value in module.state_dict().items())
    average.copy_to(module)
    assert torch.allclose(module.running_mean, wanted["running_mean"], rtol=1e-14)


def test_rates_rise_and_fall_as_a_cosine():
    settings = TrainingSettings(steps=100, warmup=20, rate=1.0, last_rate=0.1)
    rates = [settings.rate_at(step, step / 100) for step in range(101)]
    assert rates[0] == pytest.approx(1 / 21)
    assert rates[19] == pytest.approx(20 / 21)
    assert rates[20] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)
    assert all(before > after for before, after in itertools.pairwise(rates[20:]))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"steps": 0}, "steps must be an integer of at least 1"),
        ({"frames": 1}, "frames must be an integer of at least 2"),
        ({"rate": 0.0}, r"rate must be in \(0"),
        ({"rate": float("nan")}, "rate must be in"),
        ({"rate": 0.5, "last_rate": 1.0}, r"last_rate must be in \[0.0, 0.5\], got 1.0"),
        ({"average": 1.0}, r"average must be in \[0.0, 1.0\)"),
        ({"clip": -1.0}, "clip must be in"),
        ({"seconds": 0}, "seconds must be in"),
        ({"betas": (0.9, 1.0)}, "betas must be two numbers"),
        ({"betas": 0.9}, "betas must be two numbers"),
        ({"betas": ("high", 0.9)}, "betas must be two numbers"),
        ({"precision": "float8"}, "precision must be None, bfloat16 or float16"),
    ],
)
def test_bad_settings_are_named(options, what):
    with pytest.raises(InputError, match=what):
        TrainingSettings(**options)
