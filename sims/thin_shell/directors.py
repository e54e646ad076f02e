"""Directors on the edges of a sheet: where they point, how far they turned, how stiff they are.

An edge has a canonical director that follows from positions alone: the normal of its first face
turned half way to the normal of its second. The true director is turned from it by an angle about
the edge, and that angle is all a state has to keep. The edge is directed from its lower to its
higher vertex; the first face is the one named first by `Topology.edge_faces`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.geometry.topology import Topology

FLATTEST = 1e-12  # share of a unit director that must be left in a symmetry plane


def corner_edges(topology: Topology) -> tuple[Tensor, Tensor]:
    """The edge opposite each corner (F, 3) int64, and its sign (F, 3) float64.

    The sign is +1 where the edge, directed from its lower to its higher vertex, runs along the face
    and -1 where it runs against it.
    """
    edges = topology.face_edges.long().roll(-1, dims=1)
    along = topology.faces.roll(-1, dims=1) < topology.faces.roll(-2, dims=1)
    return edges, torch.where(along, 1.0, -1.0).double()


def dihedral_angles(positions: Tensor, topology: Topology) -> Tensor:
    """Turn (E,) [rad] from the first face to the second about each edge, in (-pi, pi].

    Positive where the normals lean apart, as outward ones on a sphere do. Zero at the boundary.
    positions: (V, 3) [m].
    """
    return _first_face(positions, topology)[2]


def canonical_directors(positions: Tensor, topology: Topology) -> Tensor:
    """Unit vectors (E, 3): the first face's normal turned by half the dihedral angle.

    Without further turn both faces have the angle theta / 2, also when folded by +-pi, where the
    mean of the two normals is zero. At the boundary it is the normal of the face. positions: (V, 3)
    [m].
    """
    normal, outward, angle = _first_face(positions, topology)
    half = angle[:, None] / 2
    return normal * half.cos() + outward * half.sin()


def turned_directors(
    directors: Tensor, angles: Tensor, positions: Tensor, topology: Topology
) -> Tensor:
    """The parts of `directors` (E, 3) that are perpendicular to their edges, of unit length, turned
    about the edges by `angles` (E,) [rad]. positions: (V, 3) [m].
    """
    edge = _unit(_span(positions, topology))
    flat = _unit(directors - (directors * edge).sum(-1, keepdim=True) * edge)
    side = torch.linalg.cross(edge, flat)
    return flat * angles.cos()[:, None] + side * angles.sin()[:, None]


def director_angles(corner_angles: Tensor, positions: Tensor, topology: Topology) -> Tensor:
    """Turn (E,) [rad] of the directors about their edges from the canonical ones, in (-pi, pi].

    corner_angles (F, 3) [rad]: the tilt of the directors in each face, see
    `energies.mid_edge.corner_angles`, at these positions (V, 3) [m]. The two faces of an edge say
    the same, their mean direction is taken.
    """
    edges, signs = corner_edges(topology)
    signs = signs.to(corner_angles)
    half = dihedral_angles(positions, topology)[edges] / 2
    turn = (signs * (corner_angles - half)).flatten()
    zero = turn.new_zeros(len(topology.edges))
    sine, cosine = (zero.index_add(0, edges.flatten(), part) for part in (turn.sin(), turn.cos()))
    return torch.atan2(sine, cosine)


def directors_in_plane(directors: Tensor, normal: Tensor) -> Tensor:
    """`directors` (K, 3) of edges in a symmetry plane, put into the plane and of unit length.

    normal (3,): of the plane. Raises InputError where a director has no part in the plane.
    """
    normal = _unit(normal)
    flat = directors - (directors @ normal)[:, None] * normal
    stuck = torch.linalg.vector_norm(flat.detach(), dim=-1) < FLATTEST
    if bool(stuck.any()):
        raise InputError(
            "symmetry must name edges at which the sheet crosses the plane, got "
            f"{int(stuck.sum())} at which it lies in the plane"
        )
    return _unit(flat)


def mid_edge_stiffness(
    corners: Tensor, moduli: Tensor, thickness: Tensor, axes: Tensor
) -> tuple[Tensor, Tensor]:
    """Stiffness of the three angles of each face (F, 3, 3) [J], and its `bending` (F,) [J m2].

    corners (F, 3, 3): rest corners [m]. moduli (F, 3, 3): plane stress moduli C [Pa] in the order
    11, 22, 12 with engineering shear, in the axes (F, 2, 3), orthonormal in the rest face; see
    `membrane_constants`. thickness (F,) [m].

        K_ij = A t^3 / 12 * 4 / (h_i h_j) * (m_i m_i^T : C : m_j m_j^T)

    with heights h_i and outward normals m_i in the plane; the bracket is lam + 2 mu (m_i . m_j)^2
    when isotropic. bending = A sqrt(C_11 C_22) t^3 / 12, so that sqrt(g^T K g / bending) is the
    curvature of a cylinder. Differentiable in everything.
    """
    edges = corners.roll(-2, dims=1) - corners.roll(-1, dims=1)
    double_area, normal = _area(corners)
    lengths = torch.linalg.vector_norm(edges, dim=-1)
    outward = torch.linalg.cross(edges, normal[:, None]) / lengths[..., None]
    a, b = (outward @ axes.mT).unbind(-1)
    modes = torch.stack([a * a, b * b, 2 * a * b], dim=-1)
    modes = modes * (2 * lengths / double_area[:, None])[..., None]
    scale = double_area / 2 * thickness**3 / 12
    stiffness = scale[:, None, None] * (modes @ moduli @ modes.mT)
    return stiffness, scale * (moduli[:, 0, 0] * moduli[:, 1, 1]).sqrt()


def _first_face(positions: Tensor, topology: Topology) -> tuple[Tensor, Tensor, Tensor]:
    """Normal of each edge's first face, its outward normal at the edge, and the dihedral angle."""
    _, normals = _area(positions[topology.faces.long()])
    faces = topology.edge_faces.long()
    first = normals[faces[:, 0]]
    starts = topology.faces[faces[:, 0]]
    low, high = topology.edges.unbind(1)
    along = ((starts == low[:, None]) & (starts.roll(-1, dims=1) == high[:, None])).any(1)
    edge = _unit(_span(positions, topology))
    outward = torch.linalg.cross(torch.where(along[:, None], edge, -edge), first)
    second = normals[faces[:, 1]]
    inner = faces[:, 1] >= 0
    sine = torch.where(inner, (second * outward).sum(-1), 0.0)
    return first, outward, torch.atan2(sine, torch.where(inner, (second * first).sum(-1), 1.0))


def _span(positions: Tensor, topology: Topology) -> Tensor:
    low, high = topology.edges.long().unbind(1)
    return positions[high] - positions[low]


def _area(corners: Tensor) -> tuple[Tensor, Tensor]:
    """Twice the area and the unit normal of triangles (F, 3, 3)."""
    a, b, c = corners.unbind(1)
    cross = torch.linalg.cross(b - a, c - a)
    return torch.linalg.vector_norm(cross, dim=-1), _unit(cross)


def _unit(vectors: Tensor) -> Tensor:
    """Vectors (..., 3) of unit length; zero stays zero."""
    squared = vectors.square().sum(-1, keepdim=True)
    return vectors * torch.where(squared > 0, squared, torch.ones_like(squared)).rsqrt()
