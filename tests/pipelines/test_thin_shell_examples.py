"""The examples of thin shells, as a user runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from geomopt.errors import BackendUnavailable
from geomopt.viewer.offscreen import require_rendering

# torch's forward mode loads what torch itself no longer likes
WARNINGS = "error,ignore:`torch.jit.script` is deprecated:DeprecationWarning"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(script, folder, *options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": WARNINGS}
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *options],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def require_pictures():
    try:
        require_rendering()
    except BackendUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_the_modulus_of_a_strip_is_found_from_its_sag(tmp_path):
    told = run("cantilever.py", tmp_path)
    true = float(re.search(r"true +E = ([\d.]+)", told)[1])
    found, error = map(float, re.search(r"found +E = ([\d.]+) \+- ([\d.]+)", told).groups())
    assert abs(found - true) < 3 * error  # what the noise allows
    assert error < 0.02 * true
    iterations = re.findall(r"^ +\d+ +[\d.]+ +[\d.]+$", told, re.MULTILINE)
    assert 3 < len(iterations) <= 10
    assert (tmp_path / "cantilever.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.render
def test_a_folded_strip_keeps_part_of_its_fold(tmp_path):
    require_pictures()
    told = run("crease.py", tmp_path, "--cells", "20")
    pressed, free, rest = map(float, re.findall(r"^fold .* ([\d.]+) degrees$", told, re.MULTILINE))
    assert 170 < pressed < 190
    assert 40 < rest < 110  # it springs back, but not all the way
    assert abs(free - rest) < 1.0  # damping has brought it to rest
    assert (tmp_path / "crease.gif").stat().st_size > 50_000


@pytest.mark.slow
@pytest.mark.render
def test_a_squeeze_that_leaves_friction_a_reserve_lifts_a_sheet(tmp_path):
    require_pictures()
    told = run("pinch.py", tmp_path, "--quick")
    weight, normal, friction, bears = map(
        float, re.findall(r"^(?:weight|normal|friction,|2 mu N).* ([\d.]+) mN", told, re.MULTILINE)
    )
    most, mean = map(float, re.findall(r"^friction used.* ([\d.]+) %$", told, re.MULTILINE))
    drift = float(re.search(r"^drift .* ([\d.]+) nm$", told, re.MULTILINE)[1])
    assert friction == pytest.approx(weight / 2, abs=0.02)  # each finger bears a half
    assert bears == pytest.approx(normal, abs=0.02)  # mu is one half
    assert weight < bears
    assert mean < most < 100.0
    assert drift < 10.0  # its last swing, not creep
    assert (tmp_path / "pinch.gif").stat().st_size > 50_000
    assert (tmp_path / "pinch.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.render
def test_a_finger_folds_a_strip_at_the_row_that_is_wanted(tmp_path):
    require_pictures()
    told = run("fold.py", tmp_path, "--quick")
    rows = [int(row) for row in re.search(r"^creases of rows (.*)$", told, re.MULTILINE)[1].split()]

    def creases(path):
        found = re.search(rf"^{path} +(.*)$", told, re.MULTILINE)[1].split()
        return dict(zip(rows, map(float, found), strict=True))

    assert creases("straight down")[8] > 20.0
    refined = creases("refined path")
    assert refined.pop(9) > 20.0
    assert max(map(abs, refined.values())) < 5.0
    assert told.splitlines()[-2].endswith(": success")
    assert (tmp_path / "fold.gif").stat().st_size > 50_000
    assert (tmp_path / "fold.png").stat().st_size > 10_000
