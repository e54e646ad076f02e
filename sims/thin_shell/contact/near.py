"""Pairs that are near each other, and the matrix pattern that they need.

A pair that comes within the range of contact adds nonzeros to the Hessian. So that this happens
rarely, the list holds all pairs within a few ranges, those that do not touch yet as zeros, and
keeps those that have gone a little farther; it serves, with its pattern and the analysis of it,
until a pair touches that is not on it.

A step that is differentiated keeps the list of its end, and which of it touched there: derivatives
leave out the others. The pattern and the analysis that belong to the list are made again where too
much has come since.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from geomopt.linear import Solver, SparsePattern, open_solver
from sims.thin_shell.bending import position_unknowns
from sims.thin_shell.contact.detection import Detection
from sims.thin_shell.contact.pairs import Pairs, Surface, pair_keys

NEAR = 6.0  # ranges, within which a pair is put on the list
AWAY = 12.0  # ranges, within which it stays there when the list is renewed
REMEMBERED = 4  # sets of pairs that are known to be on a list
KEPT = 5_000_000  # nonzeros of patterns that stay for derivatives; about 1 GB with their factors


@dataclass(frozen=True, eq=False)
class Near:
    """n pairs, their unknowns block (n, 12), and the pattern and solver with them.

    keys (n,) ascending and order (n,): how pairs are found among them.
    """

    pairs: Pairs
    keys: Tensor
    order: Tensor
    block: Tensor
    pattern: SparsePattern
    solver: Solver

    def places(self, pairs: Pairs) -> Tensor:
        """Where pairs (m,) stand among these, -1 for those that do not."""
        if not len(self.keys):
            return torch.full_like(pairs.kind, -1)
        keys = pair_keys(pairs)
        found = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        place = self.order[found]
        same = (self.pairs.vertices[place] == pairs.vertices).all(1)
        return torch.where(same & (self.pairs.kind[place] == pairs.kind), place, -1)

    def holds(self, pairs: Pairs) -> bool:
        """Whether pairs (m,) are all among these."""
        if any(known is pairs or all(map(torch.equal, known, pairs)) for known in self._held):
            return True
        if not bool((self.places(pairs) >= 0).all()):
            return False
        self._held.insert(0, pairs)
        del self._held[REMEMBERED:]
        return True

    def narrowed(self, pairs: Pairs) -> Near:
        """A list of some of these pairs alone, with the same nonzeros and their analysis."""
        block = position_unknowns(pairs.vertices)
        pattern = self._others.joined([block])
        keys, order = torch.sort(pair_keys(pairs), stable=True)
        return Near(pairs, keys, order, block, pattern, self.solver.renewed(pattern))

    @cached_property
    def _held(self) -> list[Pairs]:
        """Pairs that were found among these last: most are asked for again."""
        return []

    @cached_property
    def _others(self) -> SparsePattern:
        """The pattern as it is, without the pairs as elements."""
        of = self.pattern
        return replace(
            of,
            blocks=of.blocks[:-1],
            matrix_sums=of.matrix_sums[:-1],
            vector_sums=of.vector_sums[:-1],
        )


class Neighbourhood:
    """The list of near pairs of a scene as it moves."""

    def __init__(self, surface: Surface, pattern: SparsePattern, linear: str) -> None:
        self.surface, self.detection = surface, Detection(surface)
        self._pattern, self._linear = pattern, linear
        self._near: Near | None = None
        self._kept: list[Near] = []

    def forget(self) -> None:
        """Make the next list from nothing, so that it does not depend on what was before."""
        self._near = None

    def active(self, positions: Tensor, radius: Tensor, reach: float) -> Pairs:
        """All pairs within `reach` [m] of each other at positions (V, 3)."""
        return self.detection.near(positions, radius, reach)

    def around(self, positions: Tensor, radius: Tensor, reach: float, kept: Pairs) -> Near:
        """A list that holds `kept` and all pairs within `reach` [m]: the last one if it does."""
        active = self.active(positions, radius, reach)
        near = self._near
        if near is not None and near.holds(active) and near.holds(kept):
            return near
        pairs = union(self.active(positions, radius, NEAR * reach), kept)
        if near is not None:
            stay = self.detection.gaps(positions, near.pairs, radius) < AWAY * reach
            pairs = union(pairs, Pairs(near.pairs.kind[stay], near.pairs.vertices[stay]))
        self._near = self.listed(pairs)
        return self._near

    def listed(self, pairs: Pairs) -> Near:
        """The list of these pairs, the same one as before if it is kept."""
        for near in reversed(self._kept):
            if near.pairs is pairs:
                return near
        keys, order = torch.sort(pair_keys(pairs), stable=True)
        block = position_unknowns(pairs.vertices)
        pattern = self._pattern.joined([block])
        near = Near(pairs, keys, order, block, pattern, open_solver(pattern, self._linear))
        self._kept.append(near)
        while sum(each.pattern.nonzeros for each in self._kept[:-1]) > KEPT:
            del self._kept[0]
        return near


def union(first: Pairs, second: Pairs) -> Pairs:
    """Pairs of both, those of `first` as they stand, then what `second` has more."""
    if not len(second.kind):
        return first
    new = ~torch.isin(pair_keys(second), pair_keys(first))
    return Pairs(
        torch.cat([first.kind, second.kind[new]]), torch.cat([first.vertices, second.vertices[new]])
    )
