"""FlexiCubes against Warp's surface nets and against plain torch operations, on one thread.

    python benchmarks/flexicubes.py [--resolutions 64 128] [--repeats 7]

Field: a rounded box without a cylinder, joined with a sphere, sharp where they meet. A line is CPU
time (`time.process_time`, median of the repeats after one warm call) of

- forward: `extract_surface(...)` in mode "train" through the public API with its checks, or
  `IsoSurfaceNets.extract` under a tape;
- backward: from sum(0.37 vertices) to the leaves, whose gradients are released before each repeat.

The leaves are, in "field alone", the field, which is what surface nets do; in "all inputs" the
field, the deformation and the 21 used weights of each cell; in "raw" the field and the unbounded
parameters of those, with `used_weights` and `used_deformation` in the time; "deviation" is "all
inputs" with the deviation loss added to the sum.
Peak memory is that of one training step on all inputs in a process of its own, beyond the state
after the imports and a small step.
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

from geomopt.geometry.flexicubes import extract_surface, used_deformation, used_weights
from geomopt.geometry.grid import DenseGrid

DTYPES = {"float32": torch.float32, "float64": torch.float64}
CASES = ("field alone", "all inputs", "raw", "deviation")
LINE = "{:>4} {:8} {:20} {:>9} {:>9} {:>9} {:>7} {:>8}"


def field(grid: DenseGrid) -> Tensor:
    """Rounded box minus a vertical cylinder, united with a sphere, at the grid points."""
    x = grid.points
    beyond = x.abs() - x.new_tensor([0.5, 0.45, 0.4])
    box = beyond.clamp(min=0).norm(dim=1) + beyond.amax(dim=1).clamp(max=0) - 0.05
    hole = x[:, :2].norm(dim=1) - 0.25
    ball = (x - x.new_tensor([0.4, 0.35, 0.45])).norm(dim=1) - 0.3
    return torch.minimum(torch.maximum(box, -hole), ball)


def inputs(resolution: int, dtype: torch.dtype, case: str) -> tuple[DenseGrid, list[Tensor]]:
    """The grid, and the leaves of a case, the field first."""
    grid = DenseGrid(resolution, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    cells, points = grid.cell_count, grid.point_count

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, dtype=dtype, generator=generator)

    leaves = [field(grid)]
    if case == "raw":
        leaves += [uniform(cells, 21).sub_(0.5), uniform(points, 3).sub_(0.5)]
    elif case != "field alone":
        leaves += [uniform(*shape).add_(0.5) for shape in ((cells, 8), (cells, 12), (cells,))]
        leaves.append(uniform(points, 3).sub_(0.5).mul_(0.4 * min(grid.spacing)))
    return grid, [leaf.requires_grad_() for leaf in leaves]


def extract_loss(grid: DenseGrid, leaves: list[Tensor], case: str, backend: str) -> Tensor:
    """A scalar of the surface of these leaves."""
    sdf, *others = leaves
    if case == "raw":
        others = [*used_weights(others[0]), used_deformation(others[1], grid)]
    surface = extract_surface(sdf, grid, *others, backend=backend)
    loss = (surface.vertices * 0.37).sum()
    return loss + surface.deviation_loss() if case == "deviation" else loss


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
    resolution: int, dtype: torch.dtype, case: str, backend: str, repeats: int
) -> tuple[float, float]:
    """`extract_surface` and its backward."""
    grid, leaves = inputs(resolution, dtype, case)

    def forward() -> Tensor:
        for leaf in leaves:
            leaf.grad = None
        return extract_loss(grid, leaves, case, backend)

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
    for size in (4, resolution):
        before = high_water()
        grid, leaves = inputs(size, dtype, "all inputs")
        extract_loss(grid, leaves, "all inputs", backend).backward()
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
    print(LINE.format("R", "dtype", "method", "forward", "backward", "sum ms", "x nets", "x torch"))

    def show(
        resolution: int, dtype: str, method: str, times: tuple[float, float], *ratios: str
    ) -> None:
        figures = (f"{value:.1f}" for value in (*times, sum(times)))
        print(LINE.format(resolution, dtype, method, *figures, *ratios))

    for resolution in arguments.resolutions:
        nets = time_surface_nets(resolution, repeats)
        show(resolution, "float32", "surface nets", nets, "1", "")
        for name, dtype in DTYPES.items():
            for case in CASES:
                ours = time_ours(resolution, dtype, case, "warp", repeats)
                plain = time_ours(resolution, dtype, case, "torch", max(1, repeats // 2))
                over_nets = [f"{sum(times) / sum(nets):.2f}" for times in (ours, plain)]
                over_torch = f"{sum(ours) / sum(plain):.2f}"
                show(resolution, name, f"warp, {case}", ours, over_nets[0], over_torch)
                show(resolution, name, f"torch, {case}", plain, over_nets[1], "1")
    largest = max(arguments.resolutions)
    for name in DTYPES:
        for backend in ("warp", "torch"):
            peak = peak_memory(largest, name, backend)
            print(f"peak memory, R={largest}, {name}, {backend}, all inputs: {peak:.0f} MB")


if __name__ == "__main__":
    main()
