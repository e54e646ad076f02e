"""A triangle mesh, and the plain functions of vertices and faces that are made of it.

Faces wind counter-clockwise seen from outside: normals point out. Positions are in metres unless
the file says otherwise.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import torch
from scipy.spatial import KDTree
from torch import Tensor

from geomopt.errors import InputError, check_indices, check_tensor
from geomopt.geometry.mesh_files import read_arrays, write_arrays
from geomopt.geometry.topology import Topology, connected_labels


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles on shared vertices.

    vertices (V, 3) floating; faces (F, 3) int32 or int64; colors (V, 3) in [0, 1] or None, of the
    dtype of the vertices. Raises InputError for wrong shapes and dtypes, NaN positions and indices
    out of range. No faces is a valid, empty mesh.
    """

    vertices: Tensor
    faces: Tensor
    colors: Tensor | None = None

    def __post_init__(self) -> None:
        check_tensor("vertices", self.vertices, (None, 3))
        check_indices("faces", self.faces, (None, 3), len(self.vertices))
        if self.colors is not None:
            check_tensor("colors", self.colors, (len(self.vertices), 3))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        merge: bool = True,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Mesh:
        """Read an OBJ, PLY, STL, OFF or GLB file.

        Polygons are cut into triangles and the parts of a scene joined. merge: make vertices at one
        position one, see `merged` (STL stores three to a face, texture seams store two). Faces that
        name one position twice are left out. Axes are kept as they are in the file. Raises
        InputError naming the file when it is missing, of another kind, not readable, or holds NaN
        or no faces.
        """
        positions, corners, colors = read_arrays(path)
        try:
            mesh = cls(positions, corners, colors)
            mesh = mesh.merged() if merge else mesh
        except InputError as error:
            raise InputError(f"mesh file {os.fspath(path)}: {error}") from None
        collapsed = (mesh.faces == mesh.faces.roll(-1, dims=1)).any(dim=1)
        if bool(collapsed.all()):
            raise InputError(
                f"mesh file {os.fspath(path)}: all of its {len(collapsed)} faces are degenerate "
                "(two corners at one place)"
            )
        # without area and without neighbours to lose: a closed mesh stays closed
        return replace(mesh, faces=mesh.faces[~collapsed]).to(device, dtype)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an OBJ, PLY, STL, OFF or GLB file; an old one is replaced by a whole new one.

        PLY keeps the dtype of the vertices, OBJ and OFF write enough digits to read the same
        numbers back, STL and GLB hold float32. Colors go into OBJ, PLY and GLB, and come back in
        steps of 1/255. Folders are made. Raises InputError for another extension or an empty mesh,
        StorageError for anything the system refuses.
        """
        write_arrays(path, self.vertices, self.faces, self.colors)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Mesh:
        """The same mesh on another device or in another precision; faces keep their dtype."""
        device = self.vertices.device if device is None else device
        dtype = self.vertices.dtype if dtype is None else dtype
        colors = None if self.colors is None else self.colors.to(device, dtype)
        return Mesh(self.vertices.to(device, dtype), self.faces.to(device), colors)

    def merged(self, tolerance: float = 1e-7) -> Mesh:
        """The mesh with vertices at one position made one, in order of first appearance.

        Colors are averaged. tolerance: distance up to which two vertices count as one, as a share
        of the diagonal of the box; by default about the spacing of float32 numbers. The first
        vertex gives the position.
        """
        group = _groups(self.vertices.detach(), tolerance)
        count = int(group.max()) + 1 if len(group) else 0
        if count == len(group):
            return self
        index = torch.arange(len(group), device=group.device)
        first = torch.full((count,), len(group), device=group.device).scatter_reduce(
            0, group, index, "amin"
        )
        kept, by_appearance = torch.sort(first)
        place = torch.empty_like(by_appearance)
        place[by_appearance] = torch.arange(count, device=group.device)
        group = place[group]
        colors = self.colors
        if colors is not None:
            total = colors.new_zeros(count, 3).index_add(0, group, colors)
            colors = total / torch.bincount(group, minlength=count)[:, None]
        return Mesh(self.vertices[kept], group[self.faces.long()].to(self.faces.dtype), colors)

    def transformed(self, scale: float | Tensor = 1.0, shift: Tensor | None = None) -> Mesh:
        """The mesh with positions scale * vertices + shift."""
        vertices = self.vertices * scale
        return replace(self, vertices=vertices if shift is None else vertices + shift)

    def topology(self) -> Topology:
        """Edges, neighbours and what follows from them; see `Topology`."""
        return Topology.of(self.faces, len(self.vertices))

    @property
    def bounds(self) -> Tensor:
        """Lowest and highest corner (2, 3) of the vertices that faces use."""
        return bounds(self.vertices, self.faces)

    @property
    def area(self) -> Tensor:
        """Total area, a scalar."""
        return face_areas(self.vertices, self.faces).sum()

    @property
    def volume(self) -> Tensor:
        """Signed volume, a scalar: positive for a closed mesh whose normals point out."""
        return volume(self.vertices, self.faces)

    @property
    def face_normals(self) -> Tensor:
        """Unit normals (F, 3)."""
        return face_normals(self.vertices, self.faces)

    @property
    def vertex_normals(self) -> Tensor:
        """Unit normals (V, 3), weighted by angle."""
        return vertex_normals(self.vertices, self.faces)


def _groups(vertices: Tensor, tolerance: float) -> Tensor:
    """The group (V,) of each vertex, joined by distances of at most tolerance times diagonal."""
    if len(vertices) == 0:
        return torch.zeros(0, dtype=torch.int64, device=vertices.device)
    # equal positions first: a place with many copies would have as many pairs as copies squared
    unique, group = torch.unique(vertices, dim=0, return_inverse=True)
    points = unique.double().cpu().numpy()
    reach = tolerance * float(torch.linalg.vector_norm(unique.amax(dim=0) - unique.amin(dim=0)))
    pairs = KDTree(points).query_pairs(reach, output_type="ndarray")
    label, _ = connected_labels(torch.from_numpy(pairs.T), len(points))
    return label.to(vertices.device)[group]


def bounds(vertices: Tensor, faces: Tensor) -> Tensor:
    """Lowest and highest corner (2, 3) of the vertices that faces use.

    Raises InputError if there are no faces.
    """
    if len(faces) == 0:
        raise InputError("faces must hold at least one face to have bounds, got none")
    used = vertices[faces.long()].reshape(-1, 3)
    return torch.stack([used.amin(dim=0), used.amax(dim=0)])


def corner_positions(vertices: Tensor, faces: Tensor) -> Tensor:
    """Positions (F, 3, 3) of the corners of each face: [face, corner, axis]."""
    return vertices[faces.long()]


def area_vectors(vertices: Tensor, faces: Tensor) -> Tensor:
    """Normal times area of each face, (F, 3)."""
    a, b, c = corner_positions(vertices, faces).unbind(dim=1)
    return torch.linalg.cross(b - a, c - a) / 2


def face_areas(vertices: Tensor, faces: Tensor) -> Tensor:
    """Area of each face, (F,); the gradient is zero where the area is."""
    return torch.linalg.vector_norm(area_vectors(vertices, faces), dim=1)


def _unit(vectors: Tensor) -> Tensor:
    """Vectors over their length; zero stays zero, with a finite gradient."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.where(length > 0, length, 1)


