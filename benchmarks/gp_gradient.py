"""gp-gradient against Adam on finite differences: evaluations to targets at d = 50.

    python benchmarks/gp_gradient.py [--dimension 50] [--budget 1500]

Targets are shares of the gap between the start and the minimum. Adam gets forward differences
(d + 1 values a step) or 20 random directions (21 values a step), and of four step sizes the best
one for each target, which nobody knows beforehand. The last rows of a problem are gp-gradient
beside a cheap model that costs 0.01 evaluations: the logistic loss on a quarter of the data, the
network with weights that are off by a tenth. What the model is asked is charged.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import itertools
import math
import time

import torch

from optimizers import Budget, Model, Problem, iterate, minimize
from optimizers.testing import boxed, ellipsoid, rotated, shifted

TARGETS = (1e-1, 1e-2, 1e-3)
STEP_SIZES = (0.003, 0.01, 0.03, 0.1)
DIFFERENCE = 1e-4


def problems(d: int, seed: int):
    """(name, problem, lowest value, the problem with a cheap model or None) of three smooth
    functions with a random shift or data."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    quadratic = shifted(rotated(lambda x: ellipsoid(x, 100.0), d, seed), 0.5 * normal(d))
    features, truth = normal(3 * d, d) * 2 / math.sqrt(d), normal(d)
    labels = (features @ truth + 0.3 * normal(3 * d)).sign()
    first, second = normal(d, 40) * 1.5 / math.sqrt(d), normal(40, 30) * 1.5 / math.sqrt(40)
    goal = torch.tanh(0.7 * normal(d) @ first) @ second

    wrong_first = first * (1 + 0.1 * normal(*first.shape))
    wrong_second = second * (1 + 0.1 * normal(*second.shape))

    def logistic(x: torch.Tensor, rows: slice = slice(None)) -> torch.Tensor:
        loss = torch.nn.functional.softplus(-labels[rows] * (x @ features[rows].T)).mean(-1)
        return loss + 0.005 * x.square().sum(-1)

    def network(x: torch.Tensor) -> torch.Tensor:
        return 0.5 * (torch.tanh(x @ first) @ second - goal).square().sum(-1)

    def part(x: torch.Tensor) -> torch.Tensor:
        return logistic(x, slice(None, None, 4))

    def wrong_network(x: torch.Tensor) -> torch.Tensor:
        return 0.5 * (torch.tanh(x @ wrong_first) @ wrong_second - goal).square().sum(-1)

    kinds = ((quadratic, 0.0, None), (logistic, None, part), (network, 0.0, wrong_network))
    for function, lowest, cheap in kinds:
        name = "quadratic" if function is quadratic else function.__name__
        problem = boxed(function, d, -3.0, 3.0, [1.0] * d)
        if lowest is None:
            lowest = minimize(problem, "lbfgs", budget=Budget(evaluations=6000)).value
        helped = None
        if cheap is not None:
            models = {0.5: Model(cheap, cost=0.01, differentiable=True)}
            helped = boxed(function, d, -3.0, 3.0, [1.0] * d, models=models)
        yield name, problem, lowest, helped


def hits(trace, first: float, lowest: float) -> list[float]:
    """Evaluations until each target is met."""
    gaps = [(spent, (value - lowest) / (first - lowest)) for spent, value in trace]
    return [next((n for n, gap in gaps if gap <= target), math.inf) for target in TARGETS]


def adam_on_differences(problem: Problem, step_size: float, directions: int, budget: int):
    """(evaluations, lowest value) after each step; 0 directions: one for every coordinate."""
    generator = torch.Generator().manual_seed(0)
    x, d = problem.start.clone(), problem.dimension
    mean, square, best, spent = torch.zeros_like(x), torch.zeros_like(x), math.inf, 0
    for step in itertools.count(1):
        rows = torch.eye(d, dtype=x.dtype)
        if directions:
            rows = torch.randn(directions, d, generator=generator, dtype=x.dtype)
        values = problem.evaluate(torch.cat((x[None], x + DIFFERENCE * rows))).value
        spent, best = spent + len(values), min(best, float(values[0]))
        yield spent, best
        if spent >= budget:
            return
        gradient = ((values[1:] - values[0]) / DIFFERENCE) @ rows / max(directions, 1)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient.square()
        size = step_size * problem.scale * (mean / (1 - 0.9**step))
        x = x - size / ((square / (1 - 0.999**step)).sqrt() + 1e-12)
        x = x.clamp(problem.lower, problem.upper)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dimension", type=int, default=50)
    parser.add_argument("--budget", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    d = arguments.dimension
    print(f"evaluations to {TARGETS} of the gap, d = {d}")
    for name, problem, lowest, helped in problems(d, arguments.seed):
        first = float(problem.evaluate(problem.start[None]).value)
        for label, directions in (("forward differences", 0), ("20 directions", 20)):
            runs = [
                hits(adam_on_differences(problem, size, directions, 300 * (d + 1)), first, lowest)
                for size in STEP_SIZES
            ]
            print(f"{name:10} adam, {label:20}", *(f"{min(c):7g}" for c in zip(*runs, strict=True)))
        for label, given in (("gp-gradient", problem), ("gp-gradient, cheap model", helped)):
            if given is None:
                continue
            clock, trace = time.process_time(), []
            budget = Budget(evaluations=arguments.budget, target=lowest + 1e-3 * (first - lowest))
            for it in iterate(given, "gp-gradient", budget=budget):
                trace.append((it.evaluations, it.best_value))
            seconds = (time.process_time() - clock) / len(trace)
            row = " ".join(f"{n:7g}" for n in hits(trace, first, lowest))
            print(f"{name:10} {label:26} {row}   {1e3 * seconds:.1f} ms a step", flush=True)


if __name__ == "__main__":
    main()
