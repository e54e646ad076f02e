"""Kernels of the walls in one step of time. A thread is `span` nodes of the walls.

The loops are written in C++, since Warp's own array access costs several times the arithmetic. A
branch w / (D s + E + F/s) is stepped by the trapezoidal rule, its flow q at half steps:

    q⁺ = keep q + relax r + drag u + rate yield,  r⁺ = r + dt/2 (q⁺ + q)
    u⁺ = (√3 - 2) u + (3 - √3)/2 (q⁺ + q)

The rule and the centred rate together leave springs right to fourth order, and resistances wrong by
(w dt)²/12. So E is E / (1 + s τ) + E s τ here, τ = dt/√12: a resistance beside a spring that u
stands for, and a mass, which as a whole is passive and is E (1 + (s dt)²/12) to third order. See
`marching.steps_of` for the numbers.
"""

import math
from functools import cache
from typing import Any

import torch
import warp as wp

from geomopt.launch import warp_scalar

# u+ = SLACK u + PULL (q+ + q), and τ/dt
SLACK, PULL, MASS = math.sqrt(3.0) - 2.0, (3.0 - math.sqrt(3.0)) / 2.0, math.sqrt(3.0) / 6.0

# (1 + G T) phi = right at each node, from its branches and p*; phi starts extrapolated
DRIVE = """
    for (int node = begin; node < end; ++node) {
        REAL driven = 0;
        for (int entry = starts.data[node]; entry < starts.data[node + 1]; ++entry) {
            const int first = branch_starts.data[surface.data[entry]];
            const int count = branch_starts.data[surface.data[entry] + 1] - first;
            const REAL* q = flow.data + entry * most;
            const REAL* r = spring.data + entry * most;
            const REAL* u = drag.data + entry * most;
            REAL sum = 0;
            for (int branch = 0; branch < count; ++branch) {
                const REAL* of = steps.data + 5 * (first + branch);
                sum += of[0]
                    * ((1 + of[1]) * q[branch] + of[2] * r[branch] + of[4] * u[branch]);
            }
            driven += strength.data[entry] * sum;
        }
        const REAL change_of_pressure = pressure.data[nodes.data[node]] - before.data[node];
        right.data[node] = square * driven + gain.data[node] * change_of_pressure;
        pushes.data[node] = 2 * latest.data[node] - latest.data[node + size];
        change.data[node] = 0;
    }
"""
# a Chebyshev step for (1 + G T) phi = right, T = 1 - fraction A, scaled by its diagonal
SWEEP = """
    for (int node = begin; node < end; ++node) {
        REAL coupled = 0;
        for (int entry = starts.data[node]; entry < starts.data[node + 1]; ++entry)
            coupled += values.data[entry] * pushes.data[columns.data[entry]];
        const REAL own = pushes.data[node];
        const REAL held = gain.data[node];
        const REAL rest = right.data[node] - own - held * (own - fraction * coupled);
        const REAL whole = 1 + held * (1 - fraction * diagonal.data[node]);
        const REAL step = momentum * change.data[node] + weight * rest / whole;
        change.data[node] = step;
        updated.data[node] = own + step;
    }
"""
# p <- p* - T phi at each node, and its branches a step on
CLOSE = """
    for (int node = begin; node < end; ++node) {
        REAL coupled = 0;
        for (int entry = row_starts.data[node]; entry < row_starts.data[node + 1]; ++entry)
            coupled += values.data[entry] * pushes.data[columns.data[entry]];
        const REAL push = pushes.data[node];
        const int place = nodes.data[node];
        const REAL next = pressure.data[place] - push + fraction * coupled;
        const REAL rate = (next - before.data[node]) / (2 * time_step);
        for (int entry = starts.data[node]; entry < starts.data[node + 1]; ++entry) {
            const int first = branch_starts.data[surface.data[entry]];
            const int count = branch_starts.data[surface.data[entry] + 1] - first;
            REAL* q = flow.data + entry * most;
            REAL* r = spring.data + entry * most;
            REAL* u = drag.data + entry * most;
            for (int branch = 0; branch < count; ++branch) {
                const REAL* of = steps.data + 5 * (first + branch);
                const REAL flowing = of[1] * q[branch] + of[2] * r[branch] + of[4] * u[branch]
                    + of[3] * rate;
                const REAL both = flowing + q[branch];
                r[branch] += time_step / 2 * both;
                u[branch] = REAL(SLACK) * u[branch] + REAL(PULL) * both;
                q[branch] = flowing;
            }
        }
        latest.data[node + size] = latest.data[node];
        latest.data[node] = push;
        pressure.data[place] = next;
        rates.data[node] = rate;
    }
"""

# p <- p* + fraction (A phi) at nodes beside the walls
SPREAD = """
    for (int row = begin; row < end; ++row) {
        REAL coupled = 0;
        for (int entry = starts.data[row]; entry < starts.data[row + 1]; ++entry)
            coupled += values.data[entry] * pushes.data[columns.data[entry]];
        pressure.data[rows.data[row]] += fraction * coupled;
    }
"""


