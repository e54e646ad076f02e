"""Damped spectra of a room between walls that are to be found, with all their derivatives.

On the modes of a `reduced_model` the pressure of a pulse obeys

    (s² + ω² + s Σ_w y_w(s) G_w) q = s q₀,    P = φ q,    G_w = c Φᵀ S_w Φ,

a small linear system at each frequency s, whose matrix is symmetric: one factor answers for the
source and the receivers, and P's derivative in the admittance of a wall is -φ Z⁻¹ s G_w q.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.solver import Solver
from sims.acoustics.source import Pulse
from sims.acoustics.surrogates.reduced import ATTACHMENTS, reduced_model

AT_ONCE = 2**22  # entries of the matrices that are solved together


@dataclass(frozen=True, eq=False)
class ModalRoom:
    """A room, a pulse and receivers on n modes.

    squared: (n,) ω² [1/s²]. traces: (W, n, n) G of each surface [1/s]. heard: (R, n) modes at the
    receivers. driven: (n,) what the pulse gives to the modes. surfaces: names of the traces.
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


def modal_room(solver: Solver, pulse: Pulse, receivers: Tensor) -> ModalRoom:
    """The modes of a solver's room, with the fields that its walls may press into the air.

    pulse: with its position; receivers: (R, 3) [m]. Raises InputError for positions outside.
    """
    model = reduced_model(solver, attachments=ATTACHMENTS)
    shapes, frequency = model.modes.shapes, model.modes.frequency

    def at(name: str, positions: Tensor) -> Tensor:
        nodes, weights = solver.space.interpolation(name, positions)
        return torch.einsum("rqn,rq->rn", shapes[nodes.cpu()], weights.detach().cpu())

    strength, width = pulse.strength_and_width(solver.fmax)
    spread = (float(width) / (2 * SPEED_OF_SOUND)) ** 2
    position = torch.as_tensor(pulse.position, dtype=torch.float64).reshape(1, 3)
    given = float(strength) * torch.exp(-frequency.square() * spread) * at("source", position)[0]
    return ModalRoom(
        frequency.square(),
        torch.stack(list(model.traces.values())),
        at("receivers", receivers),
        given,
        tuple(model.traces),
    )


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


def branch_admittance(logarithms: Tensor, s: Tensor, unit: float) -> tuple[Tensor, Tensor, Tensor]:
    """y (W, K), its derivatives in the logarithms (W, K, 3 M), and in log s (W, K).

    logarithms: (W, M, 3) of D, E and F of branches 1 / (D s + E + F / s), s in multiples of `unit`.
    """
    x = s / unit
    values = torch.exp(logarithms)[..., None]  # (W, M, 3, 1)
    steps = torch.stack((x, torch.ones_like(x), 1.0 / x))
    pieces = values * steps  # (W, M, 3, K)
    branches = 1.0 / pieces.sum(2, keepdim=True)
    each = -(branches**2) * pieces
    pitch = -(branches**2)[:, :, 0] * (pieces[:, :, 0] - pieces[:, :, 2])
    by_logarithm = each.permute(0, 3, 1, 2).flatten(2)
    return branches[:, :, 0].sum(1), by_logarithm, pitch.sum(1)
