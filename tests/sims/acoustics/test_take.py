"""Takes of measured responses: what is written is read, and what is wrong is named."""

from pathlib import Path

import pytest
import torch

from geomopt.errors import InputError
from sims.acoustics.take import read_take, write_take
from sims.acoustics.wav import write_wav

SOURCE = (0.7, 0.9, 1.1)
RECEIVERS = [(1.5, 1.3, 0.6), (0.4, 1.6, 1.5)]


@pytest.fixture
def responses() -> torch.Tensor:
    return 0.5 * torch.rand(2, 400, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def take(tmp_path: Path, responses: torch.Tensor) -> Path:
    return write_take(tmp_path / "take", responses, 48000, SOURCE, RECEIVERS, "CC0-1.0")


def test_a_take_comes_back_as_it_was_written(take: Path, responses: torch.Tensor):
    back = read_take(take)
    assert back.rate == 48000
    assert back.licence == "CC0-1.0"
    assert back.names == ("receiver_00.wav", "receiver_01.wav")
    assert torch.equal(back.responses, responses.double())
    assert torch.equal(back.source, torch.tensor(SOURCE, dtype=torch.float64))
    assert torch.equal(back.receivers, torch.tensor(RECEIVERS, dtype=torch.float64))
    assert float(back.times[48]) == 0.001


def test_units_and_axes_are_converted_once(take: Path):
    file = take / "take.toml"
    text = file.read_text().replace('units = "m"', 'units = "cm"').replace('up = "z"', 'up = "y"')
    file.write_text(text)
    # y up: x stays, y becomes z, and z points out of the page, to -y
    expected = 0.01 * torch.tensor([SOURCE[0], -SOURCE[2], SOURCE[1]], dtype=torch.float64)
    torch.testing.assert_close(read_take(take).source, expected)


def test_shorter_responses_end_in_zeros(take: Path):
    write_wav(take / "receiver_01.wav", torch.full((10,), 0.25), 48000)
    back = read_take(take)
    assert back.responses.shape == (2, 400)
    assert float(back.responses[1, 10:].abs().max()) == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rate = 48000", "rate = 44100", r"receiver_00\.wav must have 44100 samples a second"),
        ("rate = 48000", "rate = 0", r"rate in .* must be a whole number"),
        ("rate = 48000", "", r"must have rate, but it has none"),
        ('units = "m"', 'units = "feet"', r"units in .* must be m, cm or mm, got 'feet'"),
        ('up = "z"', 'up = "x"', r"up in .* must be 'y' or 'z', got 'x'"),
        ('licence = "CC0-1.0"', 'licence = ""', r"licence in .* must name one"),
        ("source = [0.7, 0.9, 1.1]", "source = [0.7, 0.9]", r"source in .* must be three finite"),
        ('"receiver_01.wav"', '"gone.wav"', r"gone\.wav, which does not exist"),
        ('"receiver_01.wav"', "3", r"receivers\[1\]\.file in .* must be a file name"),
        ("rate = 48000", "rate = 48000\nspeed = 3", r"got speed"),
        ("rate = 48000", "rate = = 1", r"must be a TOML file"),
    ],
)
def test_what_is_wrong_in_a_take_is_named(take: Path, old: str, new: str, message: str):
    file = take / "take.toml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(InputError, match=message):
        read_take(take)


def test_what_cannot_be_a_take_is_refused(tmp_path: Path, responses: torch.Tensor):
    with pytest.raises(InputError, match=r"folder must hold a take\.toml"):
        read_take(tmp_path)
    with pytest.raises(InputError, match=r"receivers must have shape \(2, 3\)"):
        write_take(tmp_path, responses, 48000, SOURCE, RECEIVERS[:1], "CC0-1.0")
    with pytest.raises(InputError, match=r"licence must name one"):
        write_take(tmp_path, responses, 48000, SOURCE, RECEIVERS, "")
