"""What a run says while it goes."""

from __future__ import annotations

import sys

import pytest
import torch

from geomopt.runs.progress import Progress, share
from optimizers import Budget, Iterate


def iterate_at(iteration, value=0.5):
    x = torch.zeros(1)
    terms = {"mask": 0.25, "depth": float("nan")}
    return Iterate(
        iteration, x, value, 0.5, x, value, 0.5, 3.0 * (iteration + 1), iteration + 1, 2.0, terms
    )


def test_the_limit_that_comes_first_tells_how_far_a_run_is():
    assert share(iterate_at(4), Budget(iterations=10)) == 0.5
    assert share(iterate_at(4), Budget(iterations=10, evaluations=20)) == 0.75
    assert share(iterate_at(4), Budget(seconds=4)) == 0.5
    assert share(iterate_at(40), Budget(iterations=10)) == 1.0
    assert share(iterate_at(4), Budget(target=0.0)) is None


def test_without_a_terminal_there_are_few_lines(capsys):
    with Progress("bowl", Budget(iterations=50)) as progress:
        for iteration in range(50):
            progress.show(iterate_at(iteration))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 3
    assert lines[0] == "bowl: iterate 0  value 0.5  violation 0.5  mask 0.25"
    assert lines[-1].startswith("bowl: iterate 49")


def test_a_terminal_gets_one_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress("bowl", Budget(iterations=3)) as progress:
        for iteration in range(3):
            progress.show(iterate_at(iteration))
    assert "value 0.5" in capsys.readouterr().err


@pytest.mark.parametrize("budget", [Budget(iterations=3), Budget(target=0.0)])
def test_silence_when_it_is_not_wanted(capsys, budget):
    with Progress("bowl", budget, wanted=False) as progress:
        progress.show(iterate_at(0))
    assert capsys.readouterr().err == ""
