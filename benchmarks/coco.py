"""Data profiles of methods and of peers over the 24 noiseless functions of COCO.

    python benchmarks/coco.py
    python benchmarks/coco.py --solvers cma pycma nomad --dimensions 2 5 10 --instances 1

A run has 200 d evaluations in the box [-5, 5]^d and begins at a random point of [-4, 4]^d, the same
for every solver; those that end before start anew at a random point. Our methods run by name, with
all defaults. The peers:

    pycma    CMA-ES with IPOP restarts, first deviation 0.25 of the width unless told otherwise
    nomad    MADS with its defaults, d <= 10
    lbfgsb   SciPy's L-BFGS-B with finite differences, each a charged evaluation
    cobyqa   SciPy's COBYQA
    bobyqa   Py-BOBYQA

A run solves a problem to tau when it has won all but tau of f(start) - f(optimum), tau = 1e-1,
1e-3 and 1e-5; COCO knows the optimum. The data profile is the share that is solved (problems and
tau together) within k (d + 1) evaluations, and the table gives the area below it from k = 0 to the
end of the budget, 1 where everything is solved at once: over k, by dimension, by group of
functions; and over log k. Runs of the Cocoex package are kept in a folder, so that solvers can be
added to a table later. One thread.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch and by numpy's linear algebra when they load

import argparse
import contextlib
import json
import math
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from optimizers import METHODS, Budget, Evaluation, Problem, minimize

PER_DIMENSION = 200  # evaluations of a run
ACCURACIES = (1e-1, 1e-3, 1e-5)
WIDTH, REACH = 5.0, 4.0  # half widths of the box and of where starts are drawn
GROUPS = {
    "separable": range(1, 6),
    "moderate": range(6, 10),
    "ill-cond.": range(10, 15),
    "structured": range(15, 20),
    "multimodal": range(20, 25),
}


class Spent(Exception):
    """Ends a peer that does not know the budget."""


class Recorder:
    """A function of one point that counts its calls and notes every new best value."""

    def __init__(self, function, dimension: int, seed: int) -> None:
        self.function, self.dimension = function, dimension
        self.budget = PER_DIMENSION * dimension
        self.random = np.random.default_rng(seed)
        self.start = self.random.uniform(-REACH, REACH, dimension)
        self.seed, self.used, self.steps = seed, 0, []

    def __call__(self, x) -> float:
        if self.used >= self.budget:
            raise Spent
        self.used += 1
        if not np.all(np.abs(x) <= WIDTH + 1e-12):
            raise ValueError(f"a point outside the box was asked: {x}")
        value = self.function(x)
        if not self.steps or value < self.steps[-1][1]:
            self.steps.append((self.used, value))
        return value

    def starts(self):
        """The start, and then random ones without end."""
        yield self.start
        while True:
            yield self.random.uniform(-REACH, REACH, self.dimension)


def ours(method):
    def run(f: Recorder) -> None:
        def evaluated(x, order=0, **_):
            return Evaluation(torch.tensor([f(row) for row in x.numpy()], dtype=torch.float64))

        box = ([-WIDTH] * f.dimension, [WIDTH] * f.dimension)
        for start in f.starts():
            problem = Problem.box(*box, start.tolist(), differentiable=False)
            problem.evaluate = evaluated
            budget = Budget(evaluations=f.budget - f.used)
            minimize(problem, method, budget=budget, seed=f.seed + f.used)
            if f.used >= f.budget:
                return

    return run


def pycma(deviation):
    def run(f: Recorder) -> None:
        import cma

        starts = f.starts()
        options = {"bounds": [-WIDTH, WIDTH], "maxfevals": f.budget, "seed": f.seed + 1}
        cma.fmin2(f, lambda: next(starts), deviation * 2 * WIDTH, options | {"verbose": -9},
                  restarts=20)  # fmt: skip

    return run


def nomad(f: Recorder) -> None:
    import PyNomad

    def black_box(point) -> int:
        x = np.array([point.get_coord(i) for i in range(f.dimension)])
        point.setBBO(repr(float(f(np.clip(x, -WIDTH, WIDTH)))).encode())
        return 1

    box, starts = ([-WIDTH] * f.dimension, [WIDTH] * f.dimension), f.starts()
    while f.used < f.budget:
        parameters = [f"DIMENSION {f.dimension}", "BB_OUTPUT_TYPE OBJ", "DISPLAY_DEGREE 0",
                      f"MAX_BB_EVAL {f.budget - f.used}", f"SEED {f.seed}"]  # fmt: skip
        PyNomad.optimize(black_box, next(starts).tolist(), *box, parameters)


def scipy(method, **options):
    def run(f: Recorder) -> None:
        from scipy.optimize import minimize as scipy_minimize

        for start in f.starts():
            scipy_minimize(f, start, method=method, bounds=[(-WIDTH, WIDTH)] * f.dimension,
                           options={**options})  # fmt: skip

    return run


def bobyqa(f: Recorder) -> None:
    import pybobyqa

    box = (np.full(f.dimension, -WIDTH), np.full(f.dimension, WIDTH))
    for start in f.starts():
        pybobyqa.solve(f, start, bounds=box, maxfun=10 * f.budget, do_logging=False)


def solver_named(name: str, deviation: float):
    peers = {
        "pycma": pycma(deviation),
        "nomad": nomad,
        "lbfgsb": scipy("L-BFGS-B"),
        "cobyqa": scipy("COBYQA", initial_tr_radius=1.0),
        "bobyqa": bobyqa,
    }
    return peers[name] if name in peers else ours(name)


def suite(functions, dimensions, instances):
    """Name, function, dimension, problem and best value of each problem of COCO."""
    try:
        import cocoex
    except ImportError as error:
        raise SystemExit("this benchmark needs COCO: pip install coco-experiment") from error
    choice = (f"dimensions: {','.join(map(str, dimensions))} "
              f"instance_indices: {','.join(map(str, instances))} "
              f"function_indices: {','.join(map(str, functions))}")  # fmt: skip
    problems = cocoex.Suite("bbob", "", choice)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for problem in problems:
            problem._best_parameter("print")  # into a file: the only way that Cocoex tells it
            optimum = np.loadtxt("._bbob_problem_best_parameter.txt")
            function, dimension, instance = problem.id_triple
            yield problem.id, function, dimension, instance, problem, problem(optimum)


def run_all(arguments, folder: Path) -> tuple[dict, dict]:
    """Runs by solver and problem, [evaluations, best value] each, and what is known of problems."""
    kept = {}
    for name in arguments.solvers:
        file = folder / f"{name}.json"
        kept[name] = json.loads(file.read_text()) if file.exists() else {}
    known, seconds = {}, dict.fromkeys(arguments.solvers, 0.0)
    chosen = (arguments.functions, arguments.dimensions, arguments.instances)
    for name, number, dimension, instance, function, optimum in suite(*chosen):
        seed = 1000 * number + 10 * instance
        known[name] = {"function": number, "dimension": dimension, "optimum": optimum}
        known[name]["first"] = function(Recorder(function, dimension, seed).start)
        for solver in arguments.solvers:
            if name in kept[solver] or (solver == "nomad" and dimension > 10):
                continue
            recorder, begin = Recorder(function, dimension, seed), time.process_time()
            with warnings.catch_warnings(), contextlib.suppress(Spent):
                warnings.simplefilter("ignore")
                solver_named(solver, arguments.deviation)(recorder)
            seconds[solver] += time.process_time() - begin
            kept[solver][name] = recorder.steps
    for solver, runs in kept.items():
        (folder / f"{solver}.json").write_text(json.dumps(runs))
        if seconds[solver]:
            print(f"{solver}: {seconds[solver]:.0f} s", file=sys.stderr)
    return kept, known


def hits(runs: dict, known: dict) -> dict[str, list[float]]:
    """Evaluations over d + 1 to each accuracy, by problem; inf where it is not met."""
    found = {}
    for name, problem in known.items():
        best, first = problem["optimum"], problem["first"]
        for accuracy in ACCURACIES:
            goal = best + accuracy * (first - best)
            met = next((used for used, value in runs[name] if value <= goal), math.inf)
            found.setdefault(name, []).append(met / (problem["dimension"] + 1))
    return found


def area(found: dict, known: dict, logarithmic: bool = False) -> float:
    """Below the data profile: the mean share of the budget that was left at each hit."""
    shares = []
    for name, times in found.items():
        d = known[name]["dimension"]
        end = PER_DIMENSION * d / (d + 1)
        for k in times:
            share = (1 - math.log(max(k, 1)) / math.log(end)) if logarithmic else 1 - k / end
            shares.append(max(share, 0.0) if math.isfinite(k) else 0.0)
    return float(np.mean(shares)) if shares else math.nan


def table(kept: dict, known: dict, peer: str) -> None:
    dimensions = sorted({problem["dimension"] for problem in known.values()})
    groups = {group: numbers for group, numbers in GROUPS.items()
              if any(problem["function"] in numbers for problem in known.values())}  # fmt: skip
    head = "".join(f"{f'd = {d}':>8}" for d in dimensions) + "".join(f"{g:>11}" for g in groups)
    print(f"{'area':20}{'all':>8}{'log k':>8}{head}   solved to {ACCURACIES}")
    rows = {}
    for solver, runs in kept.items():
        done = {name: problem for name, problem in known.items() if name in runs}
        found = hits(runs, done)

        def part(keep, found=found, done=done):
            return area({name: found[name] for name in found if keep(done[name])}, done)

        solved = [np.mean([math.isfinite(times[i]) for times in found.values()]) for i in range(3)]
        rows[solver] = [part(lambda _: True), area(found, done, logarithmic=True)]
        rows[solver] += [part(lambda p, d=d: p["dimension"] == d) for d in dimensions]
        rows[solver] += [part(lambda p, g=g: p["function"] in g) for g in groups.values()]
        line = _cells(rows[solver], len(dimensions) + 2) + "   "
        line += " ".join(f"{share:.2f}" for share in solved)
        note = "" if len(done) == len(known) else f"  ({len(done)} of {len(known)} problems)"
        print(f"{solver:20}{line}{note}")
    if peer in rows:
        print(f"\nover that of {peer}")
        for solver, row in rows.items():
            ratios = [a / b if b else math.nan for a, b in zip(row, rows[peer], strict=True)]
            print(f"{solver:20}" + _cells(ratios, len(dimensions) + 2))


def _cells(numbers, narrow: int) -> str:
    return "".join(f"{x:{8 if i < narrow else 11}.3f}" for i, x in enumerate(numbers))


def plot(kept: dict, known: dict, file: Path) -> None:
    """Data profiles by dimension and over all, as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    dimensions = sorted({problem["dimension"] for problem in known.values()})
    panels = [*([d] for d in dimensions), dimensions]
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 3.6), sharey=True)
    ticks = np.geomspace(0.5, PER_DIMENSION, 200)
    for axis, panel in zip(np.atleast_1d(axes), panels, strict=True):
        for solver, runs in kept.items():
            chosen = {name: problem for name, problem in known.items()
                      if name in runs and problem["dimension"] in panel}  # fmt: skip
            if chosen:
                times = np.concatenate(list(hits(runs, chosen).values()))
                axis.plot(ticks, [(times <= k).mean() for k in ticks], label=solver)
        axis.set(xscale="log", xlabel="evaluations / (d + 1)", ylim=(0, 1),
                 title=f"d = {', '.join(map(str, panel))}")  # fmt: skip
        axis.grid(alpha=0.3)
    np.atleast_1d(axes)[0].set_ylabel("share solved")
    np.atleast_1d(axes)[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--solvers", nargs="+", default=["cma", "pycma"],
                        help="names of our methods and of peers")  # fmt: skip
    parser.add_argument("--functions", type=int, nargs="+", default=list(range(1, 25)))
    parser.add_argument("--dimensions", type=int, nargs="+", default=[2, 5, 10, 20])
    parser.add_argument("--instances", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--quick", action="store_true", help="instance 1, d = 2, 5 and 10")
    parser.add_argument("--deviation", type=float, default=0.25, help="pycma's, of the width")
    parser.add_argument("--results", type=Path, help="folder that keeps the runs of each solver")
    parser.add_argument("--plot", type=Path, help="a png to write")
    arguments = parser.parse_args()
    peers = ("pycma", "nomad", "lbfgsb", "cobyqa", "bobyqa")
    for name in arguments.solvers:
        if name not in METHODS and name not in peers:
            parser.error(f"unknown solver {name!r}, there are: {', '.join((*peers, *METHODS))}")
        if name in METHODS and METHODS[name].order > 0 and name not in peers:
            parser.error(f"{name} needs gradients, which COCO does not give")
    if arguments.quick:
        arguments.dimensions, arguments.instances = [2, 5, 10], [1]
    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        folder = arguments.results or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        kept, known = run_all(arguments, folder.resolve())
    table(kept, known, "pycma")
    if arguments.plot:
        plot(kept, known, arguments.plot)


if __name__ == "__main__":
    main()
