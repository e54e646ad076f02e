"""Gradients of what receivers hear: one reverse sweep of the time loop, written by hand.

With T = 1 - dt²/12 A, steps pⁿ⁺¹ = 2 pⁿ - pⁿ⁻¹ + dt² T (-A pⁿ + sⁿ - fⁿ) and J a function of what
receivers hear, let M μⁿ be the derivative of J in pⁿ. A and T are self-adjoint in the inner product
of the mass M, so that

    μⁿ⁻¹ = 2 μⁿ - μⁿ⁺¹ + dt² T (-A μⁿ) + M⁻¹ rⁿ⁻¹        between rigid walls

is a step of the same loop, with what J asks of the receivers, r, for a source. A wall's force
f = W H R answers with a filter H to the rates R = (pⁿ⁺¹ - pⁿ⁻¹) / 2 dt at its node. Its adjoint
ρ = W Hᵀ ψ is the same filter run backwards in time, of ψ = -dt² T μ; it is added to μⁿ⁺¹ and taken
from μⁿ⁻¹, each over 2 dt, which again is a linear system (1 + G T) ρ = right among the walls'
nodes. With Z = H⁻¹ the impedance D d/dt + E + F ∫ of a branch, the derivatives of J are

    in W   Σ M R Hᵀ ψ                 in Z   -Σ M W R Zᵀ_θ Hᵀ Hᵀ ψ

so that they need the history of the rates alone, not that of the branches: a second filter takes
the first one's output. Those in the initial field are M μ of the steps in which it comes up, in
emitted amounts M dt² T μ, and in the stiffness K of A = c² M⁻¹ K a sum over the steps of
-c² dt² T μ pᵀ - c² dt⁴/12 μ (-A p + s - f)ᵀ
(reverse sweeps of discrete schemes: Griewank and Walther, Evaluating Derivatives, 2008, chapter 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.launch import Commands, launch, recorded
from sims.acoustics.elements.hexahedra import Hexahedra
from sims.acoustics.elements.space import Space
from sims.acoustics.gradients.adjoint_kernels import kernels
from sims.acoustics.gradients.checkpoints import GradientMemory, Kept, Recording
from sims.acoustics.gradients.shape_adjoint import ShapeSweep
from sims.acoustics.gradients.wall_adjoint import WallSweep, nodes_of_entries
from sims.acoustics.stepping.marching import KICKS, UNLIKE, Emitted, Stencils, Walls, Watch, march

WALLS_SHARE = 0.13  # of the full history, where no gradient needs fields; below 0.15 with the sweep
FIELDS_KEPT = 2**31  # bytes up to which all fields are kept rather than run again


@dataclass(frozen=True, eq=False)
class Run:
    """A run of the time loop without anything that requires gradients."""

    space: Space
    walls: Walls
    initial: Tensor
    receivers: Stencils
    emitted: Emitted | None
    steps: int
    time_step: float


def heard(
    space: Space,
    walls: Walls,
    initial: Tensor,
    receivers: Stencils,
    steps: int,
    time_step: float,
    *,
    emitted: Emitted | None = None,
    watch: Watch | None = None,
    memory: float | None = None,
) -> tuple[Tensor, GradientMemory | None]:
    """`march`, differentiable in the initial field, in the weights of receivers, in what is
    emitted, in the strength and the table of the walls, and in mass and metric of mapped elements.

    memory: how much of the full history (N, steps + 1) of the pressure gradients may keep, None for
    0.13, or for all where the metric requires gradients and 2 GiB hold it. What is kept less is run
    again; where the least there is takes more than `memory`, that is taken.

    Returns the pressure (steps + 1, R) and what the gradients keep, None where none are asked for.
    Raises InputError for a memory below 0, NotImplementedError when second derivatives are asked
    for.
    """
    if memory is not None and not (isinstance(memory, int | float) and memory >= 0):
        raise InputError(
            f"memory must be a share of the full history of at least 0, or None, got {memory!r}"
        )
    amounts = None if emitted is None else emitted.weights
    metric = getattr(space, "metric", None)
    given = (initial, receivers.weights, amounts, walls.strength, walls.table, metric, space.mass)
    if not (torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given)):
        options = {"emitted": emitted, "watch": watch}
        return march(space, walls, initial, receivers, steps, time_step, **options), None
    run = Run(
        space,
        replace(walls, strength=walls.strength.detach(), table=walls.table.detach()),
        initial.detach(),
        Stencils(receivers.nodes, receivers.weights.detach()),
        None if emitted is None else Emitted(emitted.nodes, emitted.weights.detach(), emitted.taps),
        steps,
        time_step,
    )
    reports: list[GradientMemory] = []
    out: Any = _Heard.apply(run, watch, memory, reports.append, *given)
    return out, reports[0]


class _Heard(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        run: Run,
        watch: Watch | None,
        memory: float | None,
        report: Callable[[GradientMemory], None],
        *given: Tensor | None,
    ) -> Tensor:
        wanted = Wanted(*ctx.needs_input_grad[4:])
        fields = wanted.metric or wanted.mass
        listeners = Listeners.of(run.receivers, run.space.mass)
        kept = Kept(wanted.walls, listeners.nodes.long() if wanted.weights else None, fields)
        nodes, size = len(run.initial), run.initial.element_size()
        working = 4 * nodes + 10 * len(run.walls.strength) * run.walls.most
        if fields:
            working += 2 * nodes + cast(Hexahedra, run.space).metric.numel()
        if memory is None:
            whole = 2 * nodes * (run.steps + 1) * size
            memory = math.inf if fields and whole <= FIELDS_KEPT else WALLS_SHARE
        ctx.run, ctx.wanted, ctx.listeners = run, wanted, listeners
        ctx.recording = Recording(
            run.space, run.walls, run.emitted, run.initial, run.time_step, run.steps, kept, working,
            memory,
        )  # fmt: skip
        report(ctx.recording.memory)
        return march(
            run.space,
            run.walls,
            run.initial,
            run.receivers,
            run.steps,
            run.time_step,
            emitted=run.emitted,
            watch=watch,
            follow=ctx.recording.follow,
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise NotImplementedError(
                "the time loop has no second derivative; drop create_graph=True and take "
                "differences of gradients"
            )
        residual = gradients[0].contiguous()
        found = sweep_back(ctx.run, ctx.recording, ctx.listeners, residual, ctx.wanted)
        return None, None, None, None, *found


@dataclass(frozen=True)
class Wanted:
    """Which gradients are asked for."""

    initial: bool
    weights: bool
    amounts: bool
    strength: bool
    table: bool
    metric: bool
    mass: bool

    @property
    def walls(self) -> bool:
        """Whether sums over the walls' nodes are needed."""
        return self.strength or self.table or self.mass


