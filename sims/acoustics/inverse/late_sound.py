"""What a room is treated for: late sound at seats, or decay times, in octave bands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.acoustics.metrics import band_edges, band_filter, soft_reverberation_time
from sims.acoustics.solver import Solver
from sims.acoustics.walls.wall import Wall

DECAY = (-5.0, -20.0)  # dB, where decay times are taken; it needs the shortest records


@dataclass(frozen=True)
class Listening:
    """Sources, seats, and what is heard there.

    sources: pulses at positions, each in a run of its own [m]. seats: positions [m]. duration: of
    the responses [s]. late: from where on energy counts [s]. bands: octaves [Hz]. targets: decay
    times [s] for each band, or none; without them the late energy is to be low.
    """

    sources: tuple[tuple[float, float, float], ...]
    seats: tuple[tuple[float, float, float], ...]
    duration: float
    late: float
    bands: tuple[float, ...]
    targets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("sources", "seats", "bands"):
            if not getattr(self, name):
                raise InputError(f"{name} must hold at least one, got none")
        if not 0 <= self.late < self.duration < math.inf:
            raise InputError(
                "late must lie before the end of the responses, "
                f"got late = {self.late} s of {self.duration} s"
            )
        for band in self.bands:
            band_edges(band)
        if self.targets and (
            len(self.targets) != len(self.bands) or any(not t > 0 for t in self.targets)
        ):
            raise InputError(
                f"targets must be one time above 0 s for each of {len(self.bands)} bands, or "
                f"none, got {self.targets}"
            )

    def check_band(self, fmax: float) -> None:
        """Raise InputError for octaves that end above what a solver resolves."""
        for band in self.bands:
            if band_edges(band)[1] > fmax:
                raise InputError(
                    f"bands must end below fmax = {fmax:g} Hz, got {band:g} Hz, which ends at "
                    f"{band_edges(band)[1]:.0f} Hz: raise fmax, or leave it out"
                )


@dataclass(frozen=True, eq=False)
class Heard:
    """Responses in bands (sources, seats, bands, T) at `rate` [Hz]."""

    bands: Tensor
    rate: float

    def late_energy(self, late: float) -> Tensor:
        """∫ p² from `late` [s] on, summed over sources and seats, by band (B,) [Pa² s]."""
        first = math.ceil(late * self.rate)
        return self.bands[..., first:].square().sum((0, 1, 3)) / self.rate

    def decay_times(self) -> Tensor:
        """Decay times (sources, seats, bands) for 60 dB [s], smooth in the responses."""
        return soft_reverberation_time(self.bands, self.rate, DECAY)


def hear(solver: Any, listening: Listening, walls: Mapping[str, Wall] | None = None) -> Heard:
    """What is heard between the room's walls or others, by a solver or what answers as it does.

    Band filters run backwards, so that their ringing does not pass for the room's.
    """
    seats: Sequence[Sequence[float]] = listening.seats
    responses = torch.stack(
        [
            solver.simulate(source, seats, listening.duration, walls=walls)
            for source in listening.sources
        ]
    ).double()
    times = solver.times(listening.duration)
    rate = float(1 / (times[1] - times[0]))
    return Heard(band_filter(responses, rate, listening.bands, backwards=True), rate)


def objective(heard: Heard, listening: Listening, bare: Tensor) -> Tensor:
    """What is to be made small, a number ().

    With targets the mean over sources, seats and bands of (T / target - 1)². Without, the mean over
    bands of the late energy's level [dB] over that of the bare room, `bare` (B,) [Pa² s].
    """
    if listening.targets:
        target = torch.tensor(listening.targets, dtype=torch.float64, device=heard.bands.device)
        return (heard.decay_times() / target - 1).square().mean()
    return 10 * torch.log10(heard.late_energy(listening.late) / bare).mean()


def bare_energy(solver: Solver, listening: Listening) -> Tensor:
    """The late energy (B,) [Pa² s] between the walls that the room has."""
    with torch.no_grad():
        return hear(solver, listening).late_energy(listening.late)
