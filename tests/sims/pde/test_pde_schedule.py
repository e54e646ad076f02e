"""Levels of noise: what they are, and that both forms are one."""

import math

import pytest
import torch

from geomopt.errors import InputError
from sims.pde.surrogates.schedule import (
    NoiseLevels,
    candidate,
    noise_of_velocity,
    recovered,
    velocity_of_noise,
    wanted,
)

FORMS = ["epsilon", "velocity"]


def test_levels_are_geometric_from_one_to_the_smallest():
    sigmas = NoiseLevels(3, 1e-3).sigmas
    assert sigmas == pytest.approx((1.0, 1e-1, 1e-2, 1e-3), rel=1e-12)
    assert NoiseLevels(0, 1e-3).sigmas == (1.0,)


def test_the_smallest_is_a_standard_deviation_where_the_reference_gives_a_variance():
    # a scheduler with betas m^((K - j) / K), m = 4e-7 and K = 3 has these noises (1 - ᾱ)^½
    betas = [4e-7 ** ((3 - j) / 3) for j in range(4)]
    kept = torch.tensor([1 - b for b in betas], dtype=torch.float64).cumprod(0)
    published = (1 - kept).sqrt().flip(0).tolist()
    ours = NoiseLevels(3, math.sqrt(4e-7)).sigmas
    assert ours == pytest.approx(published, rel=1e-2)  # consecutive noises are a factor 12 apart


@pytest.mark.parametrize("form", FORMS)
def test_what_the_network_should_give_brings_the_target_back(form):
    generator = torch.Generator().manual_seed(0)
    y, noise = torch.randn(2, 3, 1, 16, generator=generator, dtype=torch.float64)
    sigma = torch.tensor([1.0, 0.1, 1e-3], dtype=torch.float64).view(3, 1, 1)
    z = candidate(y, noise, sigma, form)
    back = recovered(z, wanted(y, noise, sigma, form), sigma, form)
    torch.testing.assert_close(back, y, rtol=0, atol=1e-14)
    if form == "velocity":
        assert z.square().mean((1, 2)).tolist() == pytest.approx([1, 1, 1], abs=0.8)


def test_forms_turn_into_each_other():
    generator = torch.Generator().manual_seed(1)
    y, noise = torch.randn(2, 3, 1, 16, generator=generator, dtype=torch.float64)
    sigma = torch.tensor([1.0, 0.1, 1e-3], dtype=torch.float64).view(3, 1, 1)
    z = candidate(y, noise, sigma, "velocity")
    v = wanted(y, noise, sigma, "velocity")
    torch.testing.assert_close(velocity_of_noise(noise, z, sigma), v, rtol=0, atol=1e-14)
    torch.testing.assert_close(noise_of_velocity(v, z, sigma), noise, rtol=0, atol=1e-14)
    # 2.3 of the scheduler: v = √ᾱ ε - √(1 - ᾱ) y and y = √ᾱ z - √(1 - ᾱ) v
    kept = 1 / (1 + sigma**2)
    torch.testing.assert_close(v, kept.sqrt() * noise - (1 - kept).sqrt() * y)
    torch.testing.assert_close(kept.sqrt() * z - (1 - kept).sqrt() * v, y)


def test_levels_to_forecast_with():
    noise = NoiseLevels(3, 1e-3)
    assert noise.at_most(0.02) == (2, 3)
    assert noise.at_most(0.5) == (1, 2, 3)
    assert noise.at_most(1e-4) == (3,)
    assert NoiseLevels(0, 1e-3).at_most(0.1) == ()


def test_arguments_that_cannot_be():
    for smallest in (2e-7, 0.0, 1.0, -1e-3, math.nan):
        with pytest.raises(InputError, match="sigma_min must be a standard deviation"):
            NoiseLevels(3, smallest)
    with pytest.raises(InputError, match="levels must be an integer of at least 0, got -1"):
        NoiseLevels(-1, 1e-3)
