"""Energy decay curves and decay times (ISO 3382-1:2009, ISO 3382-2:2008).

Responses are pressures (..., T) at a rate [Hz]; a sample stands for the time from its index to the
next. Everything is summed in float64, and given back in the response's dtype.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from sims.acoustics.metrics.bands import check_rate, check_response
from sims.acoustics.metrics.noise import NoiseFloor

ONSET_LEVEL = -20.0  # dB re the peak
EARLY_DECAY = (0.0, -10.0)  # dB
T20 = (-5.0, -25.0)
T30 = (-5.0, -35.0)
MARGIN = 10.0  # dB between the end of a line and the noise
LOWEST = 1e-30  # of the energy of a whole response: -300 dB, where its curve ends


@dataclass(frozen=True)
class Decay:
    """A line through a part of a decay curve, (...) each.

    time: for 60 dB [s]; NaN where the curve does not reach the end of that part or does not fall.
    nonlinearity: xi = 1000 (1 - r²) of ISO 3382-2, annex B; above 10 the curve is far from a
    line, so that the time says little.
    """

    time: Tensor
    nonlinearity: Tensor


def onset(response: Tensor) -> Tensor:
    """The first sample of each response (..., T) above -20 dB of its peak, (...) int64.

    Raises InputError for a silent response.
    """
    check_response(response)
    size = response.detach().abs()
    peak = size.amax(dim=-1, keepdim=True)
    if not bool((peak > 0).all()):
        raise InputError("response must not be silent, got zero at all times")
    return (size > peak * 10 ** (ONSET_LEVEL / 20)).to(torch.int8).argmax(dim=-1)


def remaining_energy(response: Tensor, floor: NoiseFloor | None = None) -> Tensor:
    """E(t), the sum of squares from each sample on, (..., T + 1) float64.

    floor: of `noise_floor`; the noise is then taken off up to where decay and noise meet, and
    behind that E goes on as the exponential of the late decay.
    """
    check_response(response)
    power = response.double() ** 2
    if floor is not None:
        # a crossing within a sample takes its share of it
        samples = torch.arange(power.shape[-1], device=power.device)
        share = (floor.crossing[..., None] - samples).clamp(0, 1)
        power = (power - floor.power[..., None]) * share
    energy = power.flip(-1).cumsum(-1).flip(-1)
    energy = torch.cat((energy, torch.zeros_like(energy[..., :1])), dim=-1)
    if floor is None:
        return energy
    beyond = torch.arange(energy.shape[-1], device=power.device) - floor.crossing[..., None]
    tail = torch.exp(-beyond.clamp(min=0) / floor.constant[..., None])
    return energy + floor.remainder[..., None] * tail


def schroeder_curve(
    response: Tensor, floor: NoiseFloor | None = None, start: Tensor | None = None
) -> Tensor:
    """L(t) = 10 log10 E(t) / E(start) [dB], (..., T), of responses (..., T) (Schroeder 1965).

    floor: of `noise_floor`; without it noise counts as sound, with it the curve goes on below the
    noise as the late decay would. start: samples (...), by default the onset of each response. -300
    dB stands for nothing left.
    """
    start = onset(response) if start is None else start
    energy = remaining_energy(response, floor)[..., :-1]
    whole = energy.gather(-1, start[..., None])
    return (10 * torch.log10((energy / whole).clamp(min=LOWEST))).to(response.dtype)


def decay_range(response: Tensor, floor: NoiseFloor, start: Tensor | None = None) -> Tensor:
    """How far the Schroeder curve falls before noise or the end of the response [dB], (...).

    NaN where no decay is found.
    """
    start = onset(response) if start is None else start
    whole = remaining_energy(response, floor).gather(-1, start[..., None])[..., 0]
    found = (floor.remainder > 0) & (whole > 0)
    span = 10 * torch.log10(whole / floor.remainder)
    return torch.where(found, span, torch.nan).to(response.dtype)


def decay_line(curve: Tensor, rate: float, part: tuple[float, float], start: Tensor) -> Decay:
    """Least-squares line through `part` (from, to) [dB] of decay curves (..., T).

    start: samples (...) at which the curves begin.
    """
    check_rate(rate)
    check_tensor("curve", curve, finite=False)  # a response without a decay has no curve
    high, low = part
    if not low < high <= 0:
        raise InputError(f"part must fall from at most 0 dB, got {part}")
    level = curve.detach().double()
    times = torch.arange(level.shape[-1], device=level.device, dtype=torch.float64) / rate
    begun = torch.arange(level.shape[-1], device=level.device) >= start[..., None]
    ended = ((level < low) & begun).cumsum(-1) > 0
    inside = (begun & ~ended & (level <= high)).double()
    count = inside.sum(-1)
    mean_time = (inside * times).sum(-1) / count
    mean_level = (inside * level).sum(-1) / count
    time = times - mean_time[..., None]
    fall = level - mean_level[..., None]
    time_spread = (inside * time**2).sum(-1)
    both = (inside * time * fall).sum(-1)
    slope = both / time_spread
    correlation = both**2 / (time_spread * (inside * fall**2).sum(-1))
    good = ended[..., -1] & (count >= 3) & (slope < 0)
    duration = torch.where(good, -60 / slope, torch.nan)
    nonlinearity = torch.where(good, 1000 * (1 - correlation).clamp(min=0), torch.nan)
    return Decay(duration.to(curve.dtype), nonlinearity.to(curve.dtype))


def reverberation_time(
    response: Tensor,
    rate: float,
    part: tuple[float, float] = T30,
    floor: NoiseFloor | None = None,
    margin: float = MARGIN,
) -> Tensor:
    """Reverberation time [s], (...), from the line through `part` of the Schroeder curve.

    part: `T30` (-5 to -35 dB), `T20` or `EARLY_DECAY`. floor: of `noise_floor`. Without it noise
    makes the time too long. NaN where the curve does not come so low, or with a floor, not by
    `margin` [dB] further before the decay meets the noise: 10 dB by ISO 3382-1. What is compensated
    here allows for less: T30 of tones in noise errs by 0.9 % (RMS) with that, 2.4 % without.
    """
    start = onset(response)
    time = decay_line(schroeder_curve(response, floor, start), rate, part, start).time
    if floor is None:
        return time
    enough = decay_range(response, floor, start) >= margin - part[1]
    return torch.where(enough, time, torch.nan)


def early_decay_time(response: Tensor, rate: float, floor: NoiseFloor | None = None) -> Tensor:
    """Early decay time EDT [s], (...): from the line through 0 to -10 dB, for 60 dB."""
    return reverberation_time(response, rate, EARLY_DECAY, floor)
