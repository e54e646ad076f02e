"""The pressure on walls and slices of a room, as frames of the viewer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.geometry import Mesh
from geomopt.viewer.scene import Scene
from sims.acoustics.elements.lattice import Lattice
from sims.acoustics.elements.spectral import element
from sims.acoustics.room import NAMES
from sims.acoustics.solver import Solver

SEEN = ("left", "back", "floor", "furniture")  # the other walls would hide what is inside


@dataclass(frozen=True, eq=False)
class Sheet:
    """A mesh whose vertices sample the field: nodes and weights (V, Q)."""

    mesh: Mesh
    nodes: Tensor
    weights: Tensor

    def values(self, field: Tensor) -> Tensor:
        """The field (N,) at the vertices (V,)."""
        return (field[self.nodes] * self.weights).sum(1)


def walls_of(solver: Solver) -> Sheet:
    """The walls that do not hide the room, cut at the nodes of their elements."""
    faces = solver.space.faces
    seen = torch.tensor([name in SEEN for name in NAMES], device=faces.surface.device)
    quads = faces.nodes[seen[faces.surface]]
    nodes, place = torch.unique(quads, return_inverse=True)
    count = solver.order + 1
    grid = place.view(-1, count, count)
    corners = [grid[:, :-1, :-1], grid[:, 1:, :-1], grid[:, 1:, 1:], grid[:, :-1, 1:]]
    mesh = _mesh(solver.space.points[nodes], torch.stack(corners, -1).reshape(-1, 4))
    return Sheet(mesh, nodes[:, None], torch.ones(len(nodes), 1, dtype=solver.dtype))


def slice_of(solver: Solver, axis: int, place: float) -> Sheet:
    """The plane of points whose coordinate along an axis is `place` [m], where there is air.

    It is cut where the nodes of the elements are.
    """
    space = solver.space
    assert isinstance(space, Lattice)  # the rooms of this study are made of bricks
    inner = (element(solver.order).nodes[:-1] + 1) / 2
    lines = []
    for line in space.grid.lines:
        nodes = line[:-1, None] + line.diff()[:, None] * inner
        lines.append(torch.cat([nodes.flatten(), line[-1:]]))
    lines[axis] = torch.tensor([place], dtype=torch.float64)
    sizes = [len(line) for a, line in enumerate(lines) if a != axis]
    points = torch.cartesian_prod(*lines)
    grid = torch.arange(len(points)).view(*sizes)
    corners = [grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]]
    quads = torch.stack(corners, -1).reshape(-1, 4)
    middle = points[quads].mean(1)
    cells = [
        (torch.searchsorted(line, middle[:, a].contiguous()) - 1).clamp(0, len(line) - 2)
        for a, line in enumerate(space.grid.lines)
    ]
    quads = quads[space.grid.air[tuple(cells)]]
    used, quads = torch.unique(quads, return_inverse=True)
    nodes, weights = space.interpolation("slice", points[used])
    return Sheet(_mesh(points[used], quads), nodes, weights.to(solver.dtype))


def frame(
    sheets: dict[str, Sheet], field: Tensor, largest: float, points: dict[str, Tensor], title: str
) -> Scene:
    """The field (N,) on all sheets, in colours from -largest to largest [Pa]."""
    meshes, fields = {}, {}
    for name, sheet in sheets.items():
        # two vertices without a face hold the range of colours still
        vertices = torch.cat([sheet.mesh.vertices, sheet.mesh.vertices[:2]])
        ends = torch.tensor([-largest, largest])
        values = sheet.values(field).float().clamp(-largest, largest)
        meshes[name] = Mesh(vertices, sheet.mesh.faces)
        fields[name] = {"pressure": torch.cat([values, ends])}
    return Scene(meshes=meshes, fields=fields, points=points, title=title)


def _mesh(points: Tensor, quads: Tensor) -> Mesh:
    triangles = torch.cat([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return Mesh(points.float(), triangles)


def point(position: Sequence[float] | Tensor) -> Tensor:
    """One position as points (1, 3) of a scene."""
    return torch.as_tensor(position, dtype=torch.float32).reshape(1, 3)
