"""From the cells inside a room to a mesh whose outermost layer ends at the walls.

Faces of the core that lie in a wall stay. Each of the others is extruded by one element to the
surface, so that no element has two faces on a smooth wall, which would flatten its corner.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.geometry import Mesh, closest_points
from sims.acoustics.castellation import FLAT, Castle, Frame, castle_of, frame_of
from sims.acoustics.element_numbering import SIDES, Numbering, wall_faces


@dataclass(frozen=True)
class Draft:
    """A mesh of hexahedra on its way to the walls, in the frame of the grid.

    vertices (V, 3), hexahedra (E, 8). held: (V, 3) bool, the axes along which a vertex must stay
    because it lies in walls of the grid. outer: (S,) the vertices to bring to the other walls, and
    `inner` (S,) those they were extruded from.
    """

    vertices: Tensor
    hexahedra: Tensor
    held: Tensor
    outer: Tensor
    inner: Tensor


def draft_of(mesh: Mesh, size: float) -> tuple[Draft, Frame]:
    """The core of a mesh and a layer around it, whose outer vertices lie on the inner ones yet.

    size: largest edge of a cell [m]. Raises InputError for a room that is too narrow for it.
    """
    frame = frame_of(mesh, size)
    while True:
        vertices, hexahedra = _core(castle_of(frame, size), size)
        faces = wall_faces(hexahedra)
        side = Numbering.of(hexahedra, 1).walls % SIDES
        piece = _walls(vertices, faces, side, frame)
        reached = torch.zeros(len(frame.planes), dtype=torch.bool)
        reached[piece[piece >= 0]] = True
        if bool(reached.all()):
            return _extruded(vertices, hexahedra, faces, side, piece >= 0), frame
        # a wall that no cell fits on is brought to the mesh like a wall across the grid
        frame = frame.keeping(reached)


def _extruded(
    vertices: Tensor, hexahedra: Tensor, faces: Tensor, side: Tensor, flat: Tensor
) -> Draft:
    held = torch.zeros(len(vertices), 3, dtype=torch.bool)
    for axis in range(3):
        held[faces[flat & (side // 2 == axis)].flatten(), axis] = True

    inner, local = torch.unique(faces[~flat], return_inverse=True)
    layer = torch.empty(len(local), 8, dtype=torch.int64)
    corner = torch.arange(8).view(2, 2, 2)
    for axis in range(3):
        for end in (0, 1):
            chosen = side[~flat] == 2 * axis + end
            layer[chosen[:, None] & _row(corner.select(axis, 1 - end))] = faces[~flat][
                chosen
            ].flatten()
            layer[chosen[:, None] & _row(corner.select(axis, end))] = local[chosen].flatten() + len(
                vertices
            )
    return Draft(
        vertices=torch.cat([vertices, vertices[inner]]),
        hexahedra=torch.cat([hexahedra, layer]),
        held=torch.cat([held, held[inner]]),
        outer=torch.arange(len(inner)) + len(vertices),
        inner=inner,
    )


def _row(corners: Tensor) -> Tensor:
    """A mask (8,) of some of the corners of an element."""
    return torch.zeros(8, dtype=torch.bool).index_fill(0, corners.flatten(), True)


def _core(castle: Castle, size: float) -> tuple[Tensor, Tensor]:
    """Vertices (V, 3) and hexahedra (E, 8) of the cells."""
    shape = [len(axis) for axis in castle.axes]
    cells = castle.inside.nonzero()
    if not len(cells):
        raise InputError(
            f"size must leave cells well inside the mesh, got {size:g} m, at which none fits: "
            "a room needs about three elements across; choose a smaller size"
        )
    index = torch.arange(shape[0] * shape[1] * shape[2]).view(shape)
    corners = [
        index[(cells + torch.tensor([i, j, k])).unbind(1)]
        for i in (0, 1)
        for j in (0, 1)
        for k in (0, 1)
    ]
    used, hexahedra = torch.unique(torch.stack(corners, dim=1), return_inverse=True)
    return torch.cartesian_prod(*castle.axes)[used], hexahedra


def _walls(vertices: Tensor, faces: Tensor, side: Tensor, frame: Frame) -> Tensor:
    """The piece of wall that a face (F, 4) lies in with its corners and its middle, -1 for none."""
    corners = vertices[faces]
    points = torch.cat([corners, corners.mean(dim=1, keepdim=True)], dim=1)
    small = 2 * FLAT * frame.extent
    found = torch.full((len(faces),), -1)
    for piece, (axis, level) in enumerate(frame.planes.tolist()):
        near = (points[..., int(axis)] - level).abs().amax(dim=1) < small
        chosen = (near & (side // 2 == int(axis))).nonzero()[:, 0]
        if len(chosen):
            wanted = points[chosen].flatten(0, 1)
            away = (wanted - closest_points(wanted, frame.piece(piece))[0]).norm(dim=1)
            found[chosen[away.view(-1, 5).amax(dim=1) < small]] = piece
    return found
