"""Reverberation above the wave solver's band, from noise that decays as fast as each octave does.

Where many modes overlap, above the Schroeder frequency, a response is noise with an exponential
envelope (Kuttruff, Room Acoustics). Its level is that of the solver's response in the octave below
the crossover: a diffuse field starts alike at all frequencies, and what differs is how long it
lasts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_tensor
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.auralize.bands import octave_masks
from sims.acoustics.metrics import (
    EARLY_DECAY,
    T20,
    band_filter,
    bands_below,
    noise_floor,
    onset,
    reverberation_time,
)

LONGEST = 1.2  # reverberation times, after which nothing is heard
LEAST_RATIO = 0.25  # of the crossover's frequency, below which noise is not heard any more
LEAST_SHARE = 0.01  # of the energy below the crossover that counts as reverberant at least


def noise_tail(
    response: Tensor,
    rate: int,
    crossover: float,
    distances: Sequence[float] | Tensor,
    decay_times: Mapping[float, float] | None = None,
    *,
    seed: int = 0,
) -> Tensor:
    """Direct sound and decaying noise (R, T') float64 to be heard above `crossover` [Hz].

    response: (R, T), impulse responses at `rate` [Hz] below the crossover (`impulse_response`).
    distances: (R,) from the source [m], or 0 where something stands in the way of direct sound.
    decay_times: reverberation time [s] by octave [Hz], such as of Eyring's formula with what the
    walls absorb there; None for the one measured just below the crossover, at all octaves. seed: of
    the noise. The same arguments give the same samples, and all receivers hear the same noise, so
    that it does not flutter along a path; a second ear wants another seed.

    Raises InputError where that time must be measured and the responses are too short for it.
    """
    check_tensor("response", response, (None, None))
    away = as_tensor("distances", distances, "numbers (R,)", dtype=torch.float64)
    if away.shape != response.shape[:1] or not bool(((away >= 0) & away.isfinite()).all()):
        raise InputError(
            f"distances must be {len(response)} numbers of at least 0 m, got {away.tolist()}"
        )
    if not 0 < crossover < rate / 2:
        raise InputError(
            f"crossover must be between 0 and half the rate of {rate:g} Hz, got {crossover} Hz"
        )
    low = response.detach().cpu().double()
    if decay_times is None:
        times = {crossover: _measured_time(low, rate, crossover)}
    else:
        times = dict(decay_times)
    numbers = [number for pair in times.items() for number in pair]
    if not numbers or not all(isinstance(n, int | float) and 0 < n < math.inf for n in numbers):
        raise InputError(f"decay_times must be positive times by octave, got {times}")
    bands = sorted(times)
    lasting = [times[band] for band in bands]
    below = float(np.interp(math.log(crossover / math.sqrt(2)), np.log(bands), lasting))
    density = _density_below(low, rate, crossover)
    direct = torch.where(away > 0, away.clamp(min=1e-9) ** -2, 0.0)
    diffuse = torch.maximum(density - direct, LEAST_SHARE * density)
    delays = torch.where(away > 0, away / SPEED_OF_SOUND, onset(low) / rate)
    count = math.ceil((LONGEST * max(lasting) + float(delays.max())) * rate)
    count = max(count, low.shape[-1])
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(count, generator=generator, dtype=torch.float64)
    since = torch.arange(count, dtype=torch.float64) / rate - delays[:, None]
    frequencies = torch.fft.rfftfreq(2 * count, 1 / rate, dtype=torch.float64)
    spectrum = torch.zeros(len(low), len(frequencies), dtype=torch.complex128)
    for mask, time in zip(octave_masks(frequencies, bands), lasting, strict=True):
        envelope = torch.where(since >= 0, 10 ** (-3 * since.clamp(min=0) / time), 0.0)
        energy = diffuse * time / below / envelope.square().sum(-1)
        shaped = white * envelope * energy.sqrt()[:, None]
        spectrum += mask.sqrt() * torch.fft.rfft(shaped, 2 * count)
    spectrum *= _made_up(frequencies / crossover)
    turn = torch.exp(-2j * math.pi * frequencies * delays[:, None])
    spectrum += direct.sqrt()[:, None] * turn
    return torch.fft.irfft(spectrum, 2 * count)[:, :count]


def _made_up(ratio: Tensor) -> Tensor:
    """Gain of noise at frequencies (F,) over the crossover's, with which energy sums flat.

    The crossover's branches are 1/(1 + x⁴) and x⁴/(1 + x⁴) in size and sum up to one where both
    carry the same sound. Noise knows nothing of the other branch, so that energies add: with g² =
    1 + 2/x⁴ they give one.
    """
    return (1 + 2 / ratio.clamp(min=LEAST_RATIO) ** 4).sqrt()


def _density_below(response: Tensor, rate: int, crossover: float) -> Tensor:
    """Mean |H|² in the octave below the crossover, (R,)."""
    frequencies = torch.fft.rfftfreq(response.shape[-1], 1 / rate, dtype=torch.float64)
    inside = (frequencies >= crossover / 2) & (frequencies <= crossover)
    if not bool(inside.any()):
        raise InputError(
            f"response must last {1 / crossover:.3g} s or more, got {response.shape[-1] / rate:.3g}"
        )
    return torch.fft.rfft(response)[:, inside].abs().square().mean(dim=-1)


def _measured_time(response: Tensor, rate: int, crossover: float) -> float:
    """Median over the responses of T20, or the early decay time, in the last octave that ends below
    the crossover [s].
    """
    bands = bands_below(crossover)
    if not bands:
        raise InputError(
            f"crossover must lie above an octave to measure in, got {crossover:g} Hz: give "
            "decay_times"
        )
    filtered = band_filter(response, rate, bands[-1:])[:, 0]
    floor = noise_floor(filtered, rate)
    for part in (T20, EARLY_DECAY):
        times = reverberation_time(filtered, rate, part, floor)
        times = times[~times.isnan()]
        if len(times):
            return float(times.median())
    raise InputError(
        f"response must decay by 20 dB at {bands[-1]:g} Hz for its time to be measured: simulate "
        "longer, or give decay_times"
    )
