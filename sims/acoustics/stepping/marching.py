"""The time loop: ME4, fourth order in time, with passive walls.

    a = -A pⁿ + s                                   the air and what is emitted
    p* = 2 pⁿ - pⁿ⁻¹ + dt² a - dt⁴/12 A a           as between rigid walls
    pⁿ⁺¹ = p* - T φ,  T = 1 - dt²/12 A              φ = dt² f, zero but at nodes of walls

with the walls' f from the centred rate of p and the branches, stepped by the trapezoidal rule with
τ = dt/√12 (see `boundary_kernels`; third order, but for masses, which are off by (w dt)²/6): a
linear system among the walls' nodes, (1 + G T) φ = right, which a few Chebyshev sweeps solve. Since
T⁻¹ (pⁿ⁺¹ - 2 pⁿ + pⁿ⁻¹) = -dt² (A pⁿ + f), the energy

    ½ |δp|²/dt² in M T⁻¹ + ½ <pⁿ⁺¹, A pⁿ> in M + ½ Σ c S w ((D + E τ) q² + F r² + E τ u²)

changes by what resistances take alone, and cannot grow whatever passive walls there are. An f that
is extrapolated instead grows, in three dimensions even at walls of 18 times the impedance of air.
The safe mode puts T φ = φ: no system to solve, and walls of second order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.launch import Commands, launch, recorded
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.elements.coupling import Coupling
from sims.acoustics.elements.space import Space
from sims.acoustics.stepping.boundary import Boundary, Branches
from sims.acoustics.stepping.boundary_kernels import MASS, PULL, SLACK, kernels, sampling
from sims.acoustics.stepping.chebyshev import sweeps_for

SPAN = 256
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}  # of φ, beside its extrapolation


@dataclass(frozen=True, eq=False)
class Walls:
    """What the kernels read of the walls, in the dtype of the run.

    nodes: (W,) int32. starts, surface, strength: the entries of each node, see `Boundary`;
    strength: (K,) c S / M [1/s²]. branch_starts, table: see `Branches`. steps: (B, 5), half the
    weight, keep, relax, yield and drag of each branch. gain: (W,), G. rows, row_starts, columns,
    values: see `Coupling`; diagonal: (W,) of A. fraction: dt²/12, or 0 in the safe mode. sweeps:
    the coefficients of each.
    """

    nodes: Tensor
    starts: Tensor
    surface: Tensor
    strength: Tensor
    branch_starts: Tensor
    table: Tensor
    steps: Tensor
    gain: Tensor
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
    known: dict[bytes, Coupling],
) -> Walls:
    """The walls for the kernels; nodes where all walls are rigid are left out.

    known: couplings of earlier walls by their nodes, to which this one is added.
    """
    moving = branches.starts.diff()[boundary.surface.long()] > 0
    counts = boundary.starts.diff().long()
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    kept = torch.bincount(owner[moving], minlength=len(counts))
    nodes = boundary.nodes[kept > 0]
    starts = torch.cat([kept.new_zeros(1), kept[kept > 0].cumsum(0)]).int()
    surface = boundary.surface[moving].contiguous()
    mass = space.mass[boundary.nodes.long()][owner[moving]]
    strength = SPEED_OF_SOUND * boundary.areas[moving] / mass
    key = nodes.cpu().numpy().tobytes()
    if key not in known:
        known[key] = space.coupling(nodes)
    coupling = known[key]
    among = coupling.among(len(nodes))
    fraction = 0.0 if safe else time_step**2 / 12
    sweeps: list[tuple[float, float]] = []
    steps = steps_of(branches.table.detach(), time_step)
    gain = gains(starts, surface, strength.detach(), branches, time_step)
    if len(nodes):
        own = space.mass[nodes.long()].detach().cpu().numpy()
        sweeps = sweeps_for(among, gain.cpu().numpy(), own, fraction, TOLERANCE[dtype])
    return Walls(
        nodes,
        starts,
        surface,
        strength.to(dtype).contiguous(),
        branches.starts,
        branches.table.to(dtype).contiguous(),
        steps.to(dtype).contiguous(),
        gain.to(dtype),
        coupling.rows.int(),
        coupling.starts,
        coupling.columns,
        coupling.values.to(dtype),
        torch.from_numpy(among.diagonal()).to(coupling.values).to(dtype),
        fraction,
        sweeps,
    )


def steps_of(table: Tensor, time_step: float) -> Tensor:
    """What a step does to the states of branches (B, 4), (B, 5), see `boundary_kernels`.

    With yield = 1 / (D/dt + E (√3/6 + PULL/2) + F dt/4): half the weight; keep, which is
    (D/dt + E (√3/6 - PULL/2) - F dt/4) yield; relax = -F yield; yield; drag = -E (√3 - 1)/2 yield.
    """
    weight, inertia, resistance, stiffness = table.unbind(1)
    changing = inertia / time_step + MASS * resistance
    steady = PULL / 2 * resistance + stiffness * time_step / 4
    answer = 1 / (changing + steady)
    kept = (changing - steady) * answer
    drag = -(1 + SLACK) / 2 * resistance * answer
    return torch.stack([weight / 2, kept, -stiffness * answer, answer, drag], 1)


def gains(
    starts: Tensor, surface: Tensor, strength: Tensor, branches: Branches, time_step: float
) -> Tensor:
    """G (W,) of each node of the walls: how much of a change of pressure φ answers with."""
    half_weight, _, _, answer, _ = steps_of(branches.table.detach(), time_step).unbind(1)
    of_branch = torch.cat([answer.new_zeros(1), (half_weight * answer).cumsum(0)])
    of_surface = of_branch[branches.starts.long()].diff()
    of_entry = torch.cat([strength.new_zeros(1), (strength * of_surface[surface.long()]).cumsum(0)])
    return time_step / 2 * of_entry[starts.long()].diff()


@dataclass(eq=False)
class WallState:
    """latest: (2, W), the last two φ, newest first. flow, spring, drag: (K, branches), at half
    steps. The others, (W,), live within a step.
    """

    latest: Tensor
    flow: Tensor
    spring: Tensor
    drag: Tensor
    before: Tensor
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
        branches = (zeros(entries, walls.most) for _ in range(3))
        return cls(zeros(2, count), *branches, *(zeros(count) for _ in range(6)))


def close_walls(walls: Walls, state: WallState, pressure: Tensor, time_step: float) -> None:
    """p <- p* - T φ with the branches a step on; `state.before` holds the pressure a step ago."""
    _, drive, _, close, spread = kernels(pressure.dtype)
    count, span = len(walls.nodes), span_of(pressure)
    coupled = [walls.row_starts, walls.columns, walls.values]
    entries = [walls.nodes, walls.starts, walls.surface]
    branches = [walls.branch_starts, walls.steps]
    launch(
        drive,
        -(-count // span),
        [
            span, count, walls.most, time_step**2, *entries, walls.strength, *branches, walls.gain,
            pressure, state.before, state.flow, state.spring, state.drag, state.latest,
        ],
        [state.right, state.pushes, state.change],
    )  # fmt: skip
    state.pushes, state.updated = swept(
        walls, walls.gain, state.right, state.pushes, state.change, state.updated
    )
    launch(
        close,
        -(-count // span),
        [
            span, count, walls.most, *entries, *branches, *coupled, walls.fraction, time_step,
            state.pushes, state.before,
        ],
        [pressure, state.flow, state.spring, state.drag, state.latest, state.rates],
    )  # fmt: skip
    if walls.fraction:
        given = [span, count, len(walls.rows), walls.rows, *coupled, walls.fraction, state.pushes]
        launch(spread, -(-(len(walls.rows) - count) // span), given, [pressure])


def swept(
    walls: Walls, gain: Tensor, right: Tensor, start: Tensor, change: Tensor, room: Tensor
) -> tuple[Tensor, Tensor]:
    """The solution of (1 + G T) φ = right from a start, and the tensor (W,) that it leaves free.

    change, room: (W,), to work in; change starts at zero.
    """
    _, _, sweep, _, _ = kernels(right.dtype)
    count, span = len(walls.nodes), span_of(right)
    for momentum, weight in walls.sweeps:
        given = [
            span, count, walls.row_starts, walls.columns, walls.values, walls.diagonal,
            walls.fraction, momentum, weight, gain, right, start,
        ]  # fmt: skip
        launch(sweep, -(-count // span), given, [change, room])
        start, room = room, start
    return start, room


def span_of(like: Tensor) -> int:
    """Nodes that a thread takes: on CPU as many as make its start cheap."""
    return SPAN if like.device.type == "cpu" else 1


@dataclass(frozen=True, eq=False)
class Stencils:
    """Nodes (R, Q) int32 and weights (R, Q) of receivers."""

    nodes: Tensor
    weights: Tensor


@dataclass(frozen=True, eq=False)
class Emitted:
    """What a point adds to the acceleration: in step n the sum over k of taps_k weights_(n + k).

    nodes: (steps + K - 1, Q) int32. weights: the same, over the mass. taps: (K,) of a derivative in
    time. Where a point moves they join what it did in one element to what it does in the next.
    """

    nodes: Tensor
    weights: Tensor
    taps: Tensor


Watch = Callable[[int, Tensor, Tensor], None]
# of the initial field, that the first and the third step put in: between rigid walls the start from
# rest that a mirrored past gives, and everywhere the answer to an impulse, which walls feel too
KICKS = {0: 0.5, 2: -0.5}
UNLIKE = 4  # steps after which all are alike, so that their launches can be made again; even


@dataclass(eq=False)
class Motion:
    """The sound after `step` steps, of which the first one leads to time 0: pressure and the one
    before it, (N,), and what moves the walls.

    clock: (1,) int32, the step where kernels read it. acceleration: (N,), that of the step that was
    taken last, between rigid walls.
    """

    step: int
    clock: Tensor
    pressure: Tensor
    previous: Tensor
    acceleration: Tensor
    walls: WallState

    @classmethod
    def at_rest(cls, like: Tensor, walls: Walls) -> Motion:
        """Silence in a field like (N,)."""
        pressure, previous, acceleration = (torch.zeros_like(like) for _ in range(3))
        clock = torch.zeros(1, dtype=torch.int32, device=like.device)
        return cls(0, clock, pressure, previous, acceleration, WallState.at_rest(walls))

    def kept(self) -> tuple[Tensor, ...]:
        """Copies of what a later step depends on, for `resumed`."""
        walls = self.walls
        lasting = walls.latest, walls.flow, walls.spring, walls.drag
        return tuple(tensor.clone() for tensor in (self.pressure, self.previous, *lasting))

    @classmethod
    def resumed(cls, step: int, kept: tuple[Tensor, ...], walls: Walls) -> Motion:
        """The motion after `step` steps, of which `kept` was kept."""
        motion = cls.at_rest(kept[0], walls)
        motion.step, motion.pressure, motion.previous = step, kept[0].clone(), kept[1].clone()
        motion.clock.fill_(step)
        state = motion.walls
        lasting = (tensor.clone() for tensor in kept[2:])
        state.latest, state.flow, state.spring, state.drag = lasting
        return motion

    def turn(self, walls: Walls) -> None:
        """What a step does to the names of its tensors, after it was made again."""
        self.pressure, self.previous = self.previous, self.pressure
        if len(walls.sweeps) % 2:
            state = self.walls
            state.pushes, state.updated = state.updated, state.pushes
        self.step += 1


def move(
    space: Space,
    walls: Walls,
    motion: Motion,
    time_step: float,
    initial: Tensor,
    emitted: Emitted | None,
) -> None:
    """Take one step; `initial` (N,) comes in by the `KICKS`."""
    pressure, previous, acceleration = motion.pressure, motion.previous, motion.acceleration
    space.accelerate(pressure, acceleration)
    if emitted is not None and motion.step:
        emit, *_ = sampling(pressure.dtype)
        inputs = [motion.clock, emitted.nodes, emitted.weights, emitted.taps]
        launch(emit, emitted.nodes.shape[1], inputs, [acceleration])
    keep, *_ = kernels(pressure.dtype)
    launch(keep, len(walls.nodes), [walls.nodes, previous], [motion.walls.before])
    space.advance(pressure, previous, acceleration, time_step)
    if motion.step in KICKS:
        previous.add_(initial, alpha=KICKS[motion.step])
    if len(walls.nodes):
        close_walls(walls, motion.walls, previous, time_step)
    *_, tick = sampling(pressure.dtype)
    launch(tick, 1, [], [motion.clock])
    motion.previous, motion.pressure = pressure, previous
    motion.step += 1


class Repeated:
    """Steps of a motion, of which those that are alike are recorded and made again."""

    def __init__(self, take: Callable[[], None], motion: Motion, walls: Walls) -> None:
        """take: takes one step of the motion, by launches alone from step `UNLIKE` on."""
        self._take, self._motion, self._walls = take, motion, walls
        self._commands: dict[int, Commands] = {}  # two, since two fields change places

    def __call__(self) -> None:
        """Take a step."""
        turn = self._motion.step % 2
        if self._motion.step < UNLIKE:
            self._take()
        elif turn in self._commands:
            self._commands[turn].run()
            self._motion.turn(self._walls)
        else:
            with recorded() as self._commands[turn]:
                self._take()


def march(
    space: Space,
    walls: Walls,
    initial: Tensor,
    receivers: Stencils,
    steps: int,
    time_step: float,
    *,
    emitted: Emitted | None = None,
    watch: Watch | None = None,
    follow: Callable[[Motion], None] | None = None,
) -> Tensor:
    """Pressure (steps + 1, R) at the receivers, from the field (N,) that comes up at time 0 on.

    emitted: what a point adds to the acceleration of its nodes in each step. watch: called after
    each step with its number, the new field and the one before; follow: before the first step,
    which leads to time 0, and after each with all that moves.
    """
    _, record, _ = sampling(initial.dtype)
    motion = Motion.at_rest(initial, walls)
    out = initial.new_zeros(steps + 1, len(receivers.nodes))

    def take() -> None:
        move(space, walls, motion, time_step, initial, emitted)
        field = initial if motion.step == 1 else motion.pressure
        inputs = [motion.clock, receivers.nodes, receivers.weights, field]
        launch(record, len(receivers.nodes), inputs, [out])

    stepped = Repeated(take, motion, walls)
    if follow is not None:
        follow(motion)
    while motion.step <= steps:
        stepped()
        if follow is not None:
            follow(motion)
        if watch is not None:
            watch(motion.step - 1, motion.pressure, motion.previous)
    return out
