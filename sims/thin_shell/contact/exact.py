"""Intersection of two triangles in exact arithmetic, for the pairs that rounding leaves open.

Every float64 is an integer times a power of two, so coordinates on one common power are integers,
and signs of determinants of integers are exact.
"""

from __future__ import annotations

from itertools import combinations
from math import frexp

Point = tuple[int, ...]
MANTISSA = 53  # bits of a float64
AXES = ((1, 2), (2, 0), (0, 1))  # the coordinates that are left along each axis


def integers(points: list[list[float]]) -> list[Point]:
    """Points as integers, all times the same power of two."""
    smallest = min((frexp(x)[1] for row in points for x in row if x), default=0) - MANTISSA

    def scaled(x: float) -> int:
        mantissa, exponent = frexp(x)
        return int(mantissa * 2.0**MANTISSA) << (exponent - MANTISSA - smallest) if x else 0

    return [tuple(scaled(x) for x in row) for row in points]


def triangles_meet(
    face: tuple[int, ...], other: tuple[int, ...], first: list[Point], second: list[Point]
) -> bool:
    """Whether faces (3 vertices each) with corners `first`, `second` have a point in common.

    A vertex that both have does not count, nor does an edge, but what goes beyond it does. Closed
    triangles: to touch is to meet.
    """
    shared = [k for k in range(3) if face[k] in other]
    if len(shared) == 3:
        return True
    own = [k for k in range(3) if k not in shared]
    theirs = [k for k in range(3) if other[k] not in face]
    if len(shared) == 2:
        a, b = (first[k] for k in shared)
        c, d = first[own[0]], second[theirs[0]]
        # only a plane in common, with both on the same side of the edge, is more than the edge
        return _volume(a, b, c, d) == 0 and any(
            _area(a, b, c, i, j) * _area(a, b, d, i, j) > 0 for i, j in AXES
        )
    # what meets beyond a common vertex does so on the edge opposite of it, of one or the other
    edges = [(first[p], first[q], second) for p, q in combinations(own, 2)]
    edges += [(second[p], second[q], first) for p, q in combinations(theirs, 2)]
    return any(_pierces(p, q, triangle) for p, q, triangle in edges)


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)


def _volume(a: Point, b: Point, c: Point, d: Point) -> int:
    """Sign of the volume of a, b, c, d."""
    x, y, z = (tuple(p - q for p, q in zip(corner, d, strict=True)) for corner in (a, b, c))
    return _sign(
        x[2] * (y[0] * z[1] - y[1] * z[0])
        + y[2] * (z[0] * x[1] - z[1] * x[0])
        + z[2] * (x[0] * y[1] - x[1] * y[0])
    )


def _area(a: Point, b: Point, c: Point, i: int, j: int) -> int:
    """Sign of the area of a, b, c on coordinates i, j."""
    return _sign((a[i] - c[i]) * (b[j] - c[j]) - (a[j] - c[j]) * (b[i] - c[i]))


def _pierces(p: Point, q: Point, triangle: list[Point]) -> bool:
    """Whether the segment p, q meets a triangle, also one that is a line."""
    a, b, c = triangle
    start, end = _volume(a, b, c, p), _volume(a, b, c, q)
    if start * end > 0:
        return False
    if start == end == 0:
        # all in one plane, which one of the axes at least shows as it is
        return all(_meets_flat(p, q, triangle, i, j) for i, j in AXES)
    around = {_volume(p, q, a, b), _volume(p, q, b, c), _volume(p, q, c, a)}
    return not {1, -1} <= around


def _meets_flat(p: Point, q: Point, triangle: list[Point], i: int, j: int) -> bool:
    a, b, c = triangle
    around = {_area(a, b, p, i, j), _area(b, c, p, i, j), _area(c, a, p, i, j)}
    if around in ({1}, {-1}):
        return True
    return any(_cross_flat(p, q, s, t, i, j) for s, t in ((a, b), (b, c), (c, a)))


def _cross_flat(p: Point, q: Point, s: Point, t: Point, i: int, j: int) -> bool:
    """Whether the segments p, q and s, t have a point in common, on coordinates i, j."""
    if _area(p, q, s, i, j) * _area(p, q, t, i, j) > 0:
        return False
    if _area(s, t, p, i, j) * _area(s, t, q, i, j) > 0:
        return False
    # decisive for segments on one line
    return all(
        max(p[k], q[k]) >= min(s[k], t[k]) and max(s[k], t[k]) >= min(p[k], q[k]) for k in (i, j)
    )
