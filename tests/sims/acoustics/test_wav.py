"""WAV files that are read as they were written, and those that are refused."""

import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from geomopt.errors import InputError
from sims.acoustics.wav import normalised, read_wav, resample, write_wav


def noise(*shape: int) -> torch.Tensor:
    return 1.9 * torch.rand(*shape, generator=torch.Generator().manual_seed(0)) - 0.95


@pytest.mark.parametrize("shape", [(500,), (1, 500), (3, 500)])
def test_float_samples_come_back_as_they_were(tmp_path: Path, shape):
    samples = noise(*shape)
    file = write_wav(tmp_path / "a.wav", samples, 48000)
    back = read_wav(file, 48000, channels=None)
    assert back.rate == 48000
    assert back.samples.dtype == torch.float64
    assert torch.equal(back.samples, samples.reshape(-1, 500).double())
    assert back.duration == 500 / 48000
    assert list(tmp_path.iterdir()) == [file]


def test_steps_of_sixteen_bits_come_back_as_they_were(tmp_path: Path):
    steps = torch.arange(-(2**15) + 1, 2**15 - 1, 7, dtype=torch.float64) / 2**15
    file = write_wav(tmp_path / "a.wav", steps, 44100, "pcm16")
    assert torch.equal(read_wav(file).samples[0], steps)
    # what lies between steps goes to the nearest
    samples = noise(400).double()
    back = read_wav(write_wav(tmp_path / "b.wav", samples, 44100, "pcm16")).samples[0]
    assert float((back - samples).abs().max()) <= 2**-16


@pytest.mark.parametrize(
    ("dtype", "exact"),
    [(np.uint8, 2.0**-7), (np.int16, 2.0**-15), (np.int32, 2.0**-31), (np.float32, 1e-7)],
)
def test_all_kinds_of_samples_are_read_at_one_scale(tmp_path: Path, dtype, exact):
    values = noise(300).double().numpy()
    if dtype == np.uint8:
        stored = np.round(values * 128 + 128).astype(dtype)
    elif np.dtype(dtype).kind == "i":
        stored = np.round(values * -float(np.iinfo(dtype).min)).astype(dtype)
    else:
        stored = values.astype(dtype)
    wavfile.write(tmp_path / "a.wav", 8000, stored)
    back = read_wav(tmp_path / "a.wav").samples[0].numpy()
    assert np.abs(back - values).max() <= exact


def write_24_bits(file: Path, steps: list[int]) -> None:
    data = b"".join(struct.pack("<i", step)[:3] for step in steps)
    head = struct.pack("<4sI4s", b"RIFF", 36 + len(data), b"WAVE")
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 48000, 3 * 48000, 3, 24)
    file.write_bytes(head + form + struct.pack("<4sI", b"data", len(data)) + data)


def test_twenty_four_bits_are_read(tmp_path: Path):
    steps = [0, 1, -1, 2**22, -(2**23), 2**23 - 1]
    write_24_bits(tmp_path / "a.wav", steps)
    assert (read_wav(tmp_path / "a.wav").samples[0] * 2**23).tolist() == steps


@pytest.mark.parametrize("kind", ["u8", "i16", "i24", "i32", "f32"])
def test_clipped_recordings_are_refused(tmp_path: Path, kind):
    tone = np.sin(np.arange(2000) / 20)
    file = tmp_path / "a.wav"

    def write(values: np.ndarray) -> None:
        full = {"u8": 127, "i16": 2**15 - 1, "i24": 2**23 - 1, "i32": 2**31 - 1, "f32": 1}[kind]
        steps = np.clip(values, -1, 1) * full
        if kind == "i24":
            write_24_bits(file, [int(step) for step in steps])
        else:
            kinds = {"u8": np.uint8, "i16": np.int16, "i32": np.int32, "f32": np.float32}
            wavfile.write(file, 48000, (steps + 128 * (kind == "u8")).astype(kinds[kind]))

    write(2 * tone)
    with pytest.raises(InputError, match=r"a\.wav must not be clipped, got 4\d samples in a row"):
        read_wav(file)
    assert read_wav(file, accept_clipped=True).samples.shape == (1, 2000)
    write(0.99 * tone)  # its crest is flat over some samples, below full scale
    read_wav(file)
    spike = 0.1 * tone
    spike[50:52] = 1.0  # two samples at full scale are a loud start, not a clipped one
    write(spike)
    read_wav(file)


