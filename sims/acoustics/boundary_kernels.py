"""Kernels of the walls in one step of time. A thread is one node of the walls."""

from functools import cache
from typing import Any

import torch
import warp as wp

from geomopt.launch import warp_scalar


@cache
def kernels(dtype: torch.dtype) -> Any:
    """The kernels of a step, in their order: `keep`, `drive`, `sweep`, `close` and `spread`."""
    real = warp_scalar(dtype)
    home = wp.get_module(f"{__name__}.{dtype}")

    @wp.func(module=home)
    def smoothed(
        row: int,
        starts: wp.array(dtype=wp.int32),
        columns: wp.array(dtype=wp.int32),
        values: wp.array(dtype=real),
        pushes: wp.array(dtype=real),
    ):
        """(A phi) of a row."""
        total = real(0.0)
        for entry in range(starts[row], starts[row + 1]):
            total += values[entry] * pushes[columns[entry]]
        return total

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
        nodes: wp.array(dtype=wp.int32),
        starts: wp.array(dtype=wp.int32),
        surface: wp.array(dtype=wp.int32),
        strength: wp.array(dtype=real),
        branch_starts: wp.array(dtype=wp.int32),
        table: wp.array2d(dtype=real),
        time_step: real,
        pressure: wp.array(dtype=real),
        before: wp.array(dtype=real),
        flow: wp.array2d(dtype=real),
        spring: wp.array2d(dtype=real),
        latest: wp.array2d(dtype=real),
        gain: wp.array(dtype=real),
        right: wp.array(dtype=real),
        pushes: wp.array(dtype=real),
        change: wp.array(dtype=real),
    ):
        """(1 + G T) phi = right at a node, from its branches and p*; phi starts extrapolated."""
        node = first + wp.tid()
        half = real(0.5) * time_step
        share = real(0.0)
        driven = real(0.0)
        for entry in range(starts[node], starts[node + 1]):
            offset = branch_starts[surface[entry]]
            for branch in range(branch_starts[surface[entry] + 1] - offset):
                weight = real(0.5) * strength[entry] * table[offset + branch, 0]
                inertia = table[offset + branch, 1] / time_step
                resistance = real(0.5) * table[offset + branch, 2]
                stiffness = real(0.5) * half * table[offset + branch, 3]
                whole = inertia + resistance + stiffness
                old = flow[entry, branch]
                kept = (
                    (inertia - resistance - stiffness) * old
                    - table[offset + branch, 3] * spring[entry, branch]
                ) / whole
                share += weight / whole
                driven += weight * (kept + old)
        gain[node] = half * share
        right[node] = time_step * time_step * driven + half * share * (
            pressure[nodes[node]] - before[node]
        )
        pushes[node] = real(2.0) * latest[0, node] - latest[1, node]
        change[node] = real(0.0)

    @wp.kernel(module=home, enable_backward=False)
    def sweep(
        first: int,
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
        node = first + wp.tid()
        own = pushes[node]
        pushed = own - fraction * smoothed(node, starts, columns, values, pushes)
        whole = real(1.0) + gain[node] * (real(1.0) - fraction * diagonal[node])
        rest = (right[node] - own - gain[node] * pushed) / whole
        step = momentum * change[node] + weight * rest
        change[node] = step
        updated[node] = own + step

    @wp.kernel(module=home, enable_backward=False)
    def close(
        first: int,
        nodes: wp.array(dtype=wp.int32),
        starts: wp.array(dtype=wp.int32),
        surface: wp.array(dtype=wp.int32),
        branch_starts: wp.array(dtype=wp.int32),
        table: wp.array2d(dtype=real),
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
        latest: wp.array2d(dtype=real),
        rates: wp.array(dtype=real),
    ):
        """p <- p* - T phi at a node of the walls, and its branches a step on."""
        node = first + wp.tid()
        i = nodes[node]
        half = real(0.5) * time_step
        spread_out = smoothed(node, row_starts, columns, values, pushes)
        updated = pressure[i] - pushes[node] + fraction * spread_out
        rate = (updated - before[node]) / (real(2.0) * time_step)
        for entry in range(starts[node], starts[node + 1]):
            offset = branch_starts[surface[entry]]
            for branch in range(branch_starts[surface[entry] + 1] - offset):
                inertia = table[offset + branch, 1] / time_step
                resistance = real(0.5) * table[offset + branch, 2]
                stiffness = real(0.5) * half * table[offset + branch, 3]
                whole = inertia + resistance + stiffness
                old = flow[entry, branch]
                new = (
                    (inertia - resistance - stiffness) * old
                    - table[offset + branch, 3] * spring[entry, branch]
                    + rate
                ) / whole
                if inertia + stiffness == real(0.0):
                    new = real(0.0)  # a resistance alone has no state: its flow is rate / E
                flow[entry, branch] = new
                spring[entry, branch] = spring[entry, branch] + half * (new + old)
        latest[1, node] = latest[0, node]
        latest[0, node] = pushes[node]
        pressure[i] = updated
        rates[node] = rate

    @wp.kernel(module=home, enable_backward=False)
    def spread(
        first: int,
        skipped: int,
        rows: wp.array(dtype=wp.int32),
        starts: wp.array(dtype=wp.int32),
        columns: wp.array(dtype=wp.int32),
        values: wp.array(dtype=real),
        fraction: real,
        pushes: wp.array(dtype=real),
        pressure: wp.array(dtype=real),
    ):
        """p <- p* + fraction (A phi) at a node beside the walls."""
        row = skipped + first + wp.tid()
        pressure[rows[row]] = pressure[rows[row]] + fraction * smoothed(
            row, starts, columns, values, pushes
        )

    return keep, drive, sweep, close, spread


@cache
def sampling(dtype: torch.dtype) -> Any:
    """The kernels that emit into the field and record from it."""
    real = warp_scalar(dtype)
    home = wp.get_module(f"{__name__}.sampling.{dtype}")

    @wp.kernel(module=home, enable_backward=False)
    def emit(
        first: int,
        step: int,
        nodes: wp.array2d(dtype=wp.int32),
        amounts: wp.array2d(dtype=real),
        acceleration: wp.array(dtype=real),
    ):
        """a <- a + what a moving point adds in this step; its nodes are those of one element."""
        corner = first + wp.tid()
        i = nodes[step, corner]
        acceleration[i] = acceleration[i] + amounts[step, corner]

    @wp.kernel(module=home, enable_backward=False)
    def record(
        first: int,
        step: int,
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
        out[step, receiver] = total

    return emit, record
