"""What does not change while a scene moves: elements, their constants, masses, held unknowns.

The unknowns of a scene are its 3V coordinates, then the director angles of its edges (mid-edge
bending only). Its potential is a sum of terms, each of which sees its elements alone; `values`
holds every tensor that the terms depend on, by name, so that one function of (unknowns, values)
serves the kernels, the torch twin and all derivatives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.geometry.mesh import corner_positions, face_areas
from geomopt.linear import SparsePattern
from sims.thin_shell.bending import Bending, Hinge, MidEdge, Term, Values, position_unknowns
from sims.thin_shell.contact.surfaces import contact_values
from sims.thin_shell.energies.energy import Energy
from sims.thin_shell.energies.membrane import green_strain
from sims.thin_shell.energies.neo_hookean import NEO_HOOKEAN
from sims.thin_shell.energies.stable_neo_hookean import STABLE_NEO_HOOKEAN
from sims.thin_shell.energies.stvk import STVK
from sims.thin_shell.energies.tension_field import TENSION_FIELD
from sims.thin_shell.membrane_constants import inverse_rest, lame
from sims.thin_shell.moduli import face_moduli, material_axes
from sims.thin_shell.scene import Scene
from sims.thin_shell.soft_body import SoftBody

BendingName = Literal["mid-edge", "hinge"]
BENDING = {"mid-edge": MidEdge, "hinge": Hinge}
SOFT = ("soft_inverse_rest", "soft_mu", "soft_lam")
SLACK = 5e-3  # share of the stiffness that a wrinkled triangle keeps, so that it has a shape at all


@dataclass(frozen=True, eq=False)
class Model:
    """A scene as elements. values: the tensors of materials and rest shape that they depend on.

    mass (V,) [kg]; free (3V + directors,) bool, unknowns that are solved for; blocks: the unknowns
    of each kind of element (n, size), membranes of the sheets first, soft bodies last; plastic:
    some material yields; damped: some material is viscous, or is asked for the derivative of being
    so.
    """

    scene: Scene
    bending: Bending
    values: Values
    mass: Tensor
    free: Tensor
    blocks: list[Tensor]
    plastic: bool
    damped: bool
    pattern: SparsePattern = field(repr=False)

    @classmethod
    def of(cls, scene: Scene, bending: BendingName, time_step: float) -> Model:
        """Compute everything from a scene; the stiffness of contact follows the time step [s]."""
        if bending not in tuple(BENDING):
            raise InputError(f"bending must be one of {tuple(BENDING)}, got {bending!r}")
        parts = BENDING[bending](scene)
        values = parts.values() | _membrane_values(scene) | _soft_values(scene)
        values |= contact_values(scene, time_step)
        damping = values["face_damping"]
        free = torch.cat([~scene.held.flatten(), parts.free])
        triangles = [position_unknowns(scene.faces[part]) for _, part in _membranes(scene)]
        tetrahedra = [body.tetrahedra.long() + part.start for body, part in _soft_bodies(scene)]
        soft = [position_unknowns(torch.cat(tetrahedra))] if tetrahedra else []
        blocks = [*triangles, *parts.blocks, *soft]
        return cls(
            scene=scene,
            bending=parts,
            values=values,
            mass=scene.masses(),
            free=free,
            blocks=blocks,
            plastic=bool(values["yield_curvature"].detach().isfinite().any()),
            damped=bool(damping.requires_grad or (damping.detach() > 0).any()),
            pattern=SparsePattern.of(blocks, len(free), free),
        )

    def terms(self, values: Values, time_step: float | None) -> list[Term]:
        """The elastic elements, then over the same unknowns the viscous ones of a time step [s].

        time_step: None for a static problem, in which nothing is viscous.
        """
        membranes = _membrane_terms(self.scene, values)
        count = len(membranes)
        terms = membranes + _after(count, self.bending.terms(values))
        if "soft_mu" in values:
            constants = tuple(values[name] for name in SOFT)
            terms.append(Term(STABLE_NEO_HOOKEAN, len(self.blocks) - 1, constants))
        if time_step is None or not self.damped:
            return terms
        for block, (_, part) in enumerate(_membranes(self.scene)):
            rate = values["face_damping"][part] / time_step
            stiffness = values["membrane_stiffness"][part] * rate[:, None, None]
            rest = values["inverse_rest"][part]
            start = green_strain(values["start"].flatten()[self.blocks[block]], rest)
            terms.append(Term(STVK, block, (rest, stiffness, start)))
        return terms + _after(count, self.bending.viscous(values, values["damping"] / time_step))

    @cached_property
    def size(self) -> float:
        """Longest side of the box around the vertices that move, or are held one by one [m]."""
        spans = self.scene.vertices.detach()[self.mass.detach() > 0].aminmax(dim=0)
        return float((spans.max - spans.min).amax())

    @cached_property
    def thickness(self) -> float:
        """Of the thinnest face [m], or the size of a scene without sheets."""
        thicknesses = self.scene.of_faces("thickness").detach()
        return float(thicknesses.amin()) if len(thicknesses) else self.size

    @cached_property
    def noise(self) -> tuple[float, float]:
        """What rounding of coordinates leaves in a force [N] and a moment of a director [N m]."""
        scene = self.scene
        rounding = 4 * torch.finfo(torch.float64).eps * float(scene.vertices.detach().abs().amax())
        areas = face_areas(scene.rest_vertices.detach(), scene.faces)
        tensions = self.values["membrane_stiffness"][:, 0, 0].detach() / areas
        tension = float(tensions.amax()) if len(tensions) else 0.0
        if "soft_mu" in self.values:
            slopes = self.values["soft_inverse_rest"].detach().square().sum((1, 2))
            bulk = (self.values["soft_mu"] + self.values["soft_lam"]).detach()
            tension = max(tension, float((bulk * slopes).amax()))
        stiffness = self.values["stiffness"].detach().abs().flatten()
        bending = float(stiffness.amax()) if len(stiffness) else 0.0  # a triangle has no hinge
        return tension * rounding, bending * rounding / self.shortest

    @cached_property
    def slenderness(self) -> float:
        """Longest side squared over four areas, of the slimmest triangle; half a square has 1.

        So many times more noise there is where a strain over its height pulls at its side.
        """
        corners = corner_positions(self.scene.rest_vertices.detach(), self.scene.faces)
        longest = (corners - corners.roll(-1, dims=1)).square().sum(-1).amax(1)
        areas = face_areas(self.scene.rest_vertices.detach(), self.scene.faces)
        return float(torch.cat([longest / (4 * areas), longest.new_ones(1)]).amax())

    @cached_property
    def shortest(self) -> float:
        """Of the rest edges of sheets [m], or the size of a scene without any."""
        lengths = self._edge_lengths
        return float(torch.cat([lengths, lengths.new_tensor([self.size])]).amin())

    @cached_property
    def _edge_lengths(self) -> Tensor:
        ends = self.scene.rest_vertices.detach()[self.scene.edges.long()]
        return (ends[:, 1] - ends[:, 0]).norm(dim=1)

    def largest_turn(self, increment: Tensor) -> float:
        """Largest angle [rad] by which a move of all unknowns turns an edge or a director."""
        moved, turned = self.split(increment)
        ends = moved[self.scene.edges.long()]
        turns = (ends[:, 1] - ends[:, 0]).norm(dim=1) / self._edge_lengths
        return float(torch.cat([turns, turned.abs(), turned.new_zeros(1)]).amax())

    def split(self, unknowns: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (V, 3) and director angles of a vector of unknowns."""
        count = 3 * len(self.scene.vertices)
        return unknowns[:count].reshape(-1, 3), unknowns[count:]


