"""The speech transmission index against closed forms of the modulation transfer."""

import math

import pytest
import torch

from geomopt.errors import InputError
from sims.acoustics.metrics import (
    MODULATIONS,
    index_of_transfer,
    modulation_transfer,
    noise_floor,
    speech_transmission_index,
)

RATE = 48000.0


def exponential(duration: float, length: float):
    times = torch.arange(int(length * RATE), dtype=torch.float64) / RATE
    return 10 ** (-3 * times / duration)


def closed_form(duration: float) -> torch.Tensor:
    """m(F) = 1/sqrt(1 + (2 pi F T/13.8)²) of an exponential decay; 13.8 is 6 ln 10."""
    frequencies = torch.tensor(MODULATIONS, dtype=torch.float64)
    return 1 / (1 + (2 * math.pi * frequencies * duration / (6 * math.log(10))) ** 2).sqrt()


@pytest.mark.parametrize("duration", [0.2, 1.0, 4.0])
def test_modulations_pass_an_exponential_decay_by_the_closed_form(duration):
    transfer = modulation_transfer(exponential(duration, 3 * duration), RATE)
    # to the first order of a sample over the decay
    torch.testing.assert_close(transfer, closed_form(duration), rtol=1e-6, atol=0)


def test_a_decay_that_is_cut_off_or_noisy_passes_as_the_whole_one():
    short = exponential(1.0, 0.6)
    transfer = modulation_transfer(short, RATE, floor=noise_floor(short, RATE))
    torch.testing.assert_close(transfer, closed_form(1.0), rtol=1e-4, atol=0)
    full = exponential(1.0, 2.0)
    generator = torch.Generator().manual_seed(2)
    noisy = full + 10 ** (-40 / 20) * torch.randn(len(full), generator=generator, dtype=full.dtype)
    transfer = modulation_transfer(noisy, RATE, floor=noise_floor(noisy, RATE))
    torch.testing.assert_close(transfer, closed_form(1.0), rtol=0.01, atol=0)


def test_the_index_of_a_reverberant_room_is_that_of_its_closed_form():
    duration = 1.2
    generator = torch.Generator().manual_seed(0)
    envelope = exponential(duration, 3.0)
    responses = envelope * torch.randn(3, len(envelope), generator=generator, dtype=torch.float64)
    exact = float(index_of_transfer(closed_form(duration).expand(7, -1)))
    # a decay of noise differs from its mean
    measured = speech_transmission_index(responses, RATE)
    assert measured.shape == (3,)
    torch.testing.assert_close(measured, torch.full_like(measured, exact), rtol=0, atol=0.02)


def test_the_index_reaches_from_nothing_to_one():
    impulse = torch.zeros(48000, dtype=torch.float64)
    impulse[100] = 1.0
    # what is missing is the ringing of the 125 Hz filter
    assert float(speech_transmission_index(impulse, RATE)) == pytest.approx(1.0, abs=1e-3)
    assert float(speech_transmission_index(impulse, RATE, [-20.0] * 7)) == 0.0
    # the weights less the redundancies sum up to one, so the index is the one of each band
    transfer = torch.full((7, 14), 0.5, dtype=torch.float64)
    assert float(index_of_transfer(transfer)) == pytest.approx(0.5, abs=1e-12)


def test_noise_at_the_listener_lowers_the_index():
    response = torch.zeros(48000, dtype=torch.float64)
    response[100] = 1.0
    # 0 dB halves every m, which is an apparent ratio of 0 dB, the middle of the scale
    assert float(speech_transmission_index(response, RATE, [0.0] * 7)) == pytest.approx(
        0.5, abs=1e-3
    )


def test_bad_input_is_named():
    response = exponential(0.5, 1.0)
    with pytest.raises(InputError, match=r"bands must end below half the rate of 16000 Hz"):
        speech_transmission_index(response, 16000.0)
    with pytest.raises(InputError, match=r"one number for each of the seven octave bands"):
        speech_transmission_index(response, RATE, [10.0, 20.0])
    with pytest.raises(InputError, match=r"transfer must have shape \(\.\.\., 7, 14\)"):
        index_of_transfer(torch.ones(14, 7))
