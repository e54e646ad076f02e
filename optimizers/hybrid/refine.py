"""What a population learns from a few gradient steps on its best members."""

from __future__ import annotations

import torch
from torch import Tensor

APART = 0.5  # standard deviations, on average over coordinates, between members that are refined


def diverse(points: Tensor, order: Tensor, lengths: Tensor, count: int) -> Tensor:
    """Rows (at most count,) of good points (B, n) that are apart from each other.

    order: (B,), the rows from best to worst; lengths: (n,), standard deviations. The best comes
    first, then always the best one farther than 0.5 lengths from those taken, on average over
    coordinates. Refining two neighbours would find the same minimum twice.
    """
    ranked = points[order] / (lengths * points.shape[1] ** 0.5)
    free = torch.ones(len(order), dtype=torch.bool, device=points.device)
    taken: list[int] = []
    while len(taken) < count and bool(free.any()):
        row = int(free.int().argmax())
        taken.append(row)
        free &= (ranked - ranked[row]).norm(dim=1) > APART
    return order[taken]


def rank_agreement(first: Tensor, second: Tensor) -> float:
    """Kendall's tau of two lists (n,): 1 for the same order, -1 for the opposite, 0 for n < 2."""
    count = len(first)
    if count < 2:
        return 0.0
    rows, columns = torch.triu_indices(count, count, 1, device=first.device)
    pairs = (first[rows] - first[columns]).sign() * (second[rows] - second[columns]).sign()
    return float(pairs.mean())
