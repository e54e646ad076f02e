"""How a scene bends: the elements of one bending model, their unknowns, rest angles and creases.

Two models with the same methods. `MidEdge` has one element a face and one director angle an edge
as an unknown; it converges on any mesh and feels Poisson's ratio. `Hinge` has one element an inner
edge and no unknowns of its own; it is fast, and right for cylinders on good meshes only, see
`energies.hinge`. An element has k angles, three or one, and so do its plastic rest angles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from geomopt.geometry.mesh import corner_positions
from sims.thin_shell.directors import (
    canonical_directors,
    corner_edges,
    director_angles,
    directors_in_plane,
    mid_edge_stiffness,
)
from sims.thin_shell.energies.crease import flow, remaining_stiffness, wrapped
from sims.thin_shell.energies.energy import Energy
from sims.thin_shell.energies.hinge import HINGE, hinge_angle
from sims.thin_shell.energies.mid_edge import MID_EDGE, corner_angles
from sims.thin_shell.energies.wall_hinge import WALL_HINGE, wall_angle
from sims.thin_shell.hinge_constants import hinge_stiffness, wall_hinge_stiffness
from sims.thin_shell.moduli import face_moduli, material_axes
from sims.thin_shell.scene import Scene

Values = dict[str, Tensor]

# Perfect yield has no one solution where a sheet bends evenly: where a face flows more and its
# neighbour less, no energy changes. This little hardening chooses, and makes derivatives exist.
LEAST_HARDENING = 1e-4


class Term(NamedTuple):
    """n elements of one energy: which unknowns each sees, and its constants.

    block: place of the unknowns (n, size) in the list of all element blocks; terms may share one.
    rows (n,) int64: which of its rows these are, None for all of them.
    """

    energy: Energy
    block: int
    constants: tuple[Tensor, ...]
    rows: Tensor | None = None

    def local(self, vector: Tensor, blocks: Sequence[Tensor]) -> Tensor:
        """The part (n, size) of a vector (size,) that its elements see."""
        block = blocks[self.block]
        return vector[block if self.rows is None else block[self.rows]]


def potential(unknowns: Tensor, terms: Sequence[Term], blocks: Sequence[Tensor]) -> Tensor:
    """The sum of terms [J] at unknowns (size,) in torch operations, twice differentiable."""
    parts = [term.energy.value(term.local(unknowns, blocks), *term.constants) for term in terms]
    return torch.cat(parts).sum()


def position_unknowns(vertices: Tensor) -> Tensor:
    """Where the coordinates of vertices (n, m) stand among the unknowns, (n, 3m) int64."""
    return (3 * vertices.long()[..., None] + torch.arange(3, device=vertices.device)).flatten(1)


def held_directors(scene: Scene, positions: Tensor, walls: Tensor) -> Tensor:
    """Reference directors (E, 3) at these positions: of the wall at clamped edges, in the plane at
    edges of a symmetry plane, canonical elsewhere."""
    directors = canonical_directors(positions, scene.topology)
    for axis, edges in scene.plane_edges.items():
        normal = torch.zeros(3, dtype=directors.dtype, device=directors.device)
        normal[axis] = 1.0
        directors = directors.index_put(
            (edges,), directors_in_plane(directors[edges], normal), accumulate=False
        )
    return torch.where(scene.clamped_edges[:, None], walls, directors)


def references(scene: Scene, values: Values) -> Tensor:
    """The directors (E, 3) that those of a step turn from.

    They carry no derivative in the start: elements feel the directors alone, and another reference
    only changes the angles by which they are turned. See `MidEdge.drift` for what does feel it.
    They may stand among the values already.
    """
    if "references" in values:
        return values["references"]
    return held_directors(scene, values["start"].detach(), values["walls"])


def _yield_values(scene: Scene, faces: Tensor) -> Values:
    """What the yield law asks of each element, the mean over its faces (n, m)."""
    names = ("yield_curvature", "hardening", "softness", "damage", "damping")
    values = {name: scene.of_faces(name)[faces].mean(dim=1) for name in names}
    return values | {"hardening": (values["hardening"].square() + LEAST_HARDENING**2).sqrt()}


@dataclass(frozen=True, eq=False)
class MidEdge:
    """Directors on the edges: F elements of three angles, unknowns after the 3V coordinates."""

    scene: Scene
    order: int = 3

    @cached_property
    def corners(self) -> tuple[Tensor, Tensor]:
        edges, signs = corner_edges(self.scene.topology)
        return edges, signs.to(self.scene.vertices)

    @property
    def blocks(self) -> list[Tensor]:
        """The unknowns of its elements."""
        return [self.unknowns]

    @cached_property
    def unknowns(self) -> Tensor:
        start = 3 * len(self.scene.vertices)
        return torch.cat([position_unknowns(self.scene.faces), start + self.corners[0]], dim=1)

    @cached_property
    def free(self) -> Tensor:
        """(E,) bool, edges whose director may turn."""
        return ~self.scene.held_edges

    def values(self) -> Values:
        """The constants of the elements, differentiable in materials and rest shape."""
        scene = self.scene
        edges, _ = self.corners
        corners = corner_positions(scene.rest_vertices, scene.faces)
        moduli, rigidity = face_moduli(scene)
        axes = material_axes(scene)
        stiffness, scale = mid_edge_stiffness(corners, moduli, scene.of_faces("thickness"), axes)
        walls = canonical_directors(scene.vertices, scene.topology)
        rest_walls = canonical_directors(scene.rest_vertices, scene.topology)
        directors = held_directors(scene, scene.rest_vertices, rest_walls)
        flat = scene.vertices.new_zeros(len(edges), 3)
        rest = self._angles(torch.cat([corners.flatten(1), flat], dim=1), directors)
        creases = scene.rest_angles
        if creases is not None:
            rest = rest + creases[edges] / 2
        return {
            "rest_angles": rest,
            "stiffness": stiffness * rigidity[:, None, None],
            "scale": scale * rigidity,
            "walls": walls,
            **_yield_values(scene, torch.arange(len(edges), device=edges.device)[:, None]),
        }

    def _angles(self, local: Tensor, directors: Tensor) -> Tensor:
        edges, signs = self.corners
        return corner_angles(local, directors[edges], signs)

    def angles(self, unknowns: Tensor, values: Values) -> Tensor:
        """The tilt of the directors in each face (F, 3) [rad]."""
        directors = references(self.scene, values)
        return self._angles(unknowns[self.unknowns], directors)

    def turns(self, positions: Tensor, angles: Tensor) -> Tensor:
        """The director angles (E,) that have these tilts at these positions; zero where held."""
        turns = director_angles(angles, positions, self.scene.topology)
        return torch.where(self.free, turns, 0.0)

    def terms(self, values: Values) -> list[Term]:
        """The elements under the present creases and from the directors of the step's start."""
        edges, signs = self.corners
        directors = references(self.scene, values)[edges]
        constants = _crease_constants(values, self.order)
        return [Term(MID_EDGE, 0, (directors, signs, *constants))]

    def viscous(self, values: Values, rate: Tensor) -> list[Term]:
        """The same elements around the angles of the step's start, with a share of stiffness."""
        edges, signs = self.corners
        directors = references(self.scene, values)[edges]
        constants = _viscous_constants(values, rate)
        return [Term(MID_EDGE, 0, (directors, signs, *constants))]

    def drift(self, positions: Tensor, start: Tensor) -> Tensor:
        """Turn (E,) [rad] about the edges at `positions` of the references, as `start` changes.

        Zero itself, with the right derivative: moments . drift is what a potential lacks that
        takes the references as fixed. Zero where a director is held.
        """
        references = canonical_directors(start, self.scene.topology)
        still = references.detach()
        ends = positions[self.scene.edges.long()]
        edges = torch.nn.functional.normalize(ends[:, 1] - ends[:, 0], dim=1)
        across = torch.linalg.cross(edges, still)
        turn = (across * references).sum(1) / across.square().sum(1)
        return torch.where(self.free, turn, 0.0)

    def dihedral(self, plastic_angles: Tensor) -> Tensor:
        """Plastic turn across each inner edge (E,) [rad], the sum over its two faces."""
        edges, _ = self.corners
        total = plastic_angles.new_zeros(len(self.scene.edges))
        return total.index_add(0, edges.flatten(), plastic_angles.flatten())