def face_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normal of each face, (F, 3); zero for a face without area."""
    return _unit(area_vectors(vertices, faces))


def corner_angles(vertices: Tensor, faces: Tensor) -> Tensor:
    """Angle at each corner of each face in radians, (F, 3); zero where a side has no length."""
    corners = corner_positions(vertices, faces)
    ahead, behind = corners.roll(-1, dims=1) - corners, corners.roll(1, dims=1) - corners
    dot = (ahead * behind).sum(dim=2)
    doubled_area = 2 * face_areas(vertices, faces)[:, None].expand_as(dot)
    undefined = (dot == 0) & (doubled_area == 0)
    return torch.atan2(doubled_area, torch.where(undefined, 1, dot))


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normal of each vertex, (V, 3): face normals weighted by their angle at it.

    Thürmer and Wüthrich, Computing vertex normals from polygonal facets, 1998; the weights make it
    independent of how a flat region is cut into triangles.
    """
    weighted = corner_angles(vertices, faces)[..., None] * face_normals(vertices, faces)[:, None]
    total = torch.zeros_like(vertices).index_add(0, faces.long().flatten(), weighted.reshape(-1, 3))
    return _unit(total)


def volume(vertices: Tensor, faces: Tensor) -> Tensor:
    """Signed volume, a scalar; of an open mesh that of its cone to the middle of its box."""
    if len(faces) == 0:
        return vertices.sum() * 0
    # a near origin keeps the terms small and the sum accurate
    middle = bounds(vertices.detach(), faces).mean(dim=0)
    a, b, c = (corner_positions(vertices, faces) - middle).unbind(dim=1)
    return (a * torch.linalg.cross(b, c)).sum() / 6


def sample_surface(
    mesh: Mesh, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw points (count, 3) uniformly over the area, with their unit normals and faces (count,).

    The points are differentiable in the vertices. The draw depends on the generator alone, whatever
    the device of the mesh. Raises InputError if the mesh has no area.
    """
    cumulative = face_areas(mesh.vertices.detach(), mesh.faces).double().cumsum(0)
    if len(cumulative) == 0 or not float(cumulative[-1]) > 0:
        raise InputError(
            f"mesh must have area to be sampled, got {len(cumulative)} faces of no area"
        )
    draws = torch.rand(3, count, generator=generator, device=generator.device, dtype=torch.float64)
    draws = draws.to(mesh.vertices.device)
    face = torch.searchsorted(cumulative, draws[0] * cumulative[-1], right=True).clamp_(
        max=len(cumulative) - 1
    )
    root = draws[1].sqrt()  # makes the density uniform over the triangle
    weights = torch.stack([1 - root, root * (1 - draws[2]), root * draws[2]], dim=1).to(
        mesh.vertices.dtype
    )
    chosen = mesh.faces[face]
    points = (corner_positions(mesh.vertices, chosen) * weights[..., None]).sum(dim=1)
    return points, face_normals(mesh.vertices, chosen), face


def require_closed(mesh: Mesh, name: str) -> Topology:
    """Return the topology of a mesh that bounds a solid: closed, two faces an edge, one winding.

    Raises InputError that names the mesh by `name` and counts what is wrong.
    """
    if len(mesh.faces) == 0:
        raise InputError(f"{name} must be a closed mesh, got one without faces")
    topology = mesh.topology()
    wrong = {
        "boundary edges": len(topology.boundary_edges()),
        "edges with more than two faces": len(topology.nonmanifold_edges()),
        "edges whose faces wind against each other": len(topology.miswound_edges()),
    }
    if any(wrong.values()):
        found = ", ".join(f"{count} {what}" for what, count in wrong.items() if count)
        raise InputError(f"{name} must be a closed, consistently wound mesh, got {found}")
    return topology
