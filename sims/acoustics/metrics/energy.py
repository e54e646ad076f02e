"""Ratios and moments of energy: clarity, definition, centre time, strength (ISO 3382-1, annex A).

All are differentiable in the response; times are counted from its onset, a sample where it is -20
dB below its peak, that derivatives see as fixed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.acoustics.metrics.bands import Width, band_filter, check_rate
from sims.acoustics.metrics.decay import onset, remaining_energy
from sims.acoustics.metrics.noise import NoiseFloor

C50 = 0.05  # s, the early part for speech
C80 = 0.08  # s, the early part for music
STRENGTH_DISTANCE = 10.0  # m


def clarity(
    response: Tensor,
    rate: float,
    early: float = C80,
    floor: NoiseFloor | None = None,
    start: Tensor | None = None,
) -> Tensor:
    """C = 10 log10 E(0 to early) / E(early to end) [dB], (...), of responses (..., T).

    early: limit in time [s], `C50` or `C80`. floor: of `noise_floor`. start: samples (...) from
    which time is counted, by default the onset. Infinite where nothing comes after `early`.
    """
    whole, late = _whole_and_late(response, rate, early, floor, start)
    return (10 * torch.log10((whole - late) / late)).to(response.dtype)


def definition(
    response: Tensor,
    rate: float,
    early: float = C50,
    floor: NoiseFloor | None = None,
    start: Tensor | None = None,
) -> Tensor:
    """D = E(0 to early) / E, (...); D50 with the default of `early` [s]. Else like `clarity`."""
    whole, late = _whole_and_late(response, rate, early, floor, start)
    return (1 - late / whole).to(response.dtype)


def centre_time(
    response: Tensor, rate: float, floor: NoiseFloor | None = None, start: Tensor | None = None
) -> Tensor:
    """Centre time Ts = ∫ t p² dt / ∫ p² dt [s], (...). Arguments like those of `clarity`."""
    rate = check_rate(rate)
    start = onset(response) if start is None else start
    energy = remaining_energy(response, floor)
    whole = energy.gather(-1, start[..., None])[..., 0]
    # ∫ t p² dt = ∫ E dt, and E falls linearly over a sample
    samples = torch.arange(energy.shape[-1], device=energy.device)
    area = (energy * (samples >= start[..., None])).sum(-1) - (whole + energy[..., -1]) / 2
    if floor is not None:  # the exponential behind the last sample
        area = area + energy[..., -1] * floor.constant
    return (area / whole / rate).to(response.dtype)


def early_and_late(
    response: Tensor,
    rate: float,
    early: float,
    bands: Sequence[float],
    *,
    width: Width = "octave",
    floor: NoiseFloor | None = None,
    filtered: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Energy before and after `early` [s] in bands, two (..., B) float64, of responses (..., T).

    The response is cut in two before it is filtered (ISO 3382-1): a filter delays low octaves by
    many milliseconds, which would make C50 at 125 Hz 1 to 3 dB too low. floor: of `noise_floor`, of
    the filtered response. filtered: (..., B, T), of `band_filter`, where it is at hand.
    """
    check_rate(rate)
    cut = onset(response) + round(early * rate)
    before = torch.arange(response.shape[-1], device=response.device) < cut[..., None]
    if filtered is None:
        filtered = band_filter(response, rate, bands, width=width)
    part = band_filter(response * before, rate, bands, width=width)
    first = part.double().square().sum(-1)
    second = remaining_energy(filtered - part, floor)
    cut = cut[..., None].clamp(max=response.shape[-1])
    if floor is not None:
        first = first - floor.power * cut
    late = second.gather(-1, cut[..., None].expand(*first.shape, 1))[..., 0]
    return first, late


def strength(
    response: Tensor,
    free_field: Tensor,
    *,
    distance: float = STRENGTH_DISTANCE,
    floor: NoiseFloor | None = None,
) -> Tensor:
    """Strength G = 10 log10 E / E(free field, 10 m) [dB], (...).

    free_field: response (..., T') of the same source at the same rate, in the same band, in free
    field at `distance` [m] from it, from which its level at 10 m is computed.
    """
    if not 0 < distance < math.inf:
        raise InputError(f"distance must be positive, got {distance} m")
    energy = remaining_energy(response, floor)
    whole = energy.gather(-1, onset(response)[..., None])[..., 0]
    reference = remaining_energy(free_field).gather(-1, onset(free_field)[..., None])[..., 0]
    level = 10 * torch.log10(whole / reference)
    return (level + 20 * math.log10(STRENGTH_DISTANCE / distance)).to(response.dtype)


def _whole_and_late(
    response: Tensor, rate: float, early: float, floor: NoiseFloor | None, start: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Energy from the start, and from `early` seconds after it."""
    rate = check_rate(rate)
    if not 0 < early < math.inf:
        raise InputError(f"early must be a positive time in seconds, got {early}")
    start = onset(response) if start is None else start
    energy = remaining_energy(response, floor)
    whole = energy.gather(-1, start[..., None])[..., 0]
    last = energy.shape[-1] - 1
    # rounding must not move a limit that is a whole number of samples
    steps = round(early * rate, 6)
    index = (start + math.floor(steps)).clamp(max=last)[..., None]
    share = steps - math.floor(steps)
    here = energy.gather(-1, index)[..., 0]
    after = energy.gather(-1, (index + 1).clamp(max=last))[..., 0]
    return whole, (1 - share) * here + share * after
