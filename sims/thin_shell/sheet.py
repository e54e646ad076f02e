"""One sheet: a triangle mesh, the shape in which it is at rest, and what it is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_indices, check_tensor
from geomopt.geometry.mesh import area_vectors
from geomopt.geometry.topology import Topology
from sims.thin_shell.material import Material
from sims.thin_shell.patterns import Line, Pattern, Point, points_on_line, rectangle_mesh

THINNEST = 1e-8  # of the longest edge squared: a rest triangle with less area is degenerate
FULL_TURN = 2 * math.pi  # rad, between a sheet folded flat upwards and one folded flat downwards
FOLDED = -1 + 1e-9  # cosine between neighbouring rest normals beyond which a triangle is inverted


@dataclass(frozen=True, eq=False)
class Sheet:
    """A sheet of V vertices and F faces.

    vertices (V, 3) [m], where it starts; faces (F, 3) int, counter-clockwise seen from outside.
    rest_vertices (V, 3) [m]: the shape without stress, the start where not given; it may be
    curved. rest_angles (E,) [rad]: dihedral angles of creases at rest on top of those of the rest
    shape, for the edges of `topology.edges`, positive where the sheet folds away from its normals.
    warp (3,): direction of the first material axis of an orthotropic material, projected into each
    face.

    Everything is converted to float64. Raises InputError for wrong shapes, faces that are
    degenerate, inverted or wound against their neighbours, edges with more than two faces, and
    vertices with none.
    """

    vertices: Tensor
    faces: Tensor
    material: Material
    rest_vertices: Tensor | None = None
    rest_angles: Tensor | None = None
    warp: Sequence[float] = (1.0, 0.0, 0.0)
    topology: Topology = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.material, Material):
            raise InputError(f"material must be a Material, got {type(self.material).__name__}")
        vertices = check_tensor("vertices", self.vertices, (None, 3)).to(torch.float64)
        count = len(vertices)
        faces = check_indices("faces", self.faces, (None, 3), count)
        if not len(faces):
            raise InputError("faces must have at least one row, got (0, 3)")
        rest = vertices
        if self.rest_vertices is not None:
            rest = check_tensor("rest_vertices", self.rest_vertices, (count, 3)).to(vertices)
        topology = Topology.of(faces, count)
        loose = torch.nonzero(torch.bincount(faces.long().flatten(), minlength=count) == 0)
        if len(loose):
            raise InputError(
                "vertices must all belong to faces, got "
                f"{len(loose)} that belong to none, the first is vertex {int(loose[0])}"
            )
        _check_manifold(topology)
        _check_shape("rest_vertices", rest.detach(), topology)
        check_triangles("vertices", vertices.detach(), topology)
        warp = as_tensor("warp", self.warp, "three finite numbers", dtype=torch.float64)
        if warp.shape != (3,) or not bool(warp.detach().isfinite().all()):
            raise InputError(f"warp must be three finite numbers, got {self.warp!r}")
        if self.rest_angles is not None:
            angles = check_tensor("rest_angles", self.rest_angles, (len(topology.edges),))
            steepest = float(angles.detach().abs().amax())
            if steepest > FULL_TURN:
                raise InputError(
                    f"rest_angles must be in radians and at most a full turn, got {steepest:.6g}"
                )
            object.__setattr__(self, "rest_angles", angles.to(vertices))
        object.__setattr__(self, "vertices", vertices)
        object.__setattr__(self, "faces", faces)
        object.__setattr__(self, "rest_vertices", rest)
        object.__setattr__(self, "topology", topology)

    @classmethod
    def rectangle(
        cls,
        width: float,
        height: float,
        cells: tuple[int, int],
        material: Material,
        pattern: Pattern = "alternating",
        creases: Sequence[Line] = (),
    ) -> Sheet:
        """A flat sheet over [0, width] x [0, height] of the plane z = 0 [m], normals along +z.

        cells: how many along x and y; a vertex row stands at every x = i width / cells[0].
        pattern: how cells are cut into triangles, "alternating" diagonals (a checkerboard, no
        preferred direction on average), one "diagonal", "crossed" (four triangles around a centre)
        or "delaunay": irregular and close to equilateral, with edges as long as the root of a
        cell's area, evenly spaced at the sides, the same for the same arguments. creases: straight
        lines ((x0, y0), (x1, y1)) [m] that edges must follow; "delaunay" puts any of them into the
        mesh, a grid takes those that it has edges along. See `vertices_on_line` and `creased`.
        """
        vertices, faces = rectangle_mesh(width, height, cells, pattern, creases)
        return cls(vertices, faces, material)

    @property
    def at_rest(self) -> Tensor:
        """The vertices (V, 3) without stress [m]."""
        return self.vertices if self.rest_vertices is None else self.rest_vertices

    @property
    def edges(self) -> Tensor:
        """(E, 2) vertex pairs, lower index first, in lexicographic order."""
        return self.topology.edges

    def vertices_on_line(self, start: Point, end: Point) -> Tensor:
        """Indices (n,) of the vertices at rest on a straight line, in order from start to end.

        start, end: (2,) in the plane z = 0, or (3,) [m]. Raises InputError where there are none.
        """
        rest = self.at_rest
        found = points_on_line(rest.detach(), start, end)
        if not len(found):
            raise InputError(
                f"start and end must be of a line with vertices on it, got none on {start} to {end}"
            )
        return found

    def creased(self, polyline: Tensor | Sequence[int], angle: float | Tensor) -> Sheet:
        """This sheet with a crease along edges: their dihedral angle at rest grows by `angle`.

        polyline: vertex indices, each joined to the next by an edge. angle [rad]: a number or one
        for each of its edges, positive folds away from the normals. Raises InputError where two
        successive vertices share no edge.
        """
        wanted = "at least two vertex indices"
        path = as_tensor("polyline", polyline, wanted, device=self.faces.device)
        if path.ndim != 1 or len(path) < 2:
            raise InputError(f"polyline must be {wanted}, got shape {tuple(path.shape)}")
        path = check_indices("polyline", path, (None,), len(self.vertices)).long()
        pairs = torch.stack([path[:-1], path[1:]], dim=1).sort(dim=1).values
        keys = pairs[:, 0] * len(self.vertices) + pairs[:, 1]
        known = self.edges.long()[:, 0] * len(self.vertices) + self.edges.long()[:, 1]
        place = torch.searchsorted(known, keys).clamp(max=len(known) - 1)
        missing = torch.nonzero(known[place] != keys).flatten()
        if len(missing):
            a, b = path[missing[0]], path[missing[0] + 1]
            raise InputError(
                f"polyline must follow edges of the mesh, but vertices {int(a)} and {int(b)} "
                "share none"
            )
        wanted = f"a finite number or one for each of the {len(place)} edges"
        numbers = {"dtype": torch.float64, "device": self.vertices.device}
        turn = as_tensor("angle", angle, wanted, **numbers)
        if turn.shape not in ((), place.shape) or not bool(turn.detach().isfinite().all()):
            raise InputError(f"angle must be {wanted}, got {angle!r}")
        start = self.rest_angles
        if start is None:
            start = self.vertices.new_zeros(len(self.edges))
        return replace(self, rest_angles=start.index_add(0, place, turn.expand(len(place))))


def _check_manifold(topology: Topology) -> None:
    crowded = torch.nonzero(topology.edge_uses > 2).flatten()
    if len(crowded):
        a, b = topology.edges[crowded[0]].tolist()
        raise InputError(
            f"faces must be manifold, got {len(crowded)} edges with more than two faces; "
            f"the first joins vertices {a} and {b}"
        )
    turned = torch.nonzero((topology.edge_uses == 2) & (topology.forward_uses != 1)).flatten()
    if len(turned):
        a, b = topology.edges[turned[0]].tolist()
        raise InputError(
            "faces must be wound alike, got neighbours with opposite winding across "
            f"{len(turned)} edges; the first joins vertices {a} and {b}"
        )


def check_triangles(name: str, vertices: Tensor, topology: Topology) -> Tensor:
    """Area vectors of the faces; raises InputError for degenerate ones."""
    areas = area_vectors(vertices, topology.faces)
    corners = vertices[topology.faces.long()]
    longest = (corners - corners.roll(-1, dims=1)).square().sum(-1).amax(1)
    thin = torch.nonzero(~(areas.norm(dim=1) > THINNEST * longest)).flatten()
    if len(thin):
        raise InputError(
            f"{name} must give every face an area, got {len(thin)} degenerate faces, "
            f"the first is face {int(thin[0])}"
        )
    return areas


def _check_shape(name: str, vertices: Tensor, topology: Topology) -> None:
    normals = torch.nn.functional.normalize(check_triangles(name, vertices, topology), dim=1)
    inner = topology.edge_faces[topology.edge_uses == 2].long()
    cosine = (normals[inner[:, 0]] * normals[inner[:, 1]]).sum(1)
    folded = torch.nonzero(cosine < FOLDED).flatten()
    if len(folded):
        a, b = inner[folded[0]].tolist()
        raise InputError(
            f"{name} must have no inverted faces, got {len(folded)} pairs of neighbours that lie "
            f"on each other, the first are faces {a} and {b}"
        )
