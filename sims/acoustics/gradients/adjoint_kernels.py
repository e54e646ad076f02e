"""Kernels of the reverse sweep; see `adjoint` for the scheme that they transpose.

Those of the walls are C++ loops over `span` nodes a thread, see `boundary_kernels`. A branch steps
its flow v, spring s and drag u by v+ = keep v + relax s + drag u + yield x, s+ = s + dt (v+ + v)/2,
u+ = SLACK u + PULL (v+ + v), of an input x; its output is (v+ + v)/2. `steps` holds half the
weight, keep, relax, yield and drag of each. `filters` holds, at entry * most + branch, v, s and u
of the filter of the adjoint force, and of a second one that takes the output of the first.
"""

from functools import cache
from types import SimpleNamespace

import torch
import warp as wp

from geomopt.launch import warp_scalar
from sims.acoustics.stepping.boundary_kernels import spell

# (1 + G T) rho = right at each node; rho starts extrapolated. The last one is handed on
DRIVE = """
    for (int node = begin; node < end; ++node) {
        const int place = nodes.data[node];
        previous.data[place] += latest.data[node] / (2 * time_step);
        REAL driven = 0;
        for (int entry = starts.data[node]; entry < starts.data[node + 1]; ++entry) {
            const int first = branch_starts.data[surface.data[entry]];
            const int count = branch_starts.data[surface.data[entry] + 1] - first;
            const REAL* kept = filters.data + 6 * entry * most;
            REAL sum = 0;
            for (int branch = 0; branch < count; ++branch) {
                const REAL* of = steps.data + 5 * (first + branch);
                sum += of[0] * ((1 + of[1]) * kept[0] + of[2] * kept[1] + of[4] * kept[2]);
                kept += 6;
            }
            driven += strength.data[entry] * sum;
        }
        const REAL seen = field.data[place] + fraction * acceleration.data[place];
        right.data[node] = driven - 2 * time_step * gain.data[node] * seen;
        rho.data[node] = 2 * latest.data[node] - latest.data[node + size];
        change.data[node] = 0;
    }
"""
# the field at each node with rho in it, and the filters a step on. Sums over time, with the rate of
# the pressure: of the first filter's output, and of the second's v+ - v, twice its resistance over
# E, and s+ + s
CLOSE = """
    for (int node = begin; node < end; ++node) {
        const int place = nodes.data[node];
        const REAL closed = field.data[place] + rho.data[node] / (2 * time_step);
        const REAL force = -time_step * time_step
            * (closed + fraction * acceleration.data[place]);
        const REAL rate = summed ? rates.data[node] : 0;
        field.data[place] = closed;
        for (int entry = starts.data[node]; entry < starts.data[node + 1]; ++entry) {
            const int first = branch_starts.data[surface.data[entry]];
            const int count = branch_starts.data[surface.data[entry] + 1] - first;
            for (int branch = 0; branch < count; ++branch) {
                const REAL* of = steps.data + 5 * (first + branch);
                REAL* kept = filters.data + 6 * (entry * most + branch);
                const REAL next = of[1] * kept[0] + of[2] * kept[1] + of[4] * kept[2]
                    + of[3] * force;
                const REAL output = (next + kept[0]) / 2;
                kept[0] = next;
                kept[1] += time_step * output;
                kept[2] = REAL(SLACK) * kept[2] + REAL(2 * PULL) * output;
                if (!summed)
                    continue;
                REAL* sum = sums.data + 4 * (entry * most + branch);
                const REAL after = of[1] * kept[3] + of[2] * kept[4] + of[4] * kept[5]
                    + of[3] * output;
                const REAL spring = kept[4] + time_step / 2 * (after + kept[3]);
                const REAL drag = REAL(SLACK) * kept[5] + REAL(PULL) * (after + kept[3]);
                sum[0] += rate * output;
                sum[1] += rate * (after - kept[3]);
                sum[2] += rate * (REAL(2 * MASS) * (after - kept[3]) + drag + kept[5]);
                sum[3] += rate * (spring + kept[4]);
                kept[3] = after;
                kept[4] = spring;
                kept[5] = drag;
            }
        }
        latest.data[node + size] = latest.data[node];
        latest.data[node] = rho.data[node];
    }
"""