@dataclass(frozen=True, eq=False)
class Hinge:
    """Angles between faces: one element an inner edge that is free, then one for each face at an
    edge that is held, against the director there."""

    scene: Scene
    order: int = 1

    @cached_property
    def inner(self) -> Tensor:
        """Edges of the hinges between two faces (m,)."""
        free = (self.scene.topology.edge_uses == 2) & ~self.scene.held_edges
        return torch.nonzero(free).flatten()

    @cached_property
    def outer(self) -> tuple[Tensor, Tensor]:
        """Edges of the hinges against directors (k,), and on which side of each its face is."""
        held = self.scene.held_edges[:, None] & (self.scene.topology.edge_faces >= 0)
        return torch.nonzero(held, as_tuple=True)  # pyright: ignore[reportReturnType]

    @cached_property
    def free(self) -> Tensor:
        return torch.zeros(0, dtype=torch.bool, device=self.scene.faces.device)

    def _vertices(self, edges: Tensor, side: Tensor) -> Tensor:
        """a, b, c (n, 3): the edges as the face on that side runs, and its opposite vertex."""
        topology = self.scene.topology
        ends = topology.edges[edges].long()
        corners = topology.faces[topology.edge_faces[edges, side].long()].long()
        forward = ((corners == ends[:, :1]) & (corners.roll(-1, dims=1) == ends[:, 1:])).any(1)
        ends = torch.where(forward[:, None], ends, ends.flip(1))
        return torch.cat([ends, topology.opposite_vertices[edges, side].long()[:, None]], dim=1)

    @property
    def blocks(self) -> list[Tensor]:
        """The unknowns of its elements, of inner hinges and of those at walls."""
        return list(self.unknowns)

    @cached_property
    def unknowns(self) -> tuple[Tensor, Tensor]:
        opposite = self.scene.topology.opposite_vertices[self.inner, 1:].long()
        first = torch.zeros_like(self.inner)
        quads = torch.cat([self._vertices(self.inner, first), opposite], dim=1)
        return position_unknowns(quads), position_unknowns(self._vertices(*self.outer))

    def values(self) -> Values:
        """The constants of the elements, differentiable in materials and rest shape."""
        scene = self.scene
        faces = torch.cat(
            [
                scene.topology.edge_faces[self.inner].long(),
                scene.topology.edge_faces[self.outer].long()[:, None].expand(-1, 2),
            ]
        )
        moduli, rigidity = face_moduli(scene)
        bending = moduli[:, 0, 0] * scene.of_faces("thickness") ** 3 / 12 * rigidity
        rest = scene.rest_vertices.flatten()
        inner, outer = self.unknowns
        count = len(inner)
        quads = rest[inner].unflatten(1, (4, 3))
        triangles = rest[outer].unflatten(1, (3, 3))
        parts = [
            hinge_stiffness(quads, bending[faces[:count]]),
            wall_hinge_stiffness(triangles, bending[faces[count:, 0]]),
        ]
        walls = canonical_directors(scene.vertices, scene.topology)
        rest_walls = canonical_directors(scene.rest_vertices, scene.topology)
        directors = held_directors(scene, scene.rest_vertices, rest_walls)
        angles = self._angles(rest, directors)
        if scene.rest_angles is not None:
            creases = [scene.rest_angles[self.inner], scene.rest_angles[self.outer[0]] / 2]
            angles = angles + torch.cat(creases)[:, None]
        return {
            "rest_angles": angles,
            "stiffness": torch.cat([part[0] for part in parts]),
            "scale": torch.cat([part[1] for part in parts]),
            "walls": walls,
            **_yield_values(scene, faces),
        }

    def angles(self, unknowns: Tensor, values: Values) -> Tensor:
        """The angle of each hinge (n, 1) [rad]."""
        directors = references(self.scene, values)
        return self._angles(unknowns, directors)

    def _angles(self, unknowns: Tensor, directors: Tensor) -> Tensor:
        inner, outer = self.unknowns
        against = directors[self.outer[0]]
        found = [hinge_angle(unknowns[inner]), wall_angle(unknowns[outer], against)]
        return torch.cat(found)[:, None]

    def turns(self, positions: Tensor, angles: Tensor) -> Tensor:
        """No unknowns of its own: (0,)."""
        return positions.new_zeros(0)

    def drift(self, positions: Tensor, start: Tensor) -> Tensor:
        """No directors that could turn: (0,)."""
        return positions.new_zeros(0)

    def terms(self, values: Values) -> list[Term]:
        """The hinges under the present creases."""
        return self._split(values, _crease_constants(values, self.order))

    def viscous(self, values: Values, rate: Tensor) -> list[Term]:
        """The same hinges around the angles of the step's start, with a share of stiffness."""
        return self._split(values, _viscous_constants(values, rate))

    def _split(self, values: Values, constants: tuple[Tensor, ...]) -> list[Term]:
        count = len(self.inner)
        angles, rest = constants[0][:, 0], constants[1:]
        directors = references(self.scene, values)[self.outer[0]]
        tail = (angles[count:], *(c[count:] for c in rest))
        return [
            Term(HINGE, 0, (angles[:count], *(c[:count] for c in rest))),
            Term(WALL_HINGE, 1, (directors, *tail)),
        ]

    def dihedral(self, plastic_angles: Tensor) -> Tensor:
        """Plastic turn across each inner edge (E,) [rad]."""
        total = plastic_angles.new_zeros(len(self.scene.edges))
        return total.index_add(0, torch.cat([self.inner, self.outer[0]]), plastic_angles[:, 0])