def test_float_samples_beyond_one_are_not_clipped(tmp_path: Path):
    samples = 3 * torch.sin(torch.arange(500) / 9)
    read_wav(write_wav(tmp_path / "a.wav", samples, 48000))
    with pytest.raises(InputError, match=r"must not be clipped"):
        read_wav(write_wav(tmp_path / "a.wav", samples.clamp(-1.5, 1.5), 48000))


def test_the_wrong_rate_and_number_of_channels_are_refused(tmp_path: Path):
    file = write_wav(tmp_path / "a.wav", noise(2, 100), 44100)
    with pytest.raises(InputError, match=r"must have 48000 samples a second, got 44100: resample"):
        read_wav(file, 48000, channels=None)
    with pytest.raises(InputError, match=r"must have one channel, got 2: choose one"):
        read_wav(file)
    assert read_wav(file, channels=2).samples.shape == (2, 100)


def test_files_that_are_no_whole_wav_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"none\.wav, which does not exist"):
        read_wav(tmp_path / "none.wav")
    broken = tmp_path / "a.wav"
    whole = write_wav(tmp_path / "b.wav", noise(500), 8000).read_bytes()
    for content in (b"", b"no WAV at all", whole[:30], whole[:70], whole[: len(whole) // 2]):
        broken.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.wav must be a whole WAV file of PCM or float"):
            read_wav(broken)
    wavfile.write(broken, 8000, np.zeros(0, np.int16))
    with pytest.raises(InputError, match=r"must hold samples, got an empty file"):
        read_wav(broken)
    wavfile.write(broken, 8000, np.array([0.0, np.nan], np.float32))
    with pytest.raises(InputError, match=r"must hold finite samples, got 1 NaN or infinite"):
        read_wav(broken)


def test_what_cannot_be_written_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"samples must be within -1 and 1 for PCM, got 1\.5"):
        write_wav(tmp_path / "a.wav", torch.tensor([0.0, 1.5]), 8000, "pcm16")
    with pytest.raises(InputError, match=r"path must end in \.wav"):
        write_wav(tmp_path / "a.mp3", noise(10), 8000)
    with pytest.raises(InputError, match=r"samples must have shape"):
        write_wav(tmp_path / "a.wav", torch.zeros(0), 8000)
    with pytest.raises(InputError, match=r"rate must be a whole number"):
        write_wav(tmp_path / "a.wav", noise(10), 8000.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"encoding must be"):
        write_wav(tmp_path / "a.wav", noise(10), 8000, "mp3")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_normalising_sets_the_peak():
    assert float(normalised(0.01 * noise(2, 100), 0.5).abs().max()) == pytest.approx(0.5)
    with pytest.raises(InputError, match=r"samples must not be silent"):
        normalised(torch.zeros(10))


@pytest.mark.parametrize(("rate", "new"), [(44100.0, 48000.0), (10654.32, 48000.0), (48e3, 8e3)])
def test_resampling_keeps_a_tone_and_its_times(rate, new):
    count = int(0.5 * rate)

    def tone(at: float, count: int) -> torch.Tensor:
        times = torch.arange(count, dtype=torch.float64) / at
        # it begins and ends softly, or its edges would ring
        return torch.sin(2 * math.pi * 700 * times) * torch.sin(math.pi * times / 0.5) ** 2

    made = resample(tone(rate, count), rate, new)
    assert len(made) == pytest.approx(0.5 * new, abs=2)
    # what the default window of the low-pass lets through
    torch.testing.assert_close(made, tone(new, len(made)), rtol=0, atol=2e-3)
