"""Convolution and change of resolution on periodic grids, with the padding in plain sight.

All of it commutes with shifts of the grid, by any number of points for a stride of 1 and by
multiples of the stride otherwise: no point of the grid is special.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from geomopt.errors import InputError

CONVOLUTIONS = {1: torch.nn.Conv1d, 2: torch.nn.Conv2d, 3: torch.nn.Conv3d}


def pad_periodic(x: Tensor, before: int, after: int, dimension: int) -> Tensor:
    """Continue x (B, C, *space) periodically by so many points at both ends of each axis.

    Raises InputError for axes shorter than that.
    """
    if not before and not after:
        return x
    for axis in range(-dimension, 0):
        points = x.shape[axis]
        if points < max(before, after):
            raise InputError(
                f"fields must have at least {max(before, after)} points along each axis to be "
                f"continued by as many, got {points}"
            )
        # pieces that do not overlap have a way back without sums over the whole field: with it, a
        # third to a half of the time of the circular mode of pad
        if points >= before + after:
            pieces = x.split_with_sizes([after, points - before - after, before], axis)
            x = torch.cat([pieces[2], *pieces, pieces[0]], axis)
        else:
            ends = x.narrow(axis, points - before, before), x.narrow(axis, 0, after)
            x = torch.cat([ends[0], x, ends[1]], axis)
    return x


class PeriodicConvolution(torch.nn.Module):
    """Convolution of fields (B, channels_in, *space) with a kernel of an odd number of points.

    stride: (B, channels_out, *space / stride), where the points of the coarse grid are the first of
    each `stride` fine ones. zero: start at 0, so that the layer says nothing before it has learned.
    """

    def __init__(
        self,
        dimension: int,
        channels_in: int,
        channels_out: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        zero: bool = False,
    ) -> None:
        super().__init__()
        self.dimension = dimension
        self.before = (kernel - 1) // 2
        self.after = kernel - stride - self.before if kernel > stride else 0
        convolution = CONVOLUTIONS[dimension]
        self.convolution = convolution(channels_in, channels_out, kernel, stride=stride)
        inputs = channels_in * kernel**dimension
        std = 0.0 if zero else inputs**-0.5  # keeps the size of what passes through
        with torch.no_grad():
            for name, parameter in self.convolution.named_parameters():
                parameter.normal_(0.0, std) if name == "weight" else parameter.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, *space) -> (B, channels_out, *space / stride)."""
        return self.convolution(pad_periodic(x, self.before, self.after, self.dimension))


def refined(x: Tensor) -> Tensor:
    """Each value of x (B, C, *space) repeated twice along each axis: (B, C, *2 space)."""
    return functional.interpolate(x, scale_factor=2, mode="nearest")
