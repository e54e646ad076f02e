"""Sample-refine beside its parts, and beside a fixed half of each, on functions with known minima.

    python benchmarks/sample_refine.py [--quick] [--cases Rastrigin Rosenbrock]

Medians over seeds of the value that is left after a budget of evaluations, a gradient at the price
of 3; functions are shifted and starts random in [-4, 4]^d, the box is [-5, 5]^d. "halves" is the
scheme to beat: generations of CMA-ES whose best quarter descends five steps of Adam and moves, for
half the budget, then Adam from the best point with a step that fades. The last two columns are
microseconds a candidate that sample-refine takes itself, and seconds of a whole run. The second
table gives the errors of mixed gradients to the true gradient of a smoothed function.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch and by numpy's linear algebra when they load

import argparse
import math
import time
from statistics import median

import torch

from optimizers import Adam, Budget, Cma, CmaThenAdam, Lbfgs, SampleRefine, minimize, mixed_gradient
from optimizers.testing import boxed, rastrigin, rosenbrock, rotated, shifted

COST = 3  # of a gradient


def ackley(x):
    """A funnel with many small minima; minimum 0 at the origin."""
    d = x.shape[-1]
    size = (x.square().sum(-1) / d + 1e-300).sqrt()
    waves = torch.cos(2 * math.pi * x).mean(-1).exp()
    return 20 - 20 * torch.exp(-0.2 * size) + math.e - waves


def steps(x):
    """A bowl of terraces, flat nearly everywhere."""
    return x.round().square().sum(-1) + 0.001 * x.square().sum(-1)


CASES = {
    "Rastrigin": (rastrigin, 20, 6000),
    "Rosenbrock": (rosenbrock, 20, 6000),
    "Rosenbrock ": (rosenbrock, 100, 15000),
    "turned Rastrigin": (rotated(rastrigin, 10, 1), 10, 6000),
    "turned Rosenbrock": (rotated(rosenbrock, 40, 1), 40, 6000),
    "Ackley": (ackley, 30, 6000),
    "terraces": (steps, 10, 3000),
}


def problem_of(case, seed):
    function, dimension, _ = CASES[case]
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(dimension, generator=generator, dtype=torch.float64) * 8 - 4
    optimum = torch.rand(dimension, generator=generator, dtype=torch.float64) * 2 - 1
    return boxed(shifted(function, optimum), dimension, start=start)


def halves(problem, budget, seed):
    """The fixed scheme: interleaved for half the budget, then Adam."""
    search = Cma(restarts=0).start(problem, seed)
    used, best = 0, (math.inf, problem.start)
    while used < budget / 2 and search.done is None:
        query = search.ask()
        evaluation = problem.evaluate(query.points)
        value = evaluation.value.clone()
        used += len(value)
        rows = value.argsort()[: len(value) // 4]
        x, lengths = query.points[rows], 0.3 * search.lengths_of_steps
        mean = square = torch.zeros_like(x)
        lowest, where = value[rows].clone(), x.clone()
        for step in range(1, 6):
            gradient = problem.evaluate(x, 1).gradient
            mean, square = mean.lerp(gradient, 0.1), square.lerp(gradient.square(), 0.001)
            ratio = (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-12)
            x = (x - lengths * ratio).clamp(problem.lower, problem.upper)
            found = problem.evaluate(x).value
            lower = found < lowest
            lowest, where = found.where(lower, lowest), x.where(lower[:, None], where)
            used += COST * len(rows)
        value[rows] = lowest
        search.inject(rows, where)
        search.tell(query, type(evaluation)(value))
        if float(lowest.min()) < best[0]:
            best = float(lowest.min()), where[lowest.argmin()]
    count = int((budget - used) / COST)
    polish = Adam(step_size=0.03, decay=1e-3 ** (1 / count)).start(problem)
    polish.x = polish.good = best[1][None].clone()
    for _ in range(count):
        query = polish.ask()
        polish.tell(query, problem.evaluate(query.points, 1))
    return min(best[0], polish.best.value)


def compare(cases, seeds):
    peers = {
        "sample-refine": SampleRefine(),
        "cma": Cma(),
        "adam x 8": Adam(starts=8),
        "lbfgs": Lbfgs(),
        "cma-then-adam": CmaThenAdam(),
    }
    print(f"{'function':18}{'d':>4}{'budget':>8}" + "".join(f"{name:>15}" for name in peers)
          + f"{'halves':>11}{'us':>7}{'s':>6}")  # fmt: skip
    for case in cases:
        _, dimension, budget = CASES[case]
        cells, own = [], ""
        for name, settings in peers.items():
            begin, values = time.process_time(), []
            for seed in range(seeds):
                limit = Budget(evaluations=budget)
                values.append(minimize(problem_of(case, seed), settings, budget=limit, seed=seed))
            if name == "sample-refine":
                seconds = (time.process_time() - begin) / seeds
                own = f"{overhead(case):7.0f}{seconds:6.1f}"
            cells.append(f"{median(result.value for result in values):15.2g}")
        fixed = median(halves(problem_of(case, seed), budget, seed) for seed in range(seeds))
        print(f"{case:18}{dimension:4}{budget:8}{''.join(cells)}{fixed:11.2g}{own}", flush=True)


def overhead(case):
    """Microseconds of CPU a candidate in ask and tell."""
    problem = problem_of(case, 0)
    search, seconds, points = SampleRefine().start(problem), 0.0, 0
    while points < 1000:
        begin = time.process_time()
        query = search.ask(3000)
        middle = time.process_time()
        evaluation = problem.evaluate(query.points, query.order)
        end = time.process_time()
        search.tell(query, evaluation)
        seconds += time.process_time() - end + middle - begin
        points += len(query.points)
    return seconds / points * 1e6


def landscapes():
    """Functions around ones, for the errors of gradients."""
    return {
        "smooth": lambda x: x.square().sum(-1) + 0.3 * x.sin().sum(-1),
        "staircase": lambda x: (0.2 * (5 * x).round()).square().sum(-1) + 0 * x.sum(-1),
        "stiff wall": lambda x: x.square().sum(-1) + 200 * (x[..., 0] - 1).clamp(min=0.0).square(),
        "fast ripples": lambda x: x.square().sum(-1) + 0.05 * (200 * x).sin().sum(-1),
        "jump": lambda x: x.square().sum(-1) + 10 * (x[..., 0] > 1.1),
    }


def mixing(rounds):
    deviation, d = 0.3, 10
    generator = torch.Generator().manual_seed(0)

    def answers(function, offsets):
        points = (1 + torch.stack((offsets, -offsets))).requires_grad_()
        values = function(points)
        (gradients,) = torch.autograd.grad(values.sum(), points)
        return values.detach(), gradients

    def drawn(count):
        return deviation * torch.randn(count, d, generator=generator, dtype=torch.float64)

    names = ("mixed", "first order", "zeroth order", "inverse variance")
    print(f"\nerror of gradients{'pairs':>8}" + "".join(f"{name:>18}" for name in names))
    for case, function in landscapes().items():
        offsets = drawn(200_000)
        values, gradients = answers(function, offsets)
        rise = 0.5 * (values[0] - values[1])[:, None]
        true = (rise * offsets / deviation**2).mean(0)
        if case not in (
            "staircase",
            "jump",
        ):  # without jumps both mean the same, this one precisely
            true = gradients.mean((0, 1))
        for pairs in (16, 64):
            averages, errors = None, [0.0] * 4
            for _ in range(rounds):
                offsets = drawn(pairs)
                values, gradients = answers(function, offsets)
                mixed = mixed_gradient(offsets, values, gradients, deviation, averages)
                averages = mixed.averages
                rise = 0.5 * (values[0] - values[1])[:, None]
                zeroth = (rise * offsets / deviation**2).var(0).sum()
                first = gradients.mean(0).var(0).sum()
                share = zeroth / (zeroth + first)
                inverse = share * mixed.first + (1 - share) * mixed.zeroth
                estimates = (mixed.gradient, mixed.first, mixed.zeroth, inverse)
                for row, estimate in enumerate(estimates):
                    errors[row] += float((estimate - true).square().sum()) / rounds
            cells = "".join(f"{math.sqrt(error):18.3f}" for error in errors)
            print(f"{case:18}{pairs:8}{cells}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 seeds and the smaller cases")
    parser.add_argument("--seeds", type=int, default=9)
    parser.add_argument("--cases", nargs="+", help="first letters of their names, all by default")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [case for case in CASES if not arguments.quick or CASES[case][1] <= 20]
    if arguments.cases:
        chosen = [case for case in CASES if case.startswith(tuple(arguments.cases))]
    compare(chosen, 3 if arguments.quick else arguments.seeds)
    mixing(50 if arguments.quick else 300)
