"""Trajectory toys: who solves them, with exact gradients and with gradients not to be trusted.

    python benchmarks/trajectories.py            # both tables and trajectories.png
    python benchmarks/trajectories.py --best     # the lowest costs known, by long searches

Every method has its defaults and 1500 evaluations, a gradient charged as 3. Untrusted gradients are
turned by 40 degrees in a random plane and missing, as failed rows, in 20 per cent of the calls.
"solved": share of the seeds that end at or below the success value of `optimizers.testing.Toy`.
All seeds of a method run side by side, so that their points are simulated in one batch; each of
them is asked and told as if it were alone. One thread.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch when it loads

import argparse
import copy
import time
from statistics import median

import torch

from optimizers import METHODS, Adam, Box, Budget, Cma, Evaluation, Icem, Lbfgs, Problem, minimize
from optimizers.testing import trajectory_toys, untrusted_gradients
from optimizers.trajectory import Knots

BUDGET = 1500
EVERY = ("sample-refine", "cma-then-adam", "icem", "mppi", "cma", "adam", "adam fast", "lbfgs")
LABELS = {
    "adam": "adam, 8 starts",
    "adam fast": "adam, 8 starts, steps 0.03",
    "lbfgs": "lbfgs, restarted",
}
OWN = {"adam": Adam(starts=8), "adam fast": Adam(starts=8, step_size=0.03), "lbfgs": Lbfgs()}


class Search:
    """One seed of a method, with its own budget; one that has converged starts at random again."""

    def __init__(self, settings, problem, seed):
        self.settings, self.problem, self.seed = settings, problem, seed
        self.random = torch.Generator().manual_seed(seed)
        self.left, self.value = float(BUDGET), float("inf")
        self.optimizer = settings.start(problem, seed)

    def ask(self):
        if self.optimizer.done is not None:
            problem = copy.copy(self.problem)
            problem.start = self.problem.sample(1, self.random)[0]
            self.optimizer = self.settings.start(problem, self.seed)
        return self.optimizer.ask(self.left)

    def tell(self, query, evaluation):
        self.optimizer.tell(query, evaluation)
        self.left -= len(query.points) * self.problem.cost(query.order)
        self.value = min(self.value, self.optimizer.best.value)


def side_by_side(settings, problem, seeds):
    """Final values of some seeds; the points of one round go through the simulation together."""
    searches = [Search(settings, problem, seed) for seed in range(seeds)]
    while running := [search for search in searches if search.left > 0]:
        queries = [search.ask() for search in running]
        for order in {query.order for query in queries}:
            chosen = [pair for pair in zip(running, queries, strict=True) if pair[1].order == order]
            points = torch.cat([query.points for _, query in chosen])
            answer = problem.evaluate(points, order)
            sizes = [len(query.points) for _, query in chosen]
            rows = torch.arange(len(points)).split(sizes)
            for (search, query), where in zip(chosen, rows, strict=True):
                gradient = None if answer.gradient is None else answer.gradient[where]
                part = Evaluation(answer.value[where], gradient=gradient, ok=answer.ok[where])
                search.tell(query, part)
    return [search.value for search in searches]


def compare(toys, methods, seeds, untrusted):
    """Print one table; returns {toy: {method: values}}."""
    kind = "untrusted" if untrusted else "exact"
    print(f"\n{kind} gradients, {BUDGET} evaluations, {seeds} seeds")
    print(f"{'toy':19}{'method':28}{'solved':>7}{'median':>9}{'lowest':>9}{'highest':>9}{'s':>7}")
    found = {}
    for toy in toys:
        for method in methods:
            problem = untrusted_gradients(toy.problem) if untrusted else toy.problem
            settings, begin = OWN.get(method) or METHODS[method](), time.process_time()
            values = side_by_side(settings, problem, seeds)
            found.setdefault(toy.name, {})[method] = values
            solved = sum(value <= toy.success for value in values) / seeds
            print(f"{toy.name:19}{LABELS.get(method, method):28}{solved:7.2f}"
                  f"{median(values):9.4f}{min(values):9.4f}{max(values):9.4f}"
                  f"{time.process_time() - begin:7.1f}", flush=True)  # fmt: skip
    print(f"{'all toys':19}{'':28}{'solved':>7}{'mean of medians above the lowest known':>42}")
    for method in methods:
        solved = [value <= toy.success for toy in toys for value in found[toy.name][method]]
        excess = [median(found[toy.name][method]) - toy.best for toy in toys]
        print(f"{'':19}{LABELS.get(method, method):28}{sum(solved) / len(solved):7.2f}"
              f"{sum(excess) / len(excess):9.4f}", flush=True)  # fmt: skip
    return found


def plot(toys, results, path):
    """Every final cost as a dot, a bar at the median, a line at success."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(results), len(toys), figsize=(15, 4 * len(results)), squeeze=False, sharey="col"
    )
    for row, (kind, found) in zip(axes, results.items(), strict=True):
        for axis, toy in zip(row, toys, strict=True):
            for place, (method, values) in enumerate(found[toy.name].items()):
                colour = "tab:red" if method == "sample-refine" else "tab:blue"
                axis.plot([place] * len(values), values, "o", ms=4, alpha=0.4, color=colour)
                middle = median(values)
                axis.plot([place - 0.35, place + 0.35], [middle] * 2, color=colour, lw=2)
            axis.axhline(toy.success, color="tab:green", ls="--", lw=1)
            axis.axhline(toy.best, color="0.6", ls=":", lw=1)
            axis.set_yscale("log")
            names = list(found[toy.name])
            axis.set_xticks(range(len(names)), names, rotation=60, ha="right")
            axis.set_title(f"{toy.name}, {kind} gradients", fontsize=10)
        row[0].set_ylabel(f"cost after {BUDGET} evaluations")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    print(f"\nwrote {path}: dashed success, dotted the lowest cost known")


