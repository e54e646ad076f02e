"""Sheets together, what holds them, and the weight that pulls them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_indices
from geomopt.geometry.mesh import face_areas
from geomopt.geometry.topology import Topology
from sims.thin_shell.sheet import Sheet

Vertices = Tensor | Sequence[int] | Sequence[bool]


@dataclass(frozen=True, eq=False)
class Scene:
    """One or more sheets; V, E and F count the vertices, edges and faces of all of them, in order.

    clamped: vertices that keep position and slope: the sheet cannot turn about an edge between two
    of them. pinned: vertices that keep their position only, a hinged support. fixed (V, 3) bool:
    single coordinates that keep their value. symmetry: {axis: vertices}, vertices in a symmetry
    plane across that axis (0, 1 or 2): their coordinate is kept and the surface meets the plane at
    a right angle. Vertices are given as a mask (V,) or as indices. Held coordinates may be driven,
    see `Control`. gravity (3,) [m/s^2].

    From these follow held (V, 3), coordinates that do not move freely; clamped_edges (E,), edges
    between two clamped vertices; plane_edges, {axis: indices} of boundary edges in a symmetry
    plane; held_edges (E,), both of these, all as masks where not said otherwise.

    Raises InputError for masks and indices that do not fit the scene.
    """

    sheets: Sequence[Sheet]
    clamped: Vertices | None = None
    pinned: Vertices | None = None
    fixed: Tensor | None = None
    symmetry: Mapping[int, Vertices] | None = None
    gravity: Sequence[float] | Tensor = (0.0, 0.0, 0.0)
    vertices: Tensor = field(init=False, repr=False)
    rest_vertices: Tensor = field(init=False, repr=False)
    topology: Topology = field(init=False, repr=False)
    held: Tensor = field(init=False, repr=False)
    held_edges: Tensor = field(init=False, repr=False)
    clamped_edges: Tensor = field(init=False, repr=False)
    plane_edges: Mapping[int, Tensor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sheets = [self.sheets] if isinstance(self.sheets, Sheet) else self.sheets
        sheets = list(sheets) if isinstance(sheets, Iterable) else []
        if not sheets or not all(isinstance(sheet, Sheet) for sheet in sheets):
            kinds = [type(sheet).__name__ for sheet in sheets] or type(self.sheets).__name__
            raise InputError(f"sheets must be a list of at least one Sheet, got {kinds}")
        devices = {sheet.vertices.device for sheet in sheets}
        if len(devices) > 1:
            raise InputError(f"sheets must be on one device, got {sorted(map(str, devices))}")
        offsets = [0]
        for sheet in sheets:
            offsets.append(offsets[-1] + len(sheet.vertices))
        faces = torch.cat(
            [sheet.faces.long() + start for sheet, start in zip(sheets, offsets, strict=False)]
        )
        vertices = torch.cat([sheet.vertices for sheet in sheets])
        numbers = {"dtype": torch.float64, "device": vertices.device}
        gravity = as_tensor("gravity", self.gravity, "three finite numbers", **numbers)
        if gravity.shape != (3,) or not bool(gravity.detach().isfinite().all()):
            raise InputError(f"gravity must be three finite numbers, got {self.gravity!r}")
        topology = Topology.of(faces, len(vertices))
        set_field = object.__setattr__
        set_field(self, "sheets", sheets)
        set_field(self, "gravity", gravity)
        set_field(self, "vertices", vertices)
        set_field(self, "rest_vertices", torch.cat([sheet.at_rest for sheet in sheets]))
        set_field(self, "topology", topology)

        clamped = self.mask("clamped", self.clamped)
        held = (clamped | self.mask("pinned", self.pinned))[:, None].expand(-1, 3).clone()
        if self.fixed is not None:
            wanted = f"a bool tensor of shape {tuple(vertices.shape)}"
            fixed = as_tensor("fixed", self.fixed, wanted, device=vertices.device)
            if fixed.shape != vertices.shape or fixed.dtype != torch.bool:
                raise InputError(f"fixed must be {wanted}, got {fixed.dtype} {tuple(fixed.shape)}")
            held |= fixed
        clamped_edges = self._between(clamped)
        held_edges = clamped_edges
        plane_edges = {}
        symmetry = {} if self.symmetry is None else self.symmetry
        if not isinstance(symmetry, Mapping):
            kind = type(symmetry).__name__
            raise InputError(f"symmetry must be a mapping of axes to vertices, got {kind}")
        for axis, vertices in symmetry.items():
            if isinstance(axis, bool | float) or axis not in (0, 1, 2):
                raise InputError(f"symmetry must have axes 0, 1 or 2 as keys, got {axis!r}")
            members = self.mask(f"symmetry[{axis}]", vertices)
            held[:, axis] |= members
            crossing = self._between(members) & self.boundary_edges & ~held_edges
            plane_edges[axis] = torch.nonzero(crossing).flatten()
            held_edges = held_edges | crossing
        set_field(self, "held", held)
        set_field(self, "clamped_edges", clamped_edges)
        set_field(self, "plane_edges", plane_edges)
        set_field(self, "held_edges", held_edges)

    @property
    def faces(self) -> Tensor:
        """(F, 3) int32, indices into `vertices`."""
        return self.topology.faces

    @property
    def edges(self) -> Tensor:
        """(E, 2) int32 vertex pairs, lower index first: the direction moments turn about."""
        return self.topology.edges

    @property
    def boundary_edges(self) -> Tensor:
        """(E,) bool, edges with one face."""
        return self.topology.edge_uses == 1

    @property
    def face_parts(self) -> list[tuple[Sheet, slice]]:
        """Each sheet and where its faces stand among all."""
        ends = torch.tensor([len(sheet.faces) for sheet in self.sheets]).cumsum(0).tolist()
        return [
            (sheet, slice(end - len(sheet.faces), end))
            for sheet, end in zip(self.sheets, ends, strict=True)
        ]

    @property
    def rest_angles(self) -> Tensor | None:
        """(E,) [rad] of creases at rest, None where no sheet has any."""
        if all(sheet.rest_angles is None for sheet in self.sheets):
            return None
        flat = self.vertices
        return torch.cat(
            [
                flat.new_zeros(len(sheet.edges)) if sheet.rest_angles is None else sheet.rest_angles
                for sheet in self.sheets
            ]
        )

    def mask(self, name: str, members: Vertices | None) -> Tensor:
        """Vertices given as a mask or as indices, as a mask (V,)."""
        count, device = len(self.vertices), self.vertices.device
        chosen = torch.zeros(count, dtype=torch.bool, device=device)
        if members is None:
            return chosen
        wanted = f"a mask of the {count} vertices or their indices"
        given = as_tensor(name, members, wanted, device=device)
        if given.dtype == torch.bool:
            if given.shape != (count,):
                raise InputError(f"{name} must be {wanted}, got a mask of {tuple(given.shape)}")
            return given
        if given.numel():
            chosen[check_indices(name, given, (None,), count).long()] = True
        return chosen

    def of_faces(self, name: str) -> Tensor:
        """A quantity of the materials for each face, (F,), differentiable."""
        return torch.cat(
            [
                sheet.material.of_faces(name, len(sheet.faces), sheet.faces.device)
                for sheet in self.sheets
            ]
        )

    def masses(self) -> Tensor:
        """(V,) [kg], a third of each face's mass at each of its corners."""
        areas = face_areas(self.rest_vertices, self.faces)
        share = self.of_faces("density") * self.of_faces("thickness") * areas / 3
        corners = self.faces.long().flatten()
        return share.new_zeros(len(self.vertices)).index_add(0, corners, share.repeat_interleave(3))

    def edge_moments(self, vertices: Vertices, moment: Sequence[float] | Tensor) -> Tensor:
        """Moments (E,) [N m] of a couple spread over edges, for `equilibrium` and `Control`.

        vertices: the edges between two of these share it, by length. moment (3,) [N m]: the whole
        couple as a vector; each edge takes the part along itself, the only one a shell can feel.
        Raises InputError where no edge lies between the vertices.
        """
        between = self._line(vertices)
        couple = self._vector("moment", moment, "N m")
        ends = self.vertices[self.edges.long()]
        along = ends[:, 1] - ends[:, 0]
        total = along.norm(dim=1)[between].sum()
        return torch.where(between, along @ couple / total, 0.0)

    def line_load(self, vertices: Vertices, force: Sequence[float] | Tensor) -> Tensor:
        """Forces (V, 3) [N] of a load spread evenly along edges, for `equilibrium` and `Control`.

        vertices: the edges between two of these share it, by their length at rest; each gives half
        to either end, so that the ends of a line take half of what others do. force (3,) [N]: the
        whole load. Raises InputError where no edge lies between the vertices.
        """
        between = self._line(vertices)
        load = self._vector("force", force, "N")
        ends = self.edges[between].long()
        corners = self.rest_vertices[ends]
        lengths = (corners[:, 1] - corners[:, 0]).norm(dim=1)
        shares = lengths.new_zeros(len(self.vertices))
        shares = shares.index_add(0, ends.flatten(), (lengths / 2).repeat_interleave(2))
        return shares[:, None] / lengths.sum() * load

    def _line(self, vertices: Vertices) -> Tensor:
        """(E,) bool, the edges between two of these vertices, of which there must be one."""
        between = self._between(self.mask("vertices", vertices))
        if not bool(between.any()):
            raise InputError("vertices must have an edge between two of them, got none")
        return between

    def _vector(self, name: str, given: Sequence[float] | Tensor, unit: str) -> Tensor:
        numbers = {"dtype": torch.float64, "device": self.vertices.device}
        vector = as_tensor(name, given, f"three finite numbers [{unit}]", **numbers)
        if vector.shape != (3,) or not bool(vector.detach().isfinite().all()):
            raise InputError(f"{name} must be three finite numbers [{unit}], got {given!r}")
        return vector

    def _between(self, members: Tensor) -> Tensor:
        return members[self.edges.long()].all(dim=1)
