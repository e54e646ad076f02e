"""The potential of one step or one equilibrium as a function of the unknowns, with derivatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sims.thin_shell.bending import Term
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
        vectors: dict[int, Tensor] = {}
        matrices: dict[int, Tensor] = {}
        total = unknowns.new_zeros(())
        for place, term in enumerate(self.terms):
            strain = (extrapolated or {}).get(place)
            found = term.energy.evaluate(
                unknowns[blocks[term.block]], term.constants, order, project, strain
            )
            total = total + found.value.sum()
            _add(vectors, term.block, found.gradient)
            _add(matrices, term.block, found.hessian)
        total = total - (self.loads * unknowns).sum()
        inertial = torch.zeros_like(unknowns)
        if self.inertia is not None and self.predicted is not None:
            offset = unknowns - self.predicted
            inertial = self.inertia * offset
            total = total + (inertial * offset).sum() / 2
        if order == 0:
            return Assembled(float(total), self.loads, [], self.loads)
        parts = [vectors[block] for block in range(len(blocks))]
        gradient = self.model.pattern.assemble_vector(parts) - self.loads + inertial
        scale = torch.stack([v.abs().amax() if v.numel() else total.new_zeros(()) for v in parts])
        kept = [matrices[block] for block in sorted(matrices)]
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


def _add(sums: dict[int, Tensor], block: int, part: Tensor | None) -> None:
    if part is not None:
        sums[block] = sums[block] + part if block in sums else part
