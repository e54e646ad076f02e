"""A room with identified walls beside what was measured in it, as one hears it: T30 and C50."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.signal import butter, sosfilt
from torch import Tensor

from sims.acoustics.inverse.measurement import Measurement
from sims.acoustics.inverse.misfit import Nuisance, source_spectrum
from sims.acoustics.inverse.point_response import impulse_over_point, point_pressure
from sims.acoustics.inverse.spectra import FADED
from sims.acoustics.metrics.bands import bands_below
from sims.acoustics.metrics.parameters import (
    RoomParameters,
    noticeable_differences,
    room_parameters,
)
from sims.acoustics.solver import Solver
from sims.acoustics.wav import resample

LOWEST_BANDS = (125.0, 63.0)  # Hz, the second where fmax is too low for the first
TAPER = 0.5  # of fmax, over which what is above it fades out
LEAST = 40.0  # Hz, below which sources are not told


@dataclass(frozen=True, eq=False)
class WallCheck:
    """bands: octaves [Hz]. measured, solved: their parameters, (R, B). differences: of T30 and C50
    in just noticeable differences, (R, B); NaN where a record is too short for one. nodes: of the
    mesh.
    """

    measured: RoomParameters
    solved: RoomParameters
    differences: dict[str, Tensor]
    nodes: int

    @property
    def bands(self) -> tuple[float, ...]:
        """The octaves [Hz]."""
        return self.measured.bands

    def largest(self, name: str) -> float:
        """The largest difference of "t30" or "c50" in just noticeable differences."""
        known = self.differences[name][~self.differences[name].isnan()]
        return float(known.max()) if len(known) else math.nan

    def __str__(self) -> str:
        bands = ", ".join(f"{band:g}" for band in self.bands)
        return (
            f"T30 within {self.largest('t30'):.2f} and C50 within {self.largest('c50'):.2f} just "
            f"noticeable differences in octaves {bands} Hz ({self.nodes} nodes)"
        )


def wall_check(solver: Solver, measurement: Measurement, nuisance: Nuisance) -> WallCheck:
    """The solver's room beside a measurement, both below fmax, the solver's with the source found.

    Octaves that end below fmax are compared. T30 needs a decay that stays 45 dB above the noise in
    its octave (ISO 3382-1), or it is NaN.
    """
    pitch = math.exp(float(nuisance.pitch))
    place = measurement.source, measurement.receivers
    listen = partial(point_pressure, solver) if nuisance.impulse else solver.simulate
    pressure = listen(*place, measurement.duration * pitch).detach()
    rate, highest = measurement.rate, solver.fmax
    # a room where sound is faster answers the same, sooner
    heard = _with_source(pressure.double(), solver, nuisance)
    solved = _below(resample(heard, pitch / solver.time_step, rate), rate, highest)
    recorded = _below(measurement.responses, rate, highest)
    count = min(solved.shape[-1], recorded.shape[-1])
    found = [bands_below(1.001 * highest, "octave", lowest) for lowest in LOWEST_BANDS]
    bands = found[0] or found[1]
    first, second = (
        room_parameters(_without_drift(response[:, :count], rate), rate, bands)
        for response in (recorded, solved)
    )
    apart = noticeable_differences(first, second)
    # late sound that is below the noise has no level to compare
    heard_late = first.c50 < first.decay_range
    apart["c50"] = torch.where(heard_late, apart["c50"], math.nan)
    differences = {name: apart[name] for name in ("t30", "c50")}
    return WallCheck(first, second, differences, len(solver.space.points))


def _with_source(pressure: Tensor, solver: Solver, nuisance: Nuisance) -> Tensor:
    """Pressure (R, T) by the source that was found, in the damped spectra where it was: there the
    source is causal, also below the lowest frequency that told it.
    """
    pitch = math.exp(float(nuisance.pitch))
    count, time_step = pressure.shape[-1], solver.time_step / pitch
    fading = torch.exp(-FADED * torch.arange(count, dtype=torch.float64) / count)
    spectrum = torch.fft.rfft(pressure * fading, 2 * count)
    frequencies = torch.fft.rfftfreq(2 * count, time_step, dtype=torch.float64)
    damping = torch.full_like(frequencies, FADED / (count * time_step))
    s = torch.complex(damping, 2 * math.pi * frequencies)
    source = source_spectrum(s, nuisance) * _taper(frequencies, (1 + TAPER) * solver.fmax)
    if nuisance.impulse:
        source = source * impulse_over_point(solver, s / pitch)
    return torch.fft.irfft(spectrum * source, 2 * count)[..., :count] / fading


def _without_drift(responses: Tensor, rate: float) -> Tensor:
    """Without what is lower than sources are told; nothing is heard before the first sound of it,
    as it would be after a cut of the spectrum.
    """
    filters = butter(4, LEAST, "highpass", fs=rate, output="sos")
    return torch.from_numpy(np.array(sosfilt(filters, responses.double().numpy(), axis=-1)))


def _below(responses: Tensor, rate: float, highest: float) -> Tensor:
    count = responses.shape[-1]
    spectrum = torch.fft.rfft(responses, 2 * count)
    frequencies = torch.fft.rfftfreq(2 * count, 1 / rate, dtype=torch.float64)
    return torch.fft.irfft(spectrum * _taper(frequencies, highest), 2 * count)[..., :count]


def _taper(frequencies: Tensor, highest: float) -> Tensor:
    """1 up to fmax, 0 above 1.5 fmax, half a cosine between."""
    place = ((frequencies / highest - 1) / TAPER).clamp(0, 1)
    return 0.5 + 0.5 * torch.cos(math.pi * place)
