"""Direct search under constraints beside NOMAD and COBYQA, and its overhead.

    python benchmarks/direct_search.py

Analytic problems with known optima; every solver has 100 (d + 1) evaluations from the same random
starts, all defaults. A problem is solved to tau when a point of summed violation <= 1e-6 has a
value within tau (1 + |f*|) of the optimum. The table gives the median evaluations until then and
the share of starts from which it happened. NOMAD knows no equalities and sits those out. Without
constraints, benchmarks/coco.py compares. The second table gives the overhead of ask and tell.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch and by numpy's linear algebra when they load

import argparse
import contextlib
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

from optimizers import FEASIBLE, Budget, DirectSearch, Evaluation, Problem, minimize
from optimizers.testing import boxed, ellipsoid, rastrigin, rosenbrock

ACCURACIES = (1e-1, 1e-3, 1e-6)
PER_DIMENSION = 100  # evaluations over d + 1


@dataclass(frozen=True)
class Case:
    """Minimise value(x) where below(x) <= 0 and zero(x) = 0, in a cube."""

    name: str
    dimension: int
    lower: float
    upper: float
    optimum: float
    value: Callable
    below: Callable = lambda x: []
    zero: Callable = lambda x: []


def disc(x):
    """Rosenbrock's valley in a disc whose edge runs through the minimum."""
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def seven(x):
    """Hock and Schittkowski, problem 100."""
    return ((x[0] - 10) ** 2 + 5 * (x[1] - 12) ** 2 + x[2] ** 4 + 3 * (x[3] - 11) ** 2
            + 10 * x[4] ** 6 + 7 * x[5] ** 2 + x[6] ** 4 - 4 * x[5] * x[6] - 10 * x[5]
            - 8 * x[6])  # fmt: skip


def below_seven(x):
    return [2 * x[0] ** 2 + 3 * x[1] ** 4 + x[2] + 4 * x[3] ** 2 + 5 * x[4] - 127,
            7 * x[0] + 3 * x[1] + 10 * x[2] ** 2 + x[3] - x[4] - 282,
            23 * x[0] + x[1] ** 2 + 6 * x[5] ** 2 - 8 * x[6] - 196,
            4 * x[0] ** 2 + x[1] ** 2 - 3 * x[0] * x[1] + 2 * x[2] ** 2 + 5 * x[5]
            - 11 * x[6]]  # fmt: skip


def four(x):
    """Rosen and Suzuki's problem, Hock and Schittkowski 43."""
    return (x[0] ** 2 + x[1] ** 2 + 2 * x[2] ** 2 + x[3] ** 2 - 5 * x[0] - 5 * x[1] - 21 * x[2]
            + 7 * x[3])  # fmt: skip


def below_four(x):
    return [x[0] ** 2 + x[1] ** 2 + x[2] ** 2 + x[3] ** 2 + x[0] - x[1] + x[2] - x[3] - 8,
            x[0] ** 2 + 2 * x[1] ** 2 + x[2] ** 2 + 2 * x[3] ** 2 - x[0] - x[3] - 10,
            2 * x[0] ** 2 + x[1] ** 2 + x[2] ** 2 + 2 * x[0] - x[1] - x[3] - 5]  # fmt: skip


CASES = (
    Case("disc", 2, -2.0, 2.0, 0.0, disc, lambda x: [x[0] ** 2 + x[1] ** 2 - 2]),
    Case("crescent", 5, -10.0, 10.0, -4.0, lambda x: x[4],
         lambda x: [((x - 1) ** 2).sum() - 25, 25 - ((x + 1) ** 2).sum()]),
    Case("ball", 10, -10.0, 10.0, -10 * math.sqrt(3), lambda x: x.sum(),
         lambda x: [(x**2).sum() - 30]),
    Case("Rosen-Suzuki", 4, -5.0, 5.0, -44.0, four, below_four),
    Case("seven", 7, -10.0, 10.0, 680.6300574, seven, below_seven),
    Case("corner", 6, -3.0, 3.0, 0.0, lambda x: np.abs(x - 1).sum(),
         lambda x: [x[0] - x[1], x[2:].sum() - 4]),
    Case("parts", 2, -5.0, 5.0, -3.0, lambda x: x[0] + x[1],
         lambda x: [1 - abs(x[0]), abs(x[0]) - 2, abs(x[1]) - 1]),
    Case("two surfaces", 4, -3.0, 3.0, -1.0, lambda x: -x[0],
         zero=lambda x: [x[1] - x[0] ** 3 - x[2] ** 2, x[0] ** 2 - x[1] - x[3] ** 2]),
    Case("product", 4, 1.0, 5.0, 17.0140173,
         lambda x: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2],
         lambda x: [25 - x[0] * x[1] * x[2] * x[3]],
         lambda x: [(x**2).sum() - 40]),
)  # fmt: skip


class Spent(Exception):
    """Ends a peer that does not know the budget."""


