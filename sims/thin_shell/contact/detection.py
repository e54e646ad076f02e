"""Detection: which primitives are near each other, and how far they may move.

Pairs that may come near are kept on a list of candidates, which stands until vertices have moved by
more than it allows for. It is made from trees of boxes, and made with a move in mind: pairs are on
it that are within `margin` at x, or come there on the way from x to x + m. Later positions
y = x + t m + u, 0 <= t <= 1, have no pair beyond the list whose gap is below margin - 2 max |u|.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from geomopt.launch import Vectors, launch
from sims.thin_shell.contact import detection_kernels as kernels
from sims.thin_shell.contact.closest import closest, gap
from sims.thin_shell.contact.constants import reach_of_pairs
from sims.thin_shell.contact.pairs import Pairs, Surface
from sims.thin_shell.contact.trees import Tree

SLOTS = 32  # partners of a query that need no second search
SKIN = 0.5  # of the reach, what the margin of a list adds to it
FORGET = 8.0  # times below the largest reach asked for, a reach is one of another problem
KEPT = 0.899  # of a gap that a move may close, as in the kernels
EDGES = 10.0  # lengths of an edge, by which parts may move past each other at once
GRAIN = 4096  # candidates worth a thread


class _Candidates(NamedTuple):
    """A list, the positions, move, radii and margin that it was made for, and |move|^2."""

    pairs: Pairs
    gaps: Tensor
    at_rest: Tensor
    positions: Tensor
    move: Tensor | None
    square: float
    radius: Tensor
    margin: float


def _sorted_rows(rows: Tensor) -> Tensor:
    """Rows (n, k) in lexical order."""
    for column in reversed(range(rows.shape[1])):
        rows = rows[torch.sort(rows[:, column], stable=True).indices]
    return rows


class Detection:
    """What is near, and how far it may go, on the primitives of a surface.

    VERTEX_FACE: a point and a face of which it is no corner. EDGE_EDGE: two edges without a vertex
    in common, once. VERTEX_PLANE: a point and a plane. VERTEX_EDGE: a point and a lone edge. Left
    out are pairs whose vertices are all held, components that may not touch, and pairs of one
    component that touch at rest.

    The gap of a pair is |r| - offset, where the offset is the sum of the radii of both components;
    within one component it is at most half of what the pair is apart at rest, so that neighbours in
    a mesh finer than it is thick are left alone.
    """

    def __init__(self, surface: Surface) -> None:
        def indices(rows: Tensor) -> Tensor:
            return _sorted_rows(rows).to(torch.int32).contiguous()

        self.surface = surface
        self._points = surface.points.sort().values.to(torch.int32).contiguous()
        self._edges = indices(surface.edges)
        self._faces = indices(surface.faces)
        self._planes = indices(surface.planes)
        self._lone_edges = indices(surface.lone_edges)
        self._component = surface.component.to(torch.int32).contiguous()
        self._held = surface.held.contiguous()
        self._collides = surface.collides.contiguous()
        self._rest = surface.rest.detach().contiguous()
        self._face_tree, self._edge_tree = Tree(self._faces), Tree(self._edges)
        self._list: _Candidates | None = None
        self._reach = 0.0
        ends = self._rest[self._edges.long()]
        mean = (ends[:, 1] - ends[:, 0]).norm(dim=1).mean()
        self._longest = EDGES * float(mean) if len(ends) else math.inf

    def near(self, positions: Tensor, radius: Tensor, reach: float) -> Pairs:
        """All pairs whose gap at positions (V, 3) is below `reach` [m], by kind, then vertices.

        radius (C,) [m]: what each component has around it.
        """
        positions, radius = positions.detach().contiguous(), radius.detach().contiguous()
        if self._reach < reach or self._reach > FORGET * reach:
            self._reach = reach
        listed, moved = self._list, None
        if listed is not None and torch.equal(radius, listed.radius):
            moved, strayed, _ = _strayed(listed, positions)
            if reach + 2 * strayed > listed.margin:
                moved = None
        if listed is None or moved is None:
            listed, moved = self._renew(positions, None, radius), torch.zeros_like(positions)
        chosen = torch.empty(len(listed.gaps), dtype=torch.bool, device=positions.device)
        candidates = [*listed.pairs, listed.gaps, listed.at_rest, self._component, radius]
        launch(
            kernels.near_kernel(),
            len(chosen),
            [*candidates, Vectors(positions), Vectors(moved), float(reach)],
            [chosen],
            split=True,
            grain=GRAIN,
        )
        rows = chosen.nonzero().squeeze(1)
        return Pairs(listed.pairs.kind[rows], listed.pairs.vertices[rows])

    def share(self, positions: Tensor, move: Tensor, radius: Tensor) -> tuple[float, Pairs | None]:
        """The share in [0, 1] of a move (V, 3) that may be made, and the one pair that limits it.

        After it no pair has less than a tenth of the gap that it has at positions (V, 3), and none
        passes through on the way. It is 0 with a pair that has no gap there, 1 with None. It is
        less than 1 with None where parts would move past each other by more than 10 edges.
        """
        positions, radius = positions.detach().contiguous(), radius.detach().contiguous()
        move = move.detach().contiguous()
        longest = float((move - move.mean(0)).square().sum(1).max()) ** 0.5
        part, limit = min(1.0, self._longest / longest) if longest > 0 else 1.0, None
        listed = self._list
        if listed is not None and torch.equal(radius, listed.radius):
            moved, before, first = _strayed(listed, positions)
            if 2 * before < listed.margin:
                part, limit = self._least(listed, positions, moved, move, part)
                # what lies beyond the list counts only as far as those on it let go
                _, after, last = _strayed(listed, torch.add(positions, move, alpha=part))
                closed = 2 * (before + after)
                if last >= first and closed <= KEPT * (listed.margin - 2 * before):
                    return part, limit
        listed = self._renew(positions, part * move, radius)
        share, found = self._least(listed, positions, torch.zeros_like(positions), move, part)
        return share, found or limit

    def _least(
        self, listed: _Candidates, positions: Tensor, moved: Tensor, move: Tensor, part: float
    ) -> tuple[float, Pairs | None]:
        """The least share that candidates have of a move, at most `part`, and which one has it."""
        if not len(listed.gaps):
            return part, None
        shares = torch.empty_like(listed.gaps)
        launch(
            kernels.share_kernel(),
            len(shares),
            [
                *listed.pairs,
                listed.gaps,
                listed.at_rest,
                self._component,
                listed.radius,
                Vectors(positions),
                Vectors(moved),
                Vectors(move),
            ],
            [shares],
            split=True,
            grain=GRAIN,
        )
        least, index = shares.min(0)
        share = float(least)
        if share >= part:
            return part, None
        row = index.reshape(1)
        return share, Pairs(listed.pairs.kind[row], listed.pairs.vertices[row])

    def gaps(self, positions: Tensor, pairs: Pairs, radius: Tensor) -> Tensor:
        """The gaps of pairs (n,) [m], differentiable."""
        local, surface = positions[pairs.vertices], self.surface
        offset, _ = reach_of_pairs(pairs, surface, radius, radius, surface.rest)
        return gap(local, closest(local, pairs.kind), offset)

    def _renew(self, positions: Tensor, move: Tensor | None, radius: Tensor) -> _Candidates:
        """Make the list at positions, for a move or none."""
        margin = self._reach * (1 + SKIN)
        relative = torch.zeros_like(positions) if move is None else move
        # a move of all together brings nothing nearer
        relative = relative - relative.mean(0)
        spread = (
            radius[self.surface.component] + margin / 2 + relative.norm(dim=1) / KEPT
        ).contiguous()
        trees = [tree.fit(positions, spread) for tree in (self._face_tree, self._edge_tree)]
        primitives = [
            self._points,
            self._edges,
            self._faces,
            self._planes,
            self._lone_edges,
            self._component,
        ]
        count = 2 * len(self._points) + len(self._edges) + len(self._points)
        device = positions.device
        slots = torch.empty(count, SLOTS, dtype=torch.int32, device=device)
        counts = torch.empty(count, dtype=torch.int64, device=device)

        def find(ends: Tensor, queries: Tensor, partners: Tensor, fill: int) -> None:
            launch(
                kernels.find_kernel(),
                count,
                [
                    *trees,
                    *primitives,
                    self._held,
                    self._collides,
                    radius,
                    Vectors(self._rest),
                    Vectors(positions),
                    Vectors(relative),
                    spread,
                    float(margin),
                    fill,
                ],
                [slots, ends, counts, queries, partners],
                split=True,
                grain=GRAIN,
            )

        none = slots.new_empty(0)
        find(counts, none, none, 0)
        ends = counts.cumsum(0)
        total = int(ends[-1]) if count else 0
        queries, partners = (slots.new_empty(total) for _ in range(2))
        find(ends, queries, partners, 1)
        most = max(len(rows) for rows in primitives[1:5]) + 1
        order = torch.sort(queries.long() * most + partners).indices
        queries, partners = queries[order], partners[order]
        pairs = Pairs(
            torch.empty(total, dtype=torch.int64, device=device),
            torch.empty(total, 4, dtype=torch.int64, device=device),
        )
        gaps, at_rest = (positions.new_empty(total) for _ in range(2))
        launch(
            kernels.describe_kernel(),
            total,
            [queries, partners, *primitives, radius, Vectors(self._rest), Vectors(positions)],
            [*pairs, gaps, at_rest],
            split=True,
            grain=GRAIN,
        )
        # copies, since those of the caller may change in place
        self._list = _Candidates(
            pairs,
            gaps,
            at_rest,
            positions.clone(),
            None if move is None else move.clone(),
            0.0 if move is None else float(move.square().sum()),
            radius.clone(),
            margin,
        )
        return self._list


def _strayed(listed: _Candidates, positions: Tensor) -> tuple[Tensor, float, float]:
    """Displacement y - x (V, 3) since a list was made, max |u| of y = x + t m + u, and t."""
    moved = positions - listed.positions
    share, stray = 0.0, moved
    if listed.move is not None and listed.square > 0:
        share = float(torch.dot(moved.reshape(-1), listed.move.reshape(-1))) / listed.square
        share = min(max(share, 0.0), 1.0)
        stray = torch.add(moved, listed.move, alpha=-share)
    return moved, float(stray.square().sum(1).max()) ** 0.5, share
