"""Irregular triangle meshes of a rectangle, with edges along given lines.

Points stand evenly along the sides and the lines; the others start on a shaken lattice and move to
the mean circumcentre of their triangles, weighted by area, which makes triangles close to
equilateral (optimal Delaunay triangulation; Chen and Xu 2004). A line keeps its edges in a Delaunay
triangulation as long as no point comes into the discs over them: points that do are taken out, and
an edge that is missing still is halved.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.spatial import Delaunay, KDTree

SAME = 1e-9  # of the longer side: points so close are one
APART = 0.6  # of the edge length: a free point starts no closer to a line
SHAKEN = 0.35  # of the edge length, to either side
ROUNDS = 40
HALVINGS = 12  # rounds in which edges of lines may be halved


def irregular_mesh(
    width: float, height: float, size: float, lines: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """points (V, 2) and faces (F, 3), counter-clockwise, of [0, width] x [0, height].

    size: edge length. lines (L, 2, 2): straight lines within the rectangle; they may meet, cross
    and overlap.
    """
    corners = np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
    sides = np.stack([corners, np.roll(corners, -1, axis=0)], axis=1)
    fixed, edges = _points_along(np.concatenate([sides, lines]), size, corners[2])
    free = _lattice(width, height, size)
    free = free[KDTree(fixed).query(free)[0] > APART * size]
    for _ in range(ROUNDS if len(free) else 0):
        free = _outside_discs(free, fixed, edges)
        points = np.concatenate([fixed, free])
        free = _relaxed(points, Delaunay(points).simplices)[len(fixed) :].clip(0, corners[2])
    for _ in range(HALVINGS):
        free = _outside_discs(free, fixed, edges)
        points = np.concatenate([fixed, free])
        faces = _faces(points)
        missing = ~_present(edges, faces, len(points))
        if not missing.any():
            break
        fixed, edges = _halved(fixed, edges, missing)
    return points, faces


def _points_along(
    segments: np.ndarray, size: float, corner: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Points (P, 2) on segments (S, 2, 2), about `size` apart, and the edges (M, 2) they make."""
    same = SAME * corner.max()
    points, edges, count = [], [], 0
    for segment in segments:
        begin, along = segment[0], segment[1] - segment[0]
        length = np.linalg.norm(along)
        knots = np.sort(np.concatenate([[0.0, 1.0], _meetings(segment, segments, same)]))
        knots = knots[np.diff(knots, prepend=-1.0) > same / length]
        for first, last in pairwise(knots):
            parts = max(1, round((last - first) * length / size))
            points.append(begin + np.linspace(first, last, parts + 1)[:, None] * along)
            edges.append(count + np.stack([np.arange(parts), np.arange(1, parts + 1)], axis=1))
            count += parts + 1
    return _merged(np.concatenate(points), np.concatenate(edges), same, corner)


def _meetings(segment: np.ndarray, others: np.ndarray, same: float) -> np.ndarray:
    """Places in [0, 1] along a segment where others cross it, or end on it."""
    begin, along = segment[0], segment[1] - segment[0]
    length = np.linalg.norm(along)
    ends = others.reshape(-1, 2) - begin
    place = ends @ along / length**2
    away = np.abs(_cross(along, ends)) / length
    on = place[away < same]
    directions = others[:, 1] - others[:, 0]
    turn = _cross(along, directions)
    crossing = np.abs(turn) > SAME * length * np.linalg.norm(directions, axis=1)
    offsets = (others[:, 0] - begin)[crossing]
    here = _cross(offsets, directions[crossing]) / turn[crossing]
    there = _cross(offsets, along) / turn[crossing]
    slack = same / np.linalg.norm(directions[crossing], axis=1)
    met = here[(there > -slack) & (there < 1 + slack)]
    found = np.concatenate([on, met])
    return found[(found > 0) & (found < 1)]


