"""How differently a low-frequency response sounds from seat to seat."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.acoustics.inverse.spectra import FADED

FLOOR = 1e-4  # of the mean power over the seats: a null counts as 40 dB below it


def log_frequencies(band: tuple[float, float], count: int, duration: float) -> Tensor:
    """Complex frequencies s (count,) [1/s], equally spaced in the logarithm over a band [Hz].

    Their damping fades responses of a duration [s] to a thousandth at the end, see `spectra`.
    Raises InputError for a band or a count that cannot be used.
    """
    low, high = band
    if not 0 < low < high < math.inf:
        raise InputError(f"band must rise from above 0 Hz, got {band}")
    if count < 2:
        raise InputError(f"frequencies must be at least 2, got {count}")
    ends = math.log(2 * math.pi * low), math.log(2 * math.pi * high)
    omega = torch.linspace(*ends, count, dtype=torch.float64).exp()
    return torch.complex(torch.full_like(omega, FADED / duration), omega)


def seat_levels(spectrum: Tensor) -> Tensor:
    """Levels (..., R, K) [dB re 1] of spectra (..., R, K) at R seats, smooth also at nulls."""
    power = spectrum.abs().square()
    return 10 * torch.log10(power + FLOOR * power.mean(-2, keepdim=True))


def seat_spread(spectrum: Tensor) -> Tensor:
    """The standard deviation of the level over seats, its mean over frequencies, (...) [dB].

    Of spectra (..., R, K). It does not change with the loudspeaker's own response, which all seats
    share. Its square, at each frequency, is the spatial variance of Welti and Devantier, J. Audio
    Eng. Soc. 54 (2006) 347.
    """
    levels = seat_levels(spectrum)
    apart = levels - levels.mean(-2, keepdim=True)
    variance = apart.square().sum(-2) / (levels.shape[-2] - 1)
    return (variance + 1e-12).sqrt().mean(-1)


def unevenness(spectrum: Tensor) -> Tensor:
    """The standard deviation over frequencies of the mean level of all seats, (...) [dB]."""
    return seat_levels(spectrum).mean(-2).std(-1)
