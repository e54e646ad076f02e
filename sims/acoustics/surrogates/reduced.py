"""A room reduced to its modes, computed from the solver: no training, and walls that can change.

The pressure is projected (Galerkin) onto the rigid modes φ of the solver's own operator. Between
rigid walls q_j'' + ω_j² q_j = 0; walls that absorb couple the modes by c Φᵀ S y Φ, see
`reduced_walls`. The answer is a sum of damped exponentials, one for each resonance.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_tensor
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.room import Room
from sims.acoustics.solver import Solver
from sims.acoustics.source import Emission, Pulse, default_width
from sims.acoustics.surrogates.records import Error, Records, error_of
from sims.acoustics.surrogates.reduced_attachments import attached
from sims.acoustics.surrogates.reduced_modes import SHIFT, Modes, Operator, operator_of
from sims.acoustics.surrogates.reduced_walls import Resonances, resonances_of, traces_of
from sims.acoustics.surrogates.ringing import ring
from sims.acoustics.walls.wall import Wall

CUTOFF = 1.2  # of fmax, where the spectrum of the default pulse has fallen by 50 dB
ATTACHMENTS = 0.03
AT_ONCE = 4096  # times that are answered together
HELD_OUT = (3, 60)  # sources and receivers that the error is measured on
ROUNDING = 1e-6  # by which a width may fall short of the narrowest


@dataclass(frozen=True)
class Cost:
    """What a reduced model takes. modes, resonances: how many. build: processor seconds for the
    modes and what the walls do to them; walls: of these, what other walls would take again.
    """

    modes: int
    resonances: int
    build: float
    walls: float

    def repays_after(self, solver: float, response: float) -> float:
        """After how many sources the model is ahead, from the seconds for one source of the solver
        and of the model; infinite where it never is.
        """
        saved = solver - response
        return self.build / saved if saved > 0 else math.inf


@dataclass(frozen=True, eq=False)
class ReducedModel:
    """Answers as a `Solver` does, for the same room and band. Made by `reduced_model`.

    modes: of the room between rigid walls. traces: by surface, c Φᵀ S Φ (n, n) [1/s]. room: with
    the walls that the model has now. operator: what the modes came from. error: measured, None
    before that.
    """

    solver: Solver
    room: Room
    operator: Operator
    modes: Modes
    traces: Mapping[str, Tensor]
    modes_seconds: float
    error: Error | None = None

    @property
    def cost(self) -> Cost:
        """How long the model took."""
        resonances, seconds = self._resonances
        built = self.modes_seconds + seconds
        return Cost(len(self.modes.frequency), len(resonances.rates), built, seconds)

    @property
    def resonances(self) -> Resonances:
        """The damped modes between the walls of the model."""
        return self._resonances[0]

    @cached_property
    def _resonances(self) -> tuple[Resonances, float]:
        start = time.process_time()
        walls = {name: self.room.walls[name] for name in self.traces}
        found = resonances_of(self.modes.frequency, self.traces, walls, self.operator.highest)
        return found.to(self.solver.device), time.process_time() - start

    def with_walls(self, walls: Mapping[str, Wall] | Wall) -> ReducedModel:
        """The same modes between other walls: one for all, or by name; those not named stay.

        A model that was made for rigid walls alone has no attachments, see `reduced_model`, and
        answers between soft walls by 10 % and more.
        """
        return replace(self, room=self.room.with_walls(walls), error=None)

    def times(self, duration: float) -> Tensor:
        """The times (T,) float64 [s] of `simulate`, those of the solver."""
        return self.solver.times(duration)

    def simulate(
        self,
        source: Any,
        receivers: Any,
        duration: float,
        *,
        walls: Mapping[str, Wall] | Wall | None = None,
    ) -> Tensor:
        """The pressure (R, T) at receivers (R, 3) [m] at `times(duration)`.

        source: a position (3,) for the default pulse, a `Pulse` at least as wide, or an `Emission`,
        which may move. walls: others in place of the model's. Differentiable in positions, pulse
        and signal; not in walls, for whose gradients there is the solver. Raises InputError for
        positions outside of the air.
        """
        if walls is not None:
            return self.with_walls(walls).simulate(source, receivers, duration)
        times = self.times(duration).to(self.solver.device)
        places = self._stencils("receivers", receivers)
        heard = self.resonances.heard(self._modes(*places))
        if isinstance(source, Emission):
            positions, signal = source.at(times)
            nodes, weights = self._stencils("source", positions)
            emitted = weights * signal[:, None]
            rates = self.resonances.rates
            force = self.resonances.driven(self._modes(nodes, emitted)).T.to(rates)
            ringing = ring(rates, force.contiguous(), self.solver.time_step)
            near = self._near(places, (nodes, emitted))
            return ((heard.to(rates) @ ringing).real + near).to(self.shapes)
        amplitudes = heard * self.resonances.driven(self._start(source))
        parts = [self._sum(amplitudes, part) for part in times.split(AT_ONCE)]
        return torch.cat(parts, 1)

    def measure(self, duration: float, seed: int = 0) -> ReducedModel:
        """The model with its `error` against the solver, at sources and receivers drawn at random
        in the air, from 0 to a duration [s].
        """
        space = self.solver.space
        generator = torch.Generator().manual_seed(seed)
        share = space.mass.detach().cpu()
        drawn = torch.multinomial(share, sum(HELD_OUT), generator=generator)
        places = space.points.detach().cpu()[drawn]
        sources, receivers = places[: HELD_OUT[0]], places[HELD_OUT[0] :]
        given, walls = (receivers, duration), self.room.walls
        exact = [self.solver.simulate(at, *given, walls=walls).detach() for at in sources]
        records = Records(sources, receivers, self.times(duration), torch.stack(exact).cpu())
        answers = torch.stack([self.simulate(at, *given).detach() for at in sources])
        return replace(self, error=error_of(answers.cpu(), records))

    @cached_property
    def shapes(self) -> Tensor:
        """The modes (N, n) in the precision and on the device of the solver."""
        return self.modes.shapes.to(self.solver.device, self.solver.dtype).contiguous()

    def _stencils(self, name: str, positions: Any) -> tuple[Tensor, Tensor]:
        """Nodes and weights (R, Q) of positions (R, 3)."""
        places = as_tensor(
            name, positions, "positions (R, 3) [m]", dtype=torch.float64, device=self.solver.device
        )
        places = check_tensor(name, places[None] if places.ndim == 1 else places, (None, 3))
        return self.solver.space.interpolation(name, places)

    def _modes(self, nodes: Tensor, weights: Tensor) -> Tensor:
        """The modes at stencils (R, Q), (R, n)."""
        return _sampled(self.shapes, nodes, weights)

    def _near(self, receivers: tuple[Tensor, Tensor], source: tuple[Tensor, Tensor]) -> Tensor:
        """What the modes leave out next to a point that emits, (R, T): the air there follows at
        once, A p = d/dt(signal δ), less the part of this that the modes have.
        """
        nodes, weights = (part.to(self.modes.shapes.device) for part in receivers)
        shapes, mass = self.modes.shapes, self.operator.mass
        loads = mass.new_zeros(len(nodes), len(mass)).scatter_add(1, nodes, weights).T
        heard = _sampled(shapes, nodes, weights)
        stiffness = self.modes.frequency.square() + SHIFT * self.operator.highest**2
        rest = self.operator.rest(loads) - shapes @ (heard / stiffness).T
        pushed = _sampled(rest.to(self.solver.device), *source)
        return torch.gradient(pushed, spacing=self.solver.time_step, dim=0)[0].T

    def _start(self, source: Any) -> Tensor:
        """What a pulse gives to each mode, (n,): exp(-ω² s²/(4 c²)) of a point, see `smoothing`."""
        pulse = source if isinstance(source, Pulse) else Pulse(source)
        strength, width = pulse.strength_and_width(self.solver.fmax)
        narrowest = default_width(self.solver.fmax)
        if float(width) < narrowest * (1 - ROUNDING):
            raise InputError(
                f"the width of a pulse must be at least {narrowest:.6g} m, as the modes end at "
                f"{CUTOFF:g} fmax, got {float(width):.6g} m; ask the solver, or raise its fmax"
            )
        (at,) = self._modes(*self._stencils("source", pulse.position))
        frequency = self.modes.frequency.to(self.solver.device)
        spread = (width.to(self.solver.device) / (2 * SPEED_OF_SOUND)).square()
        return strength.to(at.device) * torch.exp(-(frequency**2) * spread) * at

    def _sum(self, amplitudes: Tensor, times: Tensor) -> Tensor:
        """Re Σ_j amplitudes_j exp(s_j t), (R, T)."""
        rates = self.resonances.rates
        angle = rates.imag[:, None] * times
        decay = torch.exp(rates.real[:, None] * times)
        total = amplitudes.real.to(self.shapes) @ (decay * angle.cos()).to(self.shapes)
        if amplitudes.is_complex():
            total = total - amplitudes.imag.to(self.shapes) @ (decay * angle.sin()).to(self.shapes)
        return total


def _sampled(fields: Tensor, nodes: Tensor, weights: Tensor) -> Tensor:
    """Fields (N, n) at stencils (R, Q), (R, n)."""
    return torch.nn.functional.embedding_bag(
        nodes, fields, mode="sum", per_sample_weights=weights.to(fields)
    )


def reduced_model(
    solver: Solver, cutoff: float = CUTOFF, attachments: float | None = None
) -> ReducedModel:
    """The reduced model of a solver's room.

    cutoff: up to which share of fmax rigid modes are kept; 1.2 leaves 0.6 % of the pressure of
    the default pulse, 1.3 leaves 0.2 %. attachments: how small, beside the largest, what walls do
    to the air may be that is left out, see `attached`; None for 0.03 where a wall of the room
    absorbs, and none of it in a rigid room. Raises InputError for a cut-off below 1.
    """
    if not 1 <= cutoff < math.inf:
        raise InputError(f"cutoff must be at least 1 and finite, got {cutoff}")
    start = time.process_time()
    operator = operator_of(solver.space, 2 * math.pi * cutoff * solver.fmax)
    modes = operator.modes()
    absorbs = any(len(wall.branches) for wall in solver.room.walls.values())
    if attachments is None and absorbs:
        attachments = ATTACHMENTS
    if attachments is not None:
        spread = (default_width(solver.fmax) / (2 * SPEED_OF_SOUND)) ** 2
        modes = attached(operator, modes, solver.boundary, spread, attachments)
    traces = traces_of(modes.shapes, solver.boundary, solver.room.surfaces)
    return ReducedModel(solver, solver.room, operator, modes, traces, time.process_time() - start)
