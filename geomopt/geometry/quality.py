"""What a mesh says of itself: the shape of its triangles and the soundness of its surface."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from geomopt.geometry.intersections import self_intersections
from geomopt.geometry.mesh import Mesh, corner_angles, corner_positions, face_areas

RATIO_LIMIT = 4.0
ANGLE_LIMIT = math.radians(10.0)


@dataclass(frozen=True)
class Quality:
    """Counts, and shares of all faces in [0, 1]; area and volume in the units of the mesh.

    genus is None unless the mesh is closed, manifold and consistently wound; volume is signed. A
    mesh without faces has zeros everywhere.
    """

    vertices: int
    faces: int
    components: int
    euler_characteristic: int
    genus: int | None
    boundary_edges: int
    nonmanifold_edges: int
    nonmanifold_vertices: int
    miswound_edges: int
    self_intersecting: float
    aspect_ratio_over_4: float
    radius_ratio_over_4: float
    angle_under_10: float
    area: float
    volume: float

    def as_dict(self) -> dict[str, float | int | None]:
        """The fields by name, as plain numbers."""
        return asdict(self)


def quality(mesh: Mesh) -> Quality:
    """Judge a mesh by itself.

    self_intersecting: faces that cross a face with which they share no vertex. aspect_ratio_over_4,
    radius_ratio_over_4, angle_under_10: triangles beyond these limits. Raises InputError for faces
    that name a vertex twice.
    """
    mesh = Mesh(mesh.vertices.detach().double(), mesh.faces)
    topology = mesh.topology()
    faces = max(len(mesh.faces), 1)
    crossing = len(torch.unique(self_intersections(mesh)))
    triangles = (mesh.vertices, mesh.faces)
    return Quality(
        vertices=len(torch.unique(mesh.faces)),
        faces=len(mesh.faces),
        components=topology.components,
        euler_characteristic=topology.euler_characteristic,
        genus=topology.genus,
        boundary_edges=len(topology.boundary_edges()),
        nonmanifold_edges=len(topology.nonmanifold_edges()),
        nonmanifold_vertices=len(topology.nonmanifold_vertices()),
        miswound_edges=len(topology.miswound_edges()),
        self_intersecting=crossing / faces,
        aspect_ratio_over_4=int((aspect_ratios(*triangles) > RATIO_LIMIT).sum()) / faces,
        radius_ratio_over_4=int((radius_ratios(*triangles) > RATIO_LIMIT).sum()) / faces,
        angle_under_10=int((corner_angles(*triangles).amin(dim=1) < ANGLE_LIMIT).sum()) / faces,
        area=float(mesh.area),
        volume=float(mesh.volume),
    )


def _sides(vertices: Tensor, faces: Tensor) -> Tensor:
    corners = corner_positions(vertices, faces)
    return torch.linalg.vector_norm(corners.roll(-1, dims=1) - corners, dim=2)


def aspect_ratios(vertices: Tensor, faces: Tensor) -> Tensor:
    """Longest side over 2 sqrt(3) inner radius, (F,): 1 if equilateral, infinite without area."""
    sides = _sides(vertices, faces)
    inner_radius = 2 * face_areas(vertices, faces) / sides.sum(dim=1)
    ratio = sides.amax(dim=1) / (2 * math.sqrt(3) * inner_radius)
    return ratio.nan_to_num(nan=torch.inf, posinf=torch.inf)


def radius_ratios(vertices: Tensor, faces: Tensor) -> Tensor:
    """Outer radius over twice the inner radius, (F,): 1 if equilateral, infinite without area."""
    sides = _sides(vertices, faces)
    area = face_areas(vertices, faces)
    ratio = (
        sides.prod(dim=1) * sides.sum(dim=1) / (16 * area * area)
    )  # (abc / 4A) / (2 * 2A / (a + b + c))
    return ratio.nan_to_num(nan=torch.inf, posinf=torch.inf)
