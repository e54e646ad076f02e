"""How far a room is from what was measured in it: spectra and levels, with their derivatives.

The source of a measurement is not known, nor its start, nor the temperature. Between the spectrum
H(s) of the solver's pulse, or of an impulse, and a measured D(s) stands

    D(s) = S(s) H(s exp(-ε)),    log S = a + b log x + c x + d x² + e / x,    x = s / 2π fmax,

which holds a gain, a tilt, a delay, the width of a pulse and a high-pass far below the band. ε is a
share of the speed of sound. Residuals are D - S H beside the errors expected of D, and levels of
bands [dB], which have no phase to be half a wave wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sims.acoustics.inverse.modal_spectra import ModalSpectra
from sims.acoustics.inverse.spectra import Frequencies, levels

ERROR = 0.02  # of a spectrum, expected of the best model
LEVEL_ERROR = 0.3  # dB, expected of the level of a band
TERMS = 5  # of log S
# one standard deviation of a, b, c, d, e and of the speed of sound, before anything is measured
SOURCE_SPREAD = (20.0, 1.5, 30.0, 4.0, 0.1)
PITCH_SPREAD = 0.003  # springs of walls look much like sound that is slower


@dataclass(frozen=True, eq=False)
class Nuisance:
    """What a measurement does not tell about its source. terms: (5,) of log S. pitch: () ε.
    unit: 2π fmax [rad/s]. sign: of the recordings, 1 or -1. impulse: whether H is the answer to an
    impulse of 1 / r, not to the solver's pulse.
    """

    terms: Tensor
    pitch: Tensor
    unit: float
    sign: float = 1.0
    impulse: bool = False


@dataclass(frozen=True, eq=False)
class Measured:
    """Spectra D (R, K) at `frequencies`, with the errors (K,) expected of them, and of the levels
    of bands [dB].
    """

    frequencies: Frequencies
    spectrum: Tensor
    error: Tensor
    level_error: float = LEVEL_ERROR

    def doubted(self, times: float) -> Measured:
        """With errors larger by a factor, so that what is expected beforehand counts more."""
        return replace(self, error=times * self.error, level_error=times * LEVEL_ERROR)

    def with_errors_of(self, residual: Tensor) -> Measured:
        """Errors no less than what a fit left, a (R, K) complex difference, in each band."""
        left = levels(residual, self.frequencies.band).sqrt()
        least = ERROR * levels(self.spectrum, self.frequencies.band).sqrt()
        return replace(self, error=torch.maximum(least, left))


def measured(frequencies: Frequencies, spectrum: Tensor) -> Measured:
    """A measurement with errors of 2 % of the level of each band."""
    return Measured(frequencies, spectrum, ERROR * levels(spectrum, frequencies.band).sqrt())


def source_basis(s: Tensor, unit: float) -> Tensor:
    """1, log x, x, x², 1 / x at s (K,), (K, 5) complex."""
    x = s / unit
    return torch.stack((torch.ones_like(x), torch.log(x), x, x.square(), 1 / x), 1)


def source_spectrum(s: Tensor, nuisance: Nuisance) -> Tensor:
    """S (K,), differentiable in the terms."""
    return nuisance.sign * torch.exp(source_basis(s, nuisance.unit) @ (nuisance.terms + 0j))


def difference(data: Measured, model: Tensor, nuisance: Nuisance) -> Tensor:
    """D - S H (R, K)."""
    return data.spectrum - source_spectrum(data.frequencies.s, nuisance) * model


def residuals(data: Measured, model: Tensor, nuisance: Nuisance) -> Tensor:
    """All residuals in expected errors, (2 R K + R B,), differentiable in the model's spectra H."""
    apart = difference(data, model, nuisance) / data.error
    heard = source_spectrum(data.frequencies.s, nuisance) * model
    level = band_levels(heard, data.frequencies) - band_levels(data.spectrum, data.frequencies)
    return torch.cat(
        [apart.real.flatten(), apart.imag.flatten(), level.flatten() / data.level_error]
    )


def band_levels(spectrum: Tensor, frequencies: Frequencies) -> Tensor:
    """Levels (R, B) [dB] of the bands of spectra (R, K)."""
    return 10 * torch.log10(_band_sums(spectrum.abs().square(), frequencies))


def jacobian(data: Measured, model: ModalSpectra, by_wall: Tensor, nuisance: Nuisance) -> Tensor:
    """Derivatives of `residuals` in the walls' logarithms, the source's terms and the pitch.

    by_wall: (R, K, P) complex, of the model's spectra. Returns (2 R K + R B, P + 6).
    """
    source = source_spectrum(data.frequencies.s, nuisance)[None, :, None]
    heard = source * model.pressure[..., None]
    by_source = heard * source_basis(data.frequencies.s, nuisance.unit)
    by_pitch = -source * model.by_pitch[..., None]
    columns = torch.cat([source * by_wall, by_source, by_pitch], 2)
    apart = -columns / data.error[:, None]
    rise = 2 * (heard.conj() * columns).real
    energy = _band_sums(heard[..., 0].abs().square(), data.frequencies)[..., None]
    level = (10 / math.log(10)) * _band_sums(rise, data.frequencies) / energy
    rows = [
        apart.real.flatten(0, 1),
        apart.imag.flatten(0, 1),
        level.flatten(0, 1) / data.level_error,
    ]
    return torch.cat(rows)


def _band_sums(values: Tensor, frequencies: Frequencies) -> Tensor:
    """Sums (R, B, ...) over the bands of (R, K, ...)."""
    sums = values.new_zeros(len(values), frequencies.bands, *values.shape[2:])
    return sums.index_add(1, frequencies.band, values)
