"""Fields on another grid, without what the coarser one cannot hold."""

from __future__ import annotations

import torch
from torch import Tensor

from geomopt.errors import InputError


def downsample(u: Tensor, points: int) -> Tensor:
    """Fields (B, C, *space) on `points` points in each of their directions.

    The Fourier modes below the coarse grid's Nyquist wavenumber, |k| < points / 2, are kept as they
    are and the others left out, so that nothing aliases. Raises
    InputError for more points than there are.
    """
    if isinstance(points, bool) or not isinstance(points, int) or points < 1:
        raise InputError(f"points must be an integer of at least 1, got {points!r}")
    if points > min(u.shape[2:]):
        raise InputError(f"points must be at most {min(u.shape[2:])}, those of u, got {points}")
    for axis in range(2, u.ndim):
        fine = u.shape[axis]
        if fine == points:
            continue
        modes = torch.fft.rfft(u, dim=axis).narrow(axis, 0, (points + 1) // 2)
        u = torch.fft.irfft(modes, n=points, dim=axis) * (points / fine)
    return u


def resampled(u: Tensor, points: int) -> Tensor:
    """Fields (B, C, *space) on more or fewer points along each axis, by their Fourier modes."""
    if points <= u.shape[-1]:
        return downsample(u, points)
    for axis in range(2, u.ndim):
        modes = torch.fft.rfft(u, dim=axis).narrow(axis, 0, (u.shape[axis] + 1) // 2)
        u = torch.fft.irfft(modes, n=points, dim=axis) * (points / u.shape[axis])
    return u
