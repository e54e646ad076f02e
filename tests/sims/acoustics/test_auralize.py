"""What is listened to: on an absolute scale, flat over the crossover, without clicks on paths."""

import math

import pytest
import torch
from scipy.signal import butter, sosfilt

from geomopt.errors import InputError
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.auralize import (
    SIGNALS,
    auralize,
    crossover,
    dry_signal,
    hybrid_response,
    image_source_response,
    impulse_response,
    noise_tail,
    render_path,
    spectrogram,
)
from sims.acoustics.auralize.bands import octave_masks
from sims.acoustics.auralize.crossover import linkwitz_riley
from sims.acoustics.exact.images import free_field, image_sum
from sims.acoustics.metrics import band_filter, reverberation_time
from sims.acoustics.source import default_width

RATE = 48000
FMAX = 1000.0
WIDTH = default_width(FMAX)
STEP = 9.4e-5  # s, of a solver at 1 kHz
BOX = (3.0, 4.0, 2.5)
SOURCE = (0.7, 0.9, 1.1)
RECEIVERS = [(2.2, 2.9, 1.4), (1.0, 3.5, 0.6)]
DISTANCES = [math.dist(SOURCE, receiver) for receiver in RECEIVERS]


def impulse(count: int, at: int = 0) -> torch.Tensor:
    samples = torch.zeros(count, dtype=torch.float64)
    samples[at] = 1.0
    return samples


