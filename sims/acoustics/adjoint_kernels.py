"""Kernels of the reverse sweep; see `adjoint` for the scheme that they transpose.

A branch steps its flow v and spring s by v+ = keep v - pull s + answer x, s+ = s + dt (v+ + v)/2,
of an input x; its output is (v+ + v)/2. `branches` holds weight, keep, pull and answer of each.
`filters` holds, at entry * most + branch, v and s of the filter of the adjoint force, and of a
second one that takes the output of the first.
"""

from functools import cache
from types import SimpleNamespace

import torch
import warp as wp

from geomopt.launch import warp_scalar


@cache
def kernels(dtype: torch.dtype) -> SimpleNamespace:
    """The kernels of one precision."""
    real = warp_scalar(dtype)
    home = wp.get_module(f"{__name__}.{dtype}")

    @wp.kernel(module=home, enable_backward=False)
    def inject(
        first: int,
        step: int,
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
            total += weights[entry] * residual[step, receivers[entry]]
        field[nodes[row]] = field[nodes[row]] + total

    @wp.kernel(module=home, enable_backward=False)
    def drive(
        first: int,
        nodes: wp.array(dtype=wp.int32),
        starts: wp.array(dtype=wp.int32),
        surface: wp.array(dtype=wp.int32),
        strength: wp.array(dtype=real),
        branch_starts: wp.array(dtype=wp.int32),
        branches: wp.array2d(dtype=real),
        most: int,
        time_step: real,
        fraction: real,
        field: wp.array(dtype=real),
        acceleration: wp.array(dtype=real),
        filters: wp.array2d(dtype=real),
        latest: wp.array2d(dtype=real),
        previous: wp.array(dtype=real),
        gain: wp.array(dtype=real),
        right: wp.array(dtype=real),
        rho: wp.array(dtype=real),
        change: wp.array(dtype=real),
    ):
        """(1 + G T) rho = right at a node; rho starts extrapolated. The last one is handed on."""
        node = first + wp.tid()
        i = nodes[node]
        half = real(0.5) * time_step
        previous[i] = previous[i] + latest[0, node] / (real(2.0) * time_step)
        share = real(0.0)
        driven = real(0.0)
        for entry in range(starts[node], starts[node + 1]):
            offset = branch_starts[surface[entry]]
            for branch in range(branch_starts[surface[entry] + 1] - offset):
                own = offset + branch
                place = entry * most + branch
                weight = real(0.5) * strength[entry] * branches[own, 0]
                flow = filters[place, 0]
                kept = branches[own, 1] * flow - branches[own, 2] * filters[place, 1]
                share += weight * branches[own, 3]
                driven += weight * (kept + flow)
        gain[node] = half * share
        seen = field[i] + fraction * acceleration[i]
        right[node] = driven - time_step * time_step * share * seen
        rho[node] = real(2.0) * latest[0, node] - latest[1, node]
        change[node] = real(0.0)

    @wp.kernel(module=home, enable_backward=False)
    def close(
        first: int,
        nodes: wp.array(dtype=wp.int32),
        starts: wp.array(dtype=wp.int32),
        surface: wp.array(dtype=wp.int32),
        branch_starts: wp.array(dtype=wp.int32),
        branches: wp.array2d(dtype=real),
        most: int,
        time_step: real,
        fraction: real,
        acceleration: wp.array(dtype=real),
        rho: wp.array(dtype=real),
        summed: int,
        step: int,
        rates: wp.array2d(dtype=real),
        field: wp.array(dtype=real),
        filters: wp.array2d(dtype=real),
        latest: wp.array2d(dtype=real),
        sums: wp.array2d(dtype=real),
    ):
        """The field at a node of the walls with rho in it, and the filters a step on.

        Sums over time, with the rate of the pressure: of the first filter's output, and of the
        second's v+ - v, v+ + v and s+ + s.
        """
        node = first + wp.tid()
        i = nodes[node]
        half = real(0.5) * time_step
        field[i] = field[i] + rho[node] / (real(2.0) * time_step)
        force = -time_step * time_step * (field[i] + fraction * acceleration[i])
        for entry in range(starts[node], starts[node + 1]):
            offset = branch_starts[surface[entry]]
            for branch in range(branch_starts[surface[entry] + 1] - offset):
                keep = branches[offset + branch, 1]
                pull = branches[offset + branch, 2]
                answer = branches[offset + branch, 3]
                place = entry * most + branch
                flow = filters[place, 0]
                new = keep * flow - pull * filters[place, 1] + answer * force
                output = real(0.5) * (new + flow)
                filters[place, 0] = new
                filters[place, 1] = filters[place, 1] + time_step * output
                if summed != 0:
                    rate = rates[step, node]
                    flow = filters[place, 2]
                    spring = filters[place, 3]
                    new = keep * flow - pull * spring + answer * output
                    stretched = spring + half * (new + flow)
                    filters[place, 2] = new
                    filters[place, 3] = stretched
                    sums[place, 0] = sums[place, 0] + rate * output
                    sums[place, 1] = sums[place, 1] + rate * (new - flow)
                    sums[place, 2] = sums[place, 2] + rate * (new + flow)
                    sums[place, 3] = sums[place, 3] + rate * (stretched + spring)
        latest[1, node] = latest[0, node]
        latest[0, node] = rho[node]

    @wp.kernel(module=home, enable_backward=False)
    def collect(
        first: int,
        step: int,
        nodes: wp.array2d(dtype=wp.int32),
        of_field: real,
        of_acceleration: real,
        field: wp.array(dtype=real),
        acceleration: wp.array(dtype=real),
        out: wp.array2d(dtype=real),
    ):
        """What the emission of a step did, at one of its nodes."""
        corner = first + wp.tid()
        i = nodes[step, corner]
        out[step, corner] = of_field * field[i] + of_acceleration * acceleration[i]

    return SimpleNamespace(inject=inject, drive=drive, close=close, collect=collect)
