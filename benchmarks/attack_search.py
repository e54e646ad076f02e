"""Attack-search beside direct search, attacks alone, gradient methods and CMA-ES.

    python benchmarks/attack_search.py [--quick] [--held-out] [--plot attack_search.png]

On the three published experiments rebuilt in `attack_problems`, at equal charge: a value costs 1, a
gradient 3, the network beside a true model 0.01 of it. Three variants of each problem (other
chemistry, images, maps and networks); `--held-out` takes the three that nothing was tuned on. With
more seeds than one, further starts are random in a tenth of the box around the problem's own.

The table holds medians of the gap that is left, (f - f_best) / (f_start - f_best), where f is the
best feasible value so far (violation at most 1e-6) and f_best the least of all runs on that
variant. Below it: in how many evaluations attack-search is where direct search is after 1000 (to
1e-4 of the gap), and how often it ends no worse. One thread.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch and by numpy's linear algebra when they load

import argparse
import math
from statistics import median

import numpy as np
import torch
from attack_problems import CASES, HELD_OUT, biodiesel

from optimizers import FEASIBLE, METHODS, AttackSearch, Budget, minimize

SOLVERS = {
    "attack-search": "attack-search",
    "direct-search": "direct-search",
    "attacks alone": AttackSearch(search=False),
    "lbfgs": "lbfgs",
    "scipy-lbfgsb": "scipy-lbfgsb",
    "scipy-slsqp": "scipy-slsqp",
    "regularized-newton": "regularized-newton",
    "cma": "cma",
    "pycma": "pycma",
}
CLOSE = 1e-4  # of the gap between start and best: as good as equal


def problem_of(case, variant, seed):
    """The problem, started at random in a tenth of its box around its own start."""
    problem = CASES[case](variant)
    random = torch.rand(problem.dimension, generator=torch.Generator().manual_seed(seed))
    width = (problem.upper - problem.lower) * (seed > 0)
    problem.start = problem.start + 0.1 * width * (random - 0.5)
    return problem


def run(problem, solver, limit, seed):
    """Evaluations, and the best feasible value after each round."""
    result = minimize(problem, solver, budget=Budget(evaluations=limit), seed=seed)
    values = result.history["best_value"].clone()
    values[result.history["best_violation"] > FEASIBLE] = math.inf
    return result.history["evaluations"].numpy(), values.cummin(0).values.numpy()


def at(history, evaluations):
    """The best value within so many evaluations."""
    used, values = history
    known = int(np.searchsorted(used, evaluations, side="right"))
    return values[known - 1] if known else math.inf


def able(problem, solver):
    kind = METHODS.get(solver) if isinstance(solver, str) else type(solver)
    return kind is not None and (problem.differentiable or kind.order == 0)


def compare(case, variants, seeds, limit, solvers):
    """Histories {solver: [one a run]} and the least value of each run's variant and its start."""
    histories, starts, bests = {}, [], []
    for variant in variants:
        first = len(starts)
        for seed in range(seeds):
            problem = problem_of(case, variant, seed)
            starts.append(float(problem.evaluate(problem.start[None]).value[0]))
            for name, solver in solvers.items():
                if able(problem, solver):
                    history = run(problem, solver, limit, seed)
                    histories.setdefault(name, []).append(history)
        least = min(
            at(runs[i], limit) for runs in histories.values() for i in range(first, len(starts))
        )
        bests += [least] * seeds
    return histories, starts, bests


def gap(value, start, best):
    return (value - best) / (start - best)


def report(case, histories, starts, bests, limit):
    marks = (200, 1000, limit)
    columns = "".join(f"{mark:>12}" for mark in marks)
    print(f"\n{case}, {len(starts)} runs; evaluations{columns}", flush=True)
    for name, runs in histories.items():
        gaps = [
            median(
                gap(at(run, mark), *ends) for run, *ends in zip(runs, starts, bests, strict=True)
            )
            for mark in marks
        ]
        shown = (f"{value:12.1e}" if value < math.inf else f"{'-':>12}" for value in gaps)
        print(f"  {name:30}" + "".join(shown))
    needed, ends, early = [], 0, 0
    pairs = zip(histories["attack-search"], histories["direct-search"], starts, bests, strict=True)
    for ours, plain, start, best in pairs:
        slack = CLOSE * (start - best)
        used, values = ours
        met = used[values <= at(plain, 1000) + slack]
        needed.append(met[0] if len(met) else math.inf)
        early += at(ours, 200) <= at(plain, 1000) + slack
        ends += at(ours, limit) <= at(plain, limit) + slack
    print(
        f"  attack-search is where direct-search is after 1000: in {median(needed):.0f} evaluations"
    )
    print(f"    (worst {max(needed):.0f}), within 200 in {early} of {len(starts)} runs;"
          f" ends no worse in {ends} of {len(starts)}", flush=True)  # fmt: skip


def uncertified(variants):
    """What the optimum of the network is worth in the true model."""
    print("\nbio-diesel, L-BFGS on the network alone: value there, true value, true violation")
    for variant in variants:
        result = minimize(biodiesel.problem(variant), "lbfgs", budget=Budget(evaluations=1000))
        true = biodiesel.problem(variant, certified=True).evaluate(result.x[None])
        print(f"  variant {variant:2}{result.value:14.4f}{float(true.value[0]):14.4f}"
              f"{float(true.violation[0]):14.4f}")  # fmt: skip


def plot(figures, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    size = (4.6 * len(figures), 4.2)
    figure, (axes,) = pyplot.subplots(1, len(figures), figsize=size, squeeze=False)
    for axis, (case, (histories, starts, bests, limit)) in zip(axes, figures.items(), strict=True):
        grid = np.unique(np.geomspace(10, limit, 120).round())
        for name, runs in histories.items():
            lines = [
                [max(gap(at(run, mark), *ends), 1e-9) for mark in grid]
                for run, *ends in zip(runs, starts, bests, strict=True)
            ]
            wide = 2.4 if name == "attack-search" else 1.2
            colour = f"C{list(SOLVERS).index(name)}"
            axis.plot(grid, np.median(lines, 0), colour, label=name, linewidth=wide)
        axis.set(title=case, xscale="log", yscale="log", xlabel="evaluations", ylim=(1e-9, 2))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("median gap left")
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--quick", action="store_true", help="one variant of each problem")
    parser.add_argument("--held-out", action="store_true", help="the variants nothing was tuned on")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--evaluations", type=int, default=2000, help="of each run")
    parser.add_argument(
        "--solvers", nargs="+", default=list(SOLVERS), choices=list(SOLVERS),
        help="beside attack-search and direct-search",
    )  # fmt: skip
    parser.add_argument("--plot", help="file for the convergence plot")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    variants = HELD_OUT if arguments.held_out else (0, 1, 2)
    variants = variants[:1] if arguments.quick else variants
    figures, limit = {}, arguments.evaluations
    wanted = {"attack-search", "direct-search", *arguments.solvers}
    solvers = {name: solver for name, solver in SOLVERS.items() if name in wanted}
    for case in arguments.cases:
        outcome = compare(case, variants, arguments.seeds, limit, solvers)
        report(case, *outcome, limit)
        figures[case] = (*outcome, limit)
    if "bio-diesel, certified" in figures:
        uncertified(variants)
    if arguments.plot:
        plot(figures, arguments.plot)


if __name__ == "__main__":
    main()
