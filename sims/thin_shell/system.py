"""The potential of one step or one equilibrium as a function of the unknowns, with derivatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sims.thin_shell.bending import Term
from sims.thin_shell.model import Model


class Assembled(NamedTuple):
    """value [J]; gradient (size,), held rows too; element matrices; noise, the rounding error that
    the gradient of positions and of directors cannot go below."""

    value: float
    gradient: Tensor
    matrices: list[Tensor]
    scale: Tensor


@dataclass(frozen=True, eq=False)
class System:
    """P(z) = sum of terms + inertia / 2 |x - predicted|^2 - loads . z.

    loads, inertia (size,): force or moment on each unknown [N, N m], and mass over time step
    squared [kg/s^2], None for a static problem; predicted (size,) [m].
    """

    model: Model
    terms: list[Term]
    loads: Tensor
    inertia: Tensor | None = None
    predicted: Tensor | None = None

    def value(self, unknowns: Tensor) -> float:
        """The potential [J]."""
        return self.assemble(unknowns, 0).value

    def assemble(
        self,
        unknowns: Tensor,
        order: int,
        project: bool = False,
        extrapolated: dict[int, Tensor] | None = None,
    ) -> Assembled:
        """Value, with gradient (order 1), with element matrices (order 2).

        project: clamp the element matrices. extrapolated: what stands in the geometric part of a
        term's matrices, by the term's place.
        """
        blocks = self.model.blocks
        vectors: list[Tensor | None] = [None] * len(blocks)
        matrices: list[Tensor | None] = [None] * len(blocks)
        total = unknowns.new_zeros(())
        for place, term in enumerate(self.terms):
            strain = (extrapolated or {}).get(place)
            found = term.energy.evaluate(
                unknowns[blocks[term.block]], term.constants, order, project, strain
            )
            total = total + found.value.sum()
            vectors[term.block] = _sum(vectors[term.block], found.gradient)
            matrices[term.block] = _sum(matrices[term.block], found.hessian)
        total = total - (self.loads * unknowns).sum()
        if self.inertia is not None:
            offset = unknowns - self.predicted
            total = total + (self.inertia * offset.square()).sum() / 2
        if order == 0:
            return Assembled(float(total), self.loads, [], self.loads)
        vectors = [v for v in vectors if v is not None]
        gradient = self.model.pattern.assemble_vector(vectors) - self.loads
        if self.inertia is not None:
            gradient = gradient + self.inertia * offset
        scale = torch.stack([v.abs().amax() if v.numel() else total.new_zeros(()) for v in vectors])
        kept = [m for m in matrices if m is not None]
        return Assembled(float(total), gradient, kept, scale)

    def strains(self, unknowns: Tensor, increment: Tensor) -> dict[int, Tensor]:
        """The strains after a linear step, of the terms whose matrices can take them."""
        found = {}
        for place, term in enumerate(self.terms):
            if term.energy.extrapolate is not None:
                block = self.model.blocks[term.block]
                found[place] = term.energy.extrapolate(
                    unknowns[block], increment[block], term.constants
                )
        return found


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return second if first is None or second is None else first + second
