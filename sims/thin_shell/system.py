"""The potential of one step or one equilibrium as a function of the unknowns, with derivatives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from geomopt.linear import Solver, SparsePattern
from sims.thin_shell.bending import Term
from sims.thin_shell.contact.touching import Touching
from sims.thin_shell.model import Model


class Assembled(NamedTuple):
    """value [J]; gradient (size,), held rows too; element matrices of each block; scale (blocks,),
    the largest entry of an element's gradient."""

    value: float
    gradient: Tensor
    matrices: list[Tensor]
    scale: Tensor


@dataclass(frozen=True, eq=False)
class System:
    """P(z) = sum of terms + inertia / 2 |x - predicted|^2 - loads . z.

    elastic: the terms of the model; those of contact are around one state, see `around`. solver: of
    the model's own pattern. loads, inertia (size,): force or moment on each unknown [N, N m], and
    mass over time step squared [kg/s^2], None for a static problem; predicted (size,) [m].
    """

    model: Model
    elastic: list[Term]
    open_solver: Solver
    loads: Tensor
    inertia: Tensor | None = None
    predicted: Tensor | None = None
    touching: Touching | None = None

    @cached_property
    def terms(self) -> list[Term]:
        """All terms, contact last."""
        if self.touching is None:
            return self.elastic
        return self.elastic + self.touching.terms(len(self.model.blocks))

    @cached_property
    def blocks(self) -> list[Tensor]:
        """The unknowns (n, size) of each kind of element."""
        if self.touching is None:
            return self.model.blocks
        return [*self.model.blocks, self.touching.near.block]

    @property
    def pattern(self) -> SparsePattern:
        """Where the matrix has its nonzeros."""
        return self.model.pattern if self.touching is None else self.touching.near.pattern

    @property
    def solver(self) -> Solver:
        """Of matrices on the pattern."""
        return self.open_solver if self.touching is None else self.touching.near.solver

    def cut(self) -> tuple[System, list[tuple[Tensor, Tensor]]]:
        """See `Touching.cut`."""
        if self.touching is None:
            return self, []
        touching, cuts = self.touching.cut()
        return replace(self, touching=touching), cuts

    def around(self, unknowns: Tensor) -> System:
        """This system with all pairs among its elements that touch at `unknowns` (size,)."""
        if self.touching is None:
            return self
        there = self.touching.around(self.model.split(unknowns)[0])
        return self if there is self.touching else replace(self, touching=there)

    def share(self, unknowns: Tensor, increment: Tensor) -> float:
        """How much of an increment (size,), at most 1, lets no surface pass through another."""
        if self.touching is None:
            return 1.0
        return self.touching.share(self.model.split(unknowns)[0], self.model.split(increment)[0])

    def room(self, unknowns: Tensor) -> float:
        """The least gap of what may touch, over its range."""
        touching = self.touching
        return torch.inf if touching is None else touching.room(self.model.split(unknowns)[0])

    def barrier(self, unknowns: Tensor, increment: Tensor) -> str:
        """What stops an increment (size,) of what may touch, in words."""
        touching, split = self.touching, self.model.split
        return "" if touching is None else touching.barrier(split(unknowns)[0], split(increment)[0])

    def local(self, term: Term, vector: Tensor) -> Tensor:
        """The part (n, size) of a vector (size,) that the elements of a term see."""
        block = self.blocks[term.block]
        places = block if term.rows is None else block[term.rows]
        return vector.index_select(0, places.flatten()).view(places.shape)

    def value(self, unknowns: Tensor) -> float:
        """The potential [J]."""
        return self.assemble(unknowns, 0).value

    def assemble(
        self,
        unknowns: Tensor,
        order: int,
        project: bool = False,
        extrapolated: dict[int, Tensor] | None = None,
        roughly: bool = False,
    ) -> Assembled:
        """Value, with gradient (order 1), with element matrices (order 2).

        project: clamp the element matrices; roughly: only where it costs little. extrapolated: what
        stands in the geometric part of a term's matrices, by the term's place.
        """
        blocks = self.blocks
        vectors: dict[int, Tensor] = {}
        matrices: dict[int, Tensor] = {}
        total = unknowns.new_zeros(())
        for place, term in enumerate(self.terms):
            strain = (extrapolated or {}).get(place)
            found = term.energy.evaluate(
                self.local(term, unknowns),
                term.constants,
                order,
                project and (term.energy.projects or not roughly),
                strain,
            )
            total = total + found.value.sum()
            _add(vectors, term, found.gradient)
            _add(matrices, term, found.hessian)
        total = total - (self.loads * unknowns).sum()
        inertial = torch.zeros_like(unknowns)
        if self.inertia is not None and self.predicted is not None:
            offset = unknowns - self.predicted
            inertial = self.inertia * offset
            total = total + (inertial * offset).sum() / 2
        if order == 0:
            return Assembled(float(total), self.loads, [], self.loads)
        parts = [vectors[block] for block in range(len(blocks))]
        gradient = self.pattern.assemble_vector(parts) - self.loads + inertial
        scale = torch.stack([v.abs().amax() if v.numel() else total.new_zeros(()) for v in parts])
        kept = [matrices[block] for block in sorted(matrices)]
        return Assembled(float(total), gradient, kept, scale)

    def strains(self, unknowns: Tensor, increment: Tensor) -> dict[int, Tensor]:
        """The strains after a linear step, of the terms whose matrices can take them."""
        found = {}
        for place, term in enumerate(self.elastic):
            if term.energy.extrapolate is not None:
                local, move = self.local(term, unknowns), self.local(term, increment)
                found[place] = term.energy.extrapolate(local, move, term.constants)
        return found

    def foreseen(
        self, unknowns: Tensor, increment: Tensor, before: dict[int, Tensor]
    ) -> dict[int, Tensor]:
        """What stands in the matrices of terms with corners after a linear step, by their place;
        `before`: what stood there in that step."""
        found = {}
        for place, term in enumerate(self.terms):
            if term.energy.foresee is not None:
                local, move = self.local(term, unknowns), self.local(term, increment)
                known = before.get(place)
                found[place] = term.energy.foresee(local, move, term.constants, known)
        return found


def _add(sums: dict[int, Tensor], term: Term, part: Tensor | None) -> None:
    if part is None:
        return
    if term.block not in sums:
        sums[term.block] = part
    elif term.rows is None:
        sums[term.block] = sums[term.block] + part
    else:
        sums[term.block].index_add_(0, term.rows, part)
