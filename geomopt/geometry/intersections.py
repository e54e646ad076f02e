"""Faces of a mesh that pass through each other.

A search in a bounding volume hierarchy proposes pairs of faces without a common vertex; each pair
is decided in float64 on its two planes and the line in which they meet.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geomopt.geometry import mesh_query_kernels as kernels
from geomopt.geometry.distance import SearchTree
from geomopt.geometry.mesh import Mesh, corner_positions
from geomopt.launch import Vectors, launch

PAIRS_AT_ONCE = 200_000  # about 150 MB of intermediate values
TOUCH = 1e-9  # share of a triangle's size up to which it touches a plane and does not cross it
MARGIN = 1e-6  # the boxes are float32 and of size one: more than their rounding


def self_intersections(mesh: Mesh) -> Tensor:
    """Pairs (K, 2) int32 of faces that cross and share no vertex, the lower index first.

    Cross as in `triangles_cross`: faces that only touch, and flat ones that overlap in their common
    plane, do not count.
    """
    if len(mesh.faces) < 2:
        return torch.zeros(0, 2, dtype=torch.int32, device=mesh.faces.device)
    search = SearchTree.of(mesh)
    faces = mesh.faces.int().contiguous()
    corners = corner_positions(mesh.vertices.detach(), mesh.faces)
    boxes = search.scaled(corners)
    lower = Vectors(boxes.amin(dim=1) - MARGIN)
    upper = Vectors(boxes.amax(dim=1) + MARGIN)
    count = torch.zeros(len(faces), dtype=torch.int32, device=faces.device)
    given = [lower, upper, Vectors(faces)]
    launch(kernels.count_neighbors, len(faces), [search.id, *given], [count], split=True)
    offset = torch.cat([count.new_zeros(1, dtype=torch.int64), count.cumsum(0)])

    found = []
    for start, stop in _ranges(offset):
        size = int(offset[stop] - offset[start])
        pairs = torch.empty(size, 2, dtype=torch.int32, device=faces.device)
        inputs = [start, search.id, *given, offset]
        launch(kernels.list_neighbors, stop - start, inputs, [Vectors(pairs)], split=True)
        first, second = corners[pairs.long()].double().unbind(dim=1)
        found.append(pairs[triangles_cross(first, second)])
    return torch.cat(found)


def _ranges(offset: Tensor) -> list[tuple[int, int]]:
    """Ranges of faces with at most PAIRS_AT_ONCE pairs each, or of one face."""
    ranges, start, last = [], 0, len(offset) - 1
    while start < last:
        limit = offset[start] + PAIRS_AT_ONCE
        stop = max(int(torch.searchsorted(offset, limit, right=True)) - 1, start + 1)
        ranges.append((start, stop))
        start = stop
    return ranges


def triangles_cross(first: Tensor, second: Tensor) -> Tensor:
    """Whether triangles (K, 3, 3) float64, [pair, corner, axis], pass through each other, (K,).

    They do when each has corners strictly on both sides of the plane of the other, and the pieces
    that they cut out of the line common to both planes overlap in more than a point (Möller, A fast
    triangle-triangle intersection test, 1997).
    """
    origin = second[:, :1]
    first, second = first - origin, second - origin
    size = torch.maximum(first.abs().amax(dim=(1, 2)), second.abs().amax(dim=(1, 2)))[:, None]
    normal_first, normal_second = _normal(first), _normal(second)
    above_second = _height(first, second, normal_second, size)
    above_first = _height(second, first, normal_first, size)
    line = torch.linalg.cross(normal_first, normal_second)
    length = torch.linalg.vector_norm(line, dim=1, keepdim=True)
    line = line / torch.where(length > 0, length, 1)
    low_first, high_first = _section(first, above_second, line)
    low_second, high_second = _section(second, above_first, line)
    overlap = torch.minimum(high_first, high_second) - torch.maximum(low_first, low_second)
    straddles = _straddles(above_second) & _straddles(above_first)
    return straddles & (overlap > TOUCH * size[:, 0])


def _normal(triangle: Tensor) -> Tensor:
    a, b, c = triangle.unbind(dim=1)
    normal = torch.linalg.cross(b - a, c - a)
    length = torch.linalg.vector_norm(normal, dim=1, keepdim=True)
    return normal / torch.where(length > 0, length, 1)


def _height(corners: Tensor, plane: Tensor, normal: Tensor, size: Tensor) -> Tensor:
    """Height (K, 3) of corners above the plane of a triangle, zero where they touch it."""
    height = ((corners - plane[:, :1]) * normal[:, None]).sum(dim=2)
    return torch.where(height.abs() > TOUCH * size, height, 0)


def _straddles(height: Tensor) -> Tensor:
    return (height.amin(dim=1) < 0) & (height.amax(dim=1) > 0)


def _section(corners: Tensor, height: Tensor, line: Tensor) -> tuple[Tensor, Tensor]:
    """Ends (K,) of the piece of the line in a triangle; height is above the other's plane."""
    along = (corners * line[:, None]).sum(dim=2)
    next_along, next_height = along.roll(-1, dims=1), height.roll(-1, dims=1)
    drop = height - next_height
    crosses = (height * next_height <= 0) & (drop != 0)
    place = along + (next_along - along) * height / torch.where(crosses, drop, 1)
    low = torch.where(crosses, place, torch.inf).amin(dim=1)
    high = torch.where(crosses, place, -torch.inf).amax(dim=1)
    return low, high
