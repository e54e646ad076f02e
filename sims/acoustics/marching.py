"""The time loop: ME4, fourth order in time, with walls that are stepped by the trapezoidal rule.

    aⁿ = -A pⁿ + sⁿ                             the air and what is emitted
    gⁿ = 2 fⁿ⁻¹ - fⁿ⁻²                          the walls' acceleration, extrapolated
    p* = 2 pⁿ - pⁿ⁻¹ + dt² aⁿ - dt⁴/12 A (aⁿ - gⁿ)
    pⁿ⁺¹, fⁿ from p* and the branches of each wall node

Without gⁿ the walls are of second order, and the scheme loses energy by construction: with
T = A - dt² A²/12 it is M δ²p + M T p = -M f, where f meets the centred rate of p as a passive
admittance, so that the energy cannot grow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.launch import launch
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.boundary import Boundary, Branches
from sims.acoustics.boundary_kernels import kernels, sampling
from sims.acoustics.space import Space


@dataclass(frozen=True, eq=False)
class Walls:
    """What the kernels read of the walls, in the dtype of the run. strength: (K,) c S / M [1/s²]."""

    nodes: Tensor
    starts: Tensor
    surface: Tensor
    strength: Tensor
    branch_starts: Tensor
    table: Tensor

    @property
    def most(self) -> int:
        """The most branches that one surface has."""
        return int(self.branch_starts.diff().max()) if len(self.branch_starts) > 1 else 0


def walls_of(space: Space, boundary: Boundary, branches: Branches, dtype: torch.dtype) -> Walls:
    """The walls for the kernels; nodes where all walls are rigid are left out."""
    moving = branches.starts.diff()[boundary.surface.long()] > 0
    counts = boundary.starts.diff().long()
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    kept = torch.bincount(owner[moving], minlength=len(counts))
    nodes = boundary.nodes[kept > 0]
    starts = torch.cat([kept.new_zeros(1), kept[kept > 0].cumsum(0)]).int()
    mass = space.mass[boundary.nodes.long()][owner[moving]]
    strength = SPEED_OF_SOUND * boundary.areas[moving] / mass
    return Walls(
        nodes,
        starts,
        boundary.surface[moving].contiguous(),
        strength.to(dtype).contiguous(),
        branches.starts,
        branches.table.to(dtype).contiguous(),
    )


@dataclass(eq=False)
class WallState:
    """force (2, W), newest first; flow and spring (K, branches) at half steps; scratch (W,)."""

    force: Tensor
    flow: Tensor
    spring: Tensor
    before: Tensor
    rates: Tensor

    @classmethod
    def at_rest(cls, walls: Walls) -> WallState:
        """No flow and no force."""
        zeros = walls.strength.new_zeros
        count, entries, most = len(walls.nodes), len(walls.strength), max(walls.most, 1)
        return cls(
            zeros(2, count),
            zeros(entries, most),
            zeros(entries, most),
            zeros(count),
            zeros(count),
        )


@dataclass(frozen=True, eq=False)
class Stencils:
    """Nodes (n, Q) int32 and weights (n, Q): of n receivers, or of a source at n steps."""

    nodes: Tensor
    weights: Tensor


Watch = Callable[[int, Tensor, Tensor], None]


def march(
    space: Space,
    walls: Walls,
    initial: Tensor,
    receivers: Stencils,
    steps: int,
    time_step: float,
    *,
    emitted: Stencils | None = None,
    extrapolated: bool = True,
    history: Tensor | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Pressure (steps + 1, R) at the receivers from the initial field (N,) at rest.

    emitted: what a point adds to the acceleration of its nodes in each step. extrapolated: False
    leaves the term gⁿ out, the safe mode. history: (steps, W), filled with the rates of the walls'
    nodes. watch: called after each step with its number, the new field and the one before.
    """
    dtype, mover = initial.dtype, float(extrapolated)
    hold_back, close = kernels(dtype)
    emit, record = sampling(dtype)
    count = len(walls.nodes)
    state = WallState.at_rest(walls)
    previous, pressure = initial.clone(), initial.clone()
    acceleration = torch.zeros_like(initial)
    out = initial.new_zeros(steps + 1, len(receivers.nodes))

    def sample(step: int) -> None:
        inputs = [step, receivers.nodes, receivers.weights, pressure]
        launch(record, len(receivers.nodes), inputs, [out])

    sample(0)
    for step in range(steps):
        space.accelerate(pressure, acceleration)
        if emitted is not None:
            inputs = [step, emitted.nodes, emitted.weights]
            launch(emit, emitted.nodes.shape[1], inputs, [acceleration])
        if step == 0:
            # from rest: half of the step that a mirrored past would give; the walls are at rest too
            space.advance(pressure, previous, acceleration, time_step)
            torch.add(previous, pressure, out=previous).mul_(0.5)
        else:
            if count:
                inputs = [walls.nodes, previous, state.force, mover]
                launch(hold_back, count, inputs, [acceleration, state.before])
            space.advance(pressure, previous, acceleration, time_step)
            if count:
                rates = state.rates if history is None else history[step]
                launch(
                    close,
                    count,
                    [
                        walls.nodes, walls.starts, walls.surface, walls.strength,
                        walls.branch_starts, walls.table, walls.most, time_step, mover,
                        state.before, state.force, state.flow, state.spring,
                    ],
                    [previous, rates],
                )  # fmt: skip
        previous, pressure = pressure, previous
        sample(step + 1)
        if watch is not None:
            watch(step + 1, pressure, previous)
    return out
