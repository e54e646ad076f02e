"""Time of the wave operator of brick rooms beside what memory and arithmetic allow.

python benchmarks/wave_operator.py [--nodes 37] [--device cpu] [--orders 1 2 3 4 5 6]

A rigid cube with about `nodes` nodes per axis. Printed for each order and precision, on one thread:
microseconds of out = -A p ("accelerate") and of the fourth-order update with a second application
("advance"), nanoseconds per node, and their ratios to two floors. Memory: 2 and 4 fields moved as
fast as a copy of one does. Arithmetic: 9 (P + 1) operations per node, a difference and a multiply
and add for each coupled neighbour, as fast as a product of matrices makes them. Fields that fit
into cache are copied from there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import torch

from sims.acoustics.elements.lattice import Lattice

SIDE = 2.0  # metres
ROUNDS, CALLS = 30, 10
MATRIX = 768


def best_times(works: Sequence[Callable[[], object]], device: torch.device) -> list[float]:
    """The least seconds of each, taken in turns, since a machine is rarely left alone."""
    best = [float("inf")] * len(works)
    for work in works:
        work()
    for _ in range(ROUNDS):
        for place, work in enumerate(works):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            begin = time.perf_counter()
            for _ in range(CALLS):
                work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best[place] = min(best[place], (time.perf_counter() - begin) / CALLS)
    return best


def row(nodes: int, order: int, dtype: torch.dtype, device: torch.device) -> str:
    """One line of the table."""
    elements = max(1, round((nodes - 1) / order))
    box = torch.tensor([[[0.0] * 3, [SIDE] * 3]], dtype=torch.float64)
    room = Lattice(box, box[:0], SIDE / elements * (1 + 1e-9), order, dtype, device)
    count = len(room.points)
    generator = torch.Generator().manual_seed(0)
    p = torch.randn(count, generator=generator).to(device, dtype)
    previous, curve, other = p.clone(), torch.zeros_like(p), torch.zeros_like(p)
    matrix = torch.ones(MATRIX, MATRIX, dtype=dtype, device=device)
    product = torch.empty_like(matrix)
    accelerate, advance, copy, multiply = best_times(
        [
            lambda: room.accelerate(p, curve),
            lambda: room.advance(p, previous, curve, 0.0),
            lambda: other.copy_(p),
            lambda: torch.mm(matrix, matrix, out=product),
        ],
        device,
    )
    arithmetic = 9 * (order + 1) * count / (2 * MATRIX**3) * multiply
    cells = [f"{order}", str(dtype).removeprefix("torch."), f"{count}"]
    for seconds, fields in ((accelerate, 2), (advance, 4)):
        memory = copy * fields / 2
        cells += [
            f"{1e6 * seconds:.1f}",
            f"{1e9 * seconds / count:.2f}",
            f"{seconds / memory:.1f}",
            f"{seconds / arithmetic:.1f}",
        ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=37)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--orders", type=int, nargs="+", default=list(range(1, 7)))
    given = parser.parse_args()
    torch.set_num_threads(1)
    columns = ["us", "ns per node", "x memory", "x arithmetic"]
    names = [f"{part}: {column}" for part in ("accelerate", "advance") for column in columns]
    print("| P | dtype | nodes | " + " | ".join(names) + " |")
    print("| --- " * (3 + len(names)) + "|")
    for dtype in (torch.float32, torch.float64):
        for order in given.orders:
            print(row(given.nodes, order, dtype, torch.device(given.device)), flush=True)


if __name__ == "__main__":
    main()
