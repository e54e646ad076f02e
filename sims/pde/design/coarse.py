"""A solver of fewer points in the place of one of more: a surrogate that needs no training."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from geomopt.errors import InputError
from sims.pde.data.downsample import downsample, resampled


class Coarse:
    """A stepper that is asked on a finer grid than its own.

    stepper: with `points` of its own, the same along each axis. points: of the fields (B, C,
    *space) that `step` takes and gives; what the stepper's grid cannot hold of them is left out.
    """

    def __init__(self, stepper: Any, points: int) -> None:
        own = set(stepper.points)
        if len(own) != 1 or not min(own) <= points:
            raise InputError(
                f"points must be at least the stepper's, the same along each axis, got {points} "
                f"and {stepper.points}"
            )
        self.stepper, self.points = stepper, (points,) * len(stepper.points)
        self.time_step, self.channels = stepper.time_step, stepper.channels

    def step(self, u: Tensor) -> Tensor:
        """The fields (B, C, *points) one time step after u."""
        return self.advance(u, 1)

    def advance(self, u: Tensor, steps: int) -> Tensor:
        """The same as so many times `step`."""
        coarse = self.stepper.advance(downsample(u, self.stepper.points[0]), steps)
        return resampled(coarse, self.points[0])
