"""One band of a wall identification: measured spectra, and those of the room on its modes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sims.acoustics.inverse.measurement import Measurement
from sims.acoustics.inverse.misfit import (
    Measured,
    Nuisance,
    difference,
    jacobian,
    measured,
    residuals,
)
from sims.acoustics.inverse.modal_spectra import (
    ModalRoom,
    ModalSpectra,
    branch_admittance,
    modal_room,
    modal_spectra,
)
from sims.acoustics.inverse.point_response import impulse_over_point, point_pressure
from sims.acoustics.inverse.spectra import damped_spectrum, frequencies_of
from sims.acoustics.inverse.wall_unknowns import Unknowns
from sims.acoustics.room import Room
from sims.acoustics.solver import Solver
from sims.acoustics.source import Pulse

PITCH_STEP = 1e-5  # of a difference quotient, for walls that are known


@dataclass(frozen=True, eq=False)
class Level:
    """A band, and a solver whose band may be wider. sign: of the recordings. impulse: whether they
    are taken for answers to an impulse, not to the solver's pulse.
    """

    solver: Solver
    modes: ModalRoom
    data: Measured
    unknowns: Unknowns
    measurement: Measurement
    sign: float = 1.0
    impulse: bool = False

    def residuals(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """On the modes: all residuals at x, and their Jacobian."""
        nuisance = self.unknowns.nuisance(x, self.sign)
        spectra, by_wall = self._spectra(x, nuisance)
        rows = jacobian(self.data, spectra, by_wall, nuisance)
        return residuals(self.data, spectra.pressure, nuisance), rows

    def modelled(self, x: Tensor) -> Tensor:
        """Spectra H (R, K) on the modes."""
        return self._spectra(x, self.unknowns.nuisance(x, self.sign))[0].pressure

    def solved(self, x: Tensor) -> Tensor:
        """All residuals at x by the solver, differentiable."""
        return residuals(self.data, self.heard(x), self.unknowns.nuisance(x, self.sign))

    def left(self, x: Tensor) -> Tensor:
        """The difference of spectra (R, K) on the modes."""
        nuisance = self.unknowns.nuisance(x, self.sign)
        return difference(self.data, self.modelled(x), nuisance)

    def left_by_solver(self, x: Tensor) -> Tensor:
        """The difference of spectra (R, K) by the solver."""
        return difference(self.data, self.heard(x), self.unknowns.nuisance(x, self.sign))

    def heard(self, x: Tensor) -> Tensor:
        """Spectra H (R, K) by the solver."""
        where, walls = self.measurement, self.unknowns.walls(x)
        place = where.source, where.receivers, where.duration
        s = self._slowed(x[-1])
        if not self.impulse:
            pressure = self.solver.simulate(*place, walls=walls)
            return damped_spectrum(pressure, self.solver.time_step, s)
        pressure = point_pressure(self.solver, *place, walls)
        spectrum = damped_spectrum(pressure, self.solver.time_step, s)
        return impulse_over_point(self.solver, s) * spectrum

    def with_errors(self, left: Tensor) -> Level:
        """Expecting errors as large as what a fit left."""
        return replace(self, data=self.data.with_errors_of(left))

    def _slowed(self, pitch: Tensor) -> Tensor:
        return self.data.frequencies.s * torch.exp(-pitch)

    def _spectra(self, x: Tensor, nuisance: Nuisance) -> tuple[ModalSpectra, Tensor]:
        """The room on its modes, and its derivatives (R, K, P) in the walls' logarithms."""
        s = self._slowed(nuisance.pitch)
        found, slopes, pitch = branch_admittance(self.unknowns.logarithms(x), s)
        admittance, slope = _known(self.solver.room, self.modes.surfaces, s)
        places = [self.modes.surfaces.index(name) for name in self.unknowns.surfaces]
        admittance[places], slope[places] = found, pitch
        spectra = modal_spectra(self.modes, s, admittance, slope)
        if self.impulse:
            spectra = spectra.of_impulse(s)
        # (R, K, W) times (W, K, 3 M), each wall's own
        by_wall = spectra.by_admittance[:, :, places, None] * slopes.permute(1, 0, 2)
        return spectra, by_wall.flatten(2)


def _known(room: Room, surfaces: Sequence[str], s: Tensor) -> tuple[Tensor, Tensor]:
    """Admittances (W, K) of a room's own walls, and their slopes in log s."""
    walls = [room.walls[name] for name in surfaces]
    above, below = (
        torch.stack([wall.admittance_at(s * math.exp(sign * PITCH_STEP)) for wall in walls])
        for sign in (1, -1)
    )
    return (above + below) / 2, (above - below) / (2 * PITCH_STEP)


def level_of(
    measurement: Measurement,
    solver: Solver,
    unknowns: Unknowns,
    lowest: float,
    highest: float,
    sign: float = 1.0,
    impulse: bool = False,
) -> Level:
    """The band from `lowest` to `highest` [Hz], at most the solver's."""
    frequencies = frequencies_of(lowest, highest, measurement.duration)
    spectrum = damped_spectrum(measurement.responses, 1 / measurement.rate, frequencies.s)
    source = measurement.source if impulse else Pulse(measurement.source)
    modes = modal_room(solver, source, measurement.receivers, highest)
    data = measured(frequencies, spectrum)
    return Level(solver, modes, data, unknowns, measurement, sign, impulse)
