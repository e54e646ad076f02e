"""How much of each panel absorbs, within an area: projection, rounding, exchanges."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

ROUNDS = 60  # of a bisection, down to rounding
SLACK = 1e-9  # of the budget


def within_budget(wanted: Tensor, areas: Tensor, budget: float) -> Tensor:
    """The coverage (n,) in [0, 1] that is nearest to `wanted` (n,) with areas @ coverage <= budget.

    clamp(wanted - price areas, 0, 1) at the lowest price >= 0 that meets the budget. Differentiable
    in wanted: the price follows from the panels that are neither bare nor full.
    """
    clipped = wanted.clamp(0, 1)
    if float(areas @ clipped.detach()) <= budget * (1 + SLACK):
        return clipped
    fixed = wanted.detach()
    low, high = 0.0, float((fixed / areas).max())
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        spent = float(areas @ (fixed - middle * areas).clamp(0, 1))
        low, high = (middle, high) if spent > budget else (low, middle)
    left = fixed - high * areas
    full, free = left >= 1, (left > 0) & (left < 1)
    squares = (areas[free] ** 2).sum()
    if not bool(squares > 0):
        return (wanted - high * areas).clamp(0, 1)
    price = ((areas * wanted)[free].sum() + areas[full].sum() - budget) / squares
    return (wanted - price * areas).clamp(0, 1)


def fill(ranks: Tensor, areas: Tensor, budget: float) -> Tensor:
    """Panels on (1) or off (0), (n,): in falling order of their ranks (n,), each that still fits.

    Ties go to the first. Panels of a rank that is not above 0 stay off.
    """
    chosen, left = torch.zeros_like(areas), budget * (1 + SLACK)
    for panel in torch.argsort(ranks, descending=True, stable=True).tolist():
        if float(ranks[panel]) > 0 and float(areas[panel]) <= left:
            chosen[panel] = 1.0
            left -= float(areas[panel])
    return chosen


class SwitchValues:
    """What switching a panel changes, learned from gradients at designs on the way.

    The objective bends along each panel's coverage: the first bit of absorber does more than the
    last. The mean of the slopes at off and at on is exact for a quadratic; where only one of them
    is known, the other is that times the ratio of those panels that are known at both.
    """

    def __init__(self, panels: int) -> None:
        self.slopes = torch.full((2, panels), torch.nan, dtype=torch.float64)

    def learn(self, chosen: Tensor, slopes: Tensor) -> None:
        """Take the slopes (n,) at a design of panels on and off (n,)."""
        columns = torch.arange(len(chosen))
        self.slopes[chosen.long(), columns] = slopes.double()

    def changes(self) -> Tensor:
        """By how much the objective changes from off to on, (n,)."""
        off, on = self.slopes
        both = ~off.isnan() & ~on.isnan()
        ratio = 1.0
        if bool(both.any()):
            # both are slopes of like sign; a sum over the panels does not divide by small ones
            ratio = float((on[both].sum() / off[both].sum()).clamp(0.1, 1.0))
        off_or_guess = torch.where(off.isnan(), on / ratio, off)
        on_or_guess = torch.where(on.isnan(), off * ratio, on)
        return (off_or_guess + on_or_guess) / 2


def exchanges(
    chosen: Tensor, changes: Tensor, areas: Tensor, budget: float, swaps: int
) -> Iterator[Tensor]:
    """Designs (n,) near `chosen` (n,), the most promising by `changes` (n,) first.

    First the best `swaps` exchanges at once, then single ones: a panel off is put on, alone where
    the area allows it, or in place of one that is on.
    """
    on = [p for p in torch.argsort(changes, descending=True).tolist() if chosen[p] > 0]
    off = [p for p in torch.argsort(changes).tolist() if not chosen[p]]
    if swaps > 1:
        together, waiting = chosen.clone(), list(off)
        for panel in on[:swaps]:
            if waiting and float(changes[waiting[0]] - changes[panel]) < 0:
                together[panel], together[waiting.pop(0)] = 0.0, 1.0
        if float(areas @ together) <= budget * (1 + SLACK):
            yield together
    singles = []
    for panel in off:
        room = budget * (1 + SLACK) - float(areas @ chosen)
        if float(areas[panel]) <= room:
            singles.append((float(changes[panel]), panel, None))
        for other in on:
            if float(areas[panel] - areas[other]) <= room:
                singles.append((float(changes[panel] - changes[other]), panel, other))
    for _, panel, other in sorted(singles, key=lambda single: single[0]):
        trial = chosen.clone()
        trial[panel] = 1.0
        if other is not None:
            trial[other] = 0.0
        yield trial
