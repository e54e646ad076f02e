"""Functions of space with a bounded wavenumber, on a part of their period."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

EDGES = 0.5  # steps of the lattice that a field needs beyond its own wavenumber at edges


@dataclass(frozen=True, eq=False)
class FourierBasis:
    """cos(κ·(x - centre)) and sin(κ·(x - centre)) for all κ of a lattice within a ball, one of ±κ.

    On a part of its period such a set represents any field of bounded wavenumber, whatever the
    shape of the room and its walls (a Fourier extension; Boyd, Journal of Computational Physics
    178, 118-160 (2002)), and factors along the axes.

    numbers: (n, 3) int64 with κ = numbers * step; the first is 0, which has no sine. centre, step:
    (3,) float64 [m] and [1/m].
    """

    numbers: Tensor
    centre: Tensor
    step: Tensor

    @classmethod
    def around(cls, low: Tensor, high: Tensor, wavenumber: float, margin: float) -> FourierBasis:
        """For the box from low to high (3,) [m], up to a wavenumber [1/m].

        margin: how much longer than the box the period is, in shortest wavelengths.
        """
        period = (high - low).double() + margin * 2 * math.pi / wavenumber
        step = 2 * math.pi / period
        wavenumber = wavenumber + EDGES * float(step.max())
        reach = [torch.arange(-int(n), int(n) + 1) for n in wavenumber / step]
        numbers = torch.cartesian_prod(*reach)
        x, y, z = numbers.T
        half = (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z >= 0))))
        length = (numbers * step).norm(dim=1)
        kept = half & (length <= wavenumber)
        order = length[kept].argsort(stable=True)
        return cls(numbers[kept][order], (low + high).double() / 2, step)

    @property
    def count(self) -> int:
        """How many functions there are."""
        return 2 * len(self.numbers) - 1

    def at(self, points: Tensor) -> Tensor:
        """All functions at points (R, 3) -> (R, count) in the dtype of the points."""
        places = points - self.centre.to(points)
        factors = []
        for axis, (waves, columns) in enumerate(zip(self._waves, self._columns, strict=True)):
            angle = places[:, axis, None] * waves.to(points)
            factor = torch.complex(torch.cos(angle), torch.sin(angle))
            factors.append(factor.index_select(1, columns.to(points.device)))
        x, y, z = factors
        product = x * y * z
        # the first sine is 0
        return torch.cat([product.real, product.imag[:, 1:]], 1)

    @cached_property
    def _waves(self) -> list[Tensor]:
        """All κ along each axis, (2 n + 1,)."""
        most = self.numbers.abs().amax(0).tolist()
        steps = self.step.tolist()
        lines = [torch.arange(-n, n + 1, dtype=torch.float64) for n in most]
        return [step * line for line, step in zip(lines, steps, strict=True)]

    @cached_property
    def _columns(self) -> list[Tensor]:
        """Where along each axis the κ of `numbers` stand in `_waves`."""
        most = self.numbers.abs().amax(0)
        return list((self.numbers + most).T.contiguous())