@cache
def kernels(dtype: torch.dtype) -> SimpleNamespace:
    """The kernels of one precision."""
    real = warp_scalar(dtype)
    home = wp.get_module(f"{__name__}.{dtype}")
    spelled = f"wp::{real.__name__}"

    @wp.kernel(module=home, enable_backward=False)
    def inject(
        first: int,
        clock: wp.array(dtype=wp.int32),
        nodes: wp.array(dtype=wp.int32),
        starts: wp.array(dtype=wp.int32),
        receivers: wp.array(dtype=wp.int32),
        weights: wp.array(dtype=real),
        residual: wp.array2d(dtype=real),
        field: wp.array(dtype=real),
    ):
        """Add what all receivers ask of one node at a step."""
        row = first + wp.tid()
        total = real(0.0)
        for entry in range(starts[row], starts[row + 1]):
            total += weights[entry] * residual[clock[0], receivers[entry]]
        field[nodes[row]] = field[nodes[row]] + total

    @wp.func_native(snippet=spell(DRIVE, spelled))
    def drive_all(
        begin: int,
        end: int,
        size: int,
        most: int,
        nodes: wp.array(dtype=wp.int32),
        starts: wp.array(dtype=wp.int32),
        surface: wp.array(dtype=wp.int32),
        branch_starts: wp.array(dtype=wp.int32),
        steps: wp.array2d(dtype=real),
        time_step: real,
        fraction: real,
        strength: wp.array(dtype=real),
        gain: wp.array(dtype=real),
        field: wp.array(dtype=real),
        acceleration: wp.array(dtype=real),
        filters: wp.array2d(dtype=real),
        latest: wp.array2d(dtype=real),
        previous: wp.array(dtype=real),
        right: wp.array(dtype=real),
        rho: wp.array(dtype=real),
        change: wp.array(dtype=real),
    ): ...

    @wp.func_native(snippet=spell(CLOSE, spelled))
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
        time_step: real,
        fraction: real,
        acceleration: wp.array(dtype=real),
        rho: wp.array(dtype=real),
        summed: int,
        rates: wp.array(dtype=real),
        field: wp.array(dtype=real),
        filters: wp.array2d(dtype=real),
        latest: wp.array2d(dtype=real),
        sums: wp.array2d(dtype=real),
    ): ...

    @wp.kernel(module=home, enable_backward=False)
    def drive(
        first: int,
        span: int,
        count: int,
        most: int,
        nodes: wp.array(dtype=wp.int32),
        starts: wp.array(dtype=wp.int32),
        surface: wp.array(dtype=wp.int32),
        branch_starts: wp.array(dtype=wp.int32),
        steps: wp.array2d(dtype=real),
        time_step: real,
        fraction: real,
        strength: wp.array(dtype=real),
        gain: wp.array(dtype=real),
        field: wp.array(dtype=real),
        acceleration: wp.array(dtype=real),
        filters: wp.array2d(dtype=real),
        latest: wp.array2d(dtype=real),
        previous: wp.array(dtype=real),
        right: wp.array(dtype=real),
        rho: wp.array(dtype=real),
        change: wp.array(dtype=real),
    ):
        """(1 + G T) rho = right at nodes of the walls."""
        begin = (first + wp.tid()) * span
        drive_all(
            begin, wp.min(begin + span, count), count, most, nodes, starts, surface,
            branch_starts, steps, time_step, fraction, strength, gain, field, acceleration,
            filters, latest, previous, right, rho, change,
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
        time_step: real,
        fraction: real,
        acceleration: wp.array(dtype=real),
        rho: wp.array(dtype=real),
        summed: int,
        rates: wp.array(dtype=real),
        field: wp.array(dtype=real),
        filters: wp.array2d(dtype=real),
        latest: wp.array2d(dtype=real),
        sums: wp.array2d(dtype=real),
    ):
        """The field at nodes of the walls with rho in it, and their filters a step on."""
        begin = (first + wp.tid()) * span
        close_all(
            begin, wp.min(begin + span, count), count, most, nodes, starts, surface,
            branch_starts, steps, time_step, fraction, acceleration, rho, summed, rates, field,
            filters, latest, sums,
        )  # fmt: skip

    @wp.kernel(module=home, enable_backward=False)
    def collect(
        first: int,
        clock: wp.array(dtype=wp.int32),
        nodes: wp.array2d(dtype=wp.int32),
        taps: wp.array(dtype=real),
        of_field: real,
        of_acceleration: real,
        field: wp.array(dtype=real),
        acceleration: wp.array(dtype=real),
        out: wp.array2d(dtype=real),
    ):
        """What the emission of a step did, at one of its nodes."""
        corner = first + wp.tid()
        for tap in range(taps.shape[0]):
            row = clock[0] - 1 + tap
            i = nodes[row, corner]
            out[row, corner] = out[row, corner] + taps[tap] * (
                of_field * field[i] + of_acceleration * acceleration[i]
            )

    @wp.kernel(module=home, enable_backward=False)
    def turn_back(first: int, clock: wp.array(dtype=wp.int32)):
        """To the step before."""
        clock[first + wp.tid()] = clock[first + wp.tid()] - 1

    return SimpleNamespace(
        inject=inject, drive=drive, close=close, collect=collect, turn_back=turn_back
    )
