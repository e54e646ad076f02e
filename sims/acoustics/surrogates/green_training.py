"""How a Green operator is learned: from short sounds of a few sources at many receivers."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.runs.progress import Progress
from optimizers import checkpoint as files
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.solver import Solver
from sims.acoustics.source import Emission
from sims.acoustics.surrogates.domain import Domain
from sims.acoustics.surrogates.fourier import FourierBasis
from sims.acoustics.surrogates.green import GreenOperator
from sims.acoustics.surrogates.identify import damped, leading, reciprocal, undamped
from sims.acoustics.surrogates.records import HELD_OUT, places_in_air, record, sources_in

BAND = 1.3  # of fmax: what a pulse of the default width has above is below 0.2 % of its norm
BASIS = 1.2  # of fmax: wavenumbers of the basis, beside what edges of the room take
SPECTRUM = 0.45  # of fmax, where the spectrum of the sounds has fallen to 1/e
REACH = 4.2  # widths from its peak at which a sound begins and ends, 2e-8
RECEIVERS = 4.0  # for each function of the basis
SURPLUS = 4.0  # equations for each unknown of the recursion
SAMPLES = 3.0  # per period at the end of the band
SINGULAR = 1e-9  # of the largest: mixes of functions that the air does not tell apart
RIDGE = 1e-6  # of the mean, in the fit of these to the receivers
FASTEST = 0.15  # of ω at the end of the band: decays beyond leave nothing to hear
SAVE_EVERY = 10  # runs
TOGETHER = 4096  # points whose functions are in memory at a time


def train_green(
    solver: Solver,
    low: Any,
    high: Any,
    duration: float = 0.05,
    *,
    generator: torch.Generator,
    runs: int | None = None,
    seconds: float = math.inf,
    modes: int | None = None,
    margin: float = 1.4,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> GreenOperator:
    """Learn the response to sources in the box from low to high (3,) [m], up to duration [s].

    The solver is run for `runs` sources all over the room that give out a short sound each, and
    what receivers hear afterwards goes straight into coefficients of orthonormal functions. From
    these come frequencies, decays and shapes (`identify`). It learns nothing of the room but its
    air and whether its walls move. The error is measured on pulses of five other sources.

    runs: None for what the recursion needs. seconds: of processor time, after which no run is
    begun. modes: None for all up to 1.3 fmax by Weyl's law, 4π V f³ / 3c³ + π S f² / 4c². margin:
    see `FourierBasis.around`; more gives more functions and parameters. checkpoint: a file to go on
    from. Raises InputError for a box outside of the room, and a file of another training.
    """
    domain = Domain.of(solver, low, high, duration)
    began = generator.get_state()
    band = BAND * solver.fmax
    moving = any(len(wall.branches) for wall in solver.room.walls.values())
    count = _mode_count(solver, band) if modes is None else modes
    waves = 2 * math.pi * BASIS * solver.fmax / SPEED_OF_SOUND
    basis = FourierBasis.around(*domain.bounds, waves, margin)
    functions = _orthonormal(basis, solver)
    sound = _Sound.of(solver)
    length = max(duration, 0.05 * 500 / solver.fmax)
    every = max(1, int(1 / (SAMPLES * band * solver.time_step)))
    if runs is None:
        runs = math.ceil(SURPLUS * (1 + moving) * count / (2 * band * length))
    sources = places_in_air(domain, runs, generator)
    receivers = places_in_air(domain, math.ceil(RECEIVERS * functions.shape[1]), generator)
    fit = _fit(basis.at(receivers) @ functions)
    identity = {"training": "green operator", "fmax": solver.fmax, "runs": runs, "began": began}
    series = _resumed(checkpoint, identity)
    start = time.process_time()
    with Progress("green operator", None, progress) as shown:
        for number in range(len(series), runs):
            shown.step(number / runs, f"source {number + 1} of {runs}", "the solver runs")
            heard = sound.heard(solver, sources[number], receivers, length)[:, ::every]
            series.append((fit @ heard.to("cpu", torch.float64)).float())
            if checkpoint is not None and (number + 1) % SAVE_EVERY == 0:
                files.save(Path(checkpoint), {**identity, "series": torch.stack(series)})
            if time.process_time() - start > seconds and number + 1 < runs:
                break
        shown.step(None, f"{len(series)} sources", "modes are told apart")
        data = torch.stack(series).double()
        step = every * solver.time_step
        model = _learned(domain, basis, functions, data, step, sound, sources, count, moving)
        shown.step(None, "held-out sources", "the error is measured")
        kept, listening = HELD_OUT
        held = sources_in(domain, kept, generator), places_in_air(domain, listening, generator)
        model.measure(record(solver, *held, duration))
        shown.step(1.0, "done", str(model.error))
    return model


@dataclass(frozen=True, eq=False)
class _Sound:
    """exp(-((t - peak)/width)²), which a source gives out before the records begin."""

    signal: Tensor
    step: float

    @classmethod
    def of(cls, solver: Solver) -> _Sound:
        width = 1 / (math.pi * SPECTRUM * solver.fmax)
        step = solver.time_step
        times = step * torch.arange(math.ceil(2 * REACH * width / step) + 1, dtype=torch.float64)
        return cls(torch.exp(-((times / width - REACH) ** 2)), step)

    def heard(self, solver: Solver, source: Tensor, receivers: Tensor, length: float) -> Tensor:
        """What receivers hear once the sound has ended."""
        silent = len(self.signal)
        emission = Emission(source, self.signal, 1 / self.step)
        return solver.simulate(emission, receivers, length + silent * self.step)[:, silent:]

    def weights(self, rates: Tensor) -> Tensor:
        """How strongly the sound has started a mode of rate s by the first record, (J,)."""
        ages = self.step * (len(self.signal) - torch.arange(len(self.signal)))
        return (torch.exp(rates[:, None] * ages) * self.signal).sum(1) * self.step


def _learned(
    domain: Domain,
    basis: FourierBasis,
    functions: Tensor,
    series: Tensor,
    step: float,
    sound: _Sound,
    sources: Tensor,
    count: int,
    moving: bool,
) -> GreenOperator:
    axes = leading(series, count)
    short = torch.einsum("kl,skt->slt", axes, series)
    if not moving:
        frequencies, shapes = undamped(short, step)
        return _made(domain, basis, functions @ axes @ shapes, 1j * frequencies)
    found = damped(short, step)
    largest = 2 * math.pi * BAND * domain.fmax
    kept = (found.rates.imag <= largest) & (found.rates.real > -FASTEST * largest)
    found = found.only(kept)
    at_sources = basis.at(sources[: len(series)]) @ functions @ axes
    shapes = reciprocal(found.started(sound.weights(found.rates)), at_sources)
    return _made(domain, basis, (functions @ axes).to(shapes.dtype) @ shapes, found.rates)


def _made(domain: Domain, basis: FourierBasis, shapes: Tensor, rates: Tensor) -> GreenOperator:
    complex_shapes = shapes.is_complex()
    model = GreenOperator(domain, basis, len(rates), complex_shapes)
    parts = torch.stack([shapes.real, shapes.imag]) if complex_shapes else shapes[None]
    with torch.no_grad():
        model.shapes.copy_(parts)
        model.frequency.copy_(rates.imag)
        model.decay.copy_((-rates.real).clamp(min=0))
    return model.requires_grad_(False)


def _mode_count(solver: Solver, frequency: float) -> int:
    volume = float(solver.space.mass.sum())
    surface = float(solver.space.faces.areas.sum())
    waves = frequency / SPEED_OF_SOUND
    return math.ceil(4 * math.pi / 3 * volume * waves**3 + math.pi / 4 * surface * waves**2)


def _orthonormal(basis: FourierBasis, solver: Solver) -> Tensor:
    """(M, K): mixes of the functions that are orthonormal over the air."""
    points, mass = solver.space.points.cpu(), solver.space.mass.cpu()
    air = mass > 0
    square = torch.zeros(basis.count, basis.count, dtype=torch.float64)
    for at, weight in zip(points[air].split(TOGETHER), mass[air].split(TOGETHER), strict=True):
        here = basis.at(at) * weight.sqrt()[:, None]
        square += here.T @ here
    size, axes = torch.linalg.eigh(square)
    kept = size > SINGULAR * size[-1]
    return axes[:, kept] / size[kept].sqrt()


def _fit(values: Tensor) -> Tensor:
    """(K, R): coefficients of functions with values (R, K) from the pressure at receivers."""
    square = values.T @ values
    square.diagonal().add_(RIDGE * square.trace() / len(square))
    return torch.linalg.solve(square, values.T)


def _resumed(checkpoint: str | os.PathLike[str] | None, identity: dict[str, Any]) -> list[Tensor]:
    if checkpoint is None:
        return []
    path = Path(checkpoint)
    files.check_writable(path)
    if not path.exists():
        return []
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
        series = list(kept["series"])
        began = kept["began"]
    except Exception as error:  # damaged files raise errors of many kinds
        raise InputError(f"checkpoint {path} is damaged: {error}") from None
    same = torch.equal(began, identity["began"])
    for name in identity.keys() - {"began"}:
        same = same and kept.get(name) == identity[name]
    if not same:
        raise InputError(f"checkpoint {path} is of another training; give another file")
    return series