class Recorder:
    """Values and constraints of one point at a time, and the best feasible gap so far."""

    def __init__(self, case: Case, seed: int) -> None:
        self.case, self.used, self.steps = case, 0, []
        self.budget = PER_DIMENSION * (case.dimension + 1)
        random = np.random.default_rng(seed)
        self.start = random.uniform(case.lower, case.upper, case.dimension)
        self.known = {}

    def __call__(self, x):
        key = tuple(map(float, x))
        if key not in self.known:  # SciPy asks for the value and the constraints one by one
            if self.used >= self.budget:
                raise Spent
            self.used += 1
            x, case = np.array(key), self.case
            value, below, zero = float(case.value(x)), case.below(x), case.zero(x)
            violation = sum(max(g, 0.0) for g in below) + sum(abs(h) for h in zero)
            if violation <= FEASIBLE:
                gap = (value - case.optimum) / (1 + abs(case.optimum))
                if not self.steps or gap < self.steps[-1][1]:
                    self.steps.append((self.used, gap))
            self.known[key] = value, [*map(float, below)], [*map(float, zero)]
        return self.known[key]


def ours(f: Recorder, seed: int) -> None:
    case = f.case
    count = len(case.below(f.start)) + len(case.zero(f.start))
    problem = Problem.box([case.lower] * case.dimension, [case.upper] * case.dimension,
                          f.start.tolist(), constraints=count, differentiable=False)  # fmt: skip

    def evaluated(x, order=0, **_):
        rows = [f(row) for row in x.numpy()]
        value = torch.tensor([row[0] for row in rows], dtype=torch.float64)
        constraints = torch.tensor([row[1] + row[2] for row in rows], dtype=torch.float64)
        return Evaluation(value, constraints, equalities=len(rows[0][2]))

    problem.evaluate = evaluated
    minimize(problem, "direct-search", budget=Budget(evaluations=f.budget), seed=seed)


def nomad(f: Recorder, seed: int) -> None:
    import PyNomad

    case = f.case
    if case.zero(f.start):
        return

    def black_box(point) -> int:
        x = np.array([point.get_coord(i) for i in range(case.dimension)])
        value, below, _ = f(np.clip(x, case.lower, case.upper))
        point.setBBO(" ".join(map(repr, (value, *below))).encode())
        return 1

    box = ([case.lower] * case.dimension, [case.upper] * case.dimension)
    outputs = "OBJ" + " PB" * len(case.below(f.start))
    parameters = [f"DIMENSION {case.dimension}", f"BB_OUTPUT_TYPE {outputs}", "DISPLAY_DEGREE 0",
                  f"MAX_BB_EVAL {f.budget}", f"SEED {seed}"]  # fmt: skip
    PyNomad.optimize(black_box, f.start.tolist(), *box, parameters)


def cobyqa(f: Recorder, seed: int) -> None:
    from scipy.optimize import NonlinearConstraint
    from scipy.optimize import minimize as scipy_minimize

    case, constraints = f.case, []
    if case.below(f.start):
        constraints.append(NonlinearConstraint(lambda x: f(x)[1], -np.inf, 0.0))
    if case.zero(f.start):
        constraints.append(NonlinearConstraint(lambda x: f(x)[2], 0.0, 0.0))
    bounds = [(case.lower, case.upper)] * case.dimension
    scipy_minimize(lambda x: f(x)[0], f.start, method="COBYQA", bounds=bounds,
                   constraints=constraints, options={"maxfev": 10 * f.budget})  # fmt: skip


def compare(seeds: int) -> None:
    solvers = {"ours": ours, "nomad": nomad, "cobyqa": cobyqa}
    head = "".join(f"{f'{name} {accuracy:g}':>16}" for accuracy in ACCURACIES for name in solvers)
    print(f"{'problem':14}{'d':>3}{head}")
    for case in CASES:
        cells = {}
        for name, solver in solvers.items():
            runs = []
            for seed in range(seeds):
                recorder = Recorder(case, seed)
                with warnings.catch_warnings(), contextlib.suppress(Spent):
                    warnings.simplefilter("ignore")
                    solver(recorder, seed)
                runs.append(recorder.steps)
            for accuracy in ACCURACIES:
                needed = [next((used for used, gap in steps if gap <= accuracy), math.inf)
                          for steps in runs]  # fmt: skip
                share = np.mean(np.isfinite(needed))
                middle = median(needed)
                count = f"{middle:.0f}" if math.isfinite(middle) else "-"
                known = name != "nomad" or not case.zero(recorder.start)
                cells[accuracy, name] = f"{count} ({share:.1f})" if known else ""
        row = "".join(f"{cells[a, name]:>16}" for a in ACCURACIES for name in solvers)
        print(f"{case.name:14}{case.dimension:3}{row}", flush=True)


def overhead() -> None:
    print(f"\n{'us a point, ask and tell':34}{'models':>10}{'polls':>10}")
    for function in (rosenbrock, ellipsoid, rastrigin):
        for dimension in (2, 10, 30):
            times = []
            for model in (True, False):
                problem = boxed(function, dimension, start=[-1.0] * dimension)
                search, points = DirectSearch(model=model).start(problem), 100 * dimension
                begin, outside = time.process_time(), 0.0
                for _ in range(points):
                    query = search.ask()
                    search.tell(query, Evaluation(function(query.points)))
                whole = time.process_time() - begin
                begin = time.process_time()
                for _ in range(points):
                    Evaluation(function(query.points))
                outside = time.process_time() - begin
                times.append((whole - outside) / points * 1e6)
            print(f"{function.__name__ + f', d = {dimension}':34}"
                  + "".join(f"{t:10.0f}" for t in times), flush=True)  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    compare(arguments.seeds)
    overhead()