def spell(code: str, real: str) -> str:
    """C++ with its names of numbers put in."""
    numbers = {"SLACK": SLACK, "PULL": PULL, "MASS": MASS}
    for name, meaning in {"REAL": real, **numbers}.items():
        code = code.replace(name, str(meaning))
    return code


@cache
def kernels(dtype: torch.dtype) -> Any:
    """The kernels of a step, in their order: `keep`, `drive`, `sweep`, `close` and `spread`."""
    real = warp_scalar(dtype)
    home = wp.get_module(f"{__name__}.{dtype}")
    spelled = f"wp::{real.__name__}"
    drive_code, sweep_code, close_code, spread_code = (
        spell(code, spelled) for code in (DRIVE, SWEEP, CLOSE, SPREAD)
    )

    @wp.func_native(snippet=drive_code)
    def drive_all(
        begin: int,
        end: int,
        size: int,
        most: int,
        square: real,
        nodes: wp.array(dtype=wp.int32),
        starts: wp.array(dtype=wp.int32),
        surface: wp.array(dtype=wp.int32),
        strength: wp.array(dtype=real),
        branch_starts: wp.array(dtype=wp.int32),
        steps: wp.array2d(dtype=real),
        gain: wp.array(dtype=real),
        pressure: wp.array(dtype=real),
        before: wp.array(dtype=real),
        flow: wp.array2d(dtype=real),
        spring: wp.array2d(dtype=real),
        drag: wp.array2d(dtype=real),
        latest: wp.array2d(dtype=real),
        right: wp.array(dtype=real),
        pushes: wp.array(dtype=real),
        change: wp.array(dtype=real),
    ): ...

    @wp.func_native(snippet=sweep_code)
    def sweep_all(
        begin: int,
        end: int,
        starts: wp.array(dtype=wp.int32),
        columns: wp.array(dtype=wp.int32),
        values: wp.array(dtype=real),
        diagonal: wp.array(dtype=real),
        fraction: real,
        momentum: real,
        weight: real,
        gain: wp.array(dtype=real),
        right: wp.array(dtype=real),
        pushes: wp.array(dtype=real),
        change: wp.array(dtype=real),
        updated: wp.array(dtype=real),
    ): ...

    @wp.func_native(snippet=close_code)
    def close_all(
        begin: int,
        end: int,
        size: int,
        most: int,
        nodes: wp.array(dtype=wp.int32),
        starts: wp.array(dtype=wp.int32),
        surface: wp.array(dtype=wp.int32),
        branch_starts: wp.array(dtype=wp.int32),
        steps: wp.array2d(dtype=real),
        row_starts: wp.array(dtype=wp.int32),
        columns: wp.array(dtype=wp.int32),
        values: wp.array(dtype=real),
        fraction: real,
        time_step: real,
        pushes: wp.array(dtype=real),
        before: wp.array(dtype=real),
        pressure: wp.array(dtype=real),
        flow: wp.array2d(dtype=real),
        spring: wp.array2d(dtype=real),
        drag: wp.array2d(dtype=real),
        latest: wp.array2d(dtype=real),
        rates: wp.array(dtype=real),
    ): ...

    @wp.func_native(snippet=spread_code)
    def spread_all(
        begin: int,
        end: int,
        rows: wp.array(dtype=wp.int32),
        starts: wp.array(dtype=wp.int32),
        columns: wp.array(dtype=wp.int32),
        values: wp.array(dtype=real),
        fraction: real,
        pushes: wp.array(dtype=real),
        pressure: wp.array(dtype=real),
    ): ...

    @wp.kernel(module=home, enable_backward=False)
    def keep(
        first: int,
        nodes: wp.array(dtype=wp.int32),
        previous: wp.array(dtype=real),
        before: wp.array(dtype=real),
    ):
        """The pressure of the step before, which the new one will overwrite."""
        node = first + wp.tid()
        before[node] = previous[nodes[node]]

    @wp.kernel(module=home, enable_backward=False)
    def drive(
        first: int,
        span: int,
        count: int,
        most: int,
        square: real,
        nodes: wp.array(dtype=wp.int32),
        starts: wp.array(dtype=wp.int32),
        surface: wp.array(dtype=wp.int32),
        strength: wp.array(dtype=real),
        branch_starts: wp.array(dtype=wp.int32),
        steps: wp.array2d(dtype=real),
        gain: wp.array(dtype=real),
        pressure: wp.array(dtype=real),
        before: wp.array(dtype=real),
        flow: wp.array2d(dtype=real),
        spring: wp.array2d(dtype=real),
        drag: wp.array2d(dtype=real),
        latest: wp.array2d(dtype=real),
        right: wp.array(dtype=real),
        pushes: wp.array(dtype=real),
        change: wp.array(dtype=real),
    ):
        """(1 + G T) phi = right at nodes, from their branches and p*; phi starts extrapolated."""
        begin = (first + wp.tid()) * span
        drive_all(
            begin, wp.min(begin + span, count), count, most, square, nodes, starts, surface,
            strength, branch_starts, steps, gain, pressure, before, flow, spring, drag, latest,
            right, pushes, change,
        )  # fmt: skip

    @wp.kernel(module=home, enable_backward=False)
    def sweep(
        first: int,
        span: int,
        count: int,
        starts: wp.array(dtype=wp.int32),
        columns: wp.array(dtype=wp.int32),
        values: wp.array(dtype=real),
        diagonal: wp.array(dtype=real),
        fraction: real,
        momentum: real,
        weight: real,
        gain: wp.array(dtype=real),
        right: wp.array(dtype=real),
        pushes: wp.array(dtype=real),
        change: wp.array(dtype=real),
        updated: wp.array(dtype=real),
    ):
        """A Chebyshev step for (1 + G T) phi = right, T = 1 - fraction A, scaled by diagonal."""
        begin = (first + wp.tid()) * span
        sweep_all(
            begin, wp.min(begin + span, count), starts, columns, values, diagonal, fraction,
            momentum, weight, gain, right, pushes, change, updated,
        )  # fmt: skip

    @wp.kernel(module=home, enable_backward=False)
    def close(
        first: int,
        span: int,
        count: int,
        most: int,
        nodes: wp.array(dtype=wp.int32),
        starts: wp.array(dtype=wp.int32),
        surface: wp.array(dtype=wp.int32),
        branch_starts: wp.array(dtype=wp.int32),
        steps: wp.array2d(dtype=real),
        row_starts: wp.array(dtype=wp.int32),
        columns: wp.array(dtype=wp.int32),
        values: wp.array(dtype=real),
        fraction: real,
        time_step: real,
        pushes: wp.array(dtype=real),
        before: wp.array(dtype=real),
        pressure: wp.array(dtype=real),
        flow: wp.array2d(dtype=real),
        spring: wp.array2d(dtype=real),
        drag: wp.array2d(dtype=real),
        latest: wp.array2d(dtype=real),
        rates: wp.array(dtype=real),
    ):
        """p <- p* - T phi at nodes of the walls, and their branches a step on."""
        begin = (first + wp.tid()) * span
        close_all(
            begin, wp.min(begin + span, count), count, most, nodes, starts, surface,
            branch_starts, steps, row_starts, columns, values, fraction, time_step, pushes, before,
            pressure, flow, spring, drag, latest, rates,
        )  # fmt: skip

    @wp.kernel(module=home, enable_backward=False)
    def spread(
        first: int,
        span: int,
        skipped: int,
        count: int,
        rows: wp.array(dtype=wp.int32),
        starts: wp.array(dtype=wp.int32),
        columns: wp.array(dtype=wp.int32),
        values: wp.array(dtype=real),
        fraction: real,
        pushes: wp.array(dtype=real),
        pressure: wp.array(dtype=real),
    ):
        """p <- p* + fraction (A phi) at nodes `skipped` to `count` beside the walls."""
        begin = skipped + (first + wp.tid()) * span
        spread_all(
            begin, wp.min(begin + span, count), rows, starts, columns, values, fraction, pushes,
            pressure,
        )  # fmt: skip

    return keep, drive, sweep, close, spread


