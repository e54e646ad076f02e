"""Between a periodic field and those of its modes that a nonlinearity works on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Transform:
    """Real transforms over the trailing axes that keep the first `kept` columns of modes.

    A nonlinearity needs only the modes below the dealiasing limit. Leaving the columns beyond it
    out of all axes but the last saves a third of the work of a plain transform.
    """

    points: tuple[int, ...]
    kept: int

    def to_space(self, modes: Tensor, multiplier: Tensor | None = None) -> Tensor:
        """The field (..., *points) of `modes` times `multiplier`.

        modes: (..., *modes), the last axis at least `kept` wide and zero from there on.
        """
        if multiplier is not None:
            modes = modes[..., : self.kept] * multiplier
        if self._other_axes:
            modes = torch.fft.ifftn(modes[..., : self.kept], dim=self._other_axes)
        return torch.fft.irfft(modes, n=self.points[-1])

    def to_modes(self, field: Tensor) -> Tensor:
        """The kept modes (..., *modes) of `field` (..., *points)."""
        modes = torch.fft.rfft(field)[..., : self.kept]
        return torch.fft.fftn(modes, dim=self._other_axes) if self._other_axes else modes

    @cached_property
    def _other_axes(self) -> tuple[int, ...]:
        return tuple(range(-len(self.points), -1))
