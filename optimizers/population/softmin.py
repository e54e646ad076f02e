"""Weights that fall exponentially with the value, sharp enough for so many to count."""

from __future__ import annotations

import torch
from torch import Tensor

from optimizers.evaluation import FEASIBLE, Evaluation

COLDEST, HOTTEST = 1e-14, 1e4  # temperatures, in units of the range of values
TRIALS = 48  # temperatures that are looked at together; two rounds fix one to 2 per cent


def merit(evaluation: Evaluation) -> Tensor:
    """One number (B,), float64, that orders a batch: the value, and above all feasible ones

        max feasible value + range of feasible values + violation

    where a point is not feasible. +inf in failed rows.
    """
    value = evaluation.value.double()
    if evaluation.constraints is None:
        return value
    violation = evaluation.violation.double()
    feasible = (violation <= FEASIBLE) & evaluation.ok
    if not bool(feasible.any()):
        return violation
    lowest, highest = value[feasible].aminmax()
    return torch.where(feasible, value, 2 * highest - lowest + violation)


def softmin_weights(merits: Tensor, effective: float) -> Tensor:
    """Weights (B,) ~ exp(-merit / temperature) that sum to 1, 0 where a merit is +inf.

    effective: wanted effective number 1 / sum w^2 of those that count; it grows with the
        temperature, which is found by looking at many at once, twice.
    Adding a constant to merits or scaling them changes nothing but round-off.
    """
    good = merits.isfinite()
    count = int(good.sum())
    if count == 0:
        return torch.zeros_like(merits)
    excess = merits.masked_fill(~good, torch.inf) - merits[good].min()
    largest = excess[good].max()
    if not bool(largest > 0) or count <= effective:
        return good.to(merits.dtype) / count
    excess = excess / largest
    low, high = torch.log(merits.new_tensor((COLDEST, HOTTEST))).tolist()
    weights = excess
    for _ in range(2):
        steps = torch.linspace(low, high, TRIALS, dtype=merits.dtype, device=merits.device)
        weights = torch.exp(-excess / steps.exp()[:, None])  # (TRIALS, B)
        numbers = weights.sum(1).square() / weights.square().sum(1)
        at = min(max(int((numbers < effective).sum()), 1), TRIALS - 1)
        width = (high - low) / (TRIALS - 1)
        low, high = low + (at - 1) * width, low + at * width
        weights = weights[at]
    return weights / weights.sum()
