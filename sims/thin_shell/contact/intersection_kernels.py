"""Kernels of the search for faces that intersect: pairs of boxes, and what is sure about them.

A sign of a determinant is sure when it is larger than its rounding errors can be, for differences
of the coordinates in float64 (Shewchuk 1997, Adaptive precision floating-point arithmetic and fast
robust geometric predicates, bounds A).
"""

from functools import cache
from typing import Any

import warp as wp

from sims.thin_shell.contact.tree_kernels import high_corner, low_corner

ZERO = wp.constant(wp.float64(0.0))
VOLUME_ERROR = wp.constant(wp.float64(8e-16))  # (7 + 56 u) u, u = 2^-53, and a little
AREA_ERROR = wp.constant(wp.float64(3.4e-16))  # (3 + 16 u) u, and a little
NO = wp.constant(0)
YES = wp.constant(1)
UNSURE = wp.constant(2)


@wp.func
def sure_sign(value: wp.float64, error: wp.float64):
    """1 or -1, or 0 if the sign is not sure."""
    if value > error:
        return 1
    if value < -error:
        return -1
    return 0


@wp.func
def side(a: wp.vec3d, b: wp.vec3d, c: wp.vec3d, d: wp.vec3d):
    """Which side of the plane a, b, c has d."""
    x = a - d
    y = b - d
    z = c - d
    yz1 = y[0] * z[1]
    yz2 = y[1] * z[0]
    zx1 = z[0] * x[1]
    zx2 = z[1] * x[0]
    xy1 = x[0] * y[1]
    xy2 = x[1] * y[0]
    value = x[2] * (yz1 - yz2) + y[2] * (zx1 - zx2) + z[2] * (xy1 - xy2)
    size = (
        wp.abs(x[2]) * (wp.abs(yz1) + wp.abs(yz2))
        + wp.abs(y[2]) * (wp.abs(zx1) + wp.abs(zx2))
        + wp.abs(z[2]) * (wp.abs(xy1) + wp.abs(xy2))
    )
    return sure_sign(value, VOLUME_ERROR * size)


@wp.func
def flat_side(a: wp.vec3d, b: wp.vec3d, c: wp.vec3d, i: int, j: int):
    """Which side of the line a, b has c, seen along an axis on coordinates i, j."""
    first = (a[i] - c[i]) * (b[j] - c[j])
    second = (a[j] - c[j]) * (b[i] - c[i])
    return sure_sign(first - second, AREA_ERROR * (wp.abs(first) + wp.abs(second)))


@wp.func
def pierces(p: wp.vec3d, q: wp.vec3d, a: wp.vec3d, b: wp.vec3d, c: wp.vec3d):
    """Whether the segment p, q has a point of the triangle a, b, c."""
    across = side(a, b, c, p) * side(a, b, c, q)
    if across == 1:
        return NO
    first = side(p, q, a, b)
    second = side(p, q, b, c)
    third = side(p, q, c, a)
    if first * second == -1 or second * third == -1 or third * first == -1:
        return NO
    if across == -1 and first * second == 1 and second * third == 1:
        return YES
    return UNSURE


@wp.func
def split_by(
    p: wp.vec3d, q: wp.vec3d, r: wp.vec3d, a: wp.vec3d, b: wp.vec3d, c: wp.vec3d, shared: int
):
    """Whether, along an axis, the line p, q parts r from a, b, c, of which the first `shared` are
    points of the line itself."""
    for axis in range(3):
        i = (axis + 1) % 3
        j = (axis + 2) % 3
        other = -flat_side(p, q, r, i, j)
        if other != 0:
            parted = flat_side(p, q, c, i, j) == other
            if shared < 2:
                parted = parted and flat_side(p, q, b, i, j) == other
            if shared < 1:
                parted = parted and flat_side(p, q, a, i, j) == other
            if parted:
                return True
    return False


@wp.func
def fanned(v: wp.vec3d, a: wp.vec3d, b: wp.vec3d, c: wp.vec3d, d: wp.vec3d):
    """Whether, along an axis, a line through v parts a, b from c, d; it need not be an edge, since
    edges of a flat mesh go on in each other."""
    between = wp.normalize(a - v) + wp.normalize(b - v)
    between -= wp.normalize(c - v) + wp.normalize(d - v)
    for axis in range(3):
        i = (axis + 1) % 3
        j = (axis + 2) % 3
        q = v
        q[i] = v[i] - between[j]
        q[j] = v[j] + between[i]
        one = flat_side(v, q, a, i, j)
        parted = one != 0 and flat_side(v, q, b, i, j) == one
        if parted and flat_side(v, q, c, i, j) == -one and flat_side(v, q, d, i, j) == -one:
            return True
    return False


@wp.func
def worse(first: int, second: int):
    """One sure yes is a yes, and one doubt leaves a doubt."""
    if first == YES or second == YES:
        return YES
    return wp.max(first, second)


