"""The cells of a grid that lie well inside a room, as the core of a mesh of hexahedra.

The grid is turned so that as much of the surface as possible is flat along its axes, and has planes
where such walls are: there cells reach the wall exactly. From all other walls they keep a distance,
in which the mesh is completed later.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.geometry import Mesh, closest_points, signed_distance
from geomopt.geometry.mesh import face_areas, face_normals
from geomopt.geometry.topology import connected_labels

FLAT = 1e-6  # how far a normal or a place, as a share of the extent, may be off a plane of the grid
CLOSE = 0.5  # share of the size below which two planes are too close to keep both
DEPTH = 0.35  # share of the size that corners of cells keep from walls that are not along the grid
SMOOTH = math.cos(math.radians(30))  # of the angle between walls that count as one
LARGEST_GRID = 1 << 24  # cells


@dataclass(frozen=True)
class Frame:
    """A turned copy of a mesh: rotation (3, 3), rows are the axes of the grid; mesh in that frame.

    wall: (F,) int64, which flat piece of wall along the grid each triangle belongs to, -1 for none.
    planes: (K, 2), the axis and the coordinate of each piece.
    """

    rotation: Tensor
    mesh: Mesh
    wall: Tensor
    planes: Tensor

    @property
    def extent(self) -> float:
        """The longest side of the box around the mesh."""
        low, high = self.mesh.bounds
        return float((high - low).max())

    def rest(self) -> Mesh | None:
        """The triangles that lie in no wall along the grid, None without any."""
        faces = self.mesh.faces[self.wall < 0]
        return Mesh(self.mesh.vertices, faces) if len(faces) else None

    def piece(self, wall: int) -> Mesh:
        """The triangles of one piece of wall."""
        return Mesh(self.mesh.vertices, self.mesh.faces[self.wall == wall])

    def keeping(self, walls: Tensor) -> Frame:
        """The frame in which only some of the pieces, (K,) bool, count as walls along the grid."""
        rank = torch.where(walls, walls.cumsum(0) - 1, -1)
        held = self.wall >= 0
        kept = torch.full_like(self.wall, -1)
        kept[held] = rank[self.wall[held]]
        return replace(self, wall=kept, planes=self.planes[walls])

    def with_convex_walls(self) -> Frame:
        """The frame without the pieces that meet a wall across the grid smoothly or at a corner
        that stands into the room: elements cannot end on both there.
        """
        topology = self.mesh.topology()
        normals = self.mesh.face_normals
        corners = self.mesh.vertices[topology.opposite_vertices.long()]
        pairs = topology.edge_faces.long()
        cosine = (normals[pairs[:, 0]] * normals[pairs[:, 1]]).sum(dim=1)
        rise = ((corners[:, 1] - corners[:, 0]) * normals[pairs[:, 0]]).sum(dim=1)
        poor = (rise > -FLAT * self.extent) | (cosine > SMOOTH)
        frame = self
        while True:
            wall = frame.wall[pairs]
            mixed = poor & ((wall < 0).sum(dim=1) == 1)
            if not bool(mixed.any()):
                return frame
            lost = wall[mixed].amax(dim=1)
            frame = frame.keeping(~torch.isin(torch.arange(len(frame.planes)), lost))


@dataclass(frozen=True)
class Castle:
    """Cells of a grid: inside (nx, ny, nz) bool, and the coordinates of its planes per axis."""

    inside: Tensor
    axes: tuple[Tensor, Tensor, Tensor]


def frame_of(mesh: Mesh, size: float) -> Frame:
    """Turn a mesh so that its walls are along the axes of a grid of this size where they can be."""
    normals, areas = (f(mesh.vertices, mesh.faces) for f in (face_normals, face_areas))
    rotation = _rotation(normals, areas)
    turned = Mesh(mesh.vertices @ rotation.T, mesh.faces)
    frame = Frame(
        rotation, turned, torch.full((len(areas),), -1), torch.zeros(0, 2, dtype=torch.float64)
    )
    small = FLAT * frame.extent
    corners = turned.vertices[turned.faces.long()]
    spread = corners.amax(dim=1) - corners.amin(dim=1)
    along = ((normals @ rotation.T).abs() > 1 - FLAT) & (spread < small)
    axis = torch.where(along.any(dim=1), along.int().argmax(dim=1), -1)
    level = corners.mean(dim=1).gather(1, axis.clamp(min=0)[:, None])[:, 0]
    wall = _pieces(turned, axis, level, small)
    area = torch.zeros(int(wall.max()) + 1, dtype=areas.dtype)
    area = area.index_add(0, wall[axis >= 0], areas[axis >= 0])
    kept = torch.zeros(len(area), dtype=torch.bool)
    planes: list[tuple[int, float]] = [(-1, 0.0)] * len(area)
    for piece in torch.argsort(area, descending=True, stable=True).tolist():
        if float(area[piece]) < CLOSE * size**2:
            break
        member = int((wall == piece).nonzero()[0, 0])
        planes[piece] = (int(axis[member]), float(level[member]))
        taken = [at for other, (on, at) in enumerate(planes) if kept[other] and on == axis[member]]
        apart = [abs(planes[piece][1] - at) for at in taken]
        kept[piece] = all(gap < small or gap > CLOSE * size for gap in apart)
    frame = replace(frame, wall=wall, planes=torch.tensor(planes, dtype=torch.float64).view(-1, 2))
    return frame.keeping(kept)


def _pieces(mesh: Mesh, axis: Tensor, level: Tensor, small: float) -> Tensor:
    """Number (F,) of the connected flat piece of each triangle along an axis, -1 for the others."""
    before, after = mesh.topology().edge_faces.long().unbind(dim=1)
    same = (axis[before] == axis[after]) & (axis[before] >= 0)
    same &= (level[before] - level[after]).abs() < small
    label, _ = connected_labels(torch.stack([before[same], after[same]]), len(axis))
    _, number = torch.unique(label[axis >= 0], return_inverse=True)
    wall = torch.full_like(axis, -1)
    wall[axis >= 0] = number
    return wall


def _rotation(normals: Tensor, areas: Tensor) -> Tensor:
    """Axes (3, 3) along which the largest area is flat, those of the world where it is as large."""

    def flat_area(axes: Tensor) -> float:
        return float(areas[((normals @ axes.T).abs() > 1 - FLAT).any(dim=1)].sum())

    world = torch.eye(3, dtype=normals.dtype)
    # directions without sign, told apart to six digits
    sign = torch.where(normals.abs() > 1e-9, normals.sign(), 0)
    upward = normals * sign.gather(1, (sign != 0).int().argmax(dim=1, keepdim=True))
    _, group = torch.unique((upward * 1e6).round(), dim=0, return_inverse=True)
    weight = torch.zeros(int(group.max()) + 1, dtype=areas.dtype).index_add(0, group, areas)
    directions = upward.new_zeros(len(weight), 3)
    directions = directions.index_add(0, group, upward * areas[:, None])
    directions = directions / torch.linalg.vector_norm(directions, dim=1, keepdim=True)
    one = directions[weight.argmax()]
    across = (directions @ one).abs() < 1e-5
    if not bool(across.any()):
        return world
    two = directions[torch.where(across, weight, -1).argmax()]
    two = two - (two @ one) * one
    two = two / torch.linalg.vector_norm(two)
    found = torch.stack([one, two, torch.linalg.cross(one, two)])
    if flat_area(found) <= flat_area(world) * (1 + 1e-6):
        return world
    # each axis under the name of the nearest of the world, the three right-handed
    order = max(
        ([0, 1, 2], [1, 2, 0], [2, 0, 1], [1, 0, 2], [0, 2, 1], [2, 1, 0]),
        key=lambda rows: float(found[rows].diagonal().abs().sum()),
    )
    found = found[order]
    found = found * torch.where(found.diagonal() < 0, -1.0, 1.0)[:, None]
    if float(torch.linalg.det(found)) < 0:
        found[int(found.diagonal().abs().argmin())] *= -1
    return found


def castle_of(frame: Frame, size: float) -> Castle:
    """Cells with edges of at most `size` [m] that lie well inside the turned mesh.

    The set has a manifold boundary, and is empty where a room is too narrow for the size.
    """
    low, high = frame.mesh.bounds
    axes = []
    for axis in range(3):
        ends: list[float] = []
        levels = frame.planes[frame.planes[:, 0] == axis, 1].tolist()
        for end in [*levels, float(low[axis]), float(high[axis])]:
            if all(abs(end - other) > CLOSE * size for other in ends):
                ends = sorted([*ends, end])
        parts = [torch.tensor([ends[0]], dtype=torch.float64)]
        for start, stop in pairwise(ends):
            count = max(1, math.ceil((stop - start) / size * (1 - FLAT)))
            parts.append(torch.linspace(start, stop, count + 1, dtype=torch.float64)[1:])
        axes.append(torch.cat(parts))
    shape = [len(axis) - 1 for axis in axes]
    if shape[0] * shape[1] * shape[2] > LARGEST_GRID:
        raise InputError(
            f"size must leave at most {LARGEST_GRID} cells in the box of the mesh, "
            f"got {size:g} m for {' x '.join(map(str, shape))} cells: lower fmax, or scale the "
            "mesh if it is not in metres"
        )
    middles = [(axis[1:] + axis[:-1]) / 2 for axis in axes]
    centers = torch.cartesian_prod(*middles)
    inside = signed_distance(centers, frame.mesh) < 0
    depth = torch.full((len(centers),), torch.inf, dtype=torch.float64)
    rest = frame.rest()
    if rest is not None:
        corners = torch.cartesian_prod(*axes)
        reach = (corners - closest_points(corners, rest)[0]).norm(dim=1)
        reach = reach.view(*(count + 1 for count in shape))
        for i in (0, 1):
            for j in (0, 1):
                for k in (0, 1):
                    part = reach[i : shape[0] + i, j : shape[1] + j, k : shape[2] + k]
                    depth = torch.minimum(depth, part.flatten())
        # a small obstacle may stand between the corners
        middle = (centers - closest_points(centers, rest)[0]).norm(dim=1)
        depth = torch.minimum(depth, middle - CLOSE * size)
    found = (inside & (depth > DEPTH * size)).view(*shape)
    return Castle(_repaired(found, depth.view(*shape)), (axes[0], axes[1], axes[2]))


def _bad_cases() -> Tensor:
    """Which of the 256 ways to fill the cells around a corner leave no manifold to extrude, (256,).

    Cell 4 i + 2 j + k has bit k. Filled and empty cells must each hang together through faces, and
    no two faces around the corner may look in opposite directions.
    """
    bad = torch.zeros(256, dtype=torch.bool)
    for case in range(256):
        filled = [cell for cell in range(8) if case >> cell & 1]
        empty = [cell for cell in range(8) if not case >> cell & 1]
        bad[case] = not _joined(filled) or not _joined(empty)
        faces = [(cell, step) for cell in filled for step in (1, 2, 4) if cell ^ step in empty]
        looks = {(step, cell & step == 0) for cell, step in faces}
        bad[case] |= any((step, not up) in looks for step, up in looks)
    return bad


def _joined(cells: list[int]) -> bool:
    reached = cells[:1]
    for cell in reached:
        reached += [cell ^ s for s in (1, 2, 4) if cell ^ s in cells and cell ^ s not in reached]
    return len(reached) == len(cells)


def _repaired(inside: Tensor, depth: Tensor) -> Tensor:
    """Take cells away, the shallowest first, until the boundary is a manifold to extrude."""
    bad = _bad_cases()
    inside = torch.nn.functional.pad(inside, (1, 1, 1, 1, 1, 1))
    depth = torch.nn.functional.pad(depth, (1, 1, 1, 1, 1, 1), value=torch.inf)
    places = [(slice(i, i - 1 or None),) for i in (0, 1)]
    around = [(*places[i], *places[j], *places[k]) for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    while True:
        case = sum(inside[part].long() << cell for cell, part in enumerate(around))
        wrong = bad[case].nonzero()
        if not len(wrong):
            return inside[1:-1, 1:-1, 1:-1]
        offsets = torch.tensor([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
        cells = wrong[:, None] + offsets
        rank = torch.where(inside[cells.unbind(2)], depth[cells.unbind(2)], torch.inf)
        # cells along the grid's walls have no depth: any of those that are filled
        rank = torch.where(inside[cells.unbind(2)], rank.clamp(max=1e300), torch.inf)
        taken = cells[torch.arange(len(cells)), rank.argmin(dim=1)]
        inside[taken.unbind(1)] = False
