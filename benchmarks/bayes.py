"""Bayesian optimization beside a plain loop of BoTorch, at few evaluations.

    python benchmarks/bayes.py

Medians over seeds of the value after 30 and 60 evaluations. "plain" is a SingleTaskGP on the unit
cube with standardised values and LogEI, from as many Sobol points as ours. One thread.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch and by numpy's linear algebra when they load

import argparse
import time
import warnings
from statistics import median

import torch

from optimizers import Budget, minimize
from optimizers.testing import boxed, rosenbrock

WEIGHTS = torch.tensor([1.0, 1.2, 3.0, 3.2], dtype=torch.float64)
STEEPNESS = torch.tensor(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ],
    dtype=torch.float64,
)
CENTRES = 1e-4 * torch.tensor(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ],
    dtype=torch.float64,
)


def hartmann(x):
    """Four dents in the unit cube of six dimensions; minimum -3.32237 (Dixon and Szego, 1978)."""
    away = (STEEPNESS * (x[..., None, :] - CENTRES).square()).sum(-1)
    return -(WEIGHTS * torch.exp(-away)).sum(-1)


CASES = {"Hartmann": (hartmann, 6, 0.0, 1.0), "Rosenbrock": (rosenbrock, 4, -2.0, 2.0)}


def plain(function, d, lower, upper, count, seed):
    from botorch.acquisition import LogExpectedImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.models.transforms import Standardize
    from botorch.optim import optimize_acqf
    from gpytorch.mlls import ExactMarginalLogLikelihood

    torch.manual_seed(seed)
    sobol = torch.quasirandom.SobolEngine(d, scramble=True, seed=seed)
    x = sobol.draw(2 * (d + 1)).double()
    y = -function(lower + (upper - lower) * x)[:, None]
    cube = torch.stack((torch.zeros(d), torch.ones(d))).double()
    while len(x) < count:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = SingleTaskGP(x, y, outcome_transform=Standardize(1))
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
            step, _ = optimize_acqf(
                LogExpectedImprovement(model, y.max()), cube, 1, num_restarts=8, raw_samples=512
            )
        x = torch.cat((x, step))
        y = torch.cat((y, -function(lower + (upper - lower) * step)[:, None]))
    return (-y[:, 0]).cummin(0).values


def ours(method, function, d, lower, upper, count, seed):
    generator = torch.Generator().manual_seed(seed)
    start = lower + (upper - lower) * torch.rand(d, generator=generator, dtype=torch.float64)
    problem = boxed(function, d, lower, upper, start, differentiable=False)
    history = minimize(problem, method, budget=Budget(evaluations=count), seed=seed).history
    spent, best = history["evaluations"], history["best_value"]
    return torch.stack([best[spent <= n].amin() for n in range(1, count + 1) if n >= spent[0]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=60)
    given = parser.parse_args()
    torch.set_num_threads(1)
    count = given.evaluations
    print(f"| problem | d | solver | at {count // 2} | at {count} | CPU s a run |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (function, d, lower, upper) in CASES.items():
        for solver in ("bayes", "plain", "direct-search", "cma"):
            begin = time.process_time()
            runs = []
            for seed in range(given.seeds):
                box = (function, d, lower, upper, count, seed)
                runs.append(plain(*box) if solver == "plain" else ours(solver, *box))
            half, end = (median(float(run[i]) for run in runs) for i in (-count // 2 - 1, -1))
            seconds = (time.process_time() - begin) / given.seeds
            print(
                f"| {name} | {d} | {solver} | {half:.3g} | {end:.3g} | {seconds:.1f} |", flush=True
            )


if __name__ == "__main__":
    main()
