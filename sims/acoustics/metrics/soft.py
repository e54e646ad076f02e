"""A decay time that is smooth in the response, to optimise a room for."""

from __future__ import annotations

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.acoustics.metrics.bands import check_rate
from sims.acoustics.metrics.decay import T30, onset, remaining_energy

LOWEST = 1e-12  # of the whole energy; no weight of a line reaches so far down


def soft_reverberation_time(
    response: Tensor,
    rate: float,
    part: tuple[float, float] = T30,
    start: Tensor | None = None,
) -> Tensor:
    """Decay time for 60 dB [s], (...), of responses (..., T), differentiable in them.

    The line through L = 10 log10 E is fitted with weights exp(-((L - m) / w)²) in place of hard
    limits, where m is the middle of `part` (from, to) [dB] and w a third of its height, so that
    little weight lies outside. Exponential decays have the time that `reverberation_time` gives. A
    response that ends above the lower limit gives too short a time: choose a part that it reaches.
    start: samples (...), by default the onset.
    """
    rate = check_rate(rate)
    high, low = part
    if not low < high <= 0:
        raise InputError(f"part must fall from at most 0 dB, got {part}")
    start = onset(response) if start is None else start
    energy = remaining_energy(response)[..., :-1]
    share = energy / energy.gather(-1, start[..., None])
    level = 10 * torch.log10(share.clamp(min=LOWEST))
    samples = torch.arange(level.shape[-1], device=level.device)
    times = samples.double() / rate
    weights = torch.exp(-(((level - (high + low) / 2) / ((high - low) / 3)) ** 2))
    weights = weights * (samples >= start[..., None])
    weights = weights / weights.sum(-1, keepdim=True)
    time = times - (weights * times).sum(-1, keepdim=True)
    fall = level - (weights * level).sum(-1, keepdim=True)
    slope = (weights * time * fall).sum(-1) / (weights * time**2).sum(-1)
    return (-60 / slope).to(response.dtype)
