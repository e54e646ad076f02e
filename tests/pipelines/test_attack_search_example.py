import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_example_certifies_a_better_design_than_it_started_from(tmp_path):
    script = ROOT / "examples" / "attack_search.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    run = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert run.returncode == 0, run.stderr
    lines = [line for line in run.stdout.splitlines() if "runs" not in line]

    def row(name):
        found = next(line for line in lines if line.startswith(name) and ":" not in line)
        value, violation, used = found[len(name) :].split()
        return float(value), float(violation), int(used)

    first, _, _ = row("best of the 200")
    _, overstepped, _ = row("the network's best, certified")
    found, violation, used = row("attack-search")
    assert overstepped > 1e-6  # the reason to certify
    assert violation <= 1e-6
    assert found < 0.95 * first
    assert used <= 261  # 200 to learn from, and 60 of the budget with at most one point over
    assert not list(tmp_path.iterdir())
