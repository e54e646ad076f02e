"""L-BFGS beside SciPy's L-BFGS-B.

    python benchmarks/lbfgs.py

Medians over random starts of the gradients that are needed until the value has fallen by all but
1e-8 of what there is to gain (1e-6 in float32), and the CPU time an iteration with many parameters
takes beside its evaluation. "far" starts a hundred times farther out, without bounds. "ends" is
where our runs stopped by themselves. Each with its own defaults: SciPy keeps 10 pairs. One thread.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch and by numpy's linear algebra when they load

import argparse
import math
import time
from statistics import median

import numpy as np
import torch
from scipy.optimize import minimize as scipy_minimize

from optimizers import Box, Evaluation, Lbfgs, Problem, iterate
from optimizers.testing import boxed, ellipsoid, rosenbrock, rotated

LIMIT = 3000  # gradients of a run


def random(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def quartic(x):
    return (x - 1).pow(4).sum(-1) + 0.1 * (x[..., 1:] - x[..., :-1]).square().sum(-1)


def logsumexp(x):
    planes, heights = random(3 * x.shape[-1], x.shape[-1], seed=5), random(3 * x.shape[-1], seed=6)
    return torch.logsumexp(x @ planes.T.to(x.dtype) + heights.to(x.dtype), -1)


def leaning_valley(x):
    return rosenbrock(x) + (x * torch.linspace(-50, 50, x.shape[-1], dtype=x.dtype)).sum(-1)


def turned_bowl(x):
    """Condition 1e4, and a minimum that most coordinates of a small box cannot reach."""
    d = x.shape[-1]
    steepness = torch.logspace(0, 2, d, dtype=torch.float64)
    basis = torch.linalg.qr(random(d, d, seed=1)).Q * steepness
    return 0.5 * ((x - 4 * random(d, seed=2).to(x.dtype)) @ basis.to(x.dtype)).square().sum(-1)


def cases():
    """Name, function, dimension, half width of the box, starts."""
    for d, starts in ((10, 15), (40, 3), (100, 3)):
        yield "ellipsoid", ellipsoid, d, 5.0, starts
        yield "ellipsoid, turned", rotated(ellipsoid, d), d, 5.0, starts
    yield "rosenbrock", rosenbrock, 10, 5.0, 15
    yield "rosenbrock", rosenbrock, 40, 5.0, 9
    yield "quartic", quartic, 40, 5.0, 9
    yield "logsumexp", logsumexp, 20, 5.0, 9
    yield "leaning valley, bounds", leaning_valley, 20, 2.0, 15
    yield "leaning valley, bounds", leaning_valley, 100, 2.0, 9
    yield "turned bowl, bounds", turned_bowl, 50, 1.0, 9
    yield "turned bowl, bounds", turned_bowl, 200, 1.0, 5


def ours(problem):
    """Values in the order of the gradients, and why it ended."""
    search, values = Lbfgs().start(problem), []
    while search.done is None and len(values) < LIMIT:
        query = search.ask()
        evaluation = problem.evaluate(query.points, 1)
        search.tell(query, evaluation)
        values.append(float(evaluation.value[0]))
    return values, search.done


def theirs(problem):
    values = []

    def value_and_gradient(x):
        answer = problem.evaluate(torch.as_tensor(x, dtype=problem.dtype)[None], 1)
        values.append(float(answer.value[0]))
        return values[-1], answer.gradient[0].double().numpy()

    options = {"ftol": 1e-15, "gtol": 1e-12, "maxfun": LIMIT, "maxiter": LIMIT}
    bounds = np.stack((problem.lower.double().numpy(), problem.upper.double().numpy()), 1)
    scipy_minimize(
        value_and_gradient,
        problem.start.double().numpy(),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options=options,
    )
    return values


def needed(values, goal):
    return next((i + 1 for i, value in enumerate(values) if value <= goal), math.inf)


def compare(variants):
    print(f"{'function':24}{'d':>4}  {'':8}{'ours':>9}{'scipy':>8}{'ratio':>8}{'ends':>7}")
    for variant in variants:
        dtype, share = (torch.float32, 1e-6) if variant == "float32" else (torch.float64, 1e-8)
        for name, function, d, width, starts in cases():
            if variant == "far" and ("bounds" in name or d > 10):
                continue
            if variant == "float32" and "ellipsoid" in name and d > 10:
                continue
            rows, ends = [], []
            for seed in range(starts):
                generator = torch.Generator().manual_seed(seed)
                start = torch.rand(d, generator=generator, dtype=torch.float64) * 2 - 1
                start = start * width * (100 if variant == "far" else 1)
                bound = math.inf if variant == "far" else width
                problem = boxed(function, d, -bound, bound, start.tolist(), dtype=dtype)
                run, reason = ours(problem)
                reference = theirs(problem)
                ends.append(len(run) if reason else math.inf)
                lowest = min(*run, *reference)
                goal = lowest + share * (run[0] - lowest)
                rows.append([needed(run, goal), needed(reference, goal)])
            a, b = (median(column) for column in zip(*rows, strict=True))
            print(f"{name:24}{d:4}  {variant:8}{a:9.0f}{b:8.0f}{a / b:8.2f}{median(ends):7.0f}",
                  flush=True)  # fmt: skip


def overhead(many=800_000, warm=25, rounds=10):
    print(f"\nms an iteration beside its evaluation, {many} parameters, float32")
    stiffness = torch.logspace(0, 4, many)
    seconds = 0.0

    class Bowl(Problem):
        def evaluate(self, x, order=0, *, fidelity=None, iteration=0):
            nonlocal seconds
            begin = time.process_time()
            gradient = stiffness * x
            answer = Evaluation(0.5 * (gradient * x).sum(1), gradient=gradient)
            seconds += time.process_time() - begin
            return answer

    for label, bound in (("without bounds", math.inf), ("in a box", 1.0)):
        for memory in (10, Lbfgs().memory):
            start = torch.full((many,), 0.5)
            box = Box(many, -bound, bound, start=start)
            stream = iterate(Bowl({"x": box}, differentiable=True), Lbfgs(memory=memory))
            for _ in range(warm):
                next(stream)
            begin, seconds = time.process_time(), 0.0
            for _ in range(rounds):
                next(stream)
            spent = (time.process_time() - begin - seconds) / rounds
            print(f"{label:16}{memory:3} pairs{spent * 1e3:9.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--variants", nargs="+", default=["plain", "far", "float32"], help="of: plain far float32"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    compare(arguments.variants)
    overhead()
