"""The time loop: ME4, fourth order in time, with passive walls.

    a = -A pⁿ + s                                   the air and what is emitted
    p* = 2 pⁿ - pⁿ⁻¹ + dt² a - dt⁴/12 A a           as between rigid walls
    pⁿ⁺¹ = p* - T φ,  T = 1 - dt²/12 A              φ = dt² f, zero but at nodes of walls

with the walls' f from the centred rate of p and the branches, stepped by the trapezoidal rule: a
linear system among the walls' nodes, (1 + G T) φ = right, which a few Chebyshev sweeps solve. Since
T⁻¹ (pⁿ⁺¹ - 2 pⁿ + pⁿ⁻¹) = -dt² (A pⁿ + f), the energy

    ½ |δp|²/dt² in M T⁻¹ + ½ <pⁿ⁺¹, A pⁿ> in M + ½ Σ c S w (D q² + F r²)

changes by what resistances take alone, and cannot grow whatever passive walls there are. An f that
is extrapolated instead grows, in three dimensions even at walls of 18 times the impedance of air.
The safe mode puts T φ = φ: no system to solve, and walls of second order.
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
from sims.acoustics.chebyshev import sweeps_for
from sims.acoustics.space import Space

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}  # of φ, beside its extrapolation


@dataclass(frozen=True, eq=False)
class Walls:
    """What the kernels read of the walls, in the dtype of the run.

    nodes: (W,) int32. starts, surface, strength: the entries of each node, see `Boundary`;
    strength: (K,) c S / M [1/s²]. branch_starts, table: see `Branches`. rows, row_starts, columns,
    values: see `Coupling`; diagonal: (W,) of A. fraction: dt²/12, or 0 in the safe mode. sweeps:
    the coefficients of each.
    """

    nodes: Tensor
    starts: Tensor
    surface: Tensor
    strength: Tensor
    branch_starts: Tensor
    table: Tensor
    rows: Tensor
    row_starts: Tensor
    columns: Tensor
    values: Tensor
    diagonal: Tensor
    fraction: float
    sweeps: list[tuple[float, float]]

    @property
    def most(self) -> int:
        """The most branches that one surface has."""
        return int(self.branch_starts.diff().max())


def walls_of(
    space: Space,
    boundary: Boundary,
    branches: Branches,
    time_step: float,
    dtype: torch.dtype,
    safe: bool,
) -> Walls:
    """The walls for the kernels; nodes where all walls are rigid are left out."""
    moving = branches.starts.diff()[boundary.surface.long()] > 0
    counts = boundary.starts.diff().long()
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    kept = torch.bincount(owner[moving], minlength=len(counts))
    nodes = boundary.nodes[kept > 0]
    starts = torch.cat([kept.new_zeros(1), kept[kept > 0].cumsum(0)]).int()
    surface = boundary.surface[moving].contiguous()
    mass = space.mass[boundary.nodes.long()][owner[moving]]
    strength = SPEED_OF_SOUND * boundary.areas[moving] / mass
    coupling = space.coupling(nodes)
    among = coupling.among(len(nodes))
    fraction = 0.0 if safe else time_step**2 / 12
    sweeps: list[tuple[float, float]] = []
    if len(nodes):
        gain = gains(starts, surface, strength.detach(), branches, time_step)
        own = space.mass[nodes.long()].detach().cpu().numpy()
        sweeps = sweeps_for(among, gain.cpu().numpy(), own, fraction, TOLERANCE[dtype])
    return Walls(
        nodes,
        starts,
        surface,
        strength.to(dtype).contiguous(),
        branches.starts,
        branches.table.to(dtype).contiguous(),
        coupling.rows.int(),
        coupling.starts,
        coupling.columns,
        coupling.values.to(dtype),
        torch.from_numpy(among.diagonal()).to(coupling.values).to(dtype),
        fraction,
        sweeps,
    )


def gains(
    starts: Tensor, surface: Tensor, strength: Tensor, branches: Branches, time_step: float
) -> Tensor:
    """G (W,) of each node of the walls: how much of a change of pressure φ answers with."""
    weight, inertia, resistance, stiffness = branches.table.detach().unbind(1)
    whole = inertia / time_step + resistance / 2 + stiffness * time_step / 4
    of_branch = torch.cat([weight.new_zeros(1), (weight / (2 * whole)).cumsum(0)])
    of_surface = of_branch[branches.starts.long()].diff()
    of_entry = torch.cat([strength.new_zeros(1), (strength * of_surface[surface.long()]).cumsum(0)])
    return time_step / 2 * of_entry[starts.long()].diff()


@dataclass(eq=False)
class WallState:
    """latest: (2, W), the last two φ, newest first. flow, spring: (K, branches), at half steps. The
    others, (W,), live within a step.
    """

    latest: Tensor
    flow: Tensor
    spring: Tensor
    before: Tensor
    gain: Tensor
    right: Tensor
    pushes: Tensor
    updated: Tensor
    change: Tensor
    rates: Tensor

    @classmethod
    def at_rest(cls, walls: Walls) -> WallState:
        """No flow and no force."""
        zeros = walls.strength.new_zeros
        count, entries = len(walls.nodes), len(walls.strength)
        branches = (zeros(entries, walls.most), zeros(entries, walls.most))
        return cls(zeros(2, count), *branches, *(zeros(count) for _ in range(7)))


def close_walls(
    walls: Walls, state: WallState, pressure: Tensor, time_step: float, rates: Tensor
) -> None:
    """p <- p* - T φ with the branches a step on; `state.before` holds the pressure a step ago."""
    keep, drive, sweep, close, spread = kernels(pressure.dtype)
    del keep
    count, coupled = len(walls.nodes), [walls.row_starts, walls.columns, walls.values]
    branches = [walls.branch_starts, walls.table]
    launch(
        drive,
        count,
        [
            walls.nodes, walls.starts, walls.surface, walls.strength, *branches, time_step,
            pressure, state.before, state.flow, state.spring, state.latest,
        ],
        [state.gain, state.right, state.pushes, state.change],
    )  # fmt: skip
    for momentum, weight in walls.sweeps:
        given = [*coupled, walls.diagonal, walls.fraction, momentum, weight]
        now = [state.gain, state.right, state.pushes]
        launch(sweep, count, [*given, *now], [state.change, state.updated])
        state.pushes, state.updated = state.updated, state.pushes
    launch(
        close,
        count,
        [
            walls.nodes, walls.starts, walls.surface, *branches, *coupled, walls.fraction,
            time_step, state.pushes, state.before,
        ],
        [pressure, state.flow, state.spring, state.latest, rates],
    )  # fmt: skip
    beside = len(walls.rows) - count
    if walls.fraction:
        given = [count, walls.rows, *coupled, walls.fraction, state.pushes]
        launch(spread, beside, given, [pressure])


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
    history: Tensor | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Pressure (steps + 1, R) at the receivers from the initial field (N,) at rest.

    emitted: what a point adds to the acceleration of its nodes in each step. history: (steps, W),
    filled with the rates of the walls' nodes. watch: called after each step with its number, the
    new field and the one before.
    """
    dtype, count = initial.dtype, len(walls.nodes)
    keep, *_ = kernels(dtype)
    emit, record = sampling(dtype)
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
            launch(keep, count, [walls.nodes, previous], [state.before])
            space.advance(pressure, previous, acceleration, time_step)
            if count:
                rates = state.rates if history is None else history[step]
                close_walls(walls, state, previous, time_step, rates)
        previous, pressure = pressure, previous
        sample(step + 1)
        if watch is not None:
            watch(step + 1, pressure, previous)
    return out
