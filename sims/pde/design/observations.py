"""What was measured of a flow, and where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_tensor

ON_TIME = 1e-6  # of a time step, by which a frame may miss a whole number of steps


@dataclass(frozen=True, eq=False)
class Observations:
    """Frames of one or more trajectories at known times, whole or in parts.

    frames: (E, F, C, *space), F frames of each of E trajectories; entries that the mask leaves out
    may hold anything, NaN too. times: (F,) [s], increasing, above 0; the initial field is at 0.
    mask: broadcastable to the frames, True where something was measured; None for everywhere.
    noise: standard deviation of the measurements, a number or broadcastable to the frames; None
    where it is not known.

    Raises InputError for shapes that do not fit each other, times that do not increase, values
    that are not finite where they were measured, and where nothing was measured at all.
    """

    frames: Tensor
    times: Sequence[float] | Tensor
    mask: Tensor | None = None
    noise: float | Tensor | None = None

    def __post_init__(self) -> None:
        check_tensor("frames", self.frames, finite=False)
        if not 4 <= self.frames.ndim <= 6 or not self.frames.numel():
            raise InputError(
                "frames must have shape (trajectories, frames, C, *space) with 1 to 3 axes of "
                f"space, got {tuple(self.frames.shape)}"
            )
        times = as_tensor("times", self.times, "numbers (F,)", dtype=torch.float64).cpu()
        if times.shape != self.frames.shape[1:2]:
            raise InputError(
                f"times must be one for each of the {self.frames.shape[1]} frames, got shape "
                f"{tuple(times.shape)}"
            )
        rising = torch.diff(times, prepend=times.new_zeros(1)) > 0
        if not bool(rising.all() and times.isfinite().all()):
            raise InputError(f"times must increase from above 0 s, got {times.tolist()}")
        seen = self._broadcast("mask", self.mask, torch.bool)
        if not bool(seen.any()):
            raise InputError("mask must be True somewhere, got none")
        if not bool(self.frames.detach()[seen].isfinite().all()):
            raise InputError("frames must be finite where they were measured; mask the others out")
        if self.noise is not None:
            noise = self._broadcast("noise", self.noise, self.frames.dtype)
            if not bool((noise.isfinite() & (noise > 0))[seen].all()):
                raise InputError(f"noise must be above 0, got {float(noise.min()):g}")
        object.__setattr__(self, "times", times)

    @property
    def seen(self) -> Tensor:
        """Where something was measured, bool, as the frames."""
        return self._broadcast("mask", self.mask, torch.bool)

    @property
    def weight(self) -> Tensor:
        """What a deviation is multiplied by, as the frames: 1 / (noise sqrt(n)) at the n measured
        values and 0 elsewhere. Where the noise is not known, their root mean square stands for it.
        """
        seen = self.seen
        values = self.frames.detach()[seen]
        if self.noise is not None:
            unit = self._broadcast("noise", self.noise, self.frames.dtype)
        else:
            size = values.square().mean().sqrt()
            unit = torch.where(size > 0, size, 1.0)
        return torch.where(seen, 1.0 / (unit * math.sqrt(len(values))), 0.0)

    def steps(self, time_step: float) -> list[int]:
        """The number of a model's steps to each frame. Raises InputError for other times."""
        steps = torch.as_tensor(self.times) / time_step
        whole = steps.round()
        if not bool(((steps - whole).abs() <= ON_TIME * whole.clamp(min=1)).all()):
            raise InputError(
                f"times must be multiples of the model's time_step {time_step:g} s, got "
                f"{torch.as_tensor(self.times).tolist()}"
            )
        return [int(step) for step in whole]

    def _broadcast(self, name: str, value: Any, dtype: torch.dtype) -> Tensor:
        device = self.frames.device
        given = torch.ones((), dtype=torch.bool) if value is None else value
        tensor = as_tensor(name, given, "broadcastable to the frames", dtype=dtype, device=device)
        try:
            return tensor.expand(self.frames.shape)
        except RuntimeError:
            raise InputError(
                f"{name} must be broadcastable to the frames {tuple(self.frames.shape)}, got "
                f"{tuple(tensor.shape)}"
            ) from None
