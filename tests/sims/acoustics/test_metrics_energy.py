"""Ratios of energy on exponential decays, where they have closed forms, and all parameters."""

import math
from itertools import pairwise

import pytest
import torch

from geomopt.errors import InputError
from sims.acoustics.metrics import (
    C50,
    C80,
    T20,
    THIRD_OCTAVES,
    band_edges,
    band_filter,
    bands_below,
    centre_time,
    clarity,
    definition,
    noise_floor,
    noticeable_differences,
    recorded_samples,
    reverberation_time,
    room_parameters,
    strength,
)

RATE = 48000.0


def exponential(duration: float, length: float, rate: float = RATE):
    times = torch.arange(int(length * rate), dtype=torch.float64) / rate
    return 10 ** (-3 * times / duration)


def reverberant(duration: float, length: float, seed: int = 0):
    """Noise (T,) that decays by 60 dB in `duration` [s] at all frequencies."""
    envelope = exponential(duration, length)
    generator = torch.Generator().manual_seed(seed)
    return envelope * torch.randn(len(envelope), generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("duration", [0.1, 0.6, 2.5])
def test_ratios_of_an_exponential_are_the_closed_forms(duration):
    # p² = exp(-2 delta t): C = 10 log10(exp(2 delta te) - 1), D = 1 - exp(-2 delta te) hold for
    # samples too where te is a whole number of them; Ts = 1/(2 delta) to second order of a sample
    response = exponential(duration, 5 * duration)
    delta = 3 * math.log(10) / duration
    for early in (C50, C80):
        exact = 10 * math.log10(math.expm1(2 * delta * early))
        assert float(clarity(response, RATE, early)) == pytest.approx(exact, rel=1e-9)
    exact = -math.expm1(-2 * delta * C50)
    assert float(definition(response, RATE)) == pytest.approx(exact, rel=1e-12)
    assert float(centre_time(response, RATE)) == pytest.approx(1 / (2 * delta), rel=1e-6)


def test_what_is_cut_off_is_made_up_for():
    short = exponential(1.0, 0.6)  # 36 dB, then nothing
    delta = 3 * math.log(10)
    floor = noise_floor(short, RATE)
    exact = 10 * math.log10(math.expm1(2 * delta * C80))
    assert float(clarity(short, RATE, C80, floor)) == pytest.approx(exact, abs=1e-4)
    assert float(centre_time(short, RATE, floor)) == pytest.approx(1 / (2 * delta), rel=1e-4)
    assert float(definition(short, RATE, floor=floor)) == pytest.approx(
        -math.expm1(-2 * delta * C50), rel=1e-5
    )
    # and noise is taken off: without that it adds 0.1 s to Ts
    generator = torch.Generator().manual_seed(1)
    full = exponential(1.0, 2.0)
    noisy = full + 10 ** (-40 / 20) * torch.randn(len(full), generator=generator, dtype=full.dtype)
    floor = noise_floor(noisy, RATE)
    assert float(centre_time(noisy, RATE, floor)) == pytest.approx(1 / (2 * delta), rel=0.02)
    assert float(clarity(noisy, RATE, C80, floor)) == pytest.approx(exact, abs=0.1)


def test_times_count_from_the_onset_and_limits_within_a_sample_take_their_share():
    response = exponential(0.5, 2.0)
    late = torch.cat((torch.zeros(777, dtype=response.dtype), response))
    assert float(clarity(late, RATE)) == pytest.approx(float(clarity(response, RATE)), rel=1e-12)
    assert float(centre_time(late, RATE)) == pytest.approx(float(centre_time(response, RATE)))
    # 50 ms are 2204.99 and 2205 samples of these
    near = float(definition(response, 44099.8)) - float(definition(response, 44100.0))
    assert 0 < abs(near) < 1e-5


def test_strength_is_the_level_over_the_free_field_at_ten_metres():
    direct = torch.zeros(4800, dtype=torch.float64)
    direct[1400] = 0.1  # 1/r at 10 m
    assert float(strength(direct, direct)) == pytest.approx(0.0, abs=1e-12)
    nearer = 2 * direct  # 5 m
    assert float(strength(nearer, direct)) == pytest.approx(20 * math.log10(2))
    assert float(strength(direct, nearer, distance=5.0)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    "measure",
    [
        lambda p, s: clarity(p, 1e4, 0.011, start=s),
        lambda p, s: definition(p, 1e4, 0.00505, start=s),
        lambda p, s: centre_time(p, 1e4, start=s),
    ],
)
def test_gradients_are_those_of_finite_differences(measure):
    generator = torch.Generator().manual_seed(5)
    envelope = exponential(0.05, 0.03, 1e4)
    response = envelope * torch.randn(2, len(envelope), generator=generator, dtype=torch.float64)
    start = torch.tensor([0, 3])
    torch.autograd.gradcheck(lambda p: measure(p, start), response.requires_grad_())


def test_octaves_and_third_octaves_pave_the_spectrum():
    assert band_edges(1000.0) == pytest.approx((1000 * 10**-0.15, 1000 * 10**0.15))
    for lower, upper in pairwise(THIRD_OCTAVES):
        assert band_edges(lower, "third")[1] == pytest.approx(band_edges(upper, "third")[0])
    assert bands_below(1000.0) == [31.5, 63.0, 125.0, 250.0, 500.0]


@pytest.mark.parametrize("backwards", [False, True])
def test_a_band_filter_passes_its_band_alone_and_is_half_down_at_its_edges(backwards):
    impulse = torch.zeros(48000, dtype=torch.float64)
    impulse[24000] = 1.0
    response = band_filter(impulse, RATE, [500.0], backwards=backwards)
    gain = torch.fft.rfft(response[0]).abs()  # a bin a Hz
    lower, upper = band_edges(500.0)
    assert float(gain[500]) == pytest.approx(1.0, abs=1e-3)
    for edge in (lower, upper):
        assert float(gain[round(edge)]) == pytest.approx(math.sqrt(0.5), abs=0.01)
    for far in (125, 2000):  # two octaves away: 4 poles a side, 24 dB an octave and more
        assert float(gain[far]) < 10 ** (-48 / 20)
    # and it rings on its own side of the impulse only
    silent = response[0, :24000] if not backwards else response[0, 24001:]
    assert float(silent.abs().max()) == 0.0


def test_running_a_filter_backwards_measures_shorter_decays():
    # Jacobsen and Rindel: b T > 16 forwards, b T > 4 backwards; here b T = 7
    duration = 0.08
    envelope = exponential(duration, 0.6)
    errors = {}
    for backwards in (False, True):
        times = []
        for seed in range(40):
            white = torch.randn(
                len(envelope), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
            )
            padded = torch.nn.functional.pad(envelope * white, (9600, 0))
            octave = band_filter(padded, RATE, [125.0], backwards=backwards)
            times.append(float(reverberation_time(octave, RATE, T20)))
        errors[backwards] = abs(sum(times) / len(times) / duration - 1)
    assert errors[True] < 0.06
    assert errors[False] > 0.15


@pytest.mark.parametrize("duration", [0.36, 0.72])
def test_low_octaves_are_cut_in_time_before_they_are_filtered(duration):
    # direct sound with as much energy as the noise that decays after it, so C and Ts are known
    delta = 3 * math.log(10) / duration
    diffuse = RATE / (2 * delta)
    responses = torch.stack([reverberant(duration, 2.5 * duration, seed) for seed in range(40)])
    responses[:, 0] += math.sqrt(diffuse)
    responses = torch.nn.functional.pad(responses, (2000, 4000))
    late = math.exp(-2 * delta * C50)
    exact = 10 * math.log10((2 - late) / late)
    parameters = room_parameters(responses, RATE, [125.0], compensate=False)
    # 0.35 dB is what forty random responses scatter by; filtering first is far off
    assert float(parameters.c50.mean()) == pytest.approx(exact, abs=0.6)
    assert float(parameters.centre_time.mean()) == pytest.approx(1 / (4 * delta), abs=0.003)
    filtered = band_filter(responses, RATE, [125.0])
    assert abs(float(clarity(filtered, RATE, C50).mean()) - exact) > 0.9
    assert float(centre_time(filtered, RATE).mean()) > 1 / (4 * delta) + 0.008


def test_all_parameters_of_a_reverberant_response():
    responses = torch.stack([reverberant(0.8, 2.0, seed) for seed in range(2)])
    parameters = room_parameters(responses, RATE)
    assert parameters.bands == (125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0)
    assert parameters.t30.shape == (2, 6)
    assert parameters.strength is None
    # random decays scatter around their mean: by 0.55 / sqrt(b T), about 2 %, at 1 kHz
    torch.testing.assert_close(
        parameters.t30[:, 3:], torch.full((2, 3), 0.8, dtype=torch.float64), rtol=0.08, atol=0
    )
    rows = parameters.table()
    assert len(rows) == 12
    assert rows[7]["band"] == 250.0
    assert rows[7]["response"] == 1
    assert rows[7]["t30"] == float(parameters.t30[1, 1])


def test_what_noise_hides_is_missing_and_the_notes_say_why():
    clean = reverberant(0.8, 2.0)
    generator = torch.Generator().manual_seed(9)
    noisy = clean + 10 ** (-38 / 20) * torch.randn(len(clean), generator=generator).double()
    parameters = room_parameters(noisy, RATE, [1000.0])
    assert bool(parameters.t30.isnan())
    assert float(parameters.t20) == pytest.approx(0.8, rel=0.1)
    (note,) = parameters.notes()
    assert "1000 Hz: t30 must have 45 dB of decay above the noise, got 3" in note
    # 707 Hz of width and 10 ms are less than the filter itself takes to decay
    dry = room_parameters(reverberant(0.01, 0.5), RATE, [1000.0])
    assert "t30: lengthened by the decay of the band filter itself" in dry.notes()[0]
    untouched = room_parameters(noisy, RATE, [1000.0], compensate=False)
    assert float(untouched.t30) > 0.9


def test_zeros_behind_a_response_are_no_end_of_its_decay():
    cut = reverberant(0.8, 0.5)
    padded = torch.cat((cut, torch.zeros(48000, dtype=torch.float64)))
    first, second = room_parameters(cut, RATE), room_parameters(padded, RATE)
    torch.testing.assert_close(first.t20, second.t20, rtol=1e-6, atol=0, equal_nan=True)
    torch.testing.assert_close(first.c80, second.c80, rtol=1e-6, atol=0)
    assert bool(second.t30.isnan().all())
    # beside a response that goes on
    both = room_parameters(torch.stack([padded, reverberant(0.8, 1.5, 1)]), RATE)
    torch.testing.assert_close(both.c80[0], second.c80, rtol=1e-9, atol=0)
    assert not bool(both.t30[1].isnan().any())
    assert recorded_samples(torch.tensor([[1.0, 0, 2, 0], [0, 0, 0, 0]])).tolist() == [3, 0]


def test_responses_without_a_decay_have_no_parameters_but_notes():
    generator = torch.Generator().manual_seed(0)
    impulse = torch.zeros(4800)
    impulse[100] = 1.0
    for response in (
        impulse,
        torch.randn(4800, generator=generator),
        torch.randn(6, generator=generator),
    ):
        parameters = room_parameters(response, RATE, [1000.0, 2000.0])
        assert bool(parameters.t20.isnan().all())
        assert bool(parameters.c80.isnan().all())
        assert all("no decay is found" in note for note in parameters.notes())
        assert len(parameters.notes()) == 2
    # however quiet a response is
    quiet, loud = (room_parameters(f * reverberant(0.3, 0.5).float(), RATE) for f in (1e-25, 1.0))
    torch.testing.assert_close(quiet.c80, loud.c80, rtol=1e-3, atol=1e-3)


def test_just_noticeable_differences():
    first = room_parameters(reverberant(0.8, 2.0), RATE, [1000.0])
    second = room_parameters(2 * reverberant(0.8, 2.0), RATE, [1000.0])
    for name, steps in noticeable_differences(first, second).items():
        assert float(steps) == pytest.approx(0.0, abs=1e-6), name
    slower = room_parameters(reverberant(0.88, 2.2), RATE, [1000.0])
    steps = noticeable_differences(first, slower)
    assert float(steps["t30"]) == pytest.approx(2.0, abs=0.3)  # 10 % are two steps of 5 %
    with pytest.raises(InputError, match=r"both must have the same bands"):
        noticeable_differences(first, room_parameters(reverberant(0.8, 2.0), RATE))


def test_bad_input_is_named():
    response = exponential(0.3, 0.5, 8000.0)
    with pytest.raises(InputError, match=r"bands must end below half the rate of 8000 Hz"):
        band_filter(response, 8000.0, [4000.0])
    with pytest.raises(InputError, match=r"band must be one of the octave bands"):
        band_filter(response, 8000.0, [700.0])
    with pytest.raises(InputError, match=r"width must be 'octave' or 'third'"):
        band_filter(response, 8000.0, [500.0], width="half")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"early must be a positive time"):
        clarity(response, 8000.0, 0.0)
    with pytest.raises(InputError, match=r"distance must be positive"):
        strength(response, response, distance=0.0)
    with pytest.raises(InputError, match=r"rate must allow for the 125 Hz band"):
        room_parameters(response, 200.0)
