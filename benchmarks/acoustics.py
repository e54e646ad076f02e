"""Half a tenth of a second of sound in a 2 m cube, up to 1 kHz, on one core or on CUDA.

    python benchmarks/acoustics.py [--quick] [--cuda] [--edge 2.0]

A Gaussian pulse, three receivers, 50 ms, elements of order 4 at 6.3 nodes per wavelength. Printed
for rigid, hard (18 times the impedance of air) and Miki walls, in both precisions: seconds of one
core, steps, nanoseconds a node and application of the operator, of which a step takes two, and
ratios to two floors that are measured between the runs. Memory: six fields a step, moved as fast as
a copy of one is. Arithmetic: 9 (P + 1) operations a node and application, as fast as a product of
matrices makes them. Beside them the error / peak to the sum of images, and a plain code of second
order: seven points, 16 nodes to the wavelength, the longest stable step. Then runs with all
gradients over runs without.

--cuda times the same there, in a cube of `--edge` metres too, whose fields do not fit into cache,
and prints which part of the memory floor's speed is reached.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # read as the libraries load

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import warp as wp
from torch import Tensor

from geomopt.launch import launch
from sims.acoustics import Room, Solver, Wall
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.exact.images import image_sum
from sims.acoustics.solver import peak_error
from sims.acoustics.source import default_width

EDGE, FMAX, DURATION = 2.0, 1000.0, 0.05
SOURCE = (0.7, 0.9, 1.1)
RECEIVERS = ((1.5, 1.3, 0.6), (0.4, 1.6, 1.5), (1.66256893, 1.61655235, 1.64047122))
PLAIN_NODES = 16.0  # to the wavelength
MATRIX = 768
WALLS = {
    "rigid": Wall.rigid,
    "hard": lambda: Wall.impedance(7400.0),
    "Miki": lambda: Wall.miki(1e4, 0.03),
}


def clock(device: torch.device) -> float:
    """Seconds of one core, or on CUDA of the wall's clock after all is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def least(works: Sequence[Callable[[], object]], rounds: int, device: torch.device) -> list[float]:
    """The least seconds of each, taken in turns, since a machine is rarely left alone."""
    best = [math.inf] * len(works)
    for work in works:
        work()
    for _ in range(rounds):
        for place, work in enumerate(works):
            begin = clock(device)
            work()
            best[place] = min(best[place], clock(device) - begin)
    return best


def exact(times: Tensor) -> Tensor:
    """The sum of images at the receivers."""
    return image_sum((EDGE,) * 3, SOURCE, RECEIVERS, times, default_width(FMAX))


def room_row(
    name: str, dtype: torch.dtype, edge: float, rounds: int, device: torch.device
) -> list[str]:
    """One line of the table."""
    begin = clock(device)
    room = Room.box(edge, edge, edge, walls=WALLS[name]())
    solver = Solver(room, FMAX, dtype=dtype, device=device)
    prepared = clock(device) - begin
    nodes, steps = len(solver.space.points), solver.steps(DURATION)
    field = torch.rand(nodes, dtype=dtype, device=device)
    other, matrix = field.clone(), torch.ones(MATRIX, MATRIX, dtype=dtype, device=device)
    product = torch.empty_like(matrix)

    def copies() -> None:
        for _ in range(100):
            other.copy_(field)

    seconds, copied, multiplied = least(
        [
            lambda: solver.simulate(SOURCE, RECEIVERS, DURATION),
            copies,
            lambda: torch.mm(matrix, matrix, out=product),
        ],
        rounds,
        device,
    )
    memory = steps * 6 / 2 * copied / 100
    operations = 2 * 9 * (solver.order + 1) * nodes * steps
    arithmetic = operations / (2 * MATRIX**3) * multiplied
    error = "-"
    if name == "rigid" and edge == EDGE:
        found = solver.simulate(SOURCE, RECEIVERS, DURATION).cpu()
        error = f"{peak_error(found, exact(solver.times(DURATION)))[0]:.2%}"
    return [
        f"P=4, {name}", str(dtype).removeprefix("torch."), f"{nodes}", f"{steps}",
        f"{prepared:.2f}", f"{seconds:.3f}", f"{1e9 * seconds / (2 * nodes * steps):.2f}",
        f"{seconds / memory:.1f}", f"{seconds / arithmetic:.1f}", f"{memory / seconds:.0%}", error,
    ]  # fmt: skip


@wp.kernel(enable_backward=False)
def leapfrog(
    first: int,
    size: int,
    square: float,
    now: wp.array3d(dtype=float),  # pyright: ignore[reportInvalidTypeForm]
    past: wp.array3d(dtype=float),  # pyright: ignore[reportInvalidTypeForm]
):
    """past <- 2 now - past + square (sum of neighbours - 6 now), rigid walls, a row a thread."""
    row = first + wp.tid()  # pyright: ignore[reportOperatorIssue]
    i = row // size
    j = row % size
    above_i, below_i = wp.min(i + 1, size - 1), wp.max(i - 1, 0)
    above_j, below_j = wp.min(j + 1, size - 1), wp.max(j - 1, 0)
    for k in range(size):
        centre = now[i, j, k]
        around = now[above_i, j, k] + now[below_i, j, k] + now[i, above_j, k] + now[i, below_j, k]
        around += now[i, j, wp.min(k + 1, size - 1)] + now[i, j, wp.max(k - 1, 0)]
        past[i, j, k] = 2.0 * centre - past[i, j, k] + square * (around - 6.0 * centre)


