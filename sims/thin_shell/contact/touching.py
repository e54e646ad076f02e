"""What touches in one solve: the barrier terms around a state, and friction from its start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from sims.thin_shell.bending import Term, Values
from sims.thin_shell.contact.closest import touch
from sims.thin_shell.contact.constants import (
    barrier_constants,
    levers_of_pairs,
    sides,
    turn_of_pairs,
)
from sims.thin_shell.contact.friction import Friction, carried, lagged
from sims.thin_shell.contact.near import Near, Neighbourhood, union
from sims.thin_shell.contact.pairs import (
    EDGE_EDGE,
    VERTEX_EDGE,
    VERTEX_FACE,
    VERTEX_PLANE,
    Pairs,
)
from sims.thin_shell.contact.settings import Contact
from sims.thin_shell.energies.barrier import BARRIER

SPARE = 500  # pairs that do not touch cost derivatives less than a list without them
GIVE = 1e-2  # of the range: the most that a contact yields before it slides, whatever it bears

PRIMITIVES = {  # of each kind of pair, by its vertices
    VERTEX_FACE: ((0,), (1, 2, 3)),
    EDGE_EDGE: ((0, 1), (2, 3)),
    VERTEX_PLANE: ((0,), (1, 2, 3)),
    VERTEX_EDGE: ((0,), (1, 2)),
}


Levers = Sequence[tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Contacts:
    """What a step needs to know of contact besides tensors.

    started: the pairs that touch where it starts, which friction acts between; sheets: how many
    components come before the bodies; creep [m]: how far a creeping contact goes in a step.
    """

    neighbourhood: Neighbourhood
    settings: Contact
    started: Pairs
    sheets: int
    creep: float


class Known(NamedTuple):
    """Pairs at a state: those of the list of near ones, and those of them that touch there or did
    where the step started."""

    near: Pairs
    touching: Pairs


@dataclass(frozen=True, eq=False)
class Touching:
    """Contact under `values` around one state, whose pairs are in `near`."""

    contacts: Contacts
    values: Values
    near: Near
    friction: Friction | None
    levers: Levers = ()

    @classmethod
    def of(cls, contacts: Contacts, values: Values, known: Known | None = None) -> Touching:
        """Around the start of a step, or for the derivatives at a state that is known."""
        if known is None:
            near = _near(contacts, values, values["start"].detach())
        else:
            near = contacts.neighbourhood.listed(known.near)
            if len(known.near.kind) > len(known.touching.kind) + SPARE:
                near = near.narrowed(known.touching)
        slides = len(contacts.started.kind) > 0
        return cls(contacts, values, near, *(_friction(contacts, values) if slides else (None, ())))

    def around(self, positions: Tensor) -> Touching:
        """The same around other positions (V, 3)."""
        near = _near(self.contacts, self.values, positions)
        return self if near is self.near else replace(self, near=near)

    def known(self, positions: Tensor) -> Known:
        """What derivatives at positions (V, 3), which this is around, ask for."""
        radius, reach = _distances(self.values)
        neighbourhood, started = self.contacts.neighbourhood, self.contacts.started
        touching = union(neighbourhood.active(positions, radius, reach), started)
        return Known(self.near.pairs, touching)

    def share(self, positions: Tensor, move: Tensor) -> float:
        """How much of a move (V, 3) lets no surface pass through another."""
        radius = self.values["contact_radius"].detach()
        return self.contacts.neighbourhood.detection.share(positions, move, radius)[0]

    def room(self, positions: Tensor) -> float:
        """The least gap at positions (V, 3) of pairs that are near, over its range."""
        if not len(self.near.pairs.kind):
            return torch.inf
        detection, radius = self.contacts.neighbourhood.detection, self.values["contact_radius"]
        gaps = detection.gaps(positions, self.near.pairs, radius.detach())
        return float((gaps / self._barrier[2].detach()).amin())

    def barrier(self, positions: Tensor, move: Tensor) -> str:
        """Which pair stops a move (V, 3), where, and how near it is, in words, if any."""
        radius = self.values["contact_radius"].detach()
        detection, sheets = self.contacts.neighbourhood.detection, self.contacts.sheets
        share, pair = detection.share(positions, move, radius)
        if pair is None:
            return ""
        corners = pair.vertices[0]
        names = []
        for part in PRIMITIVES[int(pair.kind)]:
            of = int(detection.surface.component[corners[part[0]]])
            name = f"sheets[{of}]" if of < sheets else f"bodies[{of - sheets}]"
            names.append(f"{name} (vertices {', '.join(str(int(corners[k])) for k in part)})")
        place = ", ".join(f"{float(x):.4g}" for x in positions[corners[0]])
        room = float(detection.gaps(positions, pair, radius))
        return (
            f"{names[0]} and {names[1]} stop each other near ({place}) m, where {room:.2g} m of "
            f"room is left and a step of Newton's method could go {share:.1g} of its way: take a "
            "smaller time step, drive what moves more slowly, or leave it room"
        )

    def terms(self, block: int) -> list[Term]:
        """The terms over the pairs of `near`, which are that block of elements."""
        terms = [Term(BARRIER, block, self._barrier)]
        if self.friction is not None:
            rows = self.near.places(self.contacts.started)
            terms.append(Term(self.friction.energy, block, self.friction.constants, rows))
        return terms

    @cached_property
    def _barrier(self) -> tuple[Tensor, ...]:
        surface = self.contacts.neighbourhood.surface
        return barrier_constants(self.near.pairs, surface, self.values)

    def slip(self, positions: Tensor) -> Tensor:
        """How far (m, 3) the pairs that touched at the start are from where they would not pull."""
        if self.friction is None:
            return positions.new_zeros(len(self.contacts.started.kind), 3)
        start, pairs = self.values["start"], self.contacts.started
        return carried(start, positions, pairs, self.friction)

    def cut(self) -> tuple[Touching, list[tuple[Tensor, Tensor]]]:
        """The same with leaves in place of what friction takes from the start of a step, and these
        tensors with their leaves: what several results follow from is then gone through once."""
        if self.friction is None:
            return self, []
        cuts: list[tuple[Tensor, Tensor]] = []

        def leaf(tensor: Tensor) -> Tensor:
            if not tensor.requires_grad:
                return tensor
            cuts.append((tensor, tensor.detach().requires_grad_()))
            return cuts[-1][1]

        friction = replace(
            self.friction,
            constants=tuple(leaf(constant) for constant in self.friction.constants),
            lever=leaf(self.friction.lever),
        )
        levers = [(body, leaf(lever)) for body, lever in self.levers]
        return replace(self, friction=friction, levers=levers), cuts

    def torques(self, positions: Tensor) -> Tensor:
        """What friction at the surfaces of bodies takes to turn them (B, 3) [N m], besides what
        the forces on their points do."""
        turns = self.values["turns"]
        total = turns.new_zeros(len(turns), 3)
        if self.friction is None or not len(turns):
            return total
        local = positions[self.contacts.started.vertices].flatten(1)
        force = self.friction.force(local)
        for body, lever in self.levers:
            total = total.index_add(0, body, torch.linalg.cross(force, lever))
        return total


def _distances(values: Values) -> tuple[Tensor, float]:
    return values["contact_radius"].detach(), float(values["contact_range"].detach().max())


def _near(contacts: Contacts, values: Values, positions: Tensor) -> Near:
    radius, reach = _distances(values)
    return contacts.neighbourhood.around(positions, radius, reach, contacts.started)


def _friction(contacts: Contacts, values: Values) -> tuple[Friction, Levers]:
    surface, pairs = contacts.neighbourhood.surface, contacts.started
    barrier = barrier_constants(pairs, surface, values)
    first, second = sides(pairs, surface)
    placed = touch(values["start"][pairs.vertices], pairs.kind)
    apart = placed[1][:, None] * placed[2]
    levers = levers_of_pairs(pairs, surface, apart, values["contact_radius"], contacts.sheets)
    turn, rolling = turn_of_pairs(levers, values["turns"])
    friction = lagged(
        values["start"],
        pairs,
        barrier,
        values["friction"][first, second],
        values["slip"],
        turn,
        placed=placed,
        grip=contacts.settings.grip,
        give=GIVE * barrier[2],
        softness=values["contact_softness"][first],
        creep=contacts.creep if contacts.settings.law == "creeping" else None,
        rolling=rolling,
    )
    return friction, levers
