"""The seam between the wave solver's band and what stands for the sound above it.

Linkwitz, "Active crossover networks for noncoincident drivers", J. Audio Eng. Soc. 24 (1976): each
branch is a Butterworth filter of second order run twice. Their sum is an all-pass, so that a sound
that is in both branches keeps its level at every frequency.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from geomopt.errors import InputError, check_tensor


def crossover(low: Tensor, high: Tensor, frequency: float, rate: float) -> Tensor:
    """`low` (..., T) below `frequency` [Hz] plus `high` (..., T') above it, at `rate` [Hz].

    Both are 6 dB down there, and fall by 24 dB an octave. The shorter one is followed by silence.
    Raises InputError unless 0 < frequency < rate / 2.
    """
    check_tensor("low", low)
    check_tensor("high", high)
    count = max(low.shape[-1], high.shape[-1])
    branches = (pad(part, (0, count - part.shape[-1])) for part in (low, high))
    below, above = (
        linkwitz_riley(part, frequency, rate, kind)
        for part, kind in zip(branches, ("lowpass", "highpass"), strict=True)
    )
    return below + above


def linkwitz_riley(samples: Tensor, frequency: float, rate: float, kind: str) -> Tensor:
    """One branch, "lowpass" or "highpass", of samples (..., T)."""
    from scipy.signal import butter, sosfilt  # slow to import

    if not 0 < frequency < rate / 2:
        raise InputError(
            f"frequency must be between 0 and half the rate of {rate:g} Hz, got {frequency} Hz"
        )
    section = butter(2, frequency, kind, fs=rate, output="sos")
    values = samples.detach().cpu().double().numpy()
    return torch.from_numpy(sosfilt(section, sosfilt(section, values))).to(samples)