@cache
def sampling(dtype: torch.dtype) -> Any:
    """The kernels that emit into the field, record from it, and count the steps."""
    real = warp_scalar(dtype)
    home = wp.get_module(f"{__name__}.sampling.{dtype}")

    @wp.kernel(module=home, enable_backward=False)
    def emit(
        first: int,
        clock: wp.array(dtype=wp.int32),
        nodes: wp.array2d(dtype=wp.int32),
        amounts: wp.array2d(dtype=real),
        taps: wp.array(dtype=real),
        acceleration: wp.array(dtype=real),
    ):
        """a <- a + what a point adds in this step; on its way two elements may share a node."""
        corner = first + wp.tid()
        for tap in range(taps.shape[0]):
            row = clock[0] - 1 + tap
            wp.atomic_add(acceleration, nodes[row, corner], taps[tap] * amounts[row, corner])

    @wp.kernel(module=home, enable_backward=False)
    def record(
        first: int,
        clock: wp.array(dtype=wp.int32),
        nodes: wp.array2d(dtype=wp.int32),
        weights: wp.array2d(dtype=real),
        pressure: wp.array(dtype=real),
        out: wp.array2d(dtype=real),
    ):
        """The pressure at one receiver."""
        receiver = first + wp.tid()
        total = real(0.0)
        for corner in range(weights.shape[1]):
            total += weights[receiver, corner] * pressure[nodes[receiver, corner]]
        out[clock[0] - 1, receiver] = total

    @wp.kernel(module=home, enable_backward=False)
    def tick(first: int, clock: wp.array(dtype=wp.int32)):
        """A step has been taken."""
        clock[first + wp.tid()] = clock[first + wp.tid()] + 1

    return emit, record, tick
