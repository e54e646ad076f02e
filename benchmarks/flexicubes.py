"""FlexiCubes against Warp's surface nets and against plain torch operations, in one run on one
thread.

    python benchmarks/flexicubes.py [--resolutions 64 128] [--repeats 7]

Field: a rounded box without a cylinder, joined with a sphere, which is sharp where they meet. Each
line is the CPU time (`time.process_time`, median of the repeats after one warm call) of - forward:
`extract_surface(...)` in mode "train" through the public API with its checks, or
`IsoSurfaceNets.extract`; - backward: from sum(vertices * constant) to the leaves. For surface nets
the tape's backward with the constant as the seed.
"all inputs" means the field, the deformation and the 21 used weights of each cell, all requiring
gradients; "field alone" has no weights and no deformation, which is what surface nets do. The
gradients of the leaves are released before each repeat.
Peak memory is that of a process of its own beyond its state after the imports and a small
extraction, inputs included.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import torch
import warp as wp
from torch import Tensor
from warp.geometry import IsoSurfaceNets

from geomopt.geometry.flexicubes import extract_surface
from geomopt.geometry.grid import DenseGrid

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def field(grid: DenseGrid) -> Tensor:
    """Rounded box minus a vertical cylinder, united with a sphere, at the grid points."""
    x = grid.points
    beyond = x.abs() - x.new_tensor([0.5, 0.45, 0.4])
    box = beyond.clamp(min=0).norm(dim=1) + beyond.amax(dim=1).clamp(max=0) - 0.05
    hole = x[:, :2].norm(dim=1) - 0.25
    ball = (x - x.new_tensor([0.4, 0.35, 0.45])).norm(dim=1) - 0.3
    return torch.minimum(torch.maximum(box, -hole), ball)


def inputs(resolution: int, dtype: torch.dtype, everything: bool) -> tuple[DenseGrid, list[Tensor]]:
    """The grid, and the field with or without weights and deformation, as leaves."""
    grid = DenseGrid(resolution, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    leaves = [field(grid)]
    if everything:
        cells = grid.cell_count
        for shape in ((cells, 8), (cells, 12), (cells,)):
            leaves.append(torch.rand(shape, dtype=dtype, generator=generator).add_(0.5))
        moved = torch.rand((grid.point_count, 3), dtype=dtype, generator=generator)
        leaves.append(moved.sub_(0.5).mul_(0.4 * min(grid.spacing)))
    return grid, [leaf.requires_grad_() for leaf in leaves]


def measure(
    forward: Callable[[], object], backward: Callable[[object], None], repeats: int
) -> tuple[float, float]:
    """Median CPU milliseconds of a forward and of its backward."""
    times: list[tuple[float, float]] = []
    for _ in range(repeats + 1):
        start = time.process_time()
        result = forward()
        between = time.process_time()
        backward(result)
        times.append((between - start, time.process_time() - between))
        del result
    forwards, backwards = zip(*times[1:], strict=True)
    return 1e3 * statistics.median(forwards), 1e3 * statistics.median(backwards)


def time_ours(
    resolution: int,
    dtype: torch.dtype,
    everything: bool,
    backend: str,
    repeats: int,
    deviation: bool = False,
) -> tuple[float, float]:
    """`extract_surface` and its backward; with the deviation loss in both when asked for."""
    grid, leaves = inputs(resolution, dtype, everything)

    def forward() -> Tensor:
        for leaf in leaves:
            leaf.grad = None
        surface = extract_surface(leaves[0], grid, *leaves[1:], backend=backend)
        loss = (surface.vertices * 0.37).sum()
        return loss + surface.deviation_loss() if deviation else loss

    return measure(forward, lambda loss: loss.backward(), repeats)


def time_surface_nets(resolution: int, repeats: int) -> tuple[float, float]:
    """Warp's surface nets and the backward of its tape."""
    grid = DenseGrid(resolution)
    values = wp.array(
        field(grid).reshape(grid.shape).numpy(), dtype=float, requires_grad=True, device="cpu"
    )
    wp.config.quiet = True

    def forward() -> tuple[wp.Tape, wp.array, wp.array]:
        values.grad.zero_()
        tape = wp.Tape()
        with tape:
            vertices, _ = IsoSurfaceNets.extract(values, 0.0, lower=(-1.0,) * 3, upper=(1.0,) * 3)
        return tape, vertices, wp.full(vertices.shape, 0.37, dtype=wp.vec3, device="cpu")

    def backward(result: tuple[wp.Tape, wp.array, wp.array]) -> None:
        tape, vertices, seed = result
        tape.backward(grads={vertices: seed})

    return measure(forward, backward, repeats)


def high_water() -> float:
    """Peak resident MB of this process. `ru_maxrss` would start at the peak of its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def report_memory(resolution: int, dtype: torch.dtype, backend: str) -> None:
    """Print the growth of the peak memory of this process over one training step."""
    for everything in (False, True):
        _, leaves = inputs(4, dtype, everything)
        surface = extract_surface(leaves[0], DenseGrid(4), *leaves[1:], backend=backend)
        surface.vertices.sum().backward()
    before = high_water()
    grid, leaves = inputs(resolution, dtype, True)
    extract_surface(leaves[0], grid, *leaves[1:], backend=backend).vertices.sum().backward()
    print(high_water() - before)


def peak_memory(resolution: int, dtype: str, backend: str) -> float:
    """Peak MB of one step at this resolution, measured in a new process."""
    command = [sys.executable, __file__, "--memory", str(resolution), dtype, backend]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(output.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description="Time FlexiCubes against surface nets and torch.")
    parser.add_argument("--resolutions", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--memory", nargs=3, metavar=("RESOLUTION", "DTYPE", "BACKEND"), help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory:
        resolution, dtype, backend = arguments.memory
        return report_memory(int(resolution), DTYPES[dtype], backend)
    repeats = arguments.repeats
    heading = ("R", "dtype", "method", "forward", "backward", "sum ms", "x nets", "x torch")
    line = "{:>4} {:8} {:34} {:>9} {:>9} {:>9} {:>7} {:>8}"
    print(line.format(*heading))
    for resolution in arguments.resolutions:
        nets = time_surface_nets(resolution, repeats)
        print(
            line.format(
                resolution,
                "float32",
                "Warp surface nets",
                *(f"{t:.1f}" for t in (*nets, sum(nets))),
                "1",
                "",
            )
        )
        for name, dtype in DTYPES.items():
            for label, everything, deviation in (
                ("field alone", False, False),
                ("all inputs", True, False),
                ("all inputs and deviation loss", True, True),
            ):
                ours = time_ours(resolution, dtype, everything, "warp", repeats, deviation)
                plain = time_ours(
                    resolution, dtype, everything, "torch", max(1, repeats // 2), deviation
                )
                for backend, times in (("warp", ours), ("torch", plain)):
                    ratio = f"{sum(ours) / sum(plain):.2f}" if backend == "warp" else "1"
                    row = (f"{backend}, {label}", *(f"{t:.1f}" for t in (*times, sum(times))))
                    print(
                        line.format(resolution, name, *row, f"{sum(times) / sum(nets):.2f}", ratio)
                    )
    for name in DTYPES:
        for backend in ("warp", "torch"):
            largest = max(arguments.resolutions)
            peak = peak_memory(largest, name, backend)
            print(f"peak memory, R={largest}, {name}, {backend}, all inputs: {peak:.0f} MB")


if __name__ == "__main__":
    main()
