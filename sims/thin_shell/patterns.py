"""Triangle meshes of a rectangle."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from geomopt.errors import InputError

Pattern = Literal["alternating", "diagonal", "crossed", "delaunay"]
PATTERNS = ("alternating", "diagonal", "crossed", "delaunay")


def rectangle_mesh(
    width: float, height: float, cells: tuple[int, int], pattern: Pattern
) -> tuple[Tensor, Tensor]:
    """vertices (V, 3) float64 and faces (F, 3) int64 of [0, width] x [0, height] at z = 0."""
    for name, size in (("width", width), ("height", height)):
        if not (isinstance(size, int | float) and 0 < size < math.inf):
            raise InputError(f"{name} must be a positive number [m], got {size!r}")
    whole = len(cells) == 2 and all(isinstance(count, int) and count > 0 for count in cells)
    if not whole:
        raise InputError(f"cells must be two positive whole numbers, got {cells!r}")
    if pattern not in PATTERNS:
        raise InputError(f"pattern must be one of {PATTERNS}, got {pattern!r}")
    columns, rows = cells
    x = torch.linspace(0, width, columns + 1, dtype=torch.float64)
    y = torch.linspace(0, height, rows + 1, dtype=torch.float64)
    grid = torch.cartesian_prod(x, y)
    i, j = torch.meshgrid(torch.arange(columns), torch.arange(rows), indexing="ij")
    a = (i * (rows + 1) + j).flatten()
    b, c, d = a + rows + 1, a + rows + 2, a + 1  # counter-clockwise around the cell
    if pattern == "crossed":
        middle = torch.cartesian_prod((x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2)
        centre = len(grid) + torch.arange(columns * rows)
        sides = [(a, b), (b, c), (c, d), (d, a)]
        faces = torch.stack([torch.stack([p, q, centre], dim=1) for p, q in sides], dim=1)
        return _in_space(torch.cat([grid, middle])), faces.reshape(-1, 3)
    rising = torch.ones_like(a, dtype=torch.bool)
    if pattern == "alternating":
        rising = ((i + j) % 2 == 0).flatten()
    lower = torch.where(rising[:, None], torch.stack([a, b, c], 1), torch.stack([a, b, d], 1))
    upper = torch.where(rising[:, None], torch.stack([a, c, d], 1), torch.stack([b, c, d], 1))
    return _in_space(grid), torch.stack([lower, upper], dim=1).reshape(-1, 3)


def _in_space(points: Tensor) -> Tensor:
    return torch.cat([points, torch.zeros_like(points[:, :1])], dim=1)
