"""Noise for designs with trajectories: smooth in time, of unit variance everywhere."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from optimizers.problem import Problem
from optimizers.trajectory import Knots


class ColouredNoise:
    """Normal noise for the designs of a problem: coloured in time for trajectories, else white.

    exponent: b of the power spectrum 1 / f^b over time; 0 is white, and the larger, the smoother.

        n_t = sum_k s_k (a_k cos(pi k t / T) + b_k sin(pi k t / T)),   a_k, b_k ~ N(0, 1)
        s_k^2 ~ k^-b for k = 1 ... T,   sum_k s_k^2 = 1

    After Timmer and Koenig, 1995. Ours: the period is 2 T, so that both ends are free, and the
    variance is exactly 1 at each step.
    """

    def __init__(self, problem: Problem, exponent: float) -> None:
        self.dimension = problem.dimension
        self.parts = list(problem.trajectories.values()) if exponent > 0 else []
        like = torch.zeros((), dtype=torch.float64, device=problem.device)
        self.bases = [_basis(shape[0], exponent).to(like) for _, shape in self.parts]
        self.like = like

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Samples (count, d), float64."""
        place = {"dtype": self.like.dtype, "device": self.like.device}
        noise = torch.randn(count, self.dimension, generator=generator, **place)
        for (where, shape), basis in zip(self.parts, self.bases, strict=True):
            channels = math.prod(shape[1:])
            waves = torch.randn(count, basis.shape[1], channels, generator=generator, **place)
            noise[:, where] = (basis @ waves).flatten(1)
        return noise


class KnotNoise:
    """Normal noise for the designs of a problem: of few knots for trajectories, else white.

    knots: of each trajectory in the first stage; they double with each stage until every step of
        every trajectory has its own.
    earliest: deviation of the first knot over that of the last, 1, geometrically in between.
    """

    def __init__(self, problem: Problem, knots: int, earliest: float) -> None:
        self.dimension = problem.dimension
        self.earliest = earliest
        stage = []
        for where, (steps, *channels) in problem.trajectories.values():
            stage.append((where, Knots(min(knots, steps), steps, math.prod(channels))))
        self.stages = [stage]
        while any(part.count < part.steps for _, part in self.stages[-1]):
            self.stages.append([(where, part.doubled()) for where, part in self.stages[-1]])
        self.like = torch.zeros((), dtype=torch.float64, device=problem.device)

    def draw(self, count: int, stage: int, generator: torch.Generator) -> Tensor:
        """Samples (count, d), float64, of a stage."""
        place = {"dtype": self.like.dtype, "device": self.like.device}
        noise = torch.randn(count, self.dimension, generator=generator, **place)
        for where, knots in self.stages[stage]:
            early = 1 - torch.linspace(0, 1, knots.count, **place)
            lengths = (self.earliest**early).repeat_interleave(knots.channels)
            drawn = torch.randn(count, knots.size, generator=generator, **place)
            noise[:, where] = knots.expand(lengths * drawn)
        return noise


@lru_cache(maxsize=16)
def _basis(steps: int, exponent: float) -> Tensor:
    """Waves over time (T, 2 T) in their strengths, float64."""
    frequency = torch.arange(1, steps + 1, dtype=torch.float64)
    strength = frequency ** (-exponent / 2)
    strength = strength / strength.norm()
    phase = math.pi / steps * torch.arange(steps, dtype=torch.float64)[:, None] * frequency
    return torch.cat((strength * phase.cos(), strength * phase.sin()), 1)