def plain_row(rounds: int) -> list[str]:
    """The code of second order: cells of equal size, centred values, Courant number 1/sqrt(3)."""
    cells = math.ceil(EDGE * FMAX * PLAIN_NODES / SPEED_OF_SOUND - 1)
    size = EDGE / cells
    step = size / (SPEED_OF_SOUND * math.sqrt(3.0))
    steps = math.ceil(DURATION / step)
    centres = size * (torch.arange(cells, dtype=torch.float64) + 0.5)
    points = torch.cartesian_prod(centres, centres, centres)
    away = (points - torch.tensor(SOURCE, dtype=torch.float64)).square().sum(1)
    start = torch.exp(-away / default_width(FMAX) ** 2).float().reshape(cells, cells, cells)
    nodes, weights = _neighbours(centres, size)
    out = torch.zeros(steps + 1, len(RECEIVERS))

    def run() -> None:
        now, past = start.clone(), start.clone()
        for number in range(steps + 1):
            out[number] = (now.reshape(-1)[nodes] * weights).sum(1)
            launch(leapfrog, cells * cells, [cells, 1.0 / 3.0, now], [past])
            if number == 0:  # half of what a mirrored past gives
                past.add_(start).mul_(0.5)
            now, past = past, now

    (seconds,) = least([run], rounds, torch.device("cpu"))
    times = step * torch.arange(steps + 1, dtype=torch.float64)
    error = peak_error(out.T, exact(times))[0]
    count = cells**3
    return [
        "7 points, rigid", "float32", f"{count}", f"{steps}", "-", f"{seconds:.3f}",
        f"{1e9 * seconds / (count * steps):.2f}", "-", "-", "-", f"{error:.2%}",
    ]  # fmt: skip


def _neighbours(centres: Tensor, size: float) -> tuple[Tensor, Tensor]:
    """Cells (R, 64) and weights (R, 64) of cubic polynomials at the receivers."""
    places = torch.tensor(RECEIVERS, dtype=torch.float64)
    first = ((places - centres[0]) / size).floor().long() - 1
    away = (places - centres[first]) / size
    offsets = torch.arange(4)
    weights = torch.ones(*places.shape, 4, dtype=torch.float64)
    for own in range(4):
        for other in range(4):
            if other != own:
                weights[..., own] *= (away - other) / (own - other)
    x, y, z = (first[:, axis, None] + offsets for axis in range(3))
    count = len(centres)
    nodes = (x[:, :, None, None] * count + y[:, None, :, None]) * count + z[:, None, None, :]
    mixed = torch.einsum("ra,rb,rc->rabc", *weights.unbind(1))
    return nodes.flatten(1), mixed.flatten(1).float()


def gradient_row(
    name: str, wanted: str, fmax: float, rounds: int, device: torch.device
) -> list[str]:
    """A run with its reverse sweep over one without, and what is kept for it."""
    wall = WALLS[name]()
    solver = Solver(Room.box(EDGE, EDGE, EDGE, walls=wall), fmax, device=device)
    position = torch.tensor(SOURCE, dtype=torch.float64)
    receivers = torch.tensor(RECEIVERS, dtype=torch.float64)

    def backward() -> None:
        branches = wall.branches.clone().requires_grad_("walls" in wanted)
        source = position.clone().requires_grad_("source" in wanted)
        places = receivers.clone().requires_grad_("receivers" in wanted)
        found = solver.simulate(
            source, places, DURATION, walls=replace(wall, branches=branches, fit_error=None)
        )
        found.square().sum().backward()

    forward, both = least(
        [lambda: solver.simulate(SOURCE, RECEIVERS, DURATION), backward], rounds, device
    )
    kept = solver.gradient_memory
    share = "-" if kept is None else f"{kept.share:.1%}"
    return [
        name,
        wanted,
        f"{fmax:g}",
        f"{forward:.3f}",
        f"{both:.3f}",
        f"{both / forward:.2f}",
        share,
    ]


def table(columns: Sequence[str], rows: Sequence[Callable[[], list[str]]]) -> None:
    """Print rows as they are done."""
    print("| " + " | ".join(columns) + " |")
    print("| --- " * len(columns) + "|")
    for row in rows:
        print("| " + " | ".join(row()) + " |", flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="once each, float32 alone")
    parser.add_argument("--cuda", action="store_true", help="on CUDA instead of one core")
    parser.add_argument("--edge", type=float, default=8.0, help="of the larger cube on CUDA [m]")
    given = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device("cuda" if given.cuda else "cpu")
    rounds = 1 if given.quick else 3
    types = [torch.float32] if given.quick else [torch.float32, torch.float64]
    edges = [EDGE, given.edge] if given.cuda else [EDGE]
    rows: list[Callable[[], list[str]]] = [
        lambda n=name, d=dtype, e=edge: room_row(n, d, e, rounds, device)
        for edge in edges
        for dtype in types
        for name in WALLS
    ]
    if not given.cuda:
        rows.append(lambda: plain_row(1))
    columns = [
        "scheme", "dtype", "nodes", "steps", "set up s", "run s", "ns/node", "x memory",
        "x arithmetic", "of memory floor", "error/peak",
    ]  # fmt: skip
    table(columns, rows)
    all_of_them = "source, receivers, walls"
    asked = [("hard", "walls"), ("Miki", "walls"), ("Miki", all_of_them)]
    asked = [(*which, FMAX) for which in asked] + [("Miki", all_of_them, FMAX / 2)]
    table(
        [
            "walls",
            "gradients in",
            "fmax",
            "forward s",
            "with gradients s",
            "ratio",
            "of full history",
        ],
        [lambda w=which: gradient_row(*w, rounds, device) for which in asked],
    )


if __name__ == "__main__":
    main()
