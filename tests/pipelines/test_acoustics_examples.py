"""The examples of room acoustics, as a user runs them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sims.acoustics.wav import read_wav

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NUMBER = r"(-?[\d.]+)"


def run(script, folder, *options):
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / script, *options],
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_voice_is_drier_between_absorbers(tmp_path):
    told = run("room_sound.py", tmp_path)
    rows = re.findall(rf"^(bare|treated) +125 Hz +{NUMBER} +{NUMBER} +{NUMBER}", told, re.MULTILINE)
    (bare, *before), (treated, *after) = rows
    assert (bare, treated) == ("bare", "treated")
    early_before, decay_before, clarity_before = map(float, before)
    early_after, decay_after, clarity_after = map(float, after)
    assert early_after < early_before
    assert decay_after < decay_before
    assert clarity_after > clarity_before + 1.0  # dB, what one notices
    levels = [
        float(read_wav(tmp_path / f"room_{name}.wav", 48000).samples.square().mean())
        for name in ("bare", "treated")
    ]
    assert levels[1] < levels[0]
    assert (tmp_path / "room_sound.png").stat().st_size > 10_000


@pytest.mark.slow
def test_panels_that_follow_the_gradient_beat_an_even_spread(tmp_path):
    told = run("absorbers.py", tmp_path, "--gradients", "4", "--tries", "6")
    names = ("no absorber", "spread evenly", "shares found", "built")
    lines = {line[:24].strip(): line[24:] for line in told.splitlines()}
    rows = {name: [float(number) for number in lines[name].split()] for name in names}
    assert rows["built"][0] == rows["spread evenly"][0]  # m²
    for mesh in (1, 2):
        levels = [rows[name][mesh] for name in ("no absorber", "spread evenly", "built")]
        assert levels == sorted(levels, reverse=True)
    assert abs(rows["built"][1] - rows["built"][2]) < 0.1  # dB between the two meshes
    assert (tmp_path / "absorbers.png").stat().st_size > 10_000


@pytest.mark.slow
def test_walls_that_were_found_sound_right_where_nothing_was_told(tmp_path):
    told = run("find_walls.py", tmp_path)
    apart = [float(n) for n in re.findall(rf"^(?:T30|C50), .* {NUMBER}$", told, re.MULTILINE)]
    assert len(apart) == 4
    assert max(apart) < 1.0  # a just noticeable difference
    assert (tmp_path / "find_walls_take" / "take.toml").is_file()
    assert (tmp_path / "find_walls.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_bent_wall_lowers_the_highest_resonance(tmp_path):
    told = run("diffuser.py", tmp_path, "--gradients", "6")
    rows = dict(re.findall(r"^(flat|bent) +(-?[\d.]+ +-?[\d.]+)$", told, re.MULTILINE))
    assert len(rows) == 2
    for before, after in zip(rows["flat"].split(), rows["bent"].split(), strict=True):
        assert float(after) < float(before) - 0.5  # dB
    assert (tmp_path / "diffuser.png").stat().st_size > 10_000
