"""How pairs turn, and what a function of it hands back, as kernels.

A pair has a frame f1 = A / |A|, f3 = A x B / |A x B|, f2 = f3 x f1. A and B are two edges of a face
or a plane; of an edge, they are its direction and the normal of the pair. The turn from F to F' is
R = F' F^T. Where A and B span no plane, as with a point, it is the smallest one from the normal n
to n', R = 1 - (n + n')(n + n')^T / (1 + n . n') + 2 n' n^T.
"""

from functools import cache
from typing import Any

import warp as wp

from sims.thin_shell.contact.closest_kernels import EDGE, EDGES
from sims.thin_shell.energies.flap_kernels import position

ONE = wp.constant(wp.float64(1.0))
TWO = wp.constant(wp.float64(2.0))
SKEW = wp.constant(wp.float64(1e-6))  # sine below which A and B span no plane
OVER = wp.constant(wp.float64(1e-6))  # 1 + n . n' below which a pair has turned over


@wp.struct
class Frame:
    along: wp.vec3d
    side: wp.vec3d
    first: wp.vec3d
    second: wp.vec3d
    third: wp.vec3d
    valid: bool


@wp.func
def vector_of(rows: wp.array2d(dtype=wp.float64), row: int):
    return wp.vec3d(rows[row, 0], rows[row, 1], rows[row, 2])


@wp.func
def frame_of(kind: int, points: wp.array2d(dtype=wp.float64), axis: wp.vec3d, pair: int):
    result = Frame()
    a = position(points, pair, 1)
    b = position(points, pair, 2)
    c = position(points, pair, 3)
    result.along = b - a
    result.side = axis
    if kind == EDGES:
        result.along = c - b
    elif kind != EDGE:
        result.side = c - a
    up = wp.cross(result.along, result.side)
    length = wp.length(result.along)
    result.valid = wp.length(up) > SKEW * length * wp.length(result.side)
    if result.valid:
        result.first = result.along / length
        result.third = wp.normalize(up)
        result.second = wp.cross(result.third, result.first)
    return result


@wp.func
def columns(frame: Frame):
    return wp.matrix_from_cols(frame.first, frame.second, frame.third)


@wp.func
def smallest_divisor(both: wp.vec3d):
    """1 + n . n'. A pair that has turned over is far apart, and its slip is worth nothing."""
    share = wp.dot(both, both) / TWO
    if share > OVER:
        return share
    return ONE


@wp.func
def write_frame(
    kind: int,
    frame: Frame,
    given: wp.mat33d,
    pair: int,
    to_points: wp.array2d(dtype=wp.float64),
    to_axis: wp.array2d(dtype=wp.float64),
):
    """Derivatives in what a frame is made of, from those `given` in its columns."""
    second = wp.vec3d(given[0, 1], given[1, 1], given[2, 1])
    first = wp.vec3d(given[0, 0], given[1, 0], given[2, 0]) + wp.cross(second, frame.third)
    third = wp.vec3d(given[0, 2], given[1, 2], given[2, 2]) + wp.cross(frame.first, second)
    up = third - wp.dot(third, frame.third) * frame.third
    up /= wp.length(wp.cross(frame.along, frame.side))
    along = first - wp.dot(first, frame.first) * frame.first
    along = along / wp.length(frame.along) + wp.cross(frame.side, up)
    side = wp.cross(up, frame.along)
    for p in range(3):
        if kind == EDGES:
            to_points[pair, 6 + p] = -along[p]
            to_points[pair, 9 + p] = along[p]
            to_axis[pair, p] = side[p]
        elif kind == EDGE:
            to_points[pair, 3 + p] = -along[p]
            to_points[pair, 6 + p] = along[p]
            to_axis[pair, p] = side[p]
        else:
            to_points[pair, 3 + p] = -along[p] - side[p]
            to_points[pair, 6 + p] = along[p]
            to_points[pair, 9 + p] = side[p]


@cache
def kernels() -> tuple[Any, Any]:
    """Turns (n, 3, 3); and derivatives in the points and normals, which start from zero."""
    home = wp.get_module(f"{__name__}.float64")

    @wp.kernel(module=home, enable_backward=False)
    def find_turns(
        first: int,
        kinds: wp.array(dtype=wp.int32),
        before: wp.array2d(dtype=wp.float64),
        after: wp.array2d(dtype=wp.float64),
        axis: wp.array2d(dtype=wp.float64),
        axis_after: wp.array2d(dtype=wp.float64),
        turns: wp.array3d(dtype=wp.float64),
    ):
        """One pair."""
        pair = first + wp.tid()
        old = vector_of(axis, pair)
        new = vector_of(axis_after, pair)
        start = frame_of(kinds[pair], before, old, pair)
        end = frame_of(kinds[pair], after, new, pair)
        both = old + new
        turn = wp.identity(3, dtype=wp.float64) + TWO * wp.outer(new, old)
        turn -= wp.outer(both, both) / smallest_divisor(both)
        if start.valid and end.valid:
            turn = columns(end) * wp.transpose(columns(start))
        for p in range(3):
            for q in range(3):
                turns[pair, p, q] = turn[p, q]

    @wp.kernel(module=home, enable_backward=False)
    def hand_back_turns(
        first: int,
        kinds: wp.array(dtype=wp.int32),
        before: wp.array2d(dtype=wp.float64),
        after: wp.array2d(dtype=wp.float64),
        axis: wp.array2d(dtype=wp.float64),
        axis_after: wp.array2d(dtype=wp.float64),
        turns: wp.array3d(dtype=wp.float64),
        to_before: wp.array2d(dtype=wp.float64),
        to_after: wp.array2d(dtype=wp.float64),
        to_axis: wp.array2d(dtype=wp.float64),
        to_axis_after: wp.array2d(dtype=wp.float64),
    ):
        """One pair, from the derivatives `turns` in its turn."""
        pair = first + wp.tid()
        kind = kinds[pair]
        old = vector_of(axis, pair)
        new = vector_of(axis_after, pair)
        given = wp.matrix(shape=(3, 3), dtype=wp.float64)
        for p in range(3):
            for q in range(3):
                given[p, q] = turns[pair, p, q]
        start = frame_of(kind, before, old, pair)
        end = frame_of(kind, after, new, pair)
        if start.valid and end.valid:
            write_frame(kind, start, wp.transpose(given) * columns(end), pair, to_before, to_axis)
            write_frame(kind, end, given * columns(start), pair, to_after, to_axis_after)
            return
        both = old + new
        divisor = smallest_divisor(both)
        pull = given * both
        common = -(pull + wp.transpose(given) * both) / divisor
        if wp.dot(both, both) > TWO * OVER:
            common += wp.dot(both, pull) / (divisor * divisor) * both
        to_old = common + TWO * wp.transpose(given) * new
        to_new = common + TWO * given * old
        for p in range(3):
            to_axis[pair, p] = to_old[p]
            to_axis_after[pair, p] = to_new[p]

    return find_turns, hand_back_turns
