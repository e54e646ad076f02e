"""From the cells inside a room to a mesh whose outermost layers end at the walls.

Faces of the core that lie in a wall along the grid stay. The others are extruded by one element to
the patch of wall before them, one patch after another, so that no element has two faces on a smooth
wall, which would flatten its corner. Where two patches meet, the layer of the later runs past the
end of the earlier, and its edge is the sharp edge of the walls.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.geometry import Mesh, closest_points
from sims.acoustics.elements.element_numbering import SIDES, Numbering, wall_faces
from sims.acoustics.meshing.castellation import FLAT, Castle, Frame, castle_of, frame_of
from sims.acoustics.meshing.wall_patches import labelled, patches_of


@dataclass(frozen=True)
class Draft:
    """A mesh of hexahedra on its way to the walls, in the frame of the grid.

    vertices (V, 3), hexahedra (E, 8). held: (V, 3) bool, the axes along which a vertex must stay
    because it lies in walls along the grid. patches: the other walls, and `rings`: for each the
    faces (F, 4) of the mesh to bring to it, corners counter-clockwise from outside.
    """

    vertices: Tensor
    hexahedra: Tensor
    held: Tensor
    patches: list[Mesh]
    rings: list[Tensor]

    @cached_property
    def on(self) -> list[Tensor]:
        """The vertices to bring to each patch, as places among `outer`."""
        return [torch.searchsorted(self.outer, torch.unique(ring)) for ring in self.rings]

    @cached_property
    def outer(self) -> Tensor:
        """The vertices (S,) that belong to a patch, in ascending order."""
        rings = [ring.flatten() for ring in self.rings]
        return torch.unique(torch.cat([torch.zeros(0, dtype=torch.int64), *rings]))


def draft_of(mesh: Mesh, size: float, sharp: float) -> tuple[Draft, Frame]:
    """The core of a mesh and layers around it, whose outer vertices lie on the inner ones yet.

    size: largest edge of a cell [m]. sharp: the angle [degrees] from which on edges are kept, see
    `patches_of`. Raises InputError for a room that is too narrow for the size.
    """
    frame = frame_of(mesh, size).with_convex_walls()
    while True:
        vertices, hexahedra = _core(castle_of(frame, size), size)
        faces = wall_faces(hexahedra)
        side = Numbering.of(hexahedra, 1).walls % SIDES
        piece = _walls(vertices, faces, side, frame)
        reached = torch.zeros(len(frame.planes), dtype=torch.bool)
        reached[piece[piece >= 0]] = True
        if bool(reached.all()):
            break
        # a wall that no cell fits on is brought to the mesh like a wall across the grid
        frame = frame.keeping(reached).with_convex_walls()
    outward = (side % 2 == 1) ^ (side // 2 == 1)
    ring = torch.where(outward[:, None], faces[:, [0, 2, 3, 1]], faces[:, [0, 1, 3, 2]])
    patches = patches_of(frame, sharp)
    label = labelled(vertices, ring, piece, patches, size) if patches else piece
    if label is None:
        # the walls cannot be told apart at this size: one patch, whose sharp edges are cut off
        patches = [Mesh(frame.mesh.vertices, frame.mesh.faces[frame.wall < 0])]
        label = torch.where(piece < 0, len(frame.planes), piece)
    return _extruded(vertices, hexahedra, ring, label, frame, patches), frame


def _extruded(
    vertices: Tensor,
    hexahedra: Tensor,
    ring: Tensor,
    label: Tensor,
    frame: Frame,
    patches: list[Mesh],
) -> Draft:
    """The core and a layer over the wall faces of each patch in turn.

    ring: (F, 4), wall faces with corners counter-clockwise from outside. label: (F,), the piece of
    wall along the grid, or their number plus the patch.
    """
    shift = len(frame.planes)
    for patch in range(len(patches)):
        own = label == shift + patch
        inner, local = torch.unique(ring[own], return_inverse=True)
        copies = local + len(vertices)
        layer = torch.empty(len(local), 8, dtype=torch.int64)
        layer[:, [0, 4, 6, 2]] = ring[own]
        layer[:, [1, 5, 7, 3]] = copies
        # sides of the layer belong to the wall beyond them
        start, stop = ring, ring.roll(-1, dims=1)
        count = len(vertices)
        keys, order = torch.sort((start * count + stop).flatten())
        across = order[torch.searchsorted(keys, (stop * count + start)[own].flatten())] // 4
        border = ~own[across]
        flat = [f.flatten()[border] for f in (start[own], stop[own], copies.roll(-1, 1), copies)]
        ring = torch.cat([ring[~own], copies, torch.stack(flat, dim=1)])
        label = torch.cat([label[~own], label[own], label[across[border]]])
        vertices = torch.cat([vertices, vertices[inner]])
        hexahedra = torch.cat([hexahedra, layer])
    held = torch.zeros(len(vertices), 3, dtype=torch.bool)
    for piece, (axis, _) in enumerate(frame.planes.tolist()):
        held[ring[label == piece].flatten(), int(axis)] = True
    rings = [ring[label == shift + patch] for patch in range(len(patches))]
    return Draft(vertices, hexahedra, held, patches, rings)


def _core(castle: Castle, size: float) -> tuple[Tensor, Tensor]:
    """Vertices (V, 3) and hexahedra (E, 8) of the cells."""
    shape = [len(axis) for axis in castle.axes]
    cells = castle.inside.nonzero()
    if not len(cells):
        raise InputError(
            f"size must leave cells well inside the mesh, got {size:g} m, at which none fits: "
            "a room needs about three elements across; choose a smaller size, or scale the mesh if "
            "it is not in metres"
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