def _membranes(scene: Scene) -> list[tuple[Energy, slice]]:
    """The membrane energy of each sheet, and where its faces stand."""
    kinds = {"stvk": STVK, "neo-hookean": NEO_HOOKEAN, "tension-field": TENSION_FIELD}
    return [(kinds[sheet.material.membrane], part) for sheet, part in scene.face_parts]


def _soft_bodies(scene: Scene) -> list[tuple[SoftBody, slice]]:
    """The soft bodies and where their vertices stand among all."""
    parts = zip(scene.bodies, scene.body_parts, strict=True)
    return [(body, part) for body, part in parts if isinstance(body, SoftBody)]


def _soft_values(scene: Scene) -> Values:
    bodies = [body for body, _ in _soft_bodies(scene)]
    if not bodies:
        return {}
    constants = zip(*(body.constants() for body in bodies), strict=True)
    return {name: torch.cat(parts) for name, parts in zip(SOFT, constants, strict=True)}


def _membrane_values(scene: Scene) -> Values:
    corners = corner_positions(scene.rest_vertices, scene.faces)
    rest, areas = inverse_rest(corners, material_axes(scene))
    moduli, _ = face_moduli(scene)
    volume = areas * scene.of_faces("thickness")
    lam, mu = lame(scene.of_faces("young"), scene.of_faces("poisson"))
    return {
        "inverse_rest": rest,
        "membrane_stiffness": moduli * volume[:, None, None],
        "lam": lam * volume,
        "mu": mu * volume,
        "face_damping": scene.of_faces("damping"),
    }


def _membrane_terms(scene: Scene, values: Values) -> list[Term]:
    terms = []
    for block, (energy, part) in enumerate(_membranes(scene)):
        rest, stiffness = values["inverse_rest"][part], values["membrane_stiffness"][part]
        if energy is STVK:
            constants = (rest, stiffness, torch.zeros_like(rest.flatten(1)[:, :3]))
        elif energy is TENSION_FIELD:
            constants = (rest, stiffness, torch.full_like(rest[:, 0, 0], SLACK))
        else:
            constants = (rest, values["lam"][part], values["mu"][part])
        terms.append(Term(energy, block, constants))
    return terms


def _after(count: int, terms: list[Term]) -> list[Term]:
    return [term._replace(block=term.block + count) for term in terms]
