"""Modes and points of a periodic box.

A real field on N points of an axis of length L has the modes m = 0 .. N/2 of wavenumber
k = 2 pi m / L [rad per unit length]. Transforms over several axes keep the half spectrum on the
last axis and the whole one on the others, as torch.fft.rfftn does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Wavenumbers:
    """The wavenumbers of a box, axis by axis, each broadcastable to (B or 1, 1, *modes).

    components: k_i with the Nyquist mode, for even derivatives. odd: the same with the Nyquist
    mode at zero: a real field has no odd derivative there, since sin vanishes on every point.
    """

    components: tuple[Tensor, ...]
    odd: tuple[Tensor, ...]

    @cached_property
    def squared(self) -> Tensor:
        """|k|^2, broadcastable to (B or 1, 1, *modes)."""
        total = self.components[0].square()
        for component in self.components[1:]:
            total = total + component.square()
        return total


def mode_numbers(points: tuple[int, ...], device: torch.device) -> list[Tensor]:
    """The signed mode number m of each axis, float64, shaped to broadcast over (*modes)."""
    numbers = []
    for axis, count in enumerate(points):
        if axis == len(points) - 1:
            modes = torch.arange(count // 2 + 1, dtype=torch.float64, device=device)
        else:
            modes = torch.fft.fftfreq(count, 1.0 / count, dtype=torch.float64, device=device)
        shape = [1] * len(points)
        shape[axis] = -1
        numbers.append(modes.reshape(shape))
    return numbers


def wavenumbers(lengths: Tensor, points: tuple[int, ...]) -> Wavenumbers:
    """The wavenumbers of boxes of `lengths` (B or 1, dimension), differentiable in them."""
    components, odd = [], []
    for axis, modes in enumerate(mode_numbers(points, lengths.device)):
        scale = (2.0 * torch.pi / lengths[:, axis]).reshape(-1, 1, *[1] * len(points))
        components.append(scale * modes)
        odd.append(scale * torch.where(2.0 * modes.abs() == points[axis], 0.0, modes))
    return Wavenumbers(tuple(components), tuple(odd))


def kept_columns(points: int, degree: int) -> int:
    """How many modes of an axis survive dealiasing: m = 0 .. count - 1 with (degree + 1) m < N.

    A product of `degree` fields of such modes puts no aliases among them (Orszag 1971: the two
    thirds rule for degree 2, one half for degree 3).
    """
    return (points - 1) // (degree + 1) + 1


def dealiasing_mask(points: tuple[int, ...], degree: int, device: torch.device) -> Tensor:
    """True on the modes that `kept_columns` keeps on every axis, (*modes) bool."""
    mask = torch.ones((), dtype=torch.bool, device=device)
    for modes, count in zip(mode_numbers(points, device), points, strict=True):
        mask = mask & (modes.abs() < kept_columns(count, degree))
    return mask


def coordinates(lengths: Tensor, points: tuple[int, ...]) -> Tensor:
    """Coordinates of the points, from 0 to L (1 - 1/N), (B or 1, dimension, *points)."""
    axes = [torch.arange(count, dtype=lengths.dtype, device=lengths.device) for count in points]
    fractions = torch.stack(
        torch.meshgrid(*[a / n for a, n in zip(axes, points, strict=True)], indexing="ij")
    )
    return lengths.reshape(*lengths.shape, *[1] * len(points)) * fractions
