"""The example of a trajectory through contacts, as a user runs it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_example_plans_a_trajectory_and_draws_it(tmp_path):
    script = Path(__file__).resolve().parents[2] / "examples" / "trajectory.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    run = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "trajectory.png").stat().st_size > 10_000
    ours, plain = map(float, re.findall(r"(\d\.\d+) by", run.stdout))
    assert ours < 0.5 * plain
