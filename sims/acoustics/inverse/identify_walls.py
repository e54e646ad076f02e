"""Walls from impulse responses that were measured between them.

The modes of the room propose and its solver disposes. On the modes every residual comes with its
exact derivative in all walls (modal_spectra.py), so that Gauss-Newton steps find the walls of a low
band within seconds; each higher band begins where the last one ended. In the end the residuals are
the solver's, and a finer mesh has the last word.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.inverse.certify import finer
from sims.acoustics.inverse.gauss_newton import Fit, gauss_newton
from sims.acoustics.inverse.identifiability import Identifiability, identifiability
from sims.acoustics.inverse.measurement import measurement_of
from sims.acoustics.inverse.misfit import TERMS, Nuisance, residuals, source_spectrum
from sims.acoustics.inverse.wall_check import WallCheck, wall_check
from sims.acoustics.inverse.wall_level import Level, level_of
from sims.acoustics.inverse.wall_unknowns import Unknowns
from sims.acoustics.metrics.bands import OCTAVES, band_edges
from sims.acoustics.room import Room
from sims.acoustics.solver import Solver
from sims.acoustics.take import ResponseTake
from sims.acoustics.walls.wall import Wall

LOWEST = 50.0  # Hz, where loudspeakers begin
NEAR = 1.25  # an octave that ends so little below fmax is not worth a level of its own
STARTS = (1.0, 4.0)  # harder than typical by
DELAYS = (-0.002, 0.012, 57)  # s, of which the best is a start: first, last, how many
SCOUTING = 6  # steps from each start in the lowest band
STEPS = 15  # in each band
SOLVED_STEPS = 4  # with residuals of the solver


@dataclass(frozen=True, eq=False)
class IdentifiedWalls:
    """What was found. room: with the walls identified. speed_of_sound: [m/s]. nuisance: what was
    found of the source. misfits: root mean square of the residuals in expected errors, by band.
    identifiability: what the receivers tell, and what they do not. checks: how far the room is from
    the measurement in T30 and C50, by the solver and by a finer mesh.
    """

    room: Room
    walls: dict[str, Wall]
    nuisance: Nuisance
    speed_of_sound: float
    misfits: dict[str, float]
    identifiability: Identifiability
    checks: tuple[WallCheck, WallCheck]

    def report(self) -> str:
        """In words."""
        solver, finer = self.checks
        lines = [f"identified {', '.join(self.walls)}"]
        lines += [f"misfit {name}: {value:.2f} expected errors" for name, value in
                  self.misfits.items()]  # fmt: skip
        lines += [f"solver: {solver}", f"finer mesh: {finer}"]
        return "\n".join([*lines, *self.identifiability.sentences])


def identify_walls(
    responses: ResponseTake | Tensor,
    room: Room,
    *,
    fmax: float = 500.0,
    rate: float | None = None,
    source: Any = None,
    receivers: Any = None,
    surfaces: Sequence[str] | None = None,
    branches: int = 3,
    lowest: float = LOWEST,
    duration: float | None = None,
) -> IdentifiedWalls:
    """The walls of a room of known shape, from impulse responses at four or more receivers.

    responses: a take, or (R, T) with rate [Hz], source (3,) and receivers (R, 3) [m]; of a solver's
    pulse, or of an impulse of 1 / r as a measurement gives it, whichever fits better (`nuisance`
    says which). Gain, delay, width, tilt and high-pass of the source and the speed of sound are
    found too; `checks` of more than one just noticeable difference tell of a source that is like
    neither. room: its walls stand for the surfaces that are not identified, by default all are.
    fmax: up to where responses are compared [Hz], from `lowest` on; what they hold above does no
    harm. branches: of each wall. duration: of what is compared [s], None for all up to half a
    second.

    Raises InputError.
    """
    given = {"rate": rate, "source": source, "receivers": receivers, "duration": duration}
    level, fit, misfits = proposed(responses, room, fmax, surfaces, branches, lowest, **given)
    level, fit = _corrected(level, fit)
    misfits["by the solver"] = _size(fit)
    unknowns, measurement, x = level.unknowns, level.measurement, fit.parameters
    walls = unknowns.walls(x)
    found = room.with_walls(walls)
    nuisance = replace(unknowns.nuisance(x, level.sign), impulse=level.impulse)
    solver = Solver(found, fmax)
    return IdentifiedWalls(
        found,
        walls,
        nuisance,
        SPEED_OF_SOUND * math.exp(float(nuisance.pitch)),
        misfits,
        identifiability(fit, unknowns, lowest, fmax),
        (
            wall_check(solver, measurement, nuisance),
            wall_check(finer(solver), measurement, nuisance),
        ),
    )


def proposed(
    responses: ResponseTake | Tensor,
    room: Room,
    fmax: float,
    surfaces: Sequence[str] | None = None,
    branches: int = 3,
    lowest: float = LOWEST,
    **given: Any,
) -> tuple[Level, Fit, dict[str, float]]:
    """What `identify_walls` finds on the modes: the last band, the fit there, and the misfits.

    given: rate, source, receivers and duration. Raises InputError.
    """
    if not 0 < lowest < fmax / 1.5 or not math.isfinite(fmax):
        raise InputError(
            f"fmax must be above one and a half times the lowest frequency, {lowest:g} Hz, got "
            f"{fmax} Hz"
        )
    if isinstance(branches, bool) or not isinstance(branches, int) or branches < 1:
        raise InputError(f"branches must be a whole number of at least 1, got {branches}")
    measurement = measurement_of(responses, lowest, **given)
    if measurement.rate < 2.5 * fmax:
        raise InputError(
            f"rate must be above {2.5 * fmax:g} samples a second for fmax = {fmax:g} Hz, got "
            f"{measurement.rate:g}: lower fmax"
        )
    unknowns = Unknowns(_surfaces(room, surfaces), branches, fmax)
    bands = levels_up_to(fmax, lowest)
    solver = Solver(room, fmax)
    level, fit = _best_start(
        [
            level_of(measurement, solver, unknowns, lowest, bands[0], impulse=impulse)
            for impulse in (False, True)
        ]
    )
    misfits = {}
    for highest in bands:
        if highest != bands[0]:
            kind = level.sign, level.impulse
            level = level_of(measurement, solver, unknowns, lowest, highest, *kind)
        fit = _fitted(level, fit.parameters)
        misfits[f"up to {highest:.0f} Hz"] = _size(fit)
    return level, fit, misfits


def levels_up_to(fmax: float, lowest: float) -> list[float]:
    """The upper edges of the octaves from 125 Hz on, and fmax [Hz]."""
    edges = [band_edges(band)[1] for band in OCTAVES if band >= 125.0]
    return [edge for edge in edges if 1.5 * lowest < edge < fmax / NEAR] + [fmax]


def _surfaces(room: Room, names: Sequence[str] | None) -> tuple[str, ...]:
    """The surfaces to be identified, which must be there."""
    solver = Solver(room, fmax=50.0)
    there = [room.surfaces[number] for number in solver.boundary.surface.unique().tolist()]
    if names is None:
        return tuple(there)
    if isinstance(names, str) or not names or any(name not in there for name in names):
        raise InputError(f"surfaces must be names from {', '.join(there)}, got {names!r}")
    return tuple(dict.fromkeys(names))


def _best_start(kinds: list[Level]) -> tuple[Level, Fit]:
    """The best of some steps from harder and softer walls, for a pulse and for an impulse."""
    found = []
    for level in kinds:
        prior = level.unknowns.prior()
        for harder in STARTS:
            x = level.unknowns.start(torch.zeros(TERMS, dtype=torch.float64), harder)
            sign, x = _delayed(level, x)
            signed = replace(level, sign=sign)
            fit = gauss_newton(signed.residuals, x, prior, SCOUTING)
            found.append((fit.cost, len(found), signed, fit))
    return min(found)[2:]


def _delayed(level: Level, x: Tensor) -> tuple[float, Tensor]:
    """The sign of the recordings, and x with the delay and the gain that fit best."""
    unknowns, data = level.unknowns, level.data
    spectra = level.modelled(x)
    s = data.frequencies.s
    best = (math.inf, 1.0, x)
    for delay in torch.linspace(*DELAYS, dtype=torch.float64):
        trial = x.clone()
        trial[unknowns.count + 2] = -delay * unknowns.nuisance(x, 1.0).unit
        heard = source_spectrum(s, unknowns.nuisance(trial, 1.0)) * spectra
        weight = data.error**-2
        both = (weight * (heard.conj() * data.spectrum).real).sum()
        gain = both / (weight * heard.abs().square()).sum()
        sign = 1.0 if gain > 0 else -1.0
        trial[unknowns.count] = torch.log(gain.abs().clamp(min=1e-30))
        misfit = float(residuals(data, spectra, unknowns.nuisance(trial, sign)).square().sum())
        if misfit < best[0]:
            best = (misfit, sign, trial)
    return best[1:]


def _fitted(level: Level, x: Tensor) -> Fit:
    """Steps on the modes, twice: the second time with errors as large as the first fit left."""
    prior = level.unknowns.prior()
    fit = gauss_newton(level.residuals, x, prior, STEPS)
    again = level.with_errors(level.left(fit.parameters))
    return gauss_newton(again.residuals, fit.parameters, prior, STEPS)


def _corrected(level: Level, fit: Fit) -> tuple[Level, Fit]:
    """Steps with residuals of the solver, and the Jacobian of the modes."""
    level = level.with_errors(level.left_by_solver(fit.parameters))
    rows = level.residuals(fit.parameters)[1]
    prior = level.unknowns.prior()

    def solved(x: Tensor) -> tuple[Tensor, None]:
        return level.solved(x), None

    return level, gauss_newton(solved, fit.parameters, prior, SOLVED_STEPS, rows)


def _size(fit: Fit) -> float:
    return float(fit.residual.square().mean().sqrt())