Bending = MidEdge | Hinge


def _crease_constants(values: Values, order: int) -> tuple[Tensor, ...]:
    left = remaining_stiffness(values["accumulated"], values["damage"], values["yield_curvature"])
    shape = (-1, 1, 1) if order > 1 else (-1,)
    return (
        values["rest_angles"] + values["plastic_angles"],
        values["stiffness"] * left.reshape(shape),
        values["scale"] * left,
        values["yield_curvature"] + values["hardening"] * values["accumulated"],
        values["hardening"],
        values["softness"],
    )


def _viscous_constants(values: Values, rate: Tensor) -> tuple[Tensor, ...]:
    zero = torch.zeros_like(rate)
    stiffness = values["stiffness"]
    return (
        values["start_angles"],
        stiffness * rate.reshape(-1, *[1] * (stiffness.ndim - 1)),
        torch.ones_like(rate),  # gives the curvature at which it yields, and it never does
        torch.full_like(rate, torch.inf),
        zero,
        zero,
    )


def yielded(angles: Tensor, values: Values, order: int) -> tuple[Tensor, Tensor]:
    """Plastic angles (n, k) and accumulated plastic curvature (n,) after a step, see `crease`."""
    rest, *constants = _crease_constants(values, order)
    turned, amount = flow(wrapped(angles - rest), *constants)
    return values["plastic_angles"] + turned, values["accumulated"] + amount
