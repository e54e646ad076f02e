"""Acoustic designs by gradients beside CMA-ES, at equal solver time, both solved on a finer mesh.

    python benchmarks/acoustic_design.py [absorbers] [loudspeakers] [shape] [--seeds N]

CMA-ES has 50 evaluations. Ours counts a gradient as 3 evaluations (4.5 for shapes) and has 50 in
all; CPU seconds of both stand beside, ours with the certificate's. Absorbers: CMA-ES once
on shares between 0 and 1 that are rounded in the end, once on ranks of which each evaluation rounds
the best panels within the area. Loudspeakers: ours begins with one run for each seat. Shapes: ours
begins beside the box. "finer" is the objective on 1.5 times the nodes along each axis. One thread.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch

from optimizers import Budget, Problem, Result, minimize
from sims.acoustics.inverse.absorbers import AbsorberPlacement, place_absorbers
from sims.acoustics.inverse.coverage import fill
from sims.acoustics.inverse.placement import LoudspeakerPlacement, place_loudspeakers
from sims.acoustics.inverse.room_shape import RoomShape, reduction, shape_room

EVALUATIONS = 50
STARTS = 3  # that loudspeakers are followed from
CPU = torch.device("cpu")
ABSORBERS = {
    "3.4 x 2.7 x 2.3 m, 36 panels": AbsorberPlacement(),
    "2.8 x 2.2 x 2.4 m, 24 panels": AbsorberPlacement(
        size=(2.8, 2.2, 2.4),
        sides=("left", "ceiling"),
        share=0.3,
        sources=((2.4, 0.4, 0.3),),
        seats=((0.8, 1.5, 1.2), (1.4, 1.1, 1.2), (1.9, 1.6, 1.2)),
        bands=(125.0,),
    ),
    "3.4 x 2.7 x 2.3 m, T60 0.8 s": AbsorberPlacement(share=0.4, targets=(0.8, 0.8)),
}
LOUDSPEAKERS = {
    "5 x 4 x 2.6 m, one": LoudspeakerPlacement(),
    "5 x 4 x 2.6 m, two": LoudspeakerPlacement(loudspeakers=2),
}
SHAPES = {
    "3.2 x 2.6 x 2.2 m": RoomShape(),
    "2.8 x 2.3 x 2.1 m": RoomShape(size=(2.8, 2.3, 2.1), frequencies=(61.0, 75.0, 82.0, 97.0)),
}


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """A result and the CPU seconds it took."""
    start = time.process_time()
    return work(*arguments), time.process_time() - start


def rival(problem: Problem, seed: int) -> Result:
    """What CMA-ES finds."""
    return minimize(problem, "cma", budget=Budget(evaluations=EVALUATIONS), seed=seed)


def costs(problem: Problem) -> tuple[float, float]:
    """CPU seconds of a value, and how many values a value with its gradient takes."""
    point = problem.start[None]
    problem.evaluate(point, 1)
    value = min(timed(problem.evaluate, point, 0)[1] for _ in range(3))
    gradient = min(timed(problem.evaluate, point, 1)[1] for _ in range(3))
    return value, gradient / value


def cells(*row: object) -> str:
    """A row of a table."""
    return "| " + " | ".join(f"{c:.3f}" if isinstance(c, float) else str(c) for c in row) + " |"


def table(*head: str) -> None:
    """The head of a table."""
    print("\n" + cells(*head) + "\n|" + " --- |" * len(head), flush=True)


def absorbers(seeds: int) -> None:
    """Late energy [dB] over that of the bare room, or the squared error of decay times."""
    table(
        "absorbers", "seed", "gradient / value", "ours", "finer", "CPU s", "shares",
        "CMA-ES on shares", "CMA-ES on ranks", "finer, its better", "CPU s",
    )  # fmt: skip
    for name, task in ABSORBERS.items():
        problem = task.start(CPU, 0)
        _, ratio = costs(problem)
        count = len(problem.areas)
        ranked = Problem.from_callable(
            lambda x, problem=problem: problem.value(fill(x, problem.areas, problem.area)),
            [1e-3] * count,
            [1.0] * count,
        )
        for seed in range(seeds):
            ours, seconds = timed(place_absorbers, problem, EVALUATIONS, seed)
            by_shares, its_seconds = timed(rival, problem, seed)
            by_ranks = rival(ranked, seed)
            designs = [
                problem.rounded(by_shares.x),
                fill(by_ranks.x, problem.areas, problem.area),
            ]
            values = [float(problem.value(design)) for design in designs]
            better = problem.certificate(designs[values.index(min(values))])
            print(
                cells(
                    name, seed, ratio, ours.certificate.found, ours.certificate.confirmed,
                    seconds, ours.smooth, *values, better.confirmed, its_seconds,
                ),
                flush=True,
            )  # fmt: skip


def loudspeakers(seeds: int) -> None:
    """The spread over seats [dB]."""
    table(
        "loudspeakers", "seed", "gradient / value", "middle", "proposed", "ours", "finer", "CPU s",
        "CMA-ES", "CPU s",
    )  # fmt: skip
    for name, task in LOUDSPEAKERS.items():
        problem = task.start(CPU, 0)
        problem.start = problem.middle
        _, ratio = costs(problem)
        middle = float(problem.value(problem.middle))
        for seed in range(seeds):
            ours, seconds = timed(place_loudspeakers, problem, EVALUATIONS, STARTS, seed)
            other, its_seconds = timed(rival, problem, seed)
            print(
                cells(
                    name, seed, ratio, middle, ours.proposed, ours.certificate.found,
                    ours.certificate.confirmed, seconds, other.value, its_seconds,
                ),
                flush=True,
            )  # fmt: skip


def shapes(seeds: int) -> None:
    """The share of the energy at the chosen frequencies that is gone."""
    table(
        "shape", "seed", "gradient / value", "ours", "finer", "least Jacobian", "CPU s", "CMA-ES",
        "CPU s",
    )  # fmt: skip
    for name, task in SHAPES.items():
        problem = task.start(CPU, 0)
        _, ratio = costs(problem)
        for seed in range(seeds):
            ours, seconds = timed(shape_room, problem, EVALUATIONS, seed)
            other, its_seconds = timed(rival, problem, seed)
            print(
                cells(
                    name, seed, ratio, *ours.reductions, ours.least_jacobian, seconds,
                    reduction(other.value), its_seconds,
                ),
                flush=True,
            )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = {"absorbers": absorbers, "loudspeakers": loudspeakers, "shape": shapes}
    parser.add_argument("tables", nargs="*", choices=[*known, []], help="all of them by default")
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.tables or known:
        known[name](given.seeds)


if __name__ == "__main__":
    main()
