"""Unbounded search coordinates for a bounded box."""

from __future__ import annotations

import torch
from torch import Tensor

MARGIN = 0.05  # of a width (or of a unit, beside a single bound) that is bent


class BentBox:
    """A smooth map from the whole space onto a box: the identity inside, a parabola near a bound.

    With the margin a, a coordinate u within a of the lower bound becomes

        lower + (u - lower + a)^2 / (4 a)

    and alike at the upper bound; beyond, the map goes on as its mirror image. A rank-based search
    needs no penalty this way and stays invariant to increasing transforms of the value, and a value
    that falls towards a bound has a round valley there, not a kink.
    lower, upper: (d,), may be infinite.
    """

    def __init__(self, lower: Tensor, upper: Tensor) -> None:
        self.lower, self.upper = lower, upper
        self.has_lower, self.has_upper = lower.isfinite(), upper.isfinite()
        self.bounded = bool((self.has_lower | self.has_upper).any())
        both = self.has_lower & self.has_upper
        self.margin = MARGIN * torch.where(both, upper - lower, 1.0)
        self.first, self.last = lower - self.margin, upper + self.margin
        self.period = torch.where(both, 2 * (self.last - self.first), torch.inf)
        self.straight = (lower + self.margin, upper - self.margin)

    def inside(self, points: Tensor) -> Tensor:
        """The box point of each search point (..., d)."""
        low, high = self.straight
        if bool(((points >= low) & (points <= high)).all()):
            return points
        rising = torch.where(self.has_lower, points - self.first, 0.0)
        phase = rising.remainder(self.period)
        rising = torch.where(
            self.has_upper, torch.minimum(phase, self.period - phase), rising.abs()
        )
        falling = torch.where(
            self.has_lower, self.last - self.first - rising, (self.last - points).abs()
        )
        bent_low = self.lower + rising.square() / (4 * self.margin)
        bent_high = self.upper - falling.square() / (4 * self.margin)
        plain = torch.where(self.has_lower, self.first + rising, self.last - falling)
        bent = torch.where(self.has_upper & (falling < 2 * self.margin), bent_high, plain)
        bent = torch.where(self.has_lower & (rising < 2 * self.margin), bent_low, bent)
        return torch.where(self.has_lower | self.has_upper, bent, points)

    def search_point(self, points: Tensor) -> Tensor:
        """A search point (..., d) whose box point is given."""
        low, high = self.straight
        up = 2 * (self.margin * (points - self.lower).clamp(min=0.0)).sqrt()
        down = 2 * (self.margin * (self.upper - points).clamp(min=0.0)).sqrt()
        near_high = torch.where(points > high, self.last - down, points)
        return torch.where(points < low, self.first + up, near_high)
