"""CMA-ES beside pycma, and the overhead of every method.

    python benchmarks/cma_es.py

The first table gives medians over seeds of the evaluations to the value 1e-8 from random starts
in the box [-5, 5]^d, the share of runs that get there, and microseconds of CPU time a candidate,
of the method alone. pycma restarts by the same rule (IPOP) here. The second table gives the
overhead of ask and tell. One thread.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch and by numpy's linear algebra when they load

import argparse
import math
import time
import warnings
from statistics import median

import numpy as np
import torch

from optimizers import METHODS, Adam, Box, Cma, Evaluation, Problem, iterate
from optimizers.testing import boxed, ellipsoid, rastrigin, rosenbrock, shifted, sphere

TARGET = 1e-8
DEVIATION = 2.0  # a fifth of the width of the box
CASES = {"sphere": sphere, "ellipsoid": ellipsoid, "rosenbrock": rosenbrock, "rastrigin": rastrigin}
LIMITS = {"sphere": 500, "ellipsoid": 2000, "rosenbrock": 2000, "rastrigin": 6000}  # times d


class Clock:
    """CPU seconds that pass inside its `with` blocks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self.begin = time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.process_time() - self.begin


def ours(function, start, seed, limit, clock):
    problem = boxed(function, len(start), start=start)
    optimizer = Cma(deviation=DEVIATION / 10).start(problem, seed)
    used = 0
    while used < limit and optimizer.best.value > TARGET:
        with clock:
            query = optimizer.ask()
        evaluation = Evaluation(function(query.points))
        with clock:
            optimizer.tell(query, evaluation)
        used += len(query.points)
    return used, optimizer.best.value <= TARGET


def theirs(function, start, seed, limit, clock):
    import cma

    used, population, random = 0, None, np.random.default_rng(seed)
    while True:
        options = {"verbose": -9, "seed": seed + 1 + used, "ftarget": TARGET, "bounds": [-5, 5]}
        options |= {"maxfevals": limit - used} | ({"popsize": population} if population else {})
        with warnings.catch_warnings(), clock:
            warnings.simplefilter("ignore")
            search = cma.CMAEvolutionStrategy(start.numpy(), DEVIATION, options)
        while True:
            with clock:
                points = search.ask()
            values = function(torch.as_tensor(np.stack(points))).tolist()
            with clock:
                search.tell(points, values)
                stopped = search.stop()
            if stopped:
                break
        used += search.countevals
        if search.best.f <= TARGET or used >= limit:
            return used, search.best.f <= TARGET
        population = 2 * search.popsize
        start = torch.as_tensor(random.uniform(-5, 5, len(start)))


def compare(dimensions, seeds):
    print(f"{'':14}{'evaluations to 1e-8':>30}{'solved':>16}{'us a candidate':>23}")
    needed, share = f"{'ours':>11}{'pycma':>11}{'ratio':>8}", f"{'ours':>8}{'pycma':>8}"
    print(f"{'function':10}{'d':>4}{needed}{share}{share}{'ratio':>7}")
    for name, function in CASES.items():
        for dimension in dimensions:
            if name == "rastrigin" and dimension > 10:
                continue  # takes minutes and populations of thousands
            rows = []
            for solver in (ours, theirs):
                clock, used, solved, total = Clock(), [], 0, 0
                count = seeds if dimension < 40 else min(seeds, 3)
                for seed in range(count):
                    generator = torch.Generator().manual_seed(seed)
                    start = torch.rand(dimension, generator=generator, dtype=torch.float64) * 8 - 4
                    optimum = torch.rand(dimension, generator=generator, dtype=torch.float64) * 2
                    moved = shifted(function, optimum - 1)
                    needed, met = solver(moved, start, seed, LIMITS[name] * dimension, clock)
                    used.append(needed if met else math.inf)
                    solved, total = solved + met, total + needed
                rows.append((median(used), solved / count, clock.seconds / total * 1e6))
            (a, share_a, time_a), (b, share_b, time_b) = rows
            ratio = f"{a / b:8.2f}" if math.isfinite(a) and math.isfinite(b) else f"{'-':>8}"
            print(f"{name:10}{dimension:4}{a:11.0f}{b:11.0f}{ratio}{share_a:8.2f}{share_b:8.2f}"
                  f"{time_a:8.1f}{time_b:8.1f}{time_a / time_b:7.2f}", flush=True)  # fmt: skip


def overhead():
    print("\noverhead of ask and tell                           us a round   us a candidate")
    for covariance in ("full", "diagonal"):
        for dimension in (10, 100):
            for settings in (Cma(covariance=covariance), Cma(256, covariance=covariance)):
                _report(settings, dimension, 100)
    _report(Cma(runs=16), 10, 100)
    for method, kind in METHODS.items():
        if kind.order > 0:
            _report(kind(), 10, 60, label=method)
    many, rounds = 800_000, 30
    gradient = torch.full((1, many), 1e-3)

    class Constant(Problem):
        current = True

        def evaluate(self, x, order=0, *, fidelity=None, iteration=0):
            return Evaluation(x.new_ones(len(x)), gradient=gradient)

    problem = Constant({"x": Box(many)}, differentiable=True, dtype=torch.float32)
    stream, clock = iterate(problem, Adam()), Clock()
    next(stream)
    with clock:
        for _ in range(rounds):
            next(stream)
    _line("adam, 800 000 parameters, float32, whole driver", clock.seconds, rounds, rounds)


def _report(settings, dimension, rounds, label=None):
    problem = boxed(rosenbrock, dimension, start=[-1.0] * dimension)
    optimizer, clock, points = settings.start(problem), Clock(), 0
    for _ in range(rounds):
        with clock:
            query = optimizer.ask()
        evaluation = problem.evaluate(query.points, query.order)
        with clock:
            optimizer.tell(query, evaluation)
        points += len(query.points)
    rows = points // rounds // getattr(settings, "runs", 1)
    name = label or f"cma {settings.covariance}, {settings.runs} x {rows}"
    _line(f"{name}, d = {dimension}", clock.seconds, rounds, points)


def _line(name, seconds, rounds, points):
    print(f"{name:48}{seconds / rounds * 1e6:13.0f}{seconds / points * 1e6:17.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[5, 10, 20, 40])
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    compare(arguments.dimensions, arguments.seeds)
    overhead()
