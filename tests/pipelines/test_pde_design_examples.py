"""The examples of designs through flows, as a user runs them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(script, folder):
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / script],
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_first_state_of_a_chaotic_flow_is_found(tmp_path):
    told = run("initial_state.py", tmp_path)
    error = float(re.search(r"^error at 0 s +(\S+)$", told, re.MULTILINE)[1])
    assert error <= 1e-3
    assert (tmp_path / "initial_state.png").stat().st_size > 10_000


@pytest.mark.slow
def test_what_stirs_a_flow_is_found_in_few_solves(tmp_path):
    told = run("forcing.py", tmp_path)
    assert float(re.search(r"^solver calls +(\S+)$", told, re.MULTILINE)[1]) <= 10
    assert float(re.search(r"^error +(\S+)$", told, re.MULTILINE)[1]) < 0.02
    assert (tmp_path / "forcing.png").stat().st_size > 10_000