def lowest_known(toys, seeds):
    """Print the best costs of long searches: knots and coloured noise, then L-BFGS on the steps."""
    for toy in toys:
        ((_, (steps, channels)),) = toy.problem.trajectories.values()
        found = []
        for count in (5, 10):
            knots = Knots(count, steps, channels)
            coarse = Problem.from_callable(
                lambda values, k=knots, t=toy: t.problem.evaluate(k.expand(values)).value,
                [-1.0] * knots.size,
                [1.0] * knots.size,
                batched=True,
                constraints=0,
            )
            for seed in range(seeds):
                budget = Budget(evaluations=8000)
                result = minimize(coarse, Cma(population=64), budget=budget, seed=seed)
                found.append((result.value, knots.expand(result.x)))
        for seed in range(seeds):
            result = minimize(toy.problem, Icem(), budget=Budget(evaluations=6000), seed=seed)
            found.append((result.value, result.x))
        found.sort(key=lambda pair: pair[0])
        polished = []
        for _, x in found[:1]:
            box = Box((steps, channels), -1.0, 1.0, x.clamp(-1, 1).view(steps, channels))
            fine = Problem({"controls": box}, toy.cost, batched=True, differentiable=True,
                           constraints=0)  # fmt: skip
            polished.append(minimize(fine, "lbfgs", budget=Budget(gradients=400)).value)
        print(f"{toy.name:19} sampled {found[0][0]:.5f}   polished {min(polished):.5f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=11)
    parser.add_argument("--gradients", choices=["exact", "untrusted", "both"], default="both")
    parser.add_argument("--toys", nargs="+", help="first words of their names, all by default")
    parser.add_argument("--methods", nargs="+", default=list(EVERY))
    parser.add_argument("--quick", action="store_true", help="3 seeds")
    parser.add_argument("--best", action="store_true")
    parser.add_argument("--plot", default="trajectories.png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [
        toy
        for toy in trajectory_toys()
        if not arguments.toys or toy.name.split()[0] in arguments.toys
    ]
    if arguments.best:
        lowest_known(chosen, 2)
    else:
        kinds = ["exact", "untrusted"] if arguments.gradients == "both" else [arguments.gradients]
        seeds = 3 if arguments.quick else arguments.seeds
        results = {
            kind: compare(chosen, arguments.methods, seeds, kind == "untrusted") for kind in kinds
        }
        plot(chosen, results, arguments.plot)
