"""Distance from points to the surface of a mesh, and its sign inside a closed one.

The nearest face is found in float32 on a copy of the mesh scaled to size one, so it may be one that
is farther by about 1e-7 of the size, or of the distance where that is larger. The nearest point on
that face is computed anew in float64. With its place on the face held fixed, the derivative of the
distance is exact: moving along the face changes nothing to first order.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import warp as wp
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from geomopt.geometry import mesh_query_kernels as kernels
from geomopt.geometry.mesh import (
    Mesh,
    bounds,
    corner_positions,
    face_normals,
    require_closed,
    vertex_normals,
)
from geomopt.geometry.topology import Topology
from geomopt.launch import Vectors, initialize, launch

NEAR = 1e-5  # share of the size below which the float32 search cannot be trusted with the sign


@dataclass(frozen=True, eq=False)
class SearchTree:
    """A Warp hierarchy over the faces of a mesh, centred and scaled to a longest side of 1."""

    tree: Any
    center: Tensor
    size: Tensor

    @classmethod
    def of(cls, mesh: Mesh, *, winding: bool = False) -> SearchTree:
        """Build the hierarchy of a mesh with faces, on its device; winding: with its numbers."""
        initialize()
        corners = bounds(mesh.vertices.detach(), mesh.faces).double()
        extent = (corners[1] - corners[0]).max()
        size = torch.where(extent > 0, extent, 1)
        center = corners.mean(dim=0)
        positions = ((mesh.vertices.detach() - center) / size).float().contiguous()
        with _stream(positions.device):
            tree = wp.Mesh(
                points=wp.from_torch(positions, dtype=wp.vec3f),
                indices=wp.from_torch(mesh.faces.int().flatten().contiguous()),
                support_winding_number=winding,
            )
        return cls(tree, center, size)

    @property
    def id(self) -> int:
        """The handle that kernels take."""
        return int(self.tree.id)

    def scaled(self, positions: Tensor) -> Tensor:
        """Positions in the frame of the hierarchy, float32."""
        return ((positions.detach() - self.center) / self.size).float().contiguous()


def _stream(device: torch.device) -> AbstractContextManager[Any]:
    if device.type != "cuda":
        return nullcontext()
    return wp.ScopedStream(wp.stream_from_torch(torch.cuda.current_stream(device)))


def closest_points(points: Tensor, mesh: Mesh) -> tuple[Tensor, Tensor, Tensor]:
    """Nearest points of the surface: positions (P, 3), faces (P,) int64 and weights (P, 3) on them.

    points (P, 3) in the dtype of the mesh. Positions are differentiable in the vertices at fixed
    barycentric weights; on an edge one weight is exactly zero, at a vertex two are. Of faces at
    equal distance (to about 1e-7 of the size) any may be found. Raises InputError for an empty mesh
    and for points that do not fit.
    """
    check_tensor("points", points, (None, 3), like=mesh.vertices)
    if len(mesh.faces) == 0:
        raise InputError("mesh must have faces to measure a distance to, got none")
    face = _search(kernels.closest_face, points, mesh).long()
    corners = corner_positions(mesh.vertices, mesh.faces[face])
    weights = _weights(points.detach().double(), corners.detach().double()).to(points.dtype)
    return (corners * weights[..., None]).sum(dim=1), face, weights


def _search(kernel: Any, points: Tensor, mesh: Mesh, *, winding: bool = False) -> Tensor:
    """What a kernel finds for each point, (P,) int32."""
    search = SearchTree.of(mesh, winding=winding)
    queries = search.scaled(points)
    found = torch.full((len(points),), -1, dtype=torch.int32, device=points.device)
    # farther than the whole mesh can be from any of the points
    reach = 4.0 + 2.0 * float(queries.abs().max()) if len(points) else 0.0
    launch(kernel, len(points), [search.id, Vectors(queries), reach], [found], split=True)
    if points.device.type == "cuda":
        torch.cuda.current_stream(points.device).synchronize()  # the hierarchy ends with this call
    return found


def _weights(points: Tensor, corners: Tensor) -> Tensor:
    """Weights (P, 3) of the place on each triangle (P, 3, 3) nearest to its point (P, 3)."""
    # on the plane
    origin, one, two = corners.unbind(dim=1)
    u, v, w = one - origin, two - origin, points - origin
    uu, uv, vv = (u * u).sum(1), (u * v).sum(1), (v * v).sum(1)
    uw, vw = (u * w).sum(1), (v * w).sum(1)
    determinant = uu * vv - uv * uv
    divisor = torch.where(determinant > 0, determinant, 1)
    second, third = (vv * uw - uv * vw) / divisor, (uu * vw - uv * uw) / divisor
    inner = torch.stack([1 - second - third, second, third], dim=1)
    is_inside = (inner > 0).all(dim=1) & (determinant > 0)
    # on the sides; side k joins corners k and k + 1
    along = corners.roll(-1, dims=1) - corners
    length = (along * along).sum(dim=2)
    place = ((points[:, None] - corners) * along).sum(dim=2) / torch.where(length > 0, length, 1)
    place = place.clamp(0, 1)
    gap = torch.linalg.vector_norm(corners + place[..., None] * along - points[:, None], dim=2)
    side = gap.argmin(dim=1, keepdim=True)
    at = place.gather(1, side)
    outer = torch.zeros_like(inner).scatter(1, side, 1 - at).scatter(1, (side + 1) % 3, at)
    return torch.where(is_inside[:, None], inner, outer)


def surface_distance(points: Tensor, mesh: Mesh) -> Tensor:
    """Distance (P,) from points (P, 3) to the nearest triangle; infinite for an empty mesh.

    Differentiable in the points and the vertices, with gradient zero on the surface. Raises
    InputError for points that do not fit the mesh.
    """
    if len(mesh.faces) == 0:
        check_tensor("points", points, (None, 3), like=mesh.vertices)
        return points.new_full((len(points),), torch.inf)
    nearest, _, _ = closest_points(points, mesh)
    return torch.linalg.vector_norm(points - nearest, dim=1)


def signed_distance(points: Tensor, mesh: Mesh) -> Tensor:
    """Distance (P,) from points (P, 3) to the surface of a closed mesh, negative inside.

    Differentiable as `surface_distance`. The sign is that of the winding number (Barill et al.,
    Fast winding numbers for soups and clouds, 2018), which holds where the mesh intersects itself
    too. Nearer to the surface than float32 can tell, it is that of the offset along the normal of
    the nearest face, edge (the mean of its faces) or vertex (weighted by angle), see Bærentzen and
    Aanæs, Signed distance computation using the angle weighted pseudonormal, 2005. Raises
    InputError for a mesh that is not closed or not consistently wound.
    """
    topology = require_closed(mesh, "mesh")
    nearest, face, weights = closest_points(points, mesh)
    offset = points - nearest
    distance = torch.linalg.vector_norm(offset, dim=1)
    low, high = mesh.bounds.detach()
    is_near = distance.detach() < NEAR * (high - low).max()
    by_winding = _search(kernels.is_inside, points, mesh, winding=True) == 1
    normal = _normal_at(mesh, topology, face, weights)
    by_normal = (offset.detach().double() * normal).sum(dim=1) < 0
    return torch.where(torch.where(is_near, by_normal, by_winding), -distance, distance)


def _normal_at(mesh: Mesh, topology: Topology, face: Tensor, weights: Tensor) -> Tensor:
    """Direction (P, 3) float64 that points out of the surface, also on an edge or at a vertex."""
    vertices = mesh.vertices.detach().double()
    of_face = face_normals(vertices, mesh.faces)
    of_edge = of_face[topology.edge_faces.long()].sum(dim=1)
    of_vertex = vertex_normals(vertices, mesh.faces)
    is_zero = weights == 0
    # an edge misses one corner: edge k joins corners k and k + 1, so it misses k + 2
    edge = topology.face_edges.long()[face, (is_zero.int().argmax(dim=1) + 1) % 3]
    vertex = mesh.faces.long()[face, weights.argmax(dim=1)]
    zeros = is_zero.sum(dim=1)[:, None]
    normal = torch.where(zeros == 2, of_vertex[vertex], of_edge[edge])
    return torch.where(zeros == 0, of_face[face], normal)
