"""Noise that looks like a model's own error, and fields whose modes are all of one size.

With X the real transform of x over space, ortho-normalised, and at each mode κ of each channel

    S_κ² = mean |ŷ_κ - y_κ|²      of the first increments, in units of the target
    W_κ² = mean |u_κ|²            of the fields as the network sees them
    r                             what an increment of 1 is in fields as the network sees them

noise ε of unit variance becomes S ε, and x becomes G x, G = W / (W² + r² S²): Wiener's gain for
fields that carry such noise, over their size. Modes that are far above the error come out at unit
size, be they ever so small, and those that the data never had come out at 0.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

MEMORY = 0.98  # of the running means, about 50 batches
FLOOR = 1e-3  # of the mean squares of unit noise that is left, below which no mode gains weight
ROUNDING = 1e-7  # of fields, relative: modes below it are not there
TINY = torch.finfo(torch.float64).tiny


class ErrorSpectrum(torch.nn.Module):
    """Running mean of the spectrum of an error, on one grid.

    channels: C. points: of the grid, along each axis.
    """

    def __init__(self, channels: int, points: tuple[int, ...]) -> None:
        super().__init__()
        self.points = points
        modes = (channels, *points[:-1], points[-1] // 2 + 1)
        self.error: Tensor
        self.fields: Tensor
        self.left: Tensor
        for name in ("error", "fields", "left"):  # S², W², and what is left of noise of size 1
            self.register_buffer(name, torch.ones(modes, dtype=torch.float64))

    def begin(self, parts: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Start with the mean spectra of parts: fields and increments, (B, C, *space) each.

        That of increments is the error of a model that says nothing changes.
        """
        powers = [(self._power(fields), self._power(increments)) for fields, increments in parts]
        for spectrum, found in zip(
            (self.fields, self.error), zip(*powers, strict=True), strict=True
        ):
            spectrum.copy_(torch.stack(found).mean(0))

    @torch.no_grad()
    def observe(self, error: Tensor) -> None:
        """Follow errors (B, C, *space) of increments."""
        self.error.lerp_(self._power(error.detach()), 1 - MEMORY)

    def shaped(self, noise: Tensor) -> Tensor:
        """S ε of noise (B, C, *space)."""
        return self._filtered(noise, self.error.sqrt())

    def whitened(self, fields: Tensor, ratio: Tensor) -> Tensor:
        """G x of fields (B, C, *space); ratio: r (C,)."""
        noise = self.error * ratio.square().view(-1, *[1] * len(self.points))
        least = ROUNDING**2 * self.fields.mean()
        gain = self.fields.sqrt() / (self.fields + noise + least).clamp(min=TINY)
        return self._filtered(fields, gain)

    def loss(self, error: Tensor, *, learning: bool) -> Tensor:
        """Mean of |e_κ|² of errors (B, C, *space), each mode over the root of its running mean.

        The means follow the error while learning. Its gradient is, up to a factor, that of the mean
        over modes of their root mean squares: one at which the noise can be told well is not lost
        among those at which it cannot be told at all.
        """
        power = self._transformed(error).abs().square().mean(0)
        if learning:
            self.left.lerp_(power.detach().double(), 1 - MEMORY)
        weight = (self.left + FLOOR).rsqrt().to(power)
        return (weight * power).sum() / weight.sum()

    def fits(self, fields: Tensor) -> bool:
        """Whether fields (B, C, *space) are on the grid."""
        return fields.shape[2:] == self.points

    def _filtered(self, fields: Tensor, factor: Tensor) -> Tensor:
        axes = self._axes
        modes = torch.fft.rfftn(fields, dim=axes)
        return torch.fft.irfftn(modes * factor.to(fields.dtype), s=self.points, dim=axes)

    def _power(self, fields: Tensor) -> Tensor:
        return self._transformed(fields.double()).abs().square().mean(0)

    def _transformed(self, fields: Tensor) -> Tensor:
        return torch.fft.rfftn(fields, dim=self._axes, norm="ortho")

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(-len(self.points), 0))