@wp.func
def turned(face: wp.vec3i, start: int):
    return wp.vec3i(face[start], face[(start + 1) % 3], face[(start + 2) % 3])


@wp.func
def has(face: wp.vec3i, vertex: int):
    return face[0] == vertex or face[1] == vertex or face[2] == vertex


@wp.func
def aligned(face: wp.vec3i, other: wp.vec3i, shared: int):
    """A face turned so that what it shares with another comes first."""
    if shared == 1:
        if has(other, face[1]):
            return turned(face, 1)
        if has(other, face[2]):
            return turned(face, 2)
    if shared == 2:
        if not has(other, face[0]):
            return turned(face, 1)
        if not has(other, face[1]):
            return turned(face, 2)
    return face


@wp.func
def judge(face: wp.vec3i, other: wp.vec3i, positions: wp.array(dtype=wp.vec3d)):
    """Whether two faces intersect beyond the vertices that they share."""
    shared = wp.int32(0)
    for k in range(3):
        if has(other, face[k]):
            shared += 1
    if shared == 3:
        return YES
    one = aligned(face, other, shared)
    two = aligned(other, face, shared)
    a = positions[one[0]]
    b = positions[one[1]]
    c = positions[one[2]]
    d = positions[two[0]]
    e = positions[two[1]]
    f = positions[two[2]]
    if shared == 2:
        if side(a, b, c, f) != 0 or split_by(a, b, c, d, e, f, 2):
            return NO
        return UNSURE
    result = worse(pierces(b, c, d, e, f), pierces(e, f, a, b, c))
    if shared == 0 and result != YES:
        result = worse(result, worse(pierces(a, b, d, e, f), pierces(c, a, d, e, f)))
        result = worse(result, worse(pierces(d, e, a, b, c), pierces(f, d, a, b, c)))
    if result == UNSURE:
        apart = split_by(a, b, c, d, e, f, shared) or split_by(d, e, f, a, b, c, shared)
        apart = apart or split_by(a, c, b, d, e, f, shared) or split_by(d, f, e, a, b, c, shared)
        if shared == 1:
            apart = apart or fanned(a, b, c, e, f)
        if shared == 0:
            apart = apart or split_by(b, c, a, d, e, f, 0) or split_by(e, f, d, a, b, c, 0)
        if apart:
            return NO
    return result


@wp.func
def lowest_corner(face: wp.vec3i, positions: wp.array(dtype=wp.vec3d)):
    return wp.min(wp.min(positions[face[0]], positions[face[1]]), positions[face[2]])


@wp.func
def highest_corner(face: wp.vec3i, positions: wp.array(dtype=wp.vec3d)):
    return wp.max(wp.max(positions[face[0]], positions[face[1]]), positions[face[2]])


@wp.func
def reaches(high: wp.vec3d, low: wp.vec3d):
    return high[0] >= low[0] and high[1] >= low[1] and high[2] >= low[2]


@cache
def overlap_kernel() -> Any:
    """The later faces whose boxes each face meets, counted, or written where the counts said."""
    home = wp.get_module(f"{__name__}.overlap")

    @wp.kernel(module=home, enable_backward=False)
    def find_overlaps(
        first: int,
        tree: wp.uint64,
        faces: wp.array(dtype=wp.vec3i),
        positions: wp.array(dtype=wp.vec3d),
        fill: int,
        ends: wp.array(dtype=wp.int64),
        counts: wp.array(dtype=wp.int64),
        pairs: wp.array2d(dtype=wp.int32),
    ):
        """One face."""
        index = first + wp.tid()
        face = faces[index]
        low = lowest_corner(face, positions)
        high = highest_corner(face, positions)
        search = wp.bvh_query_aabb(tree, low_corner(low, ZERO), high_corner(high, ZERO))
        other = wp.int32(0)
        found = wp.int32(0)
        begin = wp.int32(0)
        if fill == 1:
            begin = int(ends[index] - counts[index])
        while wp.bvh_query_next(search, other):
            if other > index:
                next = faces[other]
                # the boxes of the tree are larger by their rounding
                if reaches(high, lowest_corner(next, positions)) and reaches(
                    highest_corner(next, positions), low
                ):
                    if fill == 1:
                        pairs[begin + found, 0] = index
                        pairs[begin + found, 1] = other
                    found += 1
        if fill == 0:
            counts[index] = wp.int64(found)

    return find_overlaps


@cache
def judge_kernel() -> Any:
    """What is sure about pairs of faces."""
    home = wp.get_module(f"{__name__}.judge")

    @wp.kernel(module=home, enable_backward=False)
    def judge_pairs(
        first: int,
        pairs: wp.array2d(dtype=wp.int32),
        faces: wp.array(dtype=wp.vec3i),
        positions: wp.array(dtype=wp.vec3d),
        verdict: wp.array(dtype=wp.int32),
    ):
        """One pair."""
        index = first + wp.tid()
        verdict[index] = judge(faces[pairs[index, 0]], faces[pairs[index, 1]], positions)

    return judge_pairs
