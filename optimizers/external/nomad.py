"""NOMAD: mesh adaptive direct search."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from optimizers.external.bridge import Call, RunningBridge, ThreadTalk
from optimizers.external.objective import Frame, Objective, persistently
from optimizers.external.process import run_apart
from optimizers.problem import Problem

MOST = 20  # dimensions; beyond, its models take minutes a step
FRAME = 0.1  # of the scales: the first frame, which NOMAD knows only between bounds


@dataclass(frozen=True)
class Nomad:
    """NOMAD: for values that are not smooth, with constraints, up to 20 parameters.

    Mesh adaptive direct search with quadratic models and the progressive barrier. Audet, Le
    Digabel, Rochon Montplaisir and Tribes, Algorithm 1027, 2022. Ours around it: variables in units
    of the scales; an equality is two inequalities a hair apart; a search that failed evaluations
    have ended begins anew at its best point. It has a process of its own.
    """

    name: ClassVar[str] = "nomad"
    order: ClassVar[int] = 0
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = False

    def start(self, problem: Problem, seed: int = 0) -> RunningBridge:
        """A running search for this problem."""
        if importlib.util.find_spec("PyNomad") is None:
            raise ImportError(
                "method 'nomad' needs the package PyNomadBBO: pip install geomopt[nomad]"
            )
        if problem.dimension > MOST:
            raise ValueError(
                f"method 'nomad' is for at most {MOST} dimensions, got {problem.dimension}"
            )
        frame = Frame.of(problem, order=0)

        def begin(origin: np.ndarray, seed: int) -> ThreadTalk:
            def solve(call: Call, note: Callable[[str], None]) -> str:
                objective = Objective(call, frame, np.random.default_rng(seed))
                return persistently(
                    lambda point: _search(objective, point, seed), objective, origin, note
                )

            return ThreadTalk(solve)

        return RunningBridge(problem, seed, 0, begin, self.name)


def _search(objective: Objective, begin: np.ndarray, seed: int) -> str:
    def answer(point: np.ndarray) -> list[float] | None:
        value = objective.row(point)[0]
        if not math.isfinite(value):
            return None
        return [value, *objective.inequalities(point)]

    frame = objective.frame
    task = {
        "solver": "nomad",
        "start": begin.tolist(),
        "lower": frame.lower.tolist(),
        "upper": frame.upper.tolist(),
        "parameters": [
            f"DIMENSION {len(begin)}",
            "BB_OUTPUT_TYPE OBJ" + " PB" * (objective.count + frame.equalities),
            f"INITIAL_FRAME_SIZE ( {f'{FRAME} ' * len(begin)})",
            "DISPLAY_DEGREE 0",
            f"SEED {seed % 2**31}",
        ],
    }
    return run_apart(task, answer)
