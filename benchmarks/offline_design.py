"""True values of designs from data alone, with and without the two penalties.

    python benchmarks/offline_design.py

Data: the worse half of 600 random designs, measured with an error of 0.3 deviations of their
values. A surrogate learns it, 128 designs are moved to where the surrogate is low, and only then
is the true function asked. Scores are shares of the range of all 600 true values: 0 is the worst
of them and 1 the best, which lies in the half that nobody saw. Every variant has the same data,
networks, seeds, passes over the data and search, all with the defaults; they were chosen on the
tasks of `--tuning` with other seeds. "gain" is the mean over seeds of sharpness minus no penalty.
One thread.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch and by numpy's linear algebra when they load

import argparse
import math
import time
from dataclasses import replace

import torch
from offline_tasks import REPORTED, TUNING, Task

from optimizers import SharpnessPenalty, SurrogateTrainer, offline_designs

POOL, SHARE, DESIGNS = 600, 0.5, 128
DISAGREEMENT = 1.0
FIRST_SEED = 100  # of the reported runs; settings were chosen with seeds below
VARIANTS = ("no penalty", "sharpness", "disagreement", "both")


def offline_data(
    task: Task, seed: int, noise: float
) -> tuple[torch.Tensor, torch.Tensor, float, float, float]:
    """The worse half of random designs as measured; true values: worst, best, best of the half."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(POOL, task.dimension, generator=generator, dtype=torch.float64)
    values = task.value(points)
    kept = values.argsort(descending=True)[: int(SHARE * POOL)]
    points, known = points[kept], values[kept]
    error = torch.randn(len(known), generator=generator, dtype=torch.float64) * known.std()
    measured = known + noise * error
    worst, best = float(values.max()), float(values.min())
    return points.float(), measured.float(), worst, best, float(known.min())


def scores(task: Task, seed: int, trainer: SurrogateTrainer, noise: float) -> torch.Tensor:
    """Rows (6, 2): best and median score of each variant; that of the data; CPU seconds."""
    points, values, worst, best, known = offline_data(task, seed, noise)
    rows, seconds = {}, []
    for penalty in (None, trainer.regularizer):
        begin = time.process_time()
        surrogate = replace(trainer, regularizer=penalty).fit(points, values, seed=seed)
        seconds.append(time.process_time() - begin)
        for price in (0.0, DISAGREEMENT):
            found = offline_designs(
                surrogate, points, values, DESIGNS, disagreement=price, lower=0.0, upper=1.0
            )
            score = (worst - task.value(found.x.double())) / (worst - best)
            rows[penalty is not None, price > 0] = [float(score.max()), float(score.median())]
    order = ((False, False), (True, False), (False, True), (True, True))
    data = (worst - known) / (worst - best)
    return torch.tensor([*(rows[key] for key in order), [data, data], seconds])


def mean_and_error(column: torch.Tensor) -> str:
    """Mean over seeds and its standard error."""
    return f"{float(column.mean()):.3f} ± {float(column.std()) / math.sqrt(len(column)):.3f}"


def report(
    tasks: tuple[Task, ...], seeds: int, first: int, trainer: SurrogateTrainer, noise: float
) -> None:
    names = "".join(f"{name:>16}" for name in VARIANTS)
    print(f"{'task':8}{'d':>3}{'data':>7}{'percentile':>12}{names}{'gain':>17}{'seconds':>10}")
    for task in tasks:
        rows = torch.stack([scores(task, first + k, trainer, noise) for k in range(seeds)])
        data, seconds = float(rows[:, 4, 0].mean()), rows[:, 5].mean(0).tolist()
        for column, label in enumerate(("100th", "50th")):
            cells = [mean_and_error(rows[:, k, column]) for k in range(4)]
            cells = "".join(f"{cell:>16}" for cell in cells)
            gain = mean_and_error(rows[:, 1, column] - rows[:, 0, column])
            head = f"{task.name:8}{task.dimension:3}{data:7.3f}{label:>12}"
            cost = f"{seconds[0]:.1f}/{seconds[1]:.1f}"
            print(f"{head}{cells}{gain:>17}{cost:>10}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="two seeds")
    parser.add_argument("--tuning", action="store_true", help="the tasks that served to tune")
    parser.add_argument("--multiplier", type=float, help="of the penalty; 0.001 as published")
    parser.add_argument("--spread", type=float, help="of the penalty")
    parser.add_argument("--weight-decay", type=float, default=0.0, help="of all variants")
    parser.add_argument("--validation", type=float, default=0.0, help="share kept by all variants")
    parser.add_argument("--noise", type=float, default=0.3, help="error of the data, in deviations")
    parser.add_argument("--tasks", nargs="+", help="only these")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    given = {name: getattr(arguments, name) for name in ("multiplier", "spread")}
    penalty = SharpnessPenalty(
        **{name: value for name, value in given.items() if value is not None}
    )
    chosen = TUNING if arguments.tuning else REPORTED
    if arguments.tasks:
        chosen = tuple(task for task in chosen if task.name in arguments.tasks)
    report(
        chosen,
        2 if arguments.quick else arguments.seeds,
        0 if arguments.tuning else FIRST_SEED,
        SurrogateTrainer(
            weight_decay=arguments.weight_decay,
            validation=arguments.validation,
            regularizer=penalty,
        ),
        arguments.noise,
    )
