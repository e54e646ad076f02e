"""What can touch: surfaces as points, edges, faces and planes, and pairs of these.

A sheet, the skin of a soft body, a box or a mesh is made of vertices, edges and faces. A sphere is
a vertex and a cylinder is an edge with a radius; a half space is three of its points. So every
contact is one between two of a few primitives, r apart, with an offset to take off, the radii.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

VERTEX_FACE, EDGE_EDGE, VERTEX_PLANE, VERTEX_EDGE = range(4)
KEY_FACTOR = -7046029254386353131  # odd, 2^64 over the golden ratio: spreads keys over all bits


class Pairs(NamedTuple):
    """n pairs of primitives by their kind (n,) int64 and four vertices (n, 4) int64.

    VERTEX_FACE: v, then the corners of a face. EDGE_EDGE: the ends of either edge. VERTEX_PLANE: v,
    then three points of a plane that has no end. VERTEX_EDGE: v, the ends a, b of an edge, and b
    again.
    """

    kind: Tensor
    vertices: Tensor


@dataclass(frozen=True, eq=False)
class Surface:
    """All primitives of a scene, as indices into its vertices (V, 3).

    points (P,): vertices that touch, also those without faces. edges (K, 2), of faces and alone;
    faces (M, 3); planes (L, 3); lone_edges (k, 2): edges that no face has, which vertices touch
    too. component (V,) int64: which sheet or body a vertex belongs to. held (V,) bool: vertices
    that are driven, pairs of which alone are left out. collides (C, C) bool: which components may
    touch, themselves on the diagonal. rest (V, 3) [m]: where vertices of one component are at rest.
    """

    points: Tensor
    edges: Tensor
    faces: Tensor
    planes: Tensor
    lone_edges: Tensor
    component: Tensor
    held: Tensor
    collides: Tensor
    rest: Tensor


def pair_keys(pairs: Pairs) -> Tensor:
    """Keys (n,) int64 by which pairs are found again.

    The same for the same pair; two others share one with a chance of 2^-64, so a find is compared.
    """
    key = pairs.kind.long()
    for column in pairs.vertices.unbind(1):
        key = (key ^ (key >> 31)) * KEY_FACTOR + column
    return key
