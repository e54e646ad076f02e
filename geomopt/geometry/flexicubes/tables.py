"""The 256 cases of dual marching cubes, derived rather than listed.

Corner k of a cell stands at offset (k & 1, (k >> 1) & 1, (k >> 2) & 1) along (x, y, z). Edge e = 4
axis + q runs along `axis` from the q-th of the four corners that have no bit of that axis. A case
is the sum of 2^k over the inside corners.

Each case splits the crossing edges of the cell into closed loops, and each loop becomes one vertex
of the surface. On every face of the cell each run of inside corners is cut off by a segment between
two crossings; a crossing lies on two faces, so the segments chain into loops. Two cells that share
a face agree on its segments. When in both of them all four edges of that face belong to one loop,
though, the two vertices would be joined by an edge with four faces. Both cells then pair the
crossings the other way, which gives the loops of the complementary case (Shen et al. 2023, section
4.1; Schaefer's C16 and C19).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

LONGEST_LOOP = 7

# start corner and end corner of each of the twelve edges
EDGE_CORNERS = np.array(
    [(k, k | 1 << axis) for axis in range(3) for k in range(8) if not k >> axis & 1], dtype=np.int8
)
_EDGE_OF = {frozenset(pair): e for e, pair in enumerate(EDGE_CORNERS.tolist())}


def _faces() -> list[tuple[int, int, list[int]]]:
    """The six faces as (axis, side, four corners in cyclic order)."""
    faces = []
    for axis in range(3):
        b, c = 1 << (axis + 1) % 3, 1 << (axis + 2) % 3
        for side in range(2):
            start = side << axis
            faces.append((axis, side, [start, start | b, start | b | c, start | c]))
    return faces


def _ring() -> np.ndarray:
    """The edge that the four cells around a grid edge see it as, [3, 4].

    The cells stand counter-clockwise seen from the positive end: with b, c the axes that follow
    `axis` cyclically, at (+b, +c), (-b, +c), (-b, -c) and (+b, -c) of the edge.
    """
    ring = np.zeros((3, 4), dtype=np.int8)
    for axis in range(3):
        b, c = 1 << (axis + 1) % 3, 1 << (axis + 2) % 3
        for place, start in enumerate((0, b, b | c, c)):
            ring[axis, place] = _EDGE_OF[frozenset((start, start | 1 << axis))]
    return ring


RING_EDGES = _ring()


def _segments(case: int, corners: list[int]) -> list[tuple[int, int]]:
    """Pairs of crossing edges on one face: each run of inside corners is cut off."""
    inside = [bool(case >> k & 1) for k in corners]
    entering, leaving = [], []
    for place in range(4):
        following = (place + 1) % 4
        if inside[place] != inside[following]:
            edge = _EDGE_OF[frozenset((corners[place], corners[following]))]
            (leaving if inside[place] else entering).append((place, edge))
    pairs = []
    for place, edge in entering:
        # going on around the face, the first crossing that leaves ends the run that this one
        # entered
        exits = sorted(leaving, key=lambda other: (other[0] - place) % 4)
        pairs.append((edge, exits[0][1]))
    return pairs


def _loops(case: int) -> list[list[int]]:
    """Closed loops of crossing edges, ordered by their lowest edge, each sorted."""
    neighbours: dict[int, list[int]] = {}
    for _, _, corners in _faces():
        for first, second in _segments(case, corners):
            neighbours.setdefault(first, []).append(second)
            neighbours.setdefault(second, []).append(first)
    loops, seen = [], set()
    for start in sorted(neighbours):
        if start in seen:
            continue
        loop, ahead = [], [start]
        while ahead:
            edge = ahead.pop()
            if edge not in seen:
                seen.add(edge)
                loop.append(edge)
                ahead.extend(neighbours[edge])
        loops.append(sorted(loop))
    return loops


@dataclass(frozen=True)
class Tables:
    """Case tables as tensors; int8 except where said.

    loop_of_edge (256, 12): loop id of each edge, -1 where it does not cross.
    loop_count (256,): number of loops, 0 to 4.
    loop_crossings (256, 12) int16: the crossing edges, loop after loop, then -1; each as edge + 16
    start corner + 128 end corner, so that a kernel reads one number.
    loop_starts (256, 5): where each loop begins in `loop_crossings`; the entry after the last loop
    is the number of crossings.
    problem_face (256,): 2 axis + side of the one ambiguous face whose four edges share a loop, -1
    for the other cases.
    edge_corners (12, 2): start and end corner of an edge.
    ring_edges (3, 4): local edge seen by the four cells around a grid edge of each axis, see
    `_ring`.
    """

    loop_of_edge: Tensor
    loop_count: Tensor
    loop_crossings: Tensor
    loop_starts: Tensor
    problem_face: Tensor
    edge_corners: Tensor
    ring_edges: Tensor


@cache
def _derive() -> dict[str, np.ndarray]:
    loop_of_edge = np.full((256, 12), -1, dtype=np.int8)
    loop_crossings = np.full((256, 12), -1, dtype=np.int16)
    packed = np.arange(12) + EDGE_CORNERS @ np.array([16, 128])
    loop_starts = np.zeros((256, 5), dtype=np.int8)
    loop_count = np.zeros(256, dtype=np.int8)
    problem_face = np.full(256, -1, dtype=np.int8)
    for case in range(256):
        loops = _loops(case)
        loop_count[case] = len(loops)
        filled = 0
        for loop, edges in enumerate(loops):
            loop_of_edge[case, edges] = loop
            loop_crossings[case, filled : filled + len(edges)] = packed[edges]
            filled += len(edges)
            loop_starts[case, loop + 1 :] = filled
        for axis, side, corners in _faces():
            around = [_EDGE_OF[frozenset((corners[p], corners[(p + 1) % 4]))] for p in range(4)]
            joined = loop_of_edge[case, around]
            if joined[0] >= 0 and (joined == joined[0]).all():
                problem_face[case] = 2 * axis + side
    return {
        "loop_of_edge": loop_of_edge,
        "loop_count": loop_count,
        "loop_crossings": loop_crossings,
        "loop_starts": loop_starts,
        "problem_face": problem_face,
        "edge_corners": EDGE_CORNERS,
        "ring_edges": RING_EDGES,
    }


@cache
def tables(device: torch.device) -> Tables:
    """The case tables on `device`, derived once and shared."""
    return Tables(
        **{name: torch.as_tensor(table, device=device) for name, table in _derive().items()}
    )
