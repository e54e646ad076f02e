"""Which nodes of spectral hexahedra are one: a numbering from topology alone.

Corners, edges and faces that elements share carry shared nodes. Positions play no part, so the
numbers hold while vertices move, and vertices that only lie at one place stay apart.

The eight corners of an element are in binary order (i, j, k), corner 4 i + 2 j + k, and its (P +
1)^3 nodes likewise with x slowest. A face keeps the order of its two axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.errors import InputError

SIDES = 6  # side 2 a + s of an element is its end s, low or high, along axis a


@dataclass(frozen=True)
class Numbering:
    """The shared nodes of E elements of order P.

    nodes: (E, Q) int64, Q = (P + 1)^3, numbered by first appearance in the elements. count: their
    number N. offsets, entries: (N + 1,) and (E Q,) int64, the places of node n in the flattened
    `nodes` are entries[offsets[n]:offsets[n + 1]], in ascending order. walls: (F,) int64, the sides
    6 e + side that one element holds, in ascending order. wall_nodes: (F, (P + 1)^2) int64.
    """

    nodes: Tensor
    count: int
    offsets: Tensor
    entries: Tensor
    walls: Tensor
    wall_nodes: Tensor

    @classmethod
    def of(cls, hexahedra: Tensor, order: int) -> Numbering:
        """Number the nodes of `hexahedra` (E, 8) int64.

        Raises InputError for an element that names a vertex twice and for a face that more than two
        elements share.
        """
        ordered = hexahedra.sort(dim=1).values
        repeated = (ordered[:, 1:] == ordered[:, :-1]).any(dim=1)
        if bool(repeated.any()):
            raise InputError(
                "hexahedra must name eight different vertices each, got "
                f"{hexahedra[repeated][0].tolist()} as element {int(repeated.nonzero()[0, 0])}"
            )
        keys, sides, uses = _keys(hexahedra, order)
        unique, nodes = torch.unique(keys, return_inverse=True)
        count = len(unique)
        entries = torch.argsort(nodes.flatten(), stable=True)
        sizes = torch.bincount(nodes.flatten(), minlength=count)
        # by first appearance: nodes of an element then lie close to each other in memory
        first = entries[sizes.cumsum(0) - sizes]
        rank = torch.empty_like(first)
        rank[torch.argsort(first)] = torch.arange(count, device=first.device)
        nodes = rank[nodes]
        entries = torch.argsort(nodes.flatten(), stable=True)
        sizes = torch.bincount(nodes.flatten(), minlength=count)
        crowded = uses[sides] > 2
        if bool(crowded.any()):
            raise InputError(
                "hexahedra must share a face by two at most, got one of "
                f"{int(uses.max())} elements at element {int(crowded.nonzero()[0, 0])}"
            )
        walls = (uses[sides.flatten()] == 1).nonzero()[:, 0]
        local = side_nodes(order, hexahedra.device)
        return cls(
            nodes=nodes,
            count=count,
            offsets=torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]),
            entries=entries,
            walls=walls,
            wall_nodes=nodes[walls[:, None] // SIDES, local[walls % SIDES]],
        )


def side_nodes(order: int, device: torch.device) -> Tensor:
    """Local nodes (6, (P + 1)^2) of the sides of an element of order P; order 1: its corners."""
    size = order + 1
    grid = torch.arange(size**3, device=device).reshape(size, size, size)
    return torch.stack([grid.select(a, end).flatten() for a in range(3) for end in (0, order)])


def wall_faces(hexahedra: Tensor) -> Tensor:
    """Corners (F, 4) of the faces that one element holds, in the order of `Numbering.walls`."""
    numbering = Numbering.of(hexahedra, 1)
    walls = numbering.walls
    return hexahedra[walls[:, None] // SIDES, side_nodes(1, walls.device)[walls % SIDES]]


def _keys(hexahedra: Tensor, order: int) -> tuple[Tensor, Tensor, Tensor]:
    """A number (E, Q) for each node that elements agree on, faces (E, 6), and uses of a face."""
    device, inner, size = hexahedra.device, order - 1, order + 1
    vertex_count = int(hexahedra.max()) + 1
    grid = torch.arange(size**3, device=device).reshape(size, size, size)
    middle = slice(1, order)
    keys = torch.empty(len(hexahedra), size**3, dtype=torch.int64, device=device)
    keys[:, grid[::order, ::order, ::order].flatten()] = hexahedra
    start = vertex_count

    # edges, four along each axis, with nodes counted from their lower vertex
    corner = torch.arange(8, device=device).reshape(2, 2, 2)
    ends = torch.cat([corner.movedim(a, 2).reshape(4, 2) for a in range(3)])
    inside = [grid.movedim(a, 2)[::order, ::order, middle] for a in range(3)]
    along = torch.cat([nodes.flatten(0, 1) for nodes in inside])
    low, high = hexahedra[:, ends[:, 0]], hexahedra[:, ends[:, 1]]
    unique, edge = torch.unique(
        torch.minimum(low, high) * vertex_count + torch.maximum(low, high), return_inverse=True
    )
    step = torch.arange(inner, device=device)
    place = torch.where((low > high)[..., None], inner - 1 - step, step)
    keys[:, along.flatten()] = (start + edge[..., None] * inner + place).flatten(1)
    start += len(unique) * inner

    # faces, with nodes counted from their lowest vertex, first towards its lower neighbour
    corners = hexahedra[:, side_nodes(1, device)]  # (E, 6, 4)
    face, uses = _faces(corners, vertex_count)
    origin = corners.argmin(dim=2, keepdim=True)
    swapped = corners.gather(2, origin ^ 2) > corners.gather(2, origin ^ 1)
    one, two = torch.meshgrid(step, step, indexing="ij")
    one = torch.where(origin >= 2, inner - 1 - one.flatten(), one.flatten())
    two = torch.where(origin % 2 == 1, inner - 1 - two.flatten(), two.flatten())
    place = torch.where(swapped, two * inner + one, one * inner + two)
    across = torch.stack(
        [grid.select(a, end)[middle, middle].flatten() for a in range(3) for end in (0, order)]
    )
    keys[:, across.flatten()] = (start + face[..., None] * inner**2 + place).flatten(1)
    start += len(uses) * inner**2

    within = grid[middle, middle, middle].flatten()
    element = torch.arange(len(hexahedra), device=device)[:, None]
    keys[:, within] = start + element * inner**3 + torch.arange(inner**3, device=device)
    return keys, face, uses


def _faces(corners: Tensor, vertex_count: int) -> tuple[Tensor, Tensor]:
    """Number (E, 6) of each face by its set of corners (E, 6, 4), and uses of each number."""
    ordered = corners.sort(dim=2).values
    halves = ordered[..., ::2] * vertex_count + ordered[..., 1::2]
    unique, half = torch.unique(halves, return_inverse=True)
    _, face, uses = torch.unique(
        half[..., 0] * len(unique) + half[..., 1], return_inverse=True, return_counts=True
    )
    return face, uses
