"""Where a sound came from: reciprocity proposes, the adjoint refines.

Pulses sent out from the receivers would have been heard at every place as pulses from there are
heard at the receivers. So one run for each receiver, on a coarse mesh, gives what each place in the
room would have sounded like, and the place that sounds most like the low-passed recordings is where
to begin. That is time reversal (Fink, IEEE Trans. UFFC 39 (1992) 555) with each place's own
loudness taken out, without which loud places, corners above all, win. From there the gradient of
the solver leads on in the whole band.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_tensor
from optimizers import Box, Budget, Lbfgs, Problem, Result, minimize
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.inverse.certify import finer
from sims.acoustics.inverse.spectra import Frequencies, damped_spectrum, frequencies_of, levels
from sims.acoustics.room import Room
from sims.acoustics.solver import Solver
from sims.acoustics.source import Pulse, default_width
from sims.acoustics.take import ResponseTake
from sims.acoustics.walls.wall import Wall

LOWEST = 50.0  # Hz
LONGEST = 0.1  # s that are compared by default: the early sound tells where it came from
SPACING = 1 / 6  # of the wavelength at fmax, between the places that the scan looks at
COARSE = 4.0  # nodes per wavelength of the scan
CANDIDATES = 3  # places that are followed on its mesh
ALIKE = 0.02  # misfit, below which no other place needs to be followed
APART = 1 / 3  # of a wavelength, between these
SCOUTING, REFINING = 6, 8  # gradients for each of them, and for the best on the mesh of fmax
SETTLED = 0.02  # share of the first gradient
GRADIENT_COST = 3.0  # of a gradient, in runs
STEP = 0.1  # of the wavelength at fmax, a first step
DIFFERENCE = 0.01  # of the wavelength at fmax, between places of a difference quotient
WANTED = 1 / 20  # of the wavelength at fmax


@dataclass(frozen=True, eq=False)
class Recordings:
    """What receivers (R, 3) [m] heard: responses (R, T) at `rate` [Hz], from the pulse on."""

    responses: Tensor
    rate: float
    receivers: Tensor

    @property
    def duration(self) -> float:
        """From the first sample to the last [s]."""
        return (self.responses.shape[-1] - 1) / self.rate


@dataclass(frozen=True, eq=False)
class LocatedSource:
    """position: (3,) [m]. amplitude: [Pa]. misfit: 1 - correlation of the spectra, by the solver;
    finer_misfit and finer_shift [m]: by a finer mesh, at the position and to its own best one.
    first: (3,) where the refinement began. runs: solver runs in the whole band that all of it cost.
    wavelength: at fmax [m], a twentieth of which is a good answer.
    """

    position: Tensor
    amplitude: float
    misfit: float
    finer_misfit: float
    finer_shift: float
    first: Tensor
    runs: float
    wavelength: float

    def report(self) -> str:
        """In words."""
        x, y, z = self.position.tolist()
        return (
            f"source at ({x:.3f}, {y:.3f}, {z:.3f}) m, amplitude {self.amplitude:.3g} Pa, misfit "
            f"{self.misfit:.2g} by the solver and {self.finer_misfit:.2g} on a finer mesh, which "
            f"would move it by {100 * self.finer_shift:.2g} cm (wavelength/20: "
            f"{100 * WANTED * self.wavelength:.2g} cm); {self.runs:.0f} solver runs"
        )


@dataclass(frozen=True, eq=False)
class Comparison:
    """Recordings and a solver that are compared up to its fmax.

    width: of the pulse that was recorded [m]. frequencies: (K,) at which they are compared.
    """

    solver: Solver
    recordings: Recordings
    width: float
    frequencies: Frequencies

    @cached_property
    def spectrum(self) -> Tensor:
        """(R, K), of the recordings."""
        recordings = self.recordings
        return damped_spectrum(recordings.responses, 1 / recordings.rate, self.frequencies.s)

    @cached_property
    def weight(self) -> Tensor:
        """(K,), so that each band counts alike."""
        counts = torch.bincount(self.frequencies.band)[self.frequencies.band]
        return 1 / (levels(self.spectrum, self.frequencies.band) * counts)

    def heard(self, position: Tensor) -> Tensor:
        """Spectra (R, K) of a pulse of 1 Pa at a position (3,), differentiable."""
        where = self.recordings
        pulse = Pulse(position, 1.0, self.width)
        pressure = self.solver.simulate(pulse, where.receivers, where.duration)
        return damped_spectrum(pressure, self.solver.time_step, self.frequencies.s)

    def misfit(self, position: Tensor) -> Tensor:
        """1 - correlation of what is heard from a position (3,) and what was recorded."""
        return 1 - self.correlation(self.heard(position))

    def correlation(self, spectra: Tensor) -> Tensor:
        """Of spectra (..., R, K) with the recordings, (...), whatever the amplitude."""
        both = (self.weight * (self.spectrum.conj() * spectra).real).sum((-2, -1))
        power = (self.weight * spectra.abs().square()).sum((-2, -1))
        return both / (power * (self.weight * self.spectrum.abs().square()).sum()).sqrt()

    def amplitude(self, position: Tensor) -> float:
        """[Pa] of the pulse that fits best at a position."""
        heard = self.heard(position).detach()
        both = (self.weight * (heard.conj() * self.spectrum).real).sum()
        return float(both / (self.weight * heard.abs().square()).sum())


def compare(solver: Solver, recordings: Recordings, width: float) -> Comparison:
    """Recordings of a pulse of some width [m] with what a solver says."""
    lowest = min(LOWEST, solver.fmax / 4)
    frequencies = frequencies_of(lowest, solver.fmax, recordings.duration)
    return Comparison(solver, recordings, width, frequencies)


def source_problem(comparison: Comparison, start: Tensor | None = None) -> Problem:
    """Where the source is as a problem for `optimizers`: minimise the misfit over the air.

    start: (3,) [m], by default the middle of the room. Positions that are not in the air, such as
    those in furniture, are failed rows.
    """
    points = _air(comparison.solver)
    low, high = points.amin(0), points.amax(0)

    def misfit(parameters: dict[str, Tensor]) -> Tensor:
        try:
            return comparison.misfit(parameters["position"])
        except InputError:
            return 0 * parameters["position"].sum() + math.nan

    scale = STEP * SPEED_OF_SOUND / comparison.solver.fmax
    box = Box((3,), low, high, (low + high) / 2 if start is None else start, scale)
    return Problem({"position": box}, misfit, differentiable=True, gradient_cost=GRADIENT_COST)


def locate_source(
    responses: ResponseTake | Tensor,
    room: Room,
    *,
    fmax: float = 500.0,
    rate: float | None = None,
    receivers: Any = None,
    width: float | None = None,
    walls: Mapping[str, Wall] | Wall | None = None,
    duration: float | None = None,
) -> LocatedSource:
    """Where a pulse of known width and unknown amplitude was, from what receivers heard.

    responses: a take, whose source is not looked at, or (R, T) with rate [Hz] and receivers (R, 3)
    [m], from the moment of the pulse on. room: with its walls, or `walls` in their place. fmax: up
    to where responses are compared [Hz]. width: of the pulse [m], by default the default pulse's of
    fmax. duration: of what is compared [s], None for all up to 0.1 s.

    Raises InputError.
    """
    recordings = recordings_of(responses, rate, receivers, duration)
    width = default_width(fmax) if width is None else width
    if not 0 < width < math.inf:
        raise InputError(f"width must be above 0 m, got {width}")
    if recordings.rate < 2.5 * fmax:
        raise InputError(
            f"rate must be above {2.5 * fmax:g} samples a second for fmax = {fmax:g} Hz, got "
            f"{recordings.rate:g}: lower fmax"
        )
    room = room if walls is None else room.with_walls(walls)
    whole = compare(Solver(room, fmax), recordings, width)
    coarse = compare(Solver(room, fmax, nodes_per_wavelength=COARSE), recordings, width)
    first = scan(coarse)
    followed = []
    for place in first:
        followed.append(_refined(coarse, place, SCOUTING))
        if followed[-1].value < ALIKE:
            break
    found = _refined(whole, min(followed, key=lambda result: result.value).x, REFINING)
    tried = len(recordings.receivers) + sum(result.evaluations for result in followed)
    runs = found.evaluations + tried * _work(coarse.solver) / _work(whole.solver)
    certified = compare(finer(whole.solver), recordings, width)
    with torch.no_grad():
        finer_misfit = float(certified.misfit(found.x))
    return LocatedSource(
        found.x,
        whole.amplitude(found.x),
        found.value,
        finer_misfit,
        _shift(certified, found.x),
        first[0],
        runs,
        SPEED_OF_SOUND / fmax,
    )


def recordings_of(
    responses: ResponseTake | Tensor,
    rate: float | None,
    receivers: Any,
    duration: float | None = None,
) -> Recordings:
    """What to compare. Raises InputError."""
    if isinstance(responses, ResponseTake):
        found = Recordings(responses.responses, float(responses.rate), responses.receivers)
    else:
        if rate is None or receivers is None:
            raise InputError(
                "responses must be a take, or come with rate [Hz] and receivers (R, 3) [m]"
            )
        if not 0 < rate < math.inf:
            raise InputError(f"rate must be above 0 samples a second, got {rate}")
        values = check_tensor("responses", responses, (None, None)).detach().cpu().double()
        places = as_tensor("receivers", receivers, "positions (R, 3) [m]", dtype=torch.float64)
        found = Recordings(values, float(rate), check_tensor("receivers", places, (len(values), 3)))
    if len(found.responses) < 2:
        raise InputError("responses must be from at least two receivers to tell a place, got one")
    if not bool((found.responses != 0).any(1).all()):
        raise InputError("responses must not be silent, got zero at all times from a receiver")
    kept = LONGEST if duration is None else duration
    if not 0 < kept < math.inf:
        raise InputError(f"duration must be above 0 s, got {duration}")
    responses = found.responses[:, : math.floor(kept * found.rate) + 1]
    return Recordings(responses, found.rate, found.receivers)


def scan(comparison: Comparison) -> Tensor:
    """Places (C, 3) [m] that sound most like the recordings, best first, by reciprocity."""
    solver, recordings = comparison.solver, comparison.recordings
    wavelength = SPEED_OF_SOUND / solver.fmax
    places = _thinned(_inside(solver), SPACING * wavelength)
    pulses = [Pulse(receiver, 1.0, comparison.width) for receiver in recordings.receivers]
    spectra = [
        damped_spectrum(
            solver.simulate(pulse, places, recordings.duration).detach(),
            solver.time_step,
            comparison.frequencies.s,
        )
        for pulse in pulses
    ]
    score = comparison.correlation(torch.stack(spectra, 1))
    chosen = []
    while len(chosen) < CANDIDATES and bool(score.isfinite().any()):
        best = places[score.argmax()]
        chosen.append(best)
        near = (places - best).norm(dim=1) < APART * wavelength
        score = torch.where(near, -math.inf, score)
    return torch.stack(chosen)


def _refined(comparison: Comparison, start: Tensor, gradients: int) -> Result:
    """Where the gradient leads from a place."""
    budget = Budget(evaluations=GRADIENT_COST * gradients)
    return minimize(source_problem(comparison, start), Lbfgs(tolerance=SETTLED), budget=budget)


def _shift(comparison: Comparison, position: Tensor) -> float:
    """How far a Gauss-Newton step of position and amplitude leads from a position [m]."""
    step = DIFFERENCE * SPEED_OF_SOUND / comparison.solver.fmax
    inward = torch.where(position > _air(comparison.solver).mean(0), -step, step)
    heard = comparison.heard(position).detach()
    amplitude = comparison.amplitude(position)
    slopes = [
        amplitude * (comparison.heard(position + row).detach() - heard) / row.sum()
        for row in torch.diag(inward)
    ]
    columns = torch.stack([*slopes, heard]) * comparison.weight.sqrt()
    left = (comparison.spectrum - amplitude * heard) * comparison.weight.sqrt()
    flat = torch.view_as_real(columns).flatten(1).T
    answer = torch.linalg.lstsq(flat, torch.view_as_real(left).flatten()[:, None]).solution
    return float(answer[:3].norm())


def _air(solver: Solver) -> Tensor:
    """The nodes in the air (N, 3) [m]."""
    return solver.space.points[solver.space.mass > 0].detach()


def _inside(solver: Solver) -> Tensor:
    """The nodes in the air and not on walls, where the gradient has no part across the wall."""
    free = solver.space.mass > 0
    free[solver.space.faces.nodes] = False
    return solver.space.points[free].detach()


def _thinned(points: Tensor, spacing: float) -> Tensor:
    """One of the points in each cell of a grid."""
    cells = (points / spacing).floor().long()
    order = torch.unique(cells, dim=0, return_inverse=True)[1].argsort(stable=True)
    sorted_cells = cells[order]
    first = torch.ones(len(order), dtype=torch.bool)
    first[1:] = (sorted_cells[1:] != sorted_cells[:-1]).any(1)
    return points[order[first]]


def _work(solver: Solver) -> float:
    """Of a run, in nodes a second of sound."""
    return len(solver.space.points) / solver.time_step