def _merged(
    points: np.ndarray, edges: np.ndarray, same: float, corner: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Points that are different, exactly on the sides where they are there, and their edges."""
    points = np.where(np.abs(points) < same, 0.0, points)
    points = np.where(np.abs(points - corner) < same, corner, points)
    keeper = np.arange(len(points))
    pairs = KDTree(points).query_pairs(2 * same, output_type="ndarray")
    np.minimum.at(keeper, pairs.max(axis=1), pairs.min(axis=1))
    kept, numbers = np.unique(keeper, return_inverse=True)
    edges = np.unique(np.sort(numbers[edges], axis=1), axis=0)
    return points[kept], edges[edges[:, 0] != edges[:, 1]]


def _lattice(width: float, height: float, size: float) -> np.ndarray:
    """Points of a triangular lattice, shaken; the same ones for the same arguments."""
    rows = np.arange(0.0, height, size * np.sqrt(0.75))
    columns = np.arange(0.0, width, size)
    x = columns[None, :] + size / 2 * (np.arange(len(rows)) % 2)[:, None]
    lattice = np.stack([x, np.broadcast_to(rows[:, None], x.shape)], axis=2).reshape(-1, 2)
    shaken = lattice + SHAKEN * size * np.random.default_rng(0).uniform(-1, 1, lattice.shape)
    inside = (shaken > 0).all(axis=1) & (shaken < [width, height]).all(axis=1)
    return shaken[inside]


def _relaxed(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Points at the mean circumcentre of their triangles, weighted by area."""
    a, b, c = points[triangles].transpose(1, 0, 2)
    b, c = b - a, c - a
    area = _cross(b, c) / 2
    lengths = np.stack([(b * b).sum(1), (c * c).sum(1)])
    turned = np.stack([c[:, 1] * lengths[0] - b[:, 1] * lengths[1],
                       b[:, 0] * lengths[1] - c[:, 0] * lengths[0]], axis=1)  # fmt: skip
    # area times circumcentre; a sliver would divide by zero in between
    weighted = np.abs(area)[:, None] * a + np.sign(area)[:, None] * turned / 4
    count = len(points)
    corners = triangles.ravel()
    total = np.bincount(corners, np.repeat(np.abs(area), 3), count)
    sums = [np.bincount(corners, np.repeat(weighted[:, axis], 3), count) for axis in range(2)]
    return np.stack(sums, axis=1) / total[:, None]


def _outside_discs(free: np.ndarray, fixed: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Free points that are in no disc over an edge."""
    ends = fixed[edges]
    radii = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1) / 2
    if not len(free):
        return free
    inside = KDTree(free).query_ball_point(ends.mean(axis=1), radii * (1 + 1e-6))
    kept = np.ones(len(free), dtype=bool)
    kept[np.concatenate([np.array(found, dtype=int) for found in inside])] = False
    return free[kept]


def _faces(points: np.ndarray) -> np.ndarray:
    """The triangles of a Delaunay triangulation, counter-clockwise, without flat ones on sides."""
    faces = Delaunay(points).simplices.astype(np.int64)
    a, b, c = points[faces].transpose(1, 0, 2)
    area = _cross(b - a, c - a)
    faces = np.where((area > 0)[:, None], faces, faces[:, [0, 2, 1]])
    return faces[np.abs(area) > 1e-12 * np.square(points.max(axis=0) - points.min(axis=0)).max()]


def _present(edges: np.ndarray, faces: np.ndarray, count: int) -> np.ndarray:
    """Which edges (M, 2) are sides of faces."""
    sides = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    return np.isin(edges @ [count, 1], sides @ [count, 1])


def _halved(
    fixed: np.ndarray, edges: np.ndarray, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Points and edges with a new point in the middle of the chosen edges."""
    first, last = edges[chosen].T
    middle = len(fixed) + np.arange(len(first))
    halves = [np.stack(pair, axis=1) for pair in ((first, middle), (last, middle))]
    points = np.concatenate([fixed, fixed[edges[chosen]].mean(axis=1)])
    return points, np.concatenate([edges[~chosen], *halves])


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
