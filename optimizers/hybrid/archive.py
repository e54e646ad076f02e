"""Minima that were found, which later restarts avoid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from optimizers.problem import Problem
from optimizers.state import restore, snapshot

RADIUS = 0.1  # of the scale of each parameter, on average over them
CAPACITY = 256  # newest minima that are kept


class Archive:
    """The minima of one run, (n, d), as points that repel.

    The distance of two points is the root mean square of their differences in units of the
    scales, so that a tenth means the same in every dimension.
    """

    FIELDS = ("minima",)

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.minima = problem.start.new_zeros(0, problem.dimension)

    def add(self, x: Tensor) -> None:
        """Keep a minimum (d,)."""
        self.minima = torch.cat((self.minima, x[None]))[-CAPACITY:]

    def distance(self, points: Tensor) -> Tensor:
        """From points (B, d) to the nearest minimum, (B,); infinite while there is none."""
        if not len(self.minima):
            return points.new_full((len(points),), torch.inf)
        scale = self.problem.scale * self.problem.dimension**0.5
        return torch.cdist(points / scale, self.minima / scale).amin(1)

    def repels(self, points: Tensor) -> Tensor:
        """Which of points (B, d) lie within the radius of a minimum, (B,)."""
        return self.distance(points) <= RADIUS

    def state_dict(self) -> dict[str, Any]:
        """Copies of the minima."""
        return snapshot(self, self.FIELDS)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same problem."""
        restore(self, self.FIELDS, state, self.problem.device)