@dataclass(frozen=True, eq=False)
class Listeners:
    """Receivers by node. nodes: (U,) int32, each once. place: (R, Q), where each of a receiver's
    nodes stands among these. starts: (U + 1,); receivers, weights: (R Q,), by node, over the mass.
    """

    nodes: Tensor
    place: Tensor
    starts: Tensor
    receivers: Tensor
    weights: Tensor

    @classmethod
    def of(cls, receivers: Stencils, mass: Tensor) -> Listeners:
        """Sort the stencils of receivers by node."""
        corners = receivers.nodes.shape[1]
        nodes, place = torch.unique(receivers.nodes, return_inverse=True)
        order = torch.argsort(place.flatten(), stable=True)
        counts = torch.bincount(place.flatten(), minlength=len(nodes))
        over = receivers.weights.double() / mass.detach()[receivers.nodes.long()]
        return cls(
            nodes.int(),
            place,
            torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int(),
            (order // corners).int(),
            over.flatten()[order].to(receivers.weights.dtype),
        )


def sweep_back(
    run: Run, recording: Recording, listeners: Listeners, residual: Tensor, wanted: Wanted
) -> list[Tensor | None]:
    """The gradients of the sum of residual (steps + 1, R) times what is heard, as in `Wanted`."""
    space, time_step, mass = run.space, run.time_step, run.space.mass.detach()
    square, quartic = time_step**2, time_step**4 / 12
    tools = kernels(residual.dtype)
    field, previous, acceleration = (torch.zeros_like(run.initial) for _ in range(3))
    walls = WallSweep(run.walls, time_step, wanted.walls)
    shape = None
    if wanted.metric or wanted.mass:
        shape = ShapeSweep(cast(Hexahedra, space), time_step, field)
    emitted = None
    if run.emitted is not None and (wanted.amounts or wanted.mass):
        emitted = torch.zeros_like(run.emitted.weights)
    asked = residual.new_zeros(residual.shape[1], len(listeners.nodes))

    came_up = torch.zeros_like(run.initial)
    # by steps of the loop, of which the first one leads to time 0; what is heard there is `initial`
    at_once, residual = residual[0], torch.cat([torch.zeros_like(residual[:2]), residual[1:]])

    clock = torch.full((1,), run.steps + 1, dtype=torch.int32, device=field.device)
    commands: dict[int, Commands] = {}

    def inject(into: Tensor) -> None:
        by_node = [listeners.nodes, listeners.starts, listeners.receivers, listeners.weights]
        launch(tools.inject, len(listeners.nodes), [clock, *by_node, residual], [into])

    def begin(step: int) -> None:
        launch(tools.turn_back, 1, [], [clock])
        space.accelerate(field, acceleration)
        walls.close(field, previous, acceleration)
        if emitted is not None and run.emitted is not None and step:
            given = [clock, run.emitted.nodes, run.emitted.taps, square, quartic]
            launch(tools.collect, emitted.shape[1], [*given, field, acceleration], [emitted])

    def end() -> None:
        space.advance(field, previous, acceleration, time_step)
        inject(previous)

    inject(field)
    for index in reversed(range(len(recording.bounds) - 1)):
        segment = recording.segment(index)
        for step in reversed(range(segment.start, segment.stop)):
            if wanted.walls:
                walls.rates.copy_(segment.rates[step - segment.start])
            if shape is not None or step < UNLIKE:
                begin(step)
                if step in KICKS:
                    came_up.add_(field, alpha=KICKS[step])
                if shape is not None:
                    shape.add(field, acceleration, segment, step, run.initial)
                end()
            elif step % 2 in commands:
                commands[step % 2].run()
                walls.turn()
            else:
                with recorded() as commands[step % 2]:
                    begin(step)
                    end()
            field, previous = previous, field
        if wanted.weights:
            asked += residual[segment.start + 1 : segment.stop + 1].T @ segment.heard
    weights = None
    if wanted.weights:
        asked += at_once[:, None] * run.initial[listeners.nodes.long()]
        weights = asked.gather(1, listeners.place)
    if emitted is not None and run.emitted is not None:
        emitted = (emitted * mass[run.emitted.nodes.long()]).to(residual.dtype)
    strength, table = walls.gradients(mass) if wanted.walls else (None, None)
    metric = of_mass = None
    if shape is not None:
        metric = shape.metric() if wanted.metric else None
        of_mass = shape.mass.double()
        _add_powers(of_mass, run, emitted, strength)
    initial = None
    if wanted.initial:
        heard_at_once = (at_once[:, None] * run.receivers.weights).flatten()
        initial = came_up * mass.to(residual.dtype)
        initial.index_add_(0, run.receivers.nodes.flatten().long(), heard_at_once)
    return [initial, weights, emitted, strength, table, metric, of_mass]


def _add_powers(of_mass: Tensor, run: Run, emitted: Tensor | None, strength: Tensor | None) -> None:
    """What emission and walls did through M a = -K p + M (s - f), held against K alone."""
    mass = run.space.mass.detach()
    if emitted is not None and run.emitted is not None:
        nodes = run.emitted.nodes.long().flatten()
        powers = emitted.double() * run.emitted.weights
        of_mass.index_add_(0, nodes, powers.flatten() / mass[nodes])
    if strength is not None:
        nodes = nodes_of_entries(run.walls)
        of_mass.index_add_(0, nodes, strength.double() * run.walls.strength / mass[nodes])