def spectrum(samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    frequencies = torch.fft.rfftfreq(samples.shape[-1], 1 / RATE, dtype=torch.float64)
    return frequencies, torch.fft.rfft(samples)


def test_a_pulse_in_free_field_becomes_an_impulse_of_one_over_r():
    distances = torch.tensor([1.0, 2.5], dtype=torch.float64)
    times = STEP * torch.arange(2000, dtype=torch.float64)
    pressure = free_field(distances[:, None], times, WIDTH, amplitude=3.0)
    made = impulse_response(pressure, STEP, WIDTH, amplitude=3.0)
    frequencies, found = spectrum(made)
    band = (frequencies > 60) & (frequencies < FMAX)  # the source's high-pass is at 20 Hz
    delayed = torch.exp(-2j * math.pi * frequencies * distances[:, None] / SPEED_OF_SOUND)
    exact = delayed / distances[:, None]
    size = (found / exact).abs()[:, band]
    # 0.15 dB: what rings ahead of the start is lost
    torch.testing.assert_close(size, torch.ones_like(size), rtol=0, atol=0.017)
    # phases turn by the high-pass below a few times 20 Hz
    higher = (frequencies > 300) & (frequencies < FMAX)
    assert float((found / exact).angle()[:, higher].abs().max()) < 0.1


def test_a_rigid_box_sounds_as_its_image_sources():
    times = STEP * torch.arange(1200, dtype=torch.float64)
    pressure = image_sum(BOX, SOURCE, RECEIVERS, times, WIDTH)
    made = impulse_response(pressure, STEP, WIDTH)
    images = image_source_response(BOX, SOURCE, RECEIVERS, 0.0, float(times[-1]))
    # the source of `impulse_response` does not sound below 20 Hz
    images = torch.from_numpy(sosfilt(butter(2, 20.0, "highpass", fs=RATE, output="sos"), images))
    count = int(0.8 * min(made.shape[1], images.shape[1]))
    # an octave below fmax, that what lies above it does not count
    pairs = [linkwitz_riley(part[:, :count], 500.0, RATE, "lowpass") for part in (made, images)]
    error = (pairs[0] - pairs[1]).norm() / pairs[1].norm()
    assert float(error) < 0.03


@pytest.mark.parametrize("frequency", [100.0, 1000.0, 8000.0])
def test_the_crossover_sums_flat(frequency):
    sound = impulse(RATE)
    _, sum_of_both = spectrum(crossover(sound, sound, frequency, RATE))
    size = sum_of_both.abs()
    torch.testing.assert_close(size, torch.ones_like(size), rtol=0, atol=1e-9)
    for kind, slope in (("lowpass", 1), ("highpass", -1)):
        _, branch = spectrum(linkwitz_riley(sound, frequency, RATE, kind))
        assert float(branch.abs()[round(frequency)]) == pytest.approx(0.5, rel=1e-3)  # -6 dB
        if frequency < 2000:  # above, the digital filter falls faster than the analogue one
            far = round(frequency * 2.0**slope)
            assert float(branch.abs()[far]) == pytest.approx(1 / 17, rel=0.05)  # 1/(1 + 2⁴)


def test_octave_masks_sum_up_to_one():
    frequencies = torch.linspace(0, 24000, 500, dtype=torch.float64)
    masks = octave_masks(frequencies, [125.0, 500.0, 1000.0])
    torch.testing.assert_close(masks.sum(dim=0), torch.ones(500, dtype=torch.float64))
    with pytest.raises(InputError, match=r"bands must be positive and rise"):
        octave_masks(frequencies, [500.0, 125.0])


def test_image_sources_are_where_and_as_loud_as_they_should_be():
    # one wall that reflects: the direct sound and one image behind the left wall
    absorption = dict.fromkeys(("right", "front", "back", "floor", "ceiling"), 1.0) | {"left": 0.36}
    made = image_source_response(BOX, SOURCE, RECEIVERS[:1], absorption, 0.03)[0]
    image = math.dist((-SOURCE[0], *SOURCE[1:]), RECEIVERS[0])
    for distance, height in ((DISTANCES[0], 1.0), (image, 0.8)):
        at = round(distance / SPEED_OF_SOUND * RATE)
        assert float(made[at - 30 : at + 31].sum()) == pytest.approx(height / distance, rel=0.01)
    # exchanged, they hear the same
    back = image_source_response(BOX, RECEIVERS[0], [SOURCE], absorption, 0.03)[0]
    torch.testing.assert_close(back, made, rtol=0, atol=1e-12)


def test_absorption_by_bands_lets_each_band_decay_by_itself():
    bands = [500.0, 2000.0]
    both = image_source_response(BOX, SOURCE, RECEIVERS, (0.1, 0.4), 0.4, bands=bands)
    for index, absorption in enumerate((0.1, 0.4)):
        alone = image_source_response(BOX, SOURCE, RECEIVERS, absorption, 0.4)
        centre = 500.0 if index == 0 else 4000.0
        first, second = (band_filter(part, float(RATE), [centre]) for part in (both, alone))
        times = [reverberation_time(part, RATE, (-5.0, -20.0)) for part in (first, second)]
        torch.testing.assert_close(*times, rtol=0.1, atol=0)
    same = image_source_response(BOX, SOURCE, RECEIVERS, (0.2, 0.2), 0.1, bands=bands)
    alone = image_source_response(BOX, SOURCE, RECEIVERS, 0.2, 0.1)
    torch.testing.assert_close(same, alone, rtol=0, atol=1e-9)


@pytest.fixture(scope="module")
def shoebox() -> torch.Tensor:
    return image_source_response(BOX, SOURCE, RECEIVERS, 0.2, 0.4)


def test_the_tail_goes_on_at_the_level_and_the_time_of_the_band_below(shoebox: torch.Tensor):
    tail = noise_tail(shoebox, RATE, FMAX, DISTANCES)
    assert torch.equal(tail, noise_tail(shoebox, RATE, FMAX, DISTANCES))
    heard = crossover(shoebox, tail, FMAX, RATE)
    octaves = [500.0, 1000.0, 2000.0, 4000.0]
    before, after = (
        band_filter(part[:, : shoebox.shape[1]], float(RATE), octaves).square().sum(-1)
        for part in (shoebox, heard)
    )
    # images of one box scatter by this between octaves and places; a level that was wrong by a
    # factor, or a dip at the crossover, would be seen in the mean over places
    difference = 10 * torch.log10(after / before).mean(dim=0)
    assert float(difference.abs().max()) < 2.5
    times = reverberation_time(band_filter(tail, float(RATE), [2000.0, 4000.0]), RATE)
    low = band_filter(shoebox, float(RATE), [500.0])
    torch.testing.assert_close(
        times.mean(), reverberation_time(low, RATE, (-5.0, -25.0)).mean(), rtol=0.15, atol=0
    )


def test_the_tail_has_the_given_times_and_the_direct_sound(shoebox: torch.Tensor):
    given = {500.0: 0.8, 1000.0: 0.6, 2000.0: 0.6, 4000.0: 0.2, 8000.0: 0.2}
    tail = noise_tail(shoebox, RATE, FMAX, DISTANCES, given)
    octaves = band_filter(tail, float(RATE), [2000.0, 8000.0])
    times = reverberation_time(octaves, RATE).mean(dim=0)
    torch.testing.assert_close(
        times, torch.tensor([0.6, 0.2], dtype=torch.float64), rtol=0.1, atol=0
    )
    for row, distance in zip(tail, DISTANCES, strict=True):
        at = distance / SPEED_OF_SOUND * RATE
        assert float(row[: int(at) - 200].abs().max()) < 0.03 / distance
    blocked = noise_tail(shoebox, RATE, FMAX, [0.0, DISTANCES[1]], given)
    assert float(blocked[0].abs().max()) < float(tail[0].abs().max())


@pytest.mark.parametrize("moving", ["source", "receiver"])
@pytest.mark.parametrize("ears", [(), (2,)])
def test_a_path_that_stays_in_place_is_plain_convolution(moving, ears):
    dry = torch.randn(5000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    response = torch.randn(
        *ears, 700, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    plain = torch.nn.functional.conv1d(
        dry.flip(0)[None, None], response.reshape(-1, 1, 700), padding=699
    ).flip(-1)[0]
    plain = plain.reshape(*ears, -1)
    responses = response.expand(6, *response.shape)
    times = torch.tensor([-0.01, 0.013, 0.02, 0.05, 0.051, 0.3], dtype=torch.float64)
    heard = render_path(dry, responses, RATE, times, moving=moving)
    torch.testing.assert_close(heard, plain, rtol=0, atol=1e-10)
    torch.testing.assert_close(render_path(dry, responses[:1], RATE), plain, rtol=0, atol=1e-10)


def moving_tone(speed: float, moving: str) -> tuple[float, float]:
    """Frequency heard of a tone of 400 Hz that comes nearer at `speed` [m/s] in free field, and by
    how much its level wobbles [dB].
    """
    tone, duration, points = 400.0, 0.6, 121
    times = torch.linspace(0, duration, points, dtype=torch.float64)
    distances = 20.0 - speed * times
    count = 5000
    frequencies = torch.fft.rfftfreq(2 * count, 1 / RATE, dtype=torch.float64)
    delays = distances[:, None] / SPEED_OF_SOUND
    gain = 1 / (1 + (frequencies / 4000) ** 8)  # no ringing
    responses = torch.fft.irfft(gain * torch.exp(-2j * math.pi * frequencies * delays), 2 * count)
    dry = torch.sin(2 * math.pi * tone * torch.arange(int(duration * RATE)).double() / RATE)
    heard = render_path(dry, responses[:, :count], RATE, times, moving=moving)
    part = heard[8000 : 8000 + 16384]
    window = torch.hann_window(len(part), dtype=torch.float64)
    level = torch.fft.rfft(part * window, 16 * len(part)).abs()
    envelope = part.reshape(-1, 512).square().mean(dim=1)
    wobble = 10 * math.log10(float(envelope.max() / envelope.min()))
    return float(level.argmax()) * RATE / (16 * len(part)), wobble


@pytest.mark.parametrize("speed", [0.0, 20.0, -20.0])
def test_motion_shifts_the_pitch(speed):
    # a bin of the spectrum is 0.2 Hz
    ratio = speed / SPEED_OF_SOUND
    source, wobble = moving_tone(speed, "source")
    assert source == pytest.approx(400 / (1 - ratio), abs=0.3)
    assert wobble < 1.0  # points are an eighth of a wavelength apart
    receiver, wobble = moving_tone(speed, "receiver")
    assert receiver == pytest.approx(400 * (1 + ratio), abs=0.3)
    assert wobble < 1.0


def test_dry_signals_are_the_same_every_time_and_begin_and_end_in_quiet():
    for name in SIGNALS:
        samples = dry_signal(name, RATE)
        assert torch.equal(samples, dry_signal(name, RATE))
        assert float(samples.abs().max()) == pytest.approx(0.9)
        assert float(samples[[0, -1]].abs().max()) < 0.02
        lower = dry_signal(name, 16000)
        assert len(lower) / 16000 == pytest.approx(len(samples) / RATE, abs=1e-3)


def test_the_speech_is_modulated_as_speech_is():
    samples = dry_signal("speech", RATE)
    envelope = samples.square()[: len(samples) // 480 * 480].reshape(-1, 480).mean(dim=1)
    frequencies = torch.fft.rfftfreq(len(envelope), 0.01)
    level = torch.fft.rfft(envelope - envelope.mean()).abs()
    assert 3.0 < float(frequencies[level.argmax()]) < 7.0


def test_from_pressure_to_something_to_listen_to():
    times = STEP * torch.arange(3000, dtype=torch.float64)
    decay = 10 ** (-3 * times / 0.4)  # a box that absorbs
    pressure = image_sum(BOX, SOURCE, RECEIVERS, times, WIDTH) * decay
    responses = hybrid_response(pressure.float(), STEP, FMAX, DISTANCES)
    assert responses.dtype == torch.float32
    images = image_source_response(BOX, SOURCE, RECEIVERS, 0.3, 0.3)
    with_images = hybrid_response(pressure, STEP, FMAX, DISTANCES, above=images)
    for made in (responses.double(), with_images):
        octaves = band_filter(made, float(RATE), [500.0, 2000.0])
        levels = 10 * torch.log10(octaves.square().sum(-1))
        # flat: an octave two octaves higher is four times as wide
        assert float((levels[:, 1] - levels[:, 0] - 6).abs().max()) < 4
    heard = auralize(dry_signal("click", RATE), responses, times=[0.0, 0.01])
    assert float(heard.abs().max()) == pytest.approx(0.9)
    instants, frequencies, levels = spectrogram(heard, RATE)
    assert levels.shape == (len(frequencies), len(instants))
    assert float(levels.max()) == pytest.approx(0.0, abs=1e-6)


def test_bad_input_is_named(shoebox: torch.Tensor):
    dry = dry_signal("click", RATE)
    with pytest.raises(InputError, match=r"name must be one of click, burst"):
        dry_signal("drums", RATE)
    with pytest.raises(InputError, match=r"times must say when each of the 2 points"):
        render_path(dry, shoebox, RATE)
    with pytest.raises(InputError, match=r"times must rise"):
        render_path(dry, shoebox, RATE, [0.2, 0.1])
    with pytest.raises(InputError, match=r"responses must have dtype"):
        render_path(dry.float(), shoebox[0], RATE)
    with pytest.raises(InputError, match=r"receivers must be inside of the box"):
        image_source_response(BOX, SOURCE, [(5.0, 1.0, 1.0)], 0.1, 0.1)
    with pytest.raises(InputError, match=r"absorption must be in \[0, 1\], got -0\.1"):
        image_source_response(BOX, SOURCE, RECEIVERS, -0.1, 0.1)
    with pytest.raises(InputError, match=r"duration must ask for at most"):
        image_source_response(BOX, SOURCE, RECEIVERS, 0.1, 3.0)
    with pytest.raises(InputError, match=r"crossover must be between 0 and half the rate"):
        noise_tail(shoebox, RATE, 30000.0, DISTANCES)
    with pytest.raises(InputError, match=r"response must decay by 20 dB at 500 Hz"):
        noise_tail(shoebox[:, :1500], RATE, FMAX, DISTANCES)
    with pytest.raises(InputError, match=r"decay_times must be positive"):
        noise_tail(shoebox, RATE, FMAX, DISTANCES, {})
    with pytest.raises(InputError, match=r"width must be positive"):
        impulse_response(shoebox, STEP, 0.0)
    with pytest.raises(InputError, match=r"time_step must be at most 0\.0005 s, half a period"):
        impulse_response(shoebox, 0.001, WIDTH)
    with pytest.raises(InputError, match=r"receivers must be apart from the source"):
        image_source_response(BOX, SOURCE, [SOURCE], 0.1, 0.1)
    with pytest.raises(InputError, match=r"frequency must be between 0 and half the rate"):
        crossover(shoebox, shoebox, 0.0, RATE)
