"""Functions of space with a bounded wavenumber, on a part of their period."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


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

        margin: how much longer than the box the period is, as a share of the box, but at least a
        third of the shortest wavelength.
        """
        size = (high - low).double()
        period = torch.maximum(size * (1 + margin), size + 2 * math.pi / (3 * wavenumber))
        step = 2 * math.pi / period
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
        waves = [self._axis(axis, points[:, axis]) for axis in range(3)]
        x, y, z = (
            wave.index_select(1, column)
            for wave, column in zip(waves, self._columns(), strict=True)
        )
        return _split(x * y * z)

    def moments(self, lines: Sequence[Tensor], weights: Tensor) -> Tensor:
        """Sums over a lattice of weights (nx, ny, nz) times each function -> (count,).

        lines: the places of the lattice along the axes [m].
        """
        x, y, z = (self._axis(axis, line.to(weights)) for axis, line in enumerate(lines))
        total = torch.einsum("xyz,zc->xyc", weights.to(z.dtype), z)
        total = torch.einsum("xyc,yb->xbc", total, y)
        total = torch.einsum("xbc,xa->abc", total, x)
        columns = self._columns()
        return _split(total[columns[0], columns[1], columns[2]])

    def _axis(self, axis: int, places: Tensor) -> Tensor:
        """exp(i κ_a (x_a - centre_a)) for all numbers along one axis, (R, 2 n + 1) complex."""
        most = int(self.numbers[:, axis].abs().max())
        waves = torch.arange(-most, most + 1, device=places.device) * float(self.step[axis])
        angle = (places - float(self.centre[axis]))[:, None] * waves.to(places)
        return torch.polar(torch.ones_like(angle), angle)

    def _columns(self) -> list[Tensor]:
        most = self.numbers.abs().amax(0)
        return list((self.numbers + most).T.contiguous())


def _split(waves: Tensor) -> Tensor:
    """Cosines and then sines of exp(i angle); the first sine is 0 and left out."""
    return torch.cat([waves.real, waves.imag[..., 1:]], -1)
