"""Solvers of which a process can hold only one: each gets a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WORKER = Path(__file__).with_name("worker.py")


def run_apart(task: dict[str, Any], answer: Callable[[np.ndarray], list[float] | None]) -> str:
    """Run a solver in a process and answer its points; returns why it ended.

    task: its name "solver" and its arguments, see `worker.py`.
    answer: outputs of a point (d,), None where it has failed; an exception ends the process.
    Raises RuntimeError with what the solver said where it broke.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", str(WORKER)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        message: Any = task
        while True:
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("its process has ended")
            kind, content = json.loads(line)
            if kind == "done":
                return content
            if kind == "error":
                raise RuntimeError(content)
            message = answer(np.array(content))
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
