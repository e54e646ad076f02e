"""Smooth octave masks that sum up to one, to give each octave its own sound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from geomopt.errors import InputError

SEAM = 0.5  # of the way between two centres, over which one band gives way to the next


def octave_masks(frequencies: Tensor, bands: Sequence[float]) -> Tensor:
    """Gains (B, F) at frequencies (F,) [Hz] of bands (B,) centred at rising frequencies [Hz].

    Half-way between two centres the gains cross over as cos² and sin² of log frequency; the first
    band reaches down to 0 Hz, and the last one up to the end.
    """
    if len(bands) == 0 or any(not lower < upper for lower, upper in pairwise([0.0, *bands])):
        raise InputError(f"bands must be positive and rise, got {list(bands)}")
    position = torch.log(frequencies.clamp(min=1e-9))
    masks = [torch.ones_like(position)]
    for lower, upper in pairwise(bands):
        share = (position - math.log(lower)) / math.log(upper / lower)
        share = 0.5 + (share - 0.5) / SEAM
        rise = torch.sin(0.5 * math.pi * share.clamp(0, 1)) ** 2
        masks[-1] = masks[-1] * (1 - rise)
        masks.append(rise)
    return torch.stack(masks)
