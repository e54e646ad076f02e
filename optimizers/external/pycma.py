"""CMA-ES of the package cma."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from optimizers.checks import check_count, check_number
from optimizers.external.bridge import Call, RunningBridge, ThreadTalk
from optimizers.external.objective import BARREN, Frame, Objective
from optimizers.problem import Problem


@dataclass(frozen=True)
class Pycma:
    """pycma with IPOP restarts: to compare with, or where its long experience is wanted.

    population: candidates in a generation, 4 + 3 ln d by default.
    deviation: first standard deviation, in units of each parameter's scale; a quarter of the
        domain is its advice.
    restarts: how often a run that has stalled starts anew from a random point with twice the
        population.

    Hansen, Akimoto and Baudis, CMA-ES/pycma on Github, 2019. Constraints enter by its own augmented
    Lagrangian. Its random numbers come from a generator of ours, numpy's global one stays as it is.
    Generations without one success are drawn again.
    """

    population: int | None = None
    deviation: float = 0.25
    restarts: int = 9

    name: ClassVar[str] = "pycma"
    order: ClassVar[int] = 0
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.population is not None:
            check_count("population", self.population, least=4)
        check_number("deviation", self.deviation, above=0)
        check_count("restarts", self.restarts, least=0)

    def start(self, problem: Problem, seed: int = 0) -> RunningBridge:
        """A running search for this problem."""
        if importlib.util.find_spec("cma") is None:
            raise ImportError("method 'pycma' needs the package cma: pip install geomopt[cma]")
        if problem.dimension < 2:
            raise ValueError("method 'pycma' needs a problem of at least 2 dimensions, got 1")
        frame = Frame.of(problem, order=0)

        def begin(origin: np.ndarray, seed: int) -> ThreadTalk:
            return ThreadTalk(lambda call, note: _search(self, frame, origin, seed, call, note))

        return RunningBridge(problem, seed, 0, begin, self.name)


def _search(
    settings: Pycma,
    frame: Frame,
    origin: np.ndarray,
    seed: int,
    call: Call,
    note: Callable[[str], None],
) -> str:
    import cma

    random = np.random.default_rng(seed)
    objective = Objective(call, frame, random)
    bounds = [_sides(frame.lower), _sides(frame.upper)]
    population, start = settings.population, origin
    for restart in range(settings.restarts + 1):
        options: dict[str, Any] = {
            "bounds": bounds,
            "randn": lambda *shape: random.standard_normal(shape),
            "seed": np.nan,  # the global generator stays as it is
            "verbose": -9,
            "verb_log": 0,
        }
        if population is not None:
            options["popsize"] = population
        strategy = cma.CMAEvolutionStrategy(start, settings.deviation, options)
        if not _run(strategy, objective):
            return "all evaluations failed"
        reason = " ".join(strategy.stop() or ())
        population = 2 * strategy.popsize
        start = frame.random(random, origin)
        if restart < settings.restarts:
            note(f"restart with population {population}, {reason}")
    return f"converged: {reason}"


def _run(strategy: Any, objective: Objective) -> bool:
    """One search of the strategy to its end; False if nothing ever succeeds."""
    import cma

    lagrangian, barren = None, 0
    while not strategy.stop():
        points = strategy.ask()
        rows = objective.remembered(np.array(points))
        values = np.array([row[0] for row in rows])
        if not np.isfinite(values).any():
            barren += 1
            if barren > BARREN:
                return math.isfinite(objective.lowest)
            continue
        barren = 0
        if objective.count:
            lagrangian = lagrangian or cma.ConstrainedFitnessAL(
                objective.value, objective.inequalities, logging=False
            )
            values = np.array([lagrangian(point) for point in points])
        worst = values[np.isfinite(values)].max()
        strategy.tell(points, [value if np.isfinite(value) else worst for value in values])
        if lagrangian is not None:
            lagrangian.update(strategy)
    return True


def _sides(bounds: np.ndarray) -> list[float | None]:
    return [float(bound) if np.isfinite(bound) else None for bound in bounds]
