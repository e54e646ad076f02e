"""Triangle meshes of a rectangle, and vertices along straight lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.geometry.topology import Topology
from sims.thin_shell.irregular import irregular_mesh

Point = Tensor | Sequence[float]
Line = tuple[Point, Point]
Pattern = Literal["alternating", "diagonal", "crossed", "delaunay"]
PATTERNS = ("alternating", "diagonal", "crossed", "delaunay")
ON_LINE = 1e-6  # of the longest side of the box: a vertex so close lies on a line


def rectangle_mesh(
    width: float,
    height: float,
    cells: tuple[int, int],
    pattern: Pattern,
    creases: Sequence[Line] = (),
) -> tuple[Tensor, Tensor]:
    """vertices (V, 3) float64 and faces (F, 3) int64 of [0, width] x [0, height] at z = 0.

    creases: straight lines ((x0, y0), (x1, y1)) [m] that edges must follow. Raises InputError for
    those outside of the rectangle, and for those that a grid has no edges along.
    """
    for name, size in (("width", width), ("height", height)):
        if not (isinstance(size, int | float) and 0 < size < math.inf):
            raise InputError(f"{name} must be a positive number [m], got {size!r}")
    whole = isinstance(cells, Sequence) and len(cells) == 2
    whole = whole and all(isinstance(count, int) and count > 0 for count in cells)
    if not whole:
        raise InputError(f"cells must be two positive whole numbers, got {cells!r}")
    if pattern not in PATTERNS:
        raise InputError(f"pattern must be one of {PATTERNS}, got {pattern!r}")
    if not isinstance(creases, Sequence | Tensor):
        raise InputError(f"creases must be a list of lines, got {type(creases).__name__}")
    lines = [_checked_line(f"creases[{k}]", c, width, height) for k, c in enumerate(creases)]
    if pattern == "delaunay":
        size = math.sqrt(width / cells[0] * height / cells[1])
        segments = torch.stack(lines) if lines else torch.zeros(0, 2, 2, dtype=torch.float64)
        points, triangles = irregular_mesh(float(width), float(height), size, segments.numpy())
        vertices, faces = _in_space(torch.from_numpy(points)), torch.from_numpy(triangles)
    else:
        vertices, faces = _grid(width, height, cells, pattern)
    topology = Topology.of(faces, len(vertices))
    for k, line in enumerate(lines):
        if not _follows(vertices, topology, line):
            advice = f"of the pattern {pattern!r} with cells {cells}; take pattern='delaunay'"
            if pattern == "delaunay":
                advice = "that could be found; take more cells, or creases farther from each other"
            raise InputError(
                f"creases[{k}] must follow edges of the mesh, got {creases[k]!r}, "
                f"which has none along it {advice}"
            )
    return vertices, faces


def points_on_line(points: Tensor, start: Point, end: Point) -> Tensor:
    """Indices (n,) int64 of the points (V, 3) [m] on a straight line, from its start to its end.

    start, end: (2,) in the plane z = 0, or (3,) [m]. Raises InputError.
    """
    ends = torch.stack([_checked_point("start", start), _checked_point("end", end)]).to(points)
    spans = points.aminmax(dim=0)
    tolerance = ON_LINE * float((spans.max - spans.min).amax())
    along = ends[1] - ends[0]
    length = along.norm()
    if not float(length) > tolerance:
        raise InputError(f"start and end must be different points, got {start} and {end}")
    place = (points - ends[0]) @ (along / length)
    away = (points - ends[0] - place[:, None] * (along / length)).norm(dim=1)
    on = (away <= tolerance) & (place >= -tolerance) & (place <= length + tolerance)
    found = torch.nonzero(on).flatten()
    return found[place[found].argsort()]


def _checked_point(name: str, point: Point) -> Tensor:
    try:
        given = torch.as_tensor(point, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name} must be two or three numbers [m], got {point!r}") from None
    if given.shape not in ((2,), (3,)) or not bool(given.isfinite().all()):
        raise InputError(f"{name} must be two or three finite numbers [m], got {point!r}")
    return torch.nn.functional.pad(given, (0, 3 - len(given)))


def _checked_line(name: str, line: Line, width: float, height: float) -> Tensor:
    """The two ends (2, 2) of a crease within the rectangle."""
    try:
        given = torch.stack([torch.as_tensor(end, dtype=torch.float64) for end in line]).detach()
    except (TypeError, ValueError, RuntimeError):
        given = torch.empty(0)
    if given.shape != (2, 2) or not bool(given.isfinite().all()):
        raise InputError(f"{name} must be two points ((x0, y0), (x1, y1)) [m], got {line!r}")
    size = torch.tensor([width, height], dtype=torch.float64)
    slack = ON_LINE * float(size.amax())
    if bool(((given < -slack) | (given > size + slack)).any()):
        raise InputError(
            f"{name} must lie in the rectangle [0, {width}] x [0, {height}], got {line!r}"
        )
    if not float((given[1] - given[0]).norm()) > slack:
        raise InputError(f"{name} must have two different ends, got {line!r}")
    return torch.minimum(given.clamp(min=0), size)


def _follows(vertices: Tensor, topology: Topology, line: Tensor) -> bool:
    """Whether edges of the mesh lead along the whole of a line (2, 2)."""
    path = points_on_line(vertices, *line)
    if len(path) < 2:
        return False
    reached = (vertices[path[-1]] - vertices[path[0]]).norm() - (line[1] - line[0]).norm()
    pairs = torch.stack([path[:-1], path[1:]], dim=1).sort(dim=1).values
    edges = topology.edges.long()
    keys, known = (ends @ ends.new_tensor([len(vertices), 1]) for ends in (pairs, edges))
    longest = float(vertices.abs().amax())
    return bool(torch.isin(keys, known).all()) and abs(float(reached)) <= 3 * ON_LINE * longest


def _grid(
    width: float, height: float, cells: tuple[int, int], pattern: Pattern
) -> tuple[Tensor, Tensor]:
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
