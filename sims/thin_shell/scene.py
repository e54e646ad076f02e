"""Sheets and bodies together, what holds them, and the weight that pulls them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_indices
from geomopt.geometry.mesh import face_areas
from geomopt.geometry.topology import Topology
from sims.thin_shell.bodies import Body
from sims.thin_shell.contact.settings import Contact
from sims.thin_shell.pose import rotation_matrix
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.soft_body import SoftBody

Vertices = Tensor | Sequence[int] | Sequence[bool]


@dataclass(frozen=True, eq=False)
class Scene:
    """Sheets and bodies, and whether they touch.

    The V vertices are those of the sheets, in order, then those of the bodies, in order; the E
    edges and F faces are those of the sheets. A scene has a sheet or a soft body at least. contact:
    without it they pass through each other and themselves. A scene with rigid bodies has contact
    by default. worlds: the scenes that this one puts side by side, see `stacked`.

    clamped: vertices that keep position and slope: the sheet cannot turn about an edge between two
    of them. pinned: vertices that keep their position only, a hinged support. fixed (V, 3) bool:
    single coordinates that keep their value. symmetry: {axis: vertices}, vertices in a symmetry
    plane across that axis (0, 1 or 2): their coordinate is kept and the surface meets the plane at
    a right angle. Vertices are given as a mask (V,) or as indices. Held coordinates may be driven,
    see `Control`; masks may be those of the sheets' vertices alone. gravity (3,) [m/s^2].

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
    bodies: Sequence[Body | SoftBody] = ()
    contact: Contact | None = None
    worlds: Sequence[Scene] = field(default=(), repr=False)
    vertices: Tensor = field(init=False, repr=False)
    rest_vertices: Tensor = field(init=False, repr=False)
    topology: Topology = field(init=False, repr=False)
    held: Tensor = field(init=False, repr=False)
    held_edges: Tensor = field(init=False, repr=False)
    clamped_edges: Tensor = field(init=False, repr=False)
    plane_edges: Mapping[int, Tensor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sheets, bodies = self._parts()
        devices = {part.vertices.device for part in (*sheets, *bodies)}
        if len(devices) > 1:
            raise InputError(
                f"sheets and bodies must be on one device, got {sorted(map(str, devices))}"
            )
        vertices = torch.cat([part.vertices for part in (*sheets, *bodies)])
        set_field = object.__setattr__
        set_field(self, "sheets", sheets)
        set_field(self, "bodies", bodies)
        shifted = [
            sheet.faces.long() + part.start
            for sheet, part in zip(sheets, self.vertex_parts, strict=False)
        ]
        flat = torch.zeros(0, 3, dtype=torch.int64, device=vertices.device)
        faces = torch.cat([flat, *shifted])
        numbers = {"dtype": torch.float64, "device": vertices.device}
        gravity = as_tensor("gravity", self.gravity, "three finite numbers", **numbers)
        if gravity.shape != (3,) or not bool(gravity.detach().isfinite().all()):
            raise InputError(f"gravity must be three finite numbers, got {self.gravity!r}")
        topology = Topology.of(faces, len(vertices))
        set_field(self, "gravity", gravity)
        set_field(self, "vertices", vertices)
        rest = [*(sheet.at_rest for sheet in sheets), *(body.rest_vertices for body in bodies)]
        set_field(self, "rest_vertices", torch.cat(rest))
        set_field(self, "topology", topology)

        clamped = self.mask("clamped", self.clamped)
        held = (clamped | self.mask("pinned", self.pinned))[:, None].expand(-1, 3).clone()
        if self.fixed is not None:
            wanted = f"a bool tensor of shape {tuple(vertices.shape)}"
            fixed = as_tensor("fixed", self.fixed, wanted, device=vertices.device)
            if fixed.shape != vertices.shape or fixed.dtype != torch.bool:
                raise InputError(f"fixed must be {wanted}, got {fixed.dtype} {tuple(fixed.shape)}")
            held |= fixed
        for body, part in zip(bodies, self.body_parts, strict=True):
            held[part] |= body.driven[:, None]
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

    def _parts(self) -> tuple[list[Sheet], list[Body | SoftBody]]:
        """The sheets and bodies as lists, checked."""
        given = [self.sheets] if isinstance(self.sheets, Sheet) else self.sheets
        sheets: list[Any] = list(given) if isinstance(given, Iterable) else [given]
        if not all(isinstance(sheet, Sheet) for sheet in sheets):
            kinds = [type(sheet).__name__ for sheet in sheets]
            kinds = kinds if isinstance(given, Iterable) else kinds[0]
            raise InputError(f"sheets must be a list of at least one Sheet, got {kinds}")
        given = self.bodies
        bodies: list[Any] = list(given) if isinstance(given, Iterable) else [given]
        if not all(isinstance(body, Body | SoftBody) for body in bodies):
            kinds = [type(body).__name__ for body in bodies]
            raise InputError(f"bodies must be a list of Body and SoftBody, got {kinds}")
        if len({id(body) for body in bodies}) < len(bodies):
            raise InputError("bodies must be different ones, got one of them twice")
        if not sheets and not any(isinstance(body, SoftBody) for body in bodies):
            raise InputError("sheets must be a list of at least one Sheet, got none")
        if not isinstance(self.contact, Contact | None):
            kind = type(self.contact).__name__
            raise InputError(f"contact must be a Contact or None, got {kind}")
        if self.contact is None and any(isinstance(body, Body) for body in bodies):
            object.__setattr__(self, "contact", Contact())
        return sheets, bodies

    @property
    def vertex_parts(self) -> list[slice]:
        """Where the vertices of each sheet, then of each body, stand among all."""
        parts, start = [], 0
        for part in (*self.sheets, *self.bodies):
            parts.append(slice(start, start + len(part.vertices)))
            start += len(part.vertices)
        return parts

    @property
    def components_of_worlds(self) -> list[Tensor]:
        """Which sheets and bodies of this scene are those of each of `worlds`, in its order."""
        sheet, body, found = 0, len(self.sheets), []
        for world in self.worlds:
            sheets = torch.arange(sheet, sheet + len(world.sheets))
            bodies = torch.arange(body, body + len(world.bodies))
            found.append(torch.cat([sheets, bodies]).to(self.vertices.device))
            sheet, body = sheet + len(world.sheets), body + len(world.bodies)
        return found

    @property
    def body_parts(self) -> list[slice]:
        """Where the vertices of each body stand among all."""
        return self.vertex_parts[len(self.sheets) :]

    @property
    def poses(self) -> Tensor:
        """(B, 6) of the bodies at the start, see `pose`."""
        rows = [body.pose for body in self.bodies]
        return torch.stack(rows) if rows else self.vertices.new_zeros(0, 6)

    def placed(self, poses: Tensor, positions: Tensor) -> Tensor:
        """`positions` (V, 3) with the driven vertices of the bodies where poses (B, 6) put them."""
        pieces, start = [], 0
        # all at once: one exponential costs as much as many
        turned = rotation_matrix(poses[:, 3:])
        ways = zip(self.bodies, self.body_parts, poses, turned, strict=True)
        for body, part, pose, turn in ways:
            moved = body.local @ turn.T + pose[:3]
            there = torch.where(body.driven[:, None], moved, positions[part])
            pieces += [positions[start : part.start], there]
            start = part.stop
        return torch.cat([*pieces, positions[start:]])

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
    def _sheet_vertices(self) -> int:
        return sum(len(sheet.vertices) for sheet in self.sheets)

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
            if given.shape == (self._sheet_vertices,):
                return torch.cat([given, chosen[self._sheet_vertices :]])
            if given.shape != (count,):
                raise InputError(f"{name} must be {wanted}, got a mask of {tuple(given.shape)}")
            return given
        if given.numel():
            chosen[check_indices(name, given, (None,), count).long()] = True
        return chosen

    def of_faces(self, name: str) -> Tensor:
        """A quantity of the materials for each face, (F,), differentiable."""
        parts = [
            sheet.material.of_faces(name, len(sheet.faces), sheet.faces.device)
            for sheet in self.sheets
        ]
        return torch.cat(parts) if parts else self.vertices.new_zeros(0)

    def masses(self) -> Tensor:
        """(V,) [kg], a third of each face's mass at each of its corners; rigid bodies have none."""
        areas = face_areas(self.rest_vertices, self.faces)
        share = self.of_faces("density") * self.of_faces("thickness") * areas / 3
        corners = self.faces.long().flatten()
        masses = share.new_zeros(len(self.vertices))
        masses = masses.index_add(0, corners, share.repeat_interleave(3))
        for body, part in zip(self.bodies, self.body_parts, strict=True):
            if isinstance(body, SoftBody):
                places = torch.arange(part.start, part.stop, device=masses.device)
                masses = masses.index_add(0, places, body.masses())
        return masses

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
