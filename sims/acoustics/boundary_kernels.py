"""Kernels of the walls in one step of time. A thread is one node of the walls."""

from functools import cache
from typing import Any

import torch
import warp as wp

from geomopt.launch import warp_scalar


@cache
def kernels(dtype: torch.dtype) -> Any:
    """The two kernels of a step, before and after the second application of the operator."""
    real = warp_scalar(dtype)
    home = wp.get_module(f"{__name__}.{dtype}")

    @wp.kernel(module=home, enable_backward=False)
    def hold_back(
        first: int,
        nodes: wp.array(dtype=wp.int32),
        previous: wp.array(dtype=real),
        force: wp.array2d(dtype=real),
        extrapolated: real,
        acceleration: wp.array(dtype=real),
        before: wp.array(dtype=real),
    ):
        """a <- a - g with g = 2 f(n-1) - f(n-2), and the previous pressure kept."""
        node = first + wp.tid()
        i = nodes[node]
        before[node] = previous[i]
        acceleration[i] = acceleration[i] - extrapolated * (
            real(2.0) * force[0, node] - force[1, node]
        )

    @wp.kernel(module=home, enable_backward=False)
    def close(
        first: int,
        nodes: wp.array(dtype=wp.int32),
        starts: wp.array(dtype=wp.int32),
        surface: wp.array(dtype=wp.int32),
        strength: wp.array(dtype=real),
        branch_starts: wp.array(dtype=wp.int32),
        table: wp.array2d(dtype=real),
        most: int,
        time_step: real,
        extrapolated: real,
        before: wp.array(dtype=real),
        force: wp.array2d(dtype=real),
        flow: wp.array2d(dtype=real),
        spring: wp.array2d(dtype=real),
        pressure: wp.array(dtype=real),
        rates: wp.array(dtype=real),
    ):
        """The new pressure at a node from p* and its branches; `strength` is c S / M.

        A branch w / (D s + E + F/s) is stepped by the trapezoidal rule, its flow q at half steps.
        """
        node = first + wp.tid()
        i = nodes[node]
        half = real(0.5) * time_step
        gain = real(0.0)
        drive = real(0.0)
        for entry in range(starts[node], starts[node + 1]):
            owner = surface[entry]
            offset = branch_starts[owner]
            for branch in range(branch_starts[owner + 1] - offset):
                weight = strength[entry] * table[offset + branch, 0]
                inertia = table[offset + branch, 1] / time_step
                resistance = real(0.5) * table[offset + branch, 2]
                stiffness = real(0.5) * half * table[offset + branch, 3]
                whole = inertia + resistance + stiffness
                old = flow[entry, branch]
                kept = (
                    (inertia - resistance - stiffness) * old
                    - table[offset + branch, 3] * spring[entry, branch]
                ) / whole
                gain += weight * real(0.5) / whole
                drive += weight * real(0.5) * (kept + old)
        squared = time_step * time_step
        guess = extrapolated * (real(2.0) * force[0, node] - force[1, node])
        star = pressure[i] + squared * guess
        share = half * gain
        updated = (star - squared * drive + share * before[node]) / (real(1.0) + share)
        rate = (updated - before[node]) / (real(2.0) * time_step)
        for entry in range(starts[node], starts[node + 1]):
            owner = surface[entry]
            offset = branch_starts[owner]
            for branch in range(branch_starts[owner + 1] - offset):
                inertia = table[offset + branch, 1] / time_step
                resistance = real(0.5) * table[offset + branch, 2]
                stiffness = real(0.5) * half * table[offset + branch, 3]
                whole = inertia + resistance + stiffness
                old = flow[entry, branch]
                new = (
                    (inertia - resistance - stiffness) * old
                    - table[offset + branch, 3] * spring[entry, branch]
                ) / whole + rate / whole
                if inertia + stiffness == real(0.0):
                    new = real(0.0)  # a resistance alone has no state: its flow is rate / E
                flow[entry, branch] = new
                spring[entry, branch] = spring[entry, branch] + half * (new + old)
        force[1, node] = force[0, node]
        force[0, node] = drive + gain * rate
        pressure[i] = updated
        rates[node] = rate

    return hold_back, close


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
