"""Unbounded search coordinates for a bounded box."""

from __future__ import annotations

import torch
from torch import Tensor


def folded(points: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Points (..., d) of the whole space mapped into the box by mirrors at its bounds; those inside stay where they are.

    Mirrors keep the density of samples even, so a rank-based search sees no edge, needs no penalty, and stays invariant to
    increasing transforms of the value. lower, upper: (d,), may be infinite.
    """
    two_sided = lower.isfinite() & upper.isfinite()
    width = torch.where(two_sided, upper - lower, 1.0)
    phase = (points - lower).remainder(2 * width)
    both = lower + torch.minimum(phase, 2 * width - phase)
    above = lower + (points - lower).abs()
    below = upper - (upper - points).abs()
    one_sided = torch.where(lower.isfinite(), above, torch.where(upper.isfinite(), below, points))
    inside = (points >= lower) & (points <= upper)
    return torch.where(inside, points, torch.where(two_sided, both, one_sided))
