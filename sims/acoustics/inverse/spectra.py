"""Damped spectra: what a response of finite length says about its room, without any window.

    P(s) = ∫ p(t) exp(-s t) dt,    s = σ + iω

is the spectrum of a response that fades as exp(-σ t). With σ T = 7 its end counts a thousandth,
so that a record of T seconds gives it exactly, noise at the end hardly enters, and resonances are
blunt enough to be followed (Shin and Cha, Geophys. J. Int. 173 (2008) 922). A large σ hears the
early sound, a small one the decay. By Parseval's theorem the sum of |P|² over a band is its energy
∫ p² exp(-2 σ t) dt, a decay curve in other coordinates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

FADED = 7.0  # σ T, e^-7 = 1e-3
EARLY = 4.0  # times the least σ: what is heard in the first quarter
SAMPLES = 0.6  # of σ between frequencies [rad/s]; a record of T tells no more than 2 π / T = 0.9 σ
THIRD_OCTAVE = 2.0 ** (1.0 / 3.0)


@dataclass(frozen=True, eq=False)
class Frequencies:
    """Complex frequencies s (K,) [1/s] with the band each belongs to, (K,) int64, from 0."""

    s: Tensor
    band: Tensor

    @property
    def bands(self) -> int:
        """How many bands there are."""
        return int(self.band[-1]) + 1


def frequencies_of(lowest: float, highest: float, duration: float) -> Frequencies:
    """Those of a band [Hz] for records of a duration [s]: a late and an early σ, each in third
    octaves from `lowest` on.
    """
    parts, bands, count = [], [], 0
    for share in (1.0, EARLY):
        damping = share * FADED / duration
        step = SAMPLES * damping
        span = 2 * math.pi * (highest - lowest)
        omega = 2 * math.pi * lowest + torch.linspace(
            0.0, span, max(4, math.ceil(span / step) + 1), dtype=torch.float64
        )
        parts.append(torch.complex(torch.full_like(omega, damping), omega))
        third = (torch.log(omega / omega[0]) / math.log(THIRD_OCTAVE)).floor().long()
        third = torch.unique(third, return_inverse=True)[1]
        bands.append(third + count)
        count += int(third[-1]) + 1
    return Frequencies(torch.cat(parts), torch.cat(bands))


def damped_spectrum(response: Tensor, time_step: float, s: Tensor) -> Tensor:
    """P(s) (R, K) complex of responses (R, T) at times 0, time_step, ... [s], s (K,) [1/s].

    The trapezoidal rule, which is exact for what is sampled above twice its band. Differentiable
    in the response.
    """
    times = time_step * torch.arange(response.shape[-1], dtype=torch.float64, device=s.device)
    kernel = time_step * torch.exp(-s[:, None] * times)
    kernel[:, 0] *= 0.5
    values = response.double()
    return torch.complex(values @ kernel.real.T, values @ kernel.imag.T)


def levels(spectrum: Tensor, band: Tensor) -> Tensor:
    """Mean of |P|² over receivers and each band, at every frequency, (K,)."""
    power = spectrum.detach().abs().square().mean(0)
    count = int(band[-1]) + 1
    summed = power.new_zeros(count).index_add(0, band, power)
    return (summed / torch.bincount(band, minlength=count))[band]
