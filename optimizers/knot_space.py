"""A coarse copy of a problem's design space: knots for its trajectories, the rest as it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from optimizers.checks import check_count
from optimizers.problem import Problem
from optimizers.trajectory import Knots


@dataclass(frozen=True)
class KnotSpace:
    """Designs (..., n) that expand to designs (..., d) of a problem; maps of `Knots`, part by part.

    parts: in the order of the flat design; `Knots`, or the size of a part that stays as it is.
    """

    parts: tuple[Knots | int, ...]

    @classmethod
    def of(
        cls, problem: Problem, count: int, kind: Literal["cubic", "constant"] = "cubic"
    ) -> KnotSpace:
        """The space with at most `count` knots for each trajectory of a problem."""
        check_count("count", count)
        parts: list[Knots | int] = []
        trajectories = problem.trajectories
        for name, box in problem.parameters.items():
            if name not in trajectories:
                parts.append(box.size)
                continue
            steps, *channels = trajectories[name][1]
            parts.append(Knots(min(count, steps), steps, math.prod(channels), kind))
        return cls(tuple(parts))

    @property
    def dimension(self) -> int:
        """How many numbers n a coarse design holds."""
        return sum(self._coarse_sizes())

    @property
    def is_full(self) -> bool:
        """Whether there is nothing left to double."""
        return all(isinstance(part, int) or part.count == part.steps for part in self.parts)

    def doubled(self) -> KnotSpace:
        """The space with the knots of every trajectory doubled."""
        parts = (part if isinstance(part, int) else part.doubled() for part in self.parts)
        return KnotSpace(tuple(parts))

    def expand(self, values: Tensor) -> Tensor:
        """Designs (..., d) of coarse ones (..., n)."""
        return self._mapped(Knots.expand, values, self._coarse_sizes())

    def refine(self, values: Tensor) -> Tensor:
        """Coarse designs of `doubled()` that expand to the same as these (..., n)."""
        return self._mapped(Knots.refine, values, self._coarse_sizes())

    def pull_back(self, gradient: Tensor) -> Tensor:
        """Gradients (..., n) of those with respect to full designs (..., d)."""
        return self._mapped(Knots.pull_back, gradient, self._fine_sizes())

    def fit(self, designs: Tensor) -> Tensor:
        """Coarse designs (..., n) that come nearest to full ones (..., d)."""
        return self._mapped(Knots.fit, designs, self._fine_sizes())

    def bounds(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """lower and upper (n,); expanded designs keep those of the problem that do not vary."""
        sizes = self._fine_sizes()
        pairs = zip(self.parts, problem.lower.split(sizes), problem.upper.split(sizes), strict=True)
        bounds = [
            (low, high) if isinstance(part, int) else part.bounds(low, high)
            for part, low, high in pairs
        ]
        lower, upper = (torch.cat(column) for column in zip(*bounds, strict=True))
        return lower, upper

    def means(self, values: Tensor) -> Tensor:
        """Weighted means (..., n) around the knots of something per step (..., d): scales."""
        return self._mapped(Knots.means, values, self._fine_sizes())

    def _coarse_sizes(self) -> list[int]:
        return [part if isinstance(part, int) else part.size for part in self.parts]

    def _fine_sizes(self) -> list[int]:
        return [
            part if isinstance(part, int) else part.steps * part.channels for part in self.parts
        ]

    def _mapped(self, function, values: Tensor, sizes: list[int]) -> Tensor:
        pieces = zip(self.parts, values.split(sizes, -1), strict=True)
        return torch.cat(
            [piece if isinstance(part, int) else function(part, piece) for part, piece in pieces],
            -1,
        )
