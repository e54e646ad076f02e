"""Smooth changes of a box's shape: sides that bend, proportions that change, one volume."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.acoustics.elements import trilinear
from sims.acoustics.room import SIDES

GAUSS = 1 / math.sqrt(3)  # two points a side integrate the volume of a trilinear element exactly


@dataclass(frozen=True)
class Bending:
    """Displacements of the points of a box of a size (3,) [m], with its lowest corner at 0.

    Each of `sides` moves along its normal by h(u, v) = sum a_ij cos(iπu) cos(jπv), i and j below
    `waves` and not both 0, over its two coordinates in [0, 1]; the air in between follows linearly.
    Each number says how many metres one wave moves its side at most. The proportions change by
    factors exp(e_x), exp(e_y), exp(-e_x - e_y), and the whole is then scaled about the middle so
    that its volume stays.
    """

    size: tuple[float, float, float]
    sides: tuple[str, ...]
    waves: int = 3

    def __post_init__(self) -> None:
        for side in self.sides:
            if side not in SIDES:
                raise InputError(f"sides must be among {', '.join(SIDES)}, got {side!r}")
        if len(set(self.sides)) < len(self.sides):
            raise InputError(f"sides must be named once each, got {self.sides}")
        if self.waves < 1 or (self.sides and self.waves < 2):
            raise InputError(f"waves must be at least 2 where sides bend, got {self.waves}")

    @property
    def shape(self) -> tuple[int, int]:
        """Of the numbers a: sides, and waves of each."""
        return len(self.sides), self.waves**2 - 1

    def points(self, points: Tensor, bends: Tensor, stretch: Tensor) -> Tensor:
        """Points (V, 3) of the box after bends a (sides, waves² - 1) and stretches e (2,), before
        the volume is restored.
        """
        place = points / torch.tensor(self.size).to(points)
        pairs = [pair for pair in product(range(self.waves), repeat=2) if pair != (0, 0)]
        moved = points
        for side, amounts in zip(self.sides, bends, strict=True):
            axis, end = divmod(SIDES.index(side), 2)
            first, second = (a for a in range(3) if a != axis)
            height = sum(
                amount
                * torch.cos(i * math.pi * place[:, first])
                * torch.cos(j * math.pi * place[:, second])
                for amount, (i, j) in zip(amounts, pairs, strict=True)
            )
            share = place[:, axis] if end else 1 - place[:, axis]
            way = torch.zeros_like(points)
            way[:, axis] = 1.0
            moved = moved + (height * share)[:, None] * way
        middle = torch.tensor(self.size).to(points) / 2
        factors = torch.cat([stretch, -stretch.sum()[None]]).exp()
        return middle + factors * (moved - middle)

    def vertices(
        self, vertices: Tensor, hexahedra: Tensor, bends: Tensor, stretch: Tensor
    ) -> Tensor:
        """Vertices (V, 3) of elements (E, 8) that fill the box, moved, with its volume."""
        moved = self.points(vertices, bends, stretch)
        middle = torch.tensor(self.size).to(vertices) / 2
        scale = (math.prod(self.size) / volume(moved, hexahedra)) ** (1 / 3)
        return middle + scale * (moved - middle)


def volume(vertices: Tensor, hexahedra: Tensor) -> Tensor:
    """Of all elements (E, 8) together, () [m³], differentiable in the vertices (V, 3)."""
    corners = vertices[hexahedra.long()]
    ends = torch.tensor([-GAUSS, GAUSS], dtype=vertices.dtype, device=vertices.device)
    jacobians = trilinear.jacobians(corners, trilinear.grid_points(ends))
    return torch.linalg.det(jacobians).sum()
