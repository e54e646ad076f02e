"""Damped spectra of a room between walls that are to be found, with all their derivatives.

On the modes of `surrogates.reduced_modes` the pressure of a pulse, or of a point, obeys

    (s² + ω² + s Σ_w y_w(s) G_w) q = s q₀,    P = φ q,    G_w = c Φᵀ S_w Φ,

a small linear system at each frequency s, whose matrix is symmetric: one factor answers for the
source and the receivers, and P's derivative in the admittance of a wall is -φ Z⁻¹ s G_w q.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.inverse.point_response import STRENGTH
from sims.acoustics.solver import Solver
from sims.acoustics.source import Pulse, default_width
from sims.acoustics.surrogates.reduced import ATTACHMENTS, CUTOFF
from sims.acoustics.surrogates.reduced_attachments import attached
from sims.acoustics.surrogates.reduced_modes import Modes, Operator, operator_of
from sims.acoustics.surrogates.reduced_walls import traces_of

UNIT = 2 * math.pi * 1000.0  # rad/s, of the logarithms of `wall.to_parameters`
SOURCE_FIELDS = 3  # that stand for the modes of the source beyond the band
ALIKE = 1e-10  # share of the largest eigenvalue, below which fields are combinations of others
AT_ONCE = 2**22  # entries of the matrices that are solved together


@dataclass(frozen=True, eq=False)
class ModalRoom:
    """A room, a source and receivers on n modes.

    squared: (n,) ω² [1/s²]. traces: (W, n, n) G of each surface [1/s]. heard: (R, n) modes at the
    receivers. driven: (n,) what the source gives to the modes. surfaces: names of the traces.
    """

    squared: Tensor
    traces: Tensor
    heard: Tensor
    driven: Tensor
    surfaces: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ModalSpectra:
    """pressure: (R, K) complex. by_admittance: (R, K, W), its derivatives in the y of each
    surface. by_pitch: (R, K), its derivative in log s at fixed y.
    """

    pressure: Tensor
    by_admittance: Tensor
    by_pitch: Tensor

    def of_impulse(self, s: Tensor) -> ModalSpectra:
        """From spectra of a point of unit strength at s (K,) to those of an impulse of 1 / r."""
        factor = STRENGTH / s
        return ModalSpectra(
            factor * self.pressure,
            factor[:, None] * self.by_admittance,
            factor * (self.by_pitch - self.pressure),
        )


def modal_room(
    solver: Solver, source: Pulse | Tensor, receivers: Tensor, highest: float
) -> ModalRoom:
    """The modes of a solver's room up to a frequency [Hz], and the fields that its walls and the
    source add to them.

    source: a pulse, or the position (3,) of a point of unit strength; receivers: (R, 3) [m].
    Raises InputError for positions outside.
    """
    space = solver.space
    operator = operator_of(space, 2 * math.pi * CUTOFF * highest)
    rigid = operator.modes()
    spread = (default_width(highest) / (2 * SPEED_OF_SOUND)) ** 2
    pressed = attached(operator, rigid, solver.boundary, spread, ATTACHMENTS)
    mass = operator.mass[:, None]
    start = _initial(solver, source) if isinstance(source, Pulse) else _point(solver, source)
    fields = [start]
    for _ in range(SOURCE_FIELDS):
        fields.append(operator.rest(mass * fields[-1]))
    beside = torch.cat([pressed.shapes[:, len(rigid.frequency) :], *fields[1:]], 1)
    squared, shapes = _ritz(operator, rigid, beside)
    nodes, weights = space.interpolation("receivers", receivers)
    heard = torch.einsum("rqn,rq->rn", shapes[nodes.cpu()], weights.detach().cpu())
    traces = traces_of(shapes, solver.boundary, solver.room.surfaces)
    given = shapes.T @ (mass * start)[:, 0]
    return ModalRoom(squared, torch.stack(list(traces.values())), heard, given, tuple(traces))


def _initial(solver: Solver, pulse: Pulse) -> Tensor:
    """The pulse at time 0 at all nodes (N, 1)."""
    inside = solver.space.mass > 0
    places = solver.space.points[inside].detach()
    heard = solver.simulate(pulse, places, solver.time_step).detach()[:, 0]
    field = torch.zeros(len(inside), 1, dtype=torch.float64)
    field[inside.cpu(), 0] = heard.double().cpu()
    return field


def _point(solver: Solver, source: Tensor) -> Tensor:
    """δ at a position (3,) at all nodes (N, 1)."""
    (nodes,), (weights,) = solver.space.interpolation("source", source[None])
    mass = solver.space.mass.detach().cpu()
    nodes = nodes.cpu()
    field = torch.zeros(len(mass), 1, dtype=torch.float64)
    return field.index_add(0, nodes, (weights.detach().cpu() / mass[nodes])[:, None])


def _ritz(operator: Operator, rigid: Modes, beside: Tensor) -> tuple[Tensor, Tensor]:
    """ω² (n,) and shapes (N, n) of rigid modes and of fields beside them (Rayleigh and Ritz)."""
    mass = operator.mass[:, None]
    for _ in range(2):
        beside = beside - rigid.shapes @ (rigid.shapes.T @ (mass * beside))
    beside = beside / (mass * beside.square()).sum(0).sqrt()
    values, mix = torch.linalg.eigh(beside.T @ (mass * beside))
    kept = values > ALIKE * values[-1]
    beside = beside @ (mix[:, kept] / values[kept].sqrt())
    stiff = beside.T @ (mass * operator.product(beside))
    values, mix = torch.linalg.eigh((stiff + stiff.T) / 2)
    squared = torch.cat([rigid.frequency.square(), values])
    return squared, torch.cat([rigid.shapes, beside @ mix], 1)


def modal_spectra(room: ModalRoom, s: Tensor, admittance: Tensor, slope: Tensor) -> ModalSpectra:
    """Spectra at s (K,), for admittances y (W, K) with slope dy/d(log s) (W, K)."""
    count = len(room.squared)
    chunk = max(1, AT_ONCE // count**2)
    parts = [
        _solved(room, *pieces)
        for pieces in zip(s.split(chunk), admittance.split(chunk, 1), slope.split(chunk, 1),
                          strict=True)
    ]  # fmt: skip
    return ModalSpectra(*(torch.cat(part, 1) for part in zip(*parts, strict=True)))


def _solved(
    room: ModalRoom, s: Tensor, admittance: Tensor, slope: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    y = (s * admittance).T
    flat = room.traces.flatten(1)
    walls = torch.complex(y.real @ flat, y.imag @ flat).unflatten(1, room.traces.shape[1:])
    matrix = walls + torch.diag_embed(room.squared + s.square()[:, None])
    columns = torch.cat([room.driven[:, None], room.heard.T], 1) + 0j
    solved = torch.linalg.solve(matrix, columns.expand(len(s), -1, -1))  # (k, n, 1 + R)
    state, received = s[:, None] * solved[:, :, 0], solved[:, :, 1:]
    pressure = torch.einsum("rn,kn->rk", room.heard + 0j, state)
    pushed = torch.stack([_times(trace, state) for trace in room.traces])  # (W, k, n)
    by_admittance = -torch.einsum("knr,wkn,k->rkw", received, pushed, s)
    # s d/ds of the matrix: 2 s² + s Σ (y + dy/d(log s)) G
    own = torch.einsum("knr,kn,k->rk", received, state, -2 * s.square())
    turned = torch.einsum("rkw,wk->rk", by_admittance, admittance + slope)
    return pressure, by_admittance, pressure + own + turned


def _times(matrix: Tensor, vectors: Tensor) -> Tensor:
    """Real (n, n) times complex (k, n) vectors, (k, n)."""
    return torch.complex(vectors.real @ matrix, vectors.imag @ matrix)


def branch_admittance(logarithms: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """y (W, K), its derivatives in the logarithms (W, K, 3 M), and in log s (W, K).

    logarithms: (W, M, 3) of branches, as of `wall.to_parameters`.
    """
    x = s / UNIT
    values = torch.exp(logarithms)[..., None]  # (W, M, 3, 1)
    steps = torch.stack((x, torch.ones_like(x), 1.0 / x))
    pieces = values * steps  # (W, M, 3, K)
    branches = 1.0 / pieces.sum(2, keepdim=True)
    each = -(branches**2) * pieces
    pitch = -(branches**2)[:, :, 0] * (pieces[:, :, 0] - pieces[:, :, 2])
    by_logarithm = each.permute(0, 3, 1, 2).flatten(2)
    return branches[:, :, 0].sum(1), by_logarithm, pitch.sum(1)
