"""Descent that believes a gradient only as far as it has led down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from optimizers.state import restore, snapshot

FIRST, SECOND = 0.9, 0.99  # decay of the mean and of the mean square of the gradient
GROW, SHRINK = 1.3, 0.5  # of the step after one that led down, and after one that did not
ENOUGH = 0.1  # share of the predicted decrease that lets the step grow
LONGEST = 4.0  # of the first step
PATIENCE = 10  # failures of a first point until it is given up
SHORTEST = 1e-9  # of the first step: a search that got there is over


class Descent:
    """Batched steps of Adam from the best point of each search, with a length that is earned.

        m <- 0.9 m + 0.1 g,   v <- 0.99 v + 0.01 g^2     at every point that was evaluated
        x <- best - a l m / sqrt(v)                      m and v without their bias

    l (n,) is the first step of each coordinate; a starts at 1 and grows by 1.3 where the value has
    fallen by a tenth of what the gradient at `best` predicted, stays where it only fell, and
    halves where it rose or failed. Gradients of points that were refused still count in m: across
    a narrow valley they cancel, and what remains points along it. Where m would lead up, g leads.

    trial, best: (q, n). merit: (q,), of the best points. agreement: (q,), decrease over predicted
    decrease of the last step, cut to [-1, 1]: near 1 for a true gradient and a short step.
    """

    FIELDS = (
        "trial", "best", "merit", "gradient", "mean", "square", "share", "told_rows", "failures",
        "agreement", "lengths",
    )  # fmt: skip

    def __init__(self, points: Tensor, lengths: Tensor) -> None:
        self.trial = self.best = points
        self.lengths = lengths
        self.gradient = self.mean = self.square = torch.zeros_like(points)
        rows = points.new_zeros(len(points))
        self.merit, self.share = rows + torch.inf, rows + 1
        self.told_rows, self.failures, self.agreement = rows.clone(), rows.clone(), rows.clone()

    def keep(self, rows: int) -> None:
        """Go on with the first searches only."""
        for name in self.FIELDS:
            if name != "lengths":
                setattr(self, name, getattr(self, name)[:rows])

    def told(self, merit: Tensor, gradient: Tensor, ok: Tensor) -> Tensor:
        """Judge the trials by what was found there, (q,), (q, n) and (q,), and choose the next.

        Returns which trials became the best of their search, (q,).
        """
        first = self.told_rows == 0
        better = ok & (merit < self.merit)
        predicted = (self.gradient * (self.trial - self.best)).sum(1)
        drop = torch.where(first | ~ok, 0.0, merit - self.merit)
        ratio = torch.where(predicted < 0, drop / predicted, torch.where(better, 1.0, -1.0))
        self.agreement = torch.where(first | ~ok, self.agreement, ratio.clamp(-1.0, 1.0))
        grown = torch.where(ratio >= ENOUGH, GROW, 1.0)
        change = torch.where(better, grown, SHRINK)
        self.share = torch.where(first, self.share, self.share * change).clamp(max=LONGEST)
        row, seen = better[:, None], ok[:, None]
        self.best = torch.where(row, self.trial, self.best)
        self.gradient = torch.where(row, gradient, self.gradient)
        self.merit = torch.where(better, merit, self.merit)
        self.mean = torch.where(seen, FIRST * self.mean + (1 - FIRST) * gradient, self.mean)
        self.square = torch.where(
            seen, SECOND * self.square + (1 - SECOND) * gradient.square(), self.square
        )
        self.told_rows = self.told_rows + ok
        self.failures = torch.where(ok, 0, self.failures + 1)
        return better

    def advance(self, lower: Tensor, upper: Tensor) -> None:
        """Choose the next trials, inside the bounds (n,)."""
        count = self.told_rows.clamp(min=1)[:, None]
        mean = self.mean / (1 - FIRST**count)
        size = (self.square / (1 - SECOND**count)).sqrt()
        tiny = torch.finfo(size.dtype).tiny
        step = torch.where(size > tiny, mean / size.clamp(min=tiny), 0.0)
        plain = torch.where(size > tiny, self.gradient / size.clamp(min=tiny), 0.0)
        leads_up = (step * self.gradient).sum(1, keepdim=True) <= 0
        step = torch.where(leads_up, plain, step) * self.lengths
        self.trial = (self.best - self.share[:, None] * step).clamp(lower, upper)

    @property
    def is_over(self) -> bool:
        """Whether no search moves any more."""
        moves = (self.trial != self.best).any(1) & (self.share > SHORTEST)
        waits = (self.told_rows == 0) & (self.failures < PATIENCE)
        return not bool((moves | waits).any())

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything the searches need to go on."""
        return snapshot(self, self.FIELDS)

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from a state, of any number of searches."""
        restore(self, self.FIELDS, state, device)
