"""What a network is told beside the fields: numbers of each trajectory, and how far it has come."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geomopt.errors import InputError

SLOWEST, FASTEST = 0.5, 16.0  # [rad] that the angles turn by over the trained range


def sinusoids(values: Tensor, count: int) -> Tensor:
    """Cosines and sines (..., count) of values (...,) at `count` // 2 rates, geometric in between.

    Values between 0 and 1 are told apart by the fast angles and compared by the slow ones
    (Vaswani et al., Attention is all you need, 2017, section 3.5, with rates for this interval).
    """
    share = torch.linspace(0, 1, count // 2, dtype=torch.float64).to(values)
    rates = SLOWEST * torch.exp(math.log(FASTEST / SLOWEST) * share)
    angles = values[..., None] * rates
    return torch.cat([angles.cos(), angles.sin()], -1)


class Embedding(torch.nn.Module):
    """A vector (B, width) of the level (B,) and of the conditions (B, n), all between 0 and 1.

    Each goes through sinusoids and a small network of its own, and the results are summed.
    """

    def __init__(self, conditions: int, leveled: bool, width: int) -> None:
        super().__init__()
        self.conditions, self.leveled = conditions, leveled
        self.count = max(2, width // 4 * 2)
        self.networks = torch.nn.ModuleList(
            torch.nn.Sequential(
                torch.nn.Linear(self.count, width),
                torch.nn.SiLU(),
                torch.nn.Linear(width, width),
            )
            for _ in range(conditions + leveled)
        )

    def forward(self, condition: Tensor | None, level: Tensor | None) -> Tensor:
        """(B, conditions), (B,) -> (B, width); raises InputError where one is missing."""
        values: list[Tensor] = []
        if self.conditions:
            if condition is None or condition.dim() != 2 or condition.shape[1] != self.conditions:
                came = None if condition is None else tuple(condition.shape)
                raise InputError(f"condition must have shape (any, {self.conditions}), got {came}")
            values += condition.unbind(1)
        if self.leveled:
            if level is None or level.dim() != 1:
                came = None if level is None else tuple(level.shape)
                raise InputError(f"level must have shape (any,), got {came}")
            values.append(level)
        parts = [
            network(sinusoids(value, self.count))
            for network, value in zip(self.networks, values, strict=True)
        ]
        return torch.stack(parts).sum(0)
