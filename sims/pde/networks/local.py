"""A small network on the grid as it is, whose products of neighbours stand for quadratic terms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.pde.networks.arguments import (
    check_count,
    check_dimension,
    check_fields,
    check_flag,
)
from sims.pde.networks.conditioning import Embedding
from sims.pde.networks.periodic import PeriodicConvolution


class LocalNet(torch.nn.Module):
    """Fields to fields by residual blocks x + C(a b), with a and b two convolutions of x.

    C is a convolution that is 0 at the start. Gates without a further function of their own
    (Dauphin et al., Language modeling with gated convolutional networks (2017), arXiv 1612.08083,
    section 3, "bilinear") give products of fields exactly, which most equations have in their
    terms. Nothing is normalised and no grid is coarser, so that a value follows from its
    neighbours alone, within (2 blocks + 2) (kernel - 1) / 2 points.

    dimension: 1, 2 or 3. channels_in, channels_out: of the fields. width: channels in between.
    kernel: points of each convolution along an axis, an odd number. conditions: how many numbers
    each trajectory has. leveled: whether it is told a level of refinement.

    Commutes with shifts by any number of points.
    """

    total_stride = 1

    def __init__(
        self,
        dimension: int = 1,
        channels_in: int = 4,
        channels_out: int = 1,
        *,
        width: int = 24,
        blocks: int = 3,
        kernel: int = 5,
        conditions: int = 0,
        leveled: bool = False,
    ) -> None:
        super().__init__()
        self.dimension = check_dimension(dimension)
        self.channels_in = check_count("channels_in", channels_in)
        self.channels_out = check_count("channels_out", channels_out)
        self.conditions = check_count("conditions", conditions, 0)
        self.leveled = check_flag("leveled", leveled)
        check_count("width", width)
        check_count("blocks", blocks)
        if check_count("kernel", kernel) % 2 == 0:
            raise InputError(f"kernel must be an odd number of points, got {kernel}")
        self.settings: dict[str, Any] = {
            "dimension": dimension,
            "channels_in": channels_in,
            "channels_out": channels_out,
            "width": width,
            "blocks": blocks,
            "kernel": kernel,
            "conditions": conditions,
            "leveled": self.leveled,
        }
        told = 2 * width if conditions or leveled else 0
        self.embedding = Embedding(conditions, self.leveled, told) if told else None
        self.stem = PeriodicConvolution(dimension, channels_in, width, kernel=kernel)
        self.blocks = torch.nn.ModuleList(
            Product(dimension, width, kernel, told) for _ in range(blocks)
        )
        self.head = PeriodicConvolution(dimension, width, channels_out, kernel=kernel, zero=True)
        # what is linear in the fields has a way of its own, around all products
        self.around = PeriodicConvolution(
            dimension, channels_in, channels_out, kernel=kernel, zero=True
        )

    def forward(
        self, fields: Tensor, condition: Tensor | None = None, level: Tensor | None = None
    ) -> Tensor:
        """(B, channels_in, *space), (B, conditions), (B,) -> (B, channels_out, *space)."""
        check_fields(fields, self.channels_in, self.dimension)
        told = None if self.embedding is None else self.embedding(condition, level)
        x = self.stem(fields)
        for block in self.blocks:
            x = block(x, told)
        return self.head(x) + self.around(fields)


class Product(torch.nn.Module):
    """x + convolution of the product of two convolutions of x (B, width, *space)."""

    def __init__(self, dimension: int, width: int, kernel: int, told: int) -> None:
        super().__init__()
        self.factors = PeriodicConvolution(dimension, width, 2 * width, kernel=kernel)
        self.told = torch.nn.Linear(told, 2 * width) if told else None
        self.out = PeriodicConvolution(dimension, width, width, kernel=kernel, zero=True)

    def forward(self, x: Tensor, told: Tensor | None) -> Tensor:
        """(B, width, *space), (B, told) -> (B, width, *space)."""
        factors = self.factors(x)
        if self.told is not None:
            shift = self.told(told)
            factors = factors + shift.view(*shift.shape, *[1] * (x.dim() - 2))
        one, other = factors.chunk(2, 1)
        return x + self.out(one * other)
