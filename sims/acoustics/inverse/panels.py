"""Grids of panels on the flat sides of a room, places where an absorber may hang."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.geometry.mesh import Mesh
from sims.acoustics.room import SIDES, Bricks, Room
from sims.acoustics.solver import Solver
from sims.acoustics.walls.wall import Wall

LEAST_AREA = 1e-9  # m²; less is not on a wall
TOUCHING = 1e-9  # m


@dataclass(frozen=True, eq=False)
class Panels:
    """Panels that lie on walls: names, areas (n,) float64 [m²], and the wall beneath each."""

    names: tuple[str, ...]
    areas: Tensor
    beneath: tuple[Wall, ...]

    def walls(self, coverage: Tensor, absorber: Wall) -> dict[str, Wall]:
        """The walls of panels that the absorber covers to shares (n,), differentiable in these."""
        return {
            name: Wall.mix([(absorber, share), (wall, 1 - share)])
            for name, wall, share in zip(self.names, self.beneath, coverage, strict=True)
        }


def with_panels(room: Room, grids: Mapping[str, Sequence[int]]) -> Room:
    """The room with a grid of patches, "ceiling 1.1", "ceiling 1.2" ..., on sides of its bounds.

    grids: by the name of a side, how many panels along its two axes, in the order x, y, z. Each
    patch keeps the wall of its side; in rooms of bricks those that no brick reaches are left out.
    Raises InputError for other names and counts below 1.
    """
    low, high = bounds(room)
    for side, counts in grids.items():
        if side not in SIDES:
            raise InputError(f"grids must name sides of the room, {', '.join(SIDES)}, got {side!r}")
        if len(counts) != 2 or any(not isinstance(n, int) or n < 1 for n in counts):
            raise InputError(
                f"grids[{side!r}] must be two whole numbers of at least 1, got {counts!r}"
            )
        axis, end = divmod(SIDES.index(side), 2)
        first, second = (a for a in range(3) if a != axis)
        wall = room.walls[side]
        for i in range(counts[0]):
            for j in range(counts[1]):
                corners = torch.stack((low, high))
                corners[:, axis] = (low, high)[end][axis]
                for along, place, count in ((first, i, counts[0]), (second, j, counts[1])):
                    width = (high[along] - low[along]) / count
                    ends = torch.tensor((place, place + 1), dtype=torch.float64)
                    corners[:, along] = low[along] + width * ends
                if isinstance(room.shape, Bricks) and not _touches(room.shape.air, corners, axis):
                    continue
                name = f"{side} {i + 1}.{j + 1}"
                room = room.with_patch(name, corners[0].tolist(), corners[1].tolist(), wall)
    return room


def _touches(air: Tensor, corners: Tensor, axis: int) -> bool:
    """Whether a flat box of corners (2, 3) lies on a face of one of the boxes (B, 2, 3) of air."""
    air = air.cpu()
    shared = torch.minimum(air[:, 1], corners[1]) - torch.maximum(air[:, 0], corners[0])
    shared[:, axis] = (shared[:, axis] >= -TOUCHING).double()
    return bool((shared > TOUCHING).all(1).any())


def panels_of(solver: Solver, names: Sequence[str] | None = None) -> Panels:
    """Patches of a solver's room as panels, all of them if none are named.

    Patches that others cover are left out. Raises InputError for names that the room
    has not, and where no panel is left.
    """
    room = solver.room
    chosen = [patch.name for patch in room.patches] if names is None else list(names)
    for name in chosen:
        if name not in room.surfaces:
            raise InputError(
                f"panels must be surfaces of the room, got {name!r}; "
                f"there are: {', '.join(room.surfaces)}"
            )
    boundary = solver.boundary
    areas = torch.zeros(len(room.surfaces), dtype=torch.float64)
    areas.index_add_(0, boundary.surface.long().cpu(), boundary.areas.detach().cpu())
    kept = [name for name in chosen if areas[room.surfaces.index(name)] > LEAST_AREA]
    if not kept:
        raise InputError("panels must lie on walls of the room; make some with with_panels")
    places = [room.surfaces.index(name) for name in kept]
    return Panels(tuple(kept), areas[places], tuple(room.walls[name] for name in kept))


def bounds(room: Room) -> tuple[Tensor, Tensor]:
    """Lowest and highest corner (3,) of the air [m]."""
    shape = room.shape
    points = shape.air.reshape(-1, 3) if isinstance(shape, Bricks) else shape.vertices.detach()
    points = points.double().cpu()
    return points.amin(0), points.amax(0)


def rectangles(room: Room, names: Sequence[str]) -> Mesh:
    """Patches as a mesh of two triangles each, vertices 4 n to 4 n + 3 of patch n, to be shown."""
    by_name = {patch.name: patch for patch in room.patches}
    vertices, faces = [], []
    for place, name in enumerate(names):
        low, high = by_name[name].low.cpu(), by_name[name].high.cpu()
        flat = int((high - low).argmin())
        first, second = (a for a in range(3) if a != flat)
        for i, j in ((0, 0), (1, 0), (1, 1), (0, 1)):
            corner = low.clone()
            corner[first] = (low, high)[i][first]
            corner[second] = (low, high)[j][second]
            vertices.append(corner)
        start = 4 * place
        faces += [(start, start + 1, start + 2), (start, start + 2, start + 3)]
    return Mesh(torch.stack(vertices), torch.tensor(faces))


def edges(room: Room) -> Tensor:
    """The twelve edges (12, 2, 3) of the box around the air, to be shown."""
    low, high = bounds(room)
    corners = torch.stack(
        [torch.where(torch.tensor([i & 4, i & 2, i & 1]) > 0, high, low) for i in range(8)]
    )
    pairs = torch.tensor([(a, a | bit) for bit in (1, 2, 4) for a in range(8) if not a & bit])
    return corners[pairs]
