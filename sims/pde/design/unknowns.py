"""What is looked for: fields by their long waves or point by point, and numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_tensor
from optimizers import Box


@dataclass(frozen=True, eq=False)
class Field:
    """An unknown field (C, *space).

    modes: the highest mode number of each axis that it may hold; None for its value at every point.
    start: where a search begins, a field (C, *space), of which what the modes hold is taken, or
    None for zero. spread: standard deviation that is expected of each coefficient around the
    start, a number, or a spectrum (modes + 1,) by |m|; it is the unit of a search's steps, and a
    prior where the noise of the observations is known. mean: whether the mean is looked for too;
    without modes it is always.

        u(x) = a_0 + sqrt(2) sum_m a_m cos(2 pi m.x / L) + b_m sin(2 pi m.x / L)

    over one of each pair m, -m, so that <u^2> is the sum of all squares.
    """

    modes: int | None = None
    start: Tensor | None = None
    spread: float | Sequence[float] | Tensor = 1.0
    mean: bool = True

    def __post_init__(self) -> None:
        whole = isinstance(self.modes, int) and not isinstance(self.modes, bool)
        if self.modes is not None and not (whole and self.modes >= 1):
            raise InputError(f"modes must be an integer of at least 1 or None, got {self.modes!r}")
        spread = as_tensor("spread", self.spread, "a number or a spectrum", dtype=torch.float64)
        wanted = () if self.modes is None else (int(self.modes) + 1,)
        if spread.ndim and spread.shape != wanted:
            raise InputError(
                f"spread must be a number or have shape {wanted}, got {tuple(spread.shape)}"
            )
        if not bool((spread.isfinite() & (spread > 0)).all()):
            raise InputError(f"spread must be above 0, got {float(spread.min()):g}")


@dataclass(frozen=True)
class Number:
    """An unknown number between two bounds, by its logarithm where both are positive.

    start: where a search begins, the middle by default (the geometric one of a logarithm).
    logarithmic: None decides by the bounds.
    """

    lowest: float
    highest: float
    start: float | None = None
    logarithmic: bool | None = None

    def __post_init__(self) -> None:
        finite = math.isfinite(self.lowest) and math.isfinite(self.highest)
        if not (finite and self.lowest < self.highest):
            raise InputError(
                f"lowest must be below highest, both finite, got {self.lowest} and {self.highest}"
            )
        if self.logarithmic and not self.lowest > 0:
            raise InputError(f"lowest must be above 0 for a logarithm, got {self.lowest}")
        if self.start is not None and not self.lowest <= self.start <= self.highest:
            raise InputError(
                f"start must lie between {self.lowest} and {self.highest}, got {self.start}"
            )

    @property
    def by_logarithm(self) -> bool:
        """Whether the search sees its logarithm."""
        return self.lowest > 0 if self.logarithmic is None else self.logarithmic

    def box(self, like: Tensor) -> Box:
        """What a search sees of it."""
        low, high = self.lowest, self.highest
        start = self.start
        if self.by_logarithm:
            low, high = math.log(low), math.log(high)
            start = None if start is None else math.log(start)
        bounds = (like.new_tensor(value) for value in (low, high))
        return Box((), *bounds, start=start)

    def value(self, coordinate: Tensor) -> Tensor:
        """The numbers (B,) of what a search sees."""
        return coordinate.exp() if self.by_logarithm else coordinate


class Coefficients:
    """Fields of a grid as vectors of coefficients, and back.

    basis: (n, points) rows of unit mean square, None where a coefficient is a value at a point.
    spread: (n,).
    """

    def __init__(self, field: Field, channels: int, points: Sequence[int], like: Tensor) -> None:
        self.field, self.channels, self.points = field, channels, tuple(points)
        spread = torch.as_tensor(field.spread, dtype=like.dtype, device=like.device)
        if field.modes is None:
            self.basis = None
            self.count = math.prod(self.points)
            self.spread = spread.expand(self.count)
            return
        if 2 * field.modes >= min(self.points):
            raise InputError(
                f"modes must be below half of the {min(self.points)} points, got {field.modes}"
            )
        self.basis, radii = _waves(self.points, field.modes, field.mean, like)
        self.count = len(self.basis)
        self.spread = spread[radii] if spread.ndim else spread.expand(self.count)

    def box(self, trajectories: int, like: Tensor) -> Box:
        """What a search sees: (trajectories, C, n), or (C, n) where `trajectories` is 0."""
        lead = (trajectories,) if trajectories else ()
        shape = (*lead, self.channels, self.count)
        start = like.new_zeros(shape)
        if self.field.start is not None:
            given = check_tensor("start", self.field.start, like=like)
            wanted = (*lead, self.channels, *self.points)
            try:
                start = self.of(given.expand(wanted)).clone()
            except RuntimeError:
                raise InputError(
                    f"start must have shape {wanted}, got {tuple(given.shape)}"
                ) from None
        return Box(shape, start=start, scale=self.spread.expand(shape))

    def of(self, fields: Tensor) -> Tensor:
        """Coefficients (..., n) of fields (..., *space); what the basis lacks is left out."""
        flat = fields.flatten(-len(self.points))
        return flat if self.basis is None else flat @ self.basis.mT / flat.shape[-1]

    def field_of(self, coefficients: Tensor) -> Tensor:
        """Fields (..., *space) of coefficients (..., n)."""
        flat = coefficients if self.basis is None else coefficients @ self.basis
        return flat.unflatten(-1, self.points)


def _waves(
    points: tuple[int, ...], highest: int, mean: bool, like: Tensor
) -> tuple[Tensor, Tensor]:
    """Rows (n, points) of unit mean square, all waves m with |m_i| <= highest, and the rounded |m|
    of each, at most `highest`.
    """
    axes = [torch.arange(count, dtype=torch.float64) / count for count in points]
    place = torch.stack([axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij")])
    numbers = list(itertools.product(range(-highest, highest + 1), repeat=len(points)))
    half = torch.tensor([m for m in numbers if m > (0,) * len(points)], dtype=torch.float64)
    order = half.norm(dim=1).argsort(stable=True)
    half = half[order]
    angle = 2 * math.pi * half @ place
    rows = math.sqrt(2) * torch.stack([angle.cos(), angle.sin()], 1).flatten(0, 1)
    radii = half.norm(dim=1).round().long().clamp(max=highest).repeat_interleave(2)
    if mean:
        rows = torch.cat([torch.ones_like(rows[:1]), rows])
        radii = torch.cat([radii.new_zeros(1), radii])
    return rows.to(like), radii.to(like.device)
