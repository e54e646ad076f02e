"""Hexahedra in a room that is given by its triangles, and a report of how well they fill it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.geometry import Mesh, Topology, closest_points, require_closed, self_intersections
from geomopt.geometry.topology import connected_labels
from sims.acoustics.elements.element_numbering import wall_faces
from sims.acoustics.elements.hexahedra import MINIMUM_JACOBIAN
from sims.acoustics.elements.trilinear import (
    corner_slopes,
    least_widths,
    scaled_jacobians,
)
from sims.acoustics.meshing.castellation import Frame
from sims.acoustics.meshing.element_energy import corner_edges
from sims.acoustics.meshing.pillow import Draft, draft_of
from sims.acoustics.meshing.snapping import snapped

SHARP = (30.0, 50.0, 180.0)  # least angle of the edges to keep [degrees], in order of trial
GUARD = 0.15  # least scaled Jacobian that snapping may leave
VOLUME_OFF = 0.1  # share of the volume that a mesh may miss before it is no mesh of the room
CELLS = (1.0, 0.75, 0.56, 0.42)  # shares of the size, until the cells suit the room
LONGEST = 1.95  # times the size; longer edges hold too few nodes for the band


@dataclass(frozen=True)
class MeshReport:
    """How well hexahedra fill a room.

    elements, vertices: counts. least_jacobian: scaled, 1 for bricks. narrowest: the least width of
    an element [m], which sets the time step. longest: the longest edge [m], which limits the band.
    volume, area: of the hexahedra, over those of the triangle mesh. distance: the largest from a
    corner or the middle of a wall face to the triangles, or from one of their vertices to the wall
    faces [m]. held_back: vertices that the guard kept from the surface.
    """

    elements: int
    vertices: int
    least_jacobian: float
    narrowest: float
    longest: float
    volume: float
    area: float
    distance: float
    held_back: int

    def __str__(self) -> str:
        return (
            f"{self.elements} hexahedra, {self.vertices} vertices; least scaled Jacobian "
            f"{self.least_jacobian:.2f}; elements from {self.narrowest:.3g} m (width) to "
            f"{self.longest:.3g} m (edge); volume {100 * (self.volume - 1):+.2f} %, area "
            f"{100 * (self.area - 1):+.2f} %; at most {1000 * self.distance:.3g} mm off the "
            f"triangles; {self.held_back} vertices held back"
        )


@dataclass(frozen=True, eq=False)
class HexahedralMesh:
    """Hexahedra that fill a room.

    vertices: (V, 3) float64 [m]. hexahedra: (E, 8) int64, corners as in `Hexahedra`. faces: (F, 4)
    int64, the wall faces in the order of `wall_faces`; triangles: (F,) int64, the triangle of the
    room nearest to the middle of each.
    """

    vertices: Tensor
    hexahedra: Tensor
    faces: Tensor
    triangles: Tensor
    report: MeshReport


def hexahedral_mesh_of(
    mesh: Mesh, size: float, *, minimum_jacobian: float = GUARD
) -> HexahedralMesh:
    """Fill a closed triangle mesh [m] with hexahedra of edges of about `size` [m].

    Where walls are flat along a common set of axes, in whatever way the room is turned, the cells
    of a grid meet them exactly. To all other walls one layer of elements is extruded and snapped,
    with the mesh relaxed behind it. A vertex whose move to the surface would leave an element with
    a scaled Jacobian below `minimum_jacobian` stays short of it; the report counts these. Faces on
    curved walls lie outside and inside in equal parts, which keeps the volume. Where edges come out
    much longer than the size, or the room is narrow, the grid is made finer, down to 0.42 size.

    Raises InputError for a mesh that leaks, crosses itself or is inside out, and for a room too
    narrow for the size.
    """
    if not (isinstance(size, int | float) and math.isfinite(size) and size > 0):
        raise InputError(f"size must be a finite length above 0 m, got {size!r}")
    mesh = Mesh(mesh.vertices.detach().cpu().double(), mesh.faces.cpu())
    topology = _require_room(mesh)
    found, refused = None, None
    for cell in (size * share for share in CELLS):
        try:
            found = _filled(mesh, topology, cell, minimum_jacobian)
        except InputError as error:
            refused = error
            continue
        if found.report.longest <= LONGEST * size:
            break
    if found is None:
        assert refused is not None
        raise refused
    return found


def _filled(mesh: Mesh, topology: Topology, size: float, guard: float) -> HexahedralMesh:
    """Hexahedra in a mesh that has been checked."""
    draft, frame, held_back = _best(mesh, topology, size, guard)
    vertices = draft.vertices @ frame.rotation
    faces = wall_faces(draft.hexahedra)
    report = _report(vertices, draft, faces, mesh, held_back)
    if not abs(report.volume - 1) < VOLUME_OFF:
        raise InputError(
            f"size must be small enough for the room, got {size:g} m, at which the hexahedra miss "
            f"its volume by {100 * (report.volume - 1):+.0f} %; halve it"
        )
    if not report.least_jacobian > MINIMUM_JACOBIAN:
        raise InputError(
            f"size must be small enough for the corners of the mesh, got {size:g} m, at which an "
            f"element folds (scaled Jacobian {report.least_jacobian:.2g}); halve it, or round off "
            "narrow corners"
        )
    middles = vertices[faces].mean(dim=1)
    triangles = closest_points(middles, mesh)[1]
    return HexahedralMesh(vertices, draft.hexahedra, faces, triangles, report)


def _best(
    mesh: Mesh, topology: Topology, size: float, minimum_jacobian: float
) -> tuple[Draft, Frame, int]:
    """The mesh that keeps the most edges of those without elements below the guard.

    Without any such mesh, the one whose worst element is best. Also how many vertices were held
    back.
    """
    found = []
    for sharp in SHARP:
        draft, frame = draft_of(mesh, size, sharp)
        if found and len(draft.vertices) == len(found[-1][1].vertices):
            continue
        _require_same_shape(draft, topology, size)
        draft, held_back = snapped(draft, size, minimum_jacobian)
        least = float(scaled_jacobians(draft.vertices[draft.hexahedra]).min())
        found.append((least, draft, frame, held_back))
        if least >= minimum_jacobian:
            break
    _, draft, frame, held_back = max(found, key=lambda entry: entry[0])
    return draft, frame, held_back


def _require_room(mesh: Mesh) -> Topology:
    """The topology of a mesh that can be filled."""
    try:
        topology = require_closed(mesh, "mesh")
    except InputError as error:
        raise InputError(
            f"{error}: sound would leak out; fill the holes, merge vertices at one place "
            "(Mesh.merged) and wind all faces outwards"
        ) from None
    crossing = self_intersections(mesh)
    if len(crossing):
        raise InputError(
            f"mesh must not cross itself, got {len(crossing)} pairs of faces that do, first "
            f"{crossing[0].tolist()}; join overlapping parts into one surface"
        )
    if not float(mesh.volume) > 0:
        raise InputError(
            "mesh must enclose a volume with its faces wound counter-clockwise from outside, got "
            f"{float(mesh.volume):.3g} m³; flip its faces (mesh.faces.flip(1))"
        )
    return topology


def _require_same_shape(draft: Draft, topology: Topology, size: float) -> None:
    """Raise InputError unless the hexahedra form one room with the walls and holes of the mesh."""
    faces = wall_faces(draft.hexahedra)
    before, after = draft.hexahedra[:, :-1].flatten(), draft.hexahedra[:, 1:].flatten()
    _, parts = connected_labels(torch.stack([before, after]), len(draft.vertices))
    if parts > 1:
        raise InputError(
            f"size must keep the room in one piece, got {size:g} m, at which it falls into {parts} "
            "parts: halve it, or give rooms that are apart one by one"
        )
    found = Topology.of(torch.cat([faces[:, [0, 2, 3]], faces[:, [0, 3, 1]]]), len(draft.vertices))
    shapes = [(walls.components, walls.euler_characteristic) for walls in (found, topology)]
    if topology.is_manifold and shapes[0] != shapes[1]:
        raise InputError(
            f"size must be small enough for all passages and obstacles of the mesh, got {size:g} m,"
            f" at which the hexahedra have {shapes[0][0]} walls of Euler characteristic "
            f"{shapes[0][1]} in place of {shapes[1][0]} of {shapes[1][1]}; halve it"
        )


def _report(
    vertices: Tensor, draft: Draft, faces: Tensor, mesh: Mesh, held_back: int
) -> MeshReport:
    corners = vertices[draft.hexahedra]
    walls = vertices[faces]
    # each face as four triangles around its middle
    middles = walls.mean(dim=1)
    ring = faces[:, [0, 2, 3, 1]]
    center = torch.arange(len(faces)) + len(vertices)
    fans = [torch.stack([ring[:, k], ring[:, (k + 1) % 4], center], dim=1) for k in range(4)]
    skin = Mesh(torch.cat([vertices, middles]), torch.cat(fans))
    there = torch.cat([walls.flatten(0, 1), middles])
    away = (there - closest_points(there, mesh)[0]).norm(dim=1)
    used = mesh.vertices[torch.unique(mesh.faces).long()]
    missed = (used - closest_points(used, skin)[0]).norm(dim=1)
    return MeshReport(
        elements=len(draft.hexahedra),
        vertices=len(vertices),
        least_jacobian=float(scaled_jacobians(corners).min()),
        narrowest=float(least_widths(corners).min()),
        longest=float(corner_edges(corners).norm(dim=-1).max()),
        volume=float(_volumes(corners).sum()) / float(mesh.volume),
        area=float(skin.area) / float(mesh.area),
        distance=float(torch.maximum(away.max(), missed.max())),
        held_back=held_back,
    )


def _volumes(corners: Tensor) -> Tensor:
    """Volumes (E,) by the two-point Gauss rule, which is exact for trilinear maps."""
    ends = torch.tensor([-(3**-0.5), 3**-0.5], dtype=corners.dtype)
    slopes = corner_slopes(torch.cartesian_prod(ends, ends, ends))
    jacobian = torch.einsum("qca,ecx->eqxa", slopes, corners)
    return torch.linalg.det(jacobian).sum(dim=1)
