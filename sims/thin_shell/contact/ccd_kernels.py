"""How far a pair of primitives may move: additive continuous collision detection, in a kernel.

Points move linearly, x(t) = x + t p. Two convex primitives are apart by at least the width of the
slab between them, normal to any n; this width falls by at most

    v = max_b p_b . n - min_a p_a . n

a share of the move, with a over the points of the first primitive and b over those of the second.
So with n along the closest points, a share of 0.9 gap / v is safe, whatever else turns or slides
by. From there the closest points are found anew, until the gap is a tenth of that at the start or
the move is over (Li, Kaufman and Jiang 2021, Codimensional Incremental Potential Contact, section
5, where the rate is bounded by the longest relative moves, sharp only head on).

An unbounded plane turns more the further out it is seen. With c = e1 x e2 of its points, which
changes by dc in the whole move, |n(t) - n| <= 2 t |dc| / |c|, and so the rate is at most
-n . (p_v - p_f) + 2 |dc| / |c| (|r| + |p_v - p_f|), f being the foot.
"""

import warp as wp

from sims.thin_shell.contact.closest_kernels import closest
from sims.thin_shell.contact.pairs import EDGE_EDGE, VERTEX_PLANE

ZERO = wp.constant(wp.float64(0.0))
ONE = wp.constant(wp.float64(1.0))
TWO = wp.constant(wp.float64(2.0))
QUARTER = wp.constant(wp.float64(0.25))
LEFT = wp.constant(wp.float64(0.1))  # of the gap at the start
AIM = wp.constant(wp.float64(0.101))  # of it, where steps end that may not be told from LEFT
SCALE = wp.constant(wp.float64(0.9))  # of the gap, for steps that may end too near
MOST_STEPS = wp.constant(1000)
EDGES = wp.constant(EDGE_EDGE)
PLANE = wp.constant(VERTEX_PLANE)


@wp.func
def relative_length(kind: int, a: wp.vec3d, b: wp.vec3d, c: wp.vec3d, d: wp.vec3d):
    """The most by which moves of its points bring a pair together; a common part costs nothing."""
    mean = QUARTER * (a + b + c + d)
    first = wp.length_sq(a - mean)
    second = wp.max(wp.length_sq(c - mean), wp.length_sq(d - mean))
    if kind == EDGES:
        first = wp.max(first, wp.length_sq(b - mean))
    else:
        second = wp.max(second, wp.length_sq(b - mean))
    return wp.sqrt(first) + wp.sqrt(second)


@wp.func
def lowest(kind: int, n: wp.vec3d, a: wp.vec3d, b: wp.vec3d, c: wp.vec3d, d: wp.vec3d):
    """min n . (first - second) over the points of a pair."""
    first = wp.dot(n, a)
    second = wp.max(wp.dot(n, c), wp.dot(n, d))
    if kind == EDGES:
        first = wp.min(first, wp.dot(n, b))
    else:
        second = wp.max(second, wp.dot(n, b))
    return first - second


@wp.func
def plane_rate(
    n: wp.vec3d,
    distance: wp.float64,
    weights: wp.vec4d,
    b: wp.vec3d,
    c: wp.vec3d,
    d: wp.vec3d,
    pa: wp.vec3d,
    pb: wp.vec3d,
    pc: wp.vec3d,
    pd: wp.vec3d,
):
    """The most by which a point and an unbounded plane come together in the whole move."""
    e1 = c - b
    e2 = d - b
    q1 = pc - pb
    q2 = pd - pb
    turn = wp.length(wp.cross(e1, q2) + wp.cross(q1, e2)) + wp.length(wp.cross(q1, q2))
    moved = pa + weights[1] * pb + weights[2] * pc + weights[3] * pd
    rate = wp.max(ZERO, -wp.dot(n, moved))
    if turn > ZERO:
        rate += TWO * turn / wp.length(wp.cross(e1, e2)) * (distance + wp.length(moved))
    return rate


@wp.func
def safe_share(
    kind: int,
    offset: wp.float64,
    a: wp.vec3d,
    b: wp.vec3d,
    c: wp.vec3d,
    d: wp.vec3d,
    pa: wp.vec3d,
    pb: wp.vec3d,
    pc: wp.vec3d,
    pd: wp.vec3d,
):
    """The share of the move p that leaves a pair a tenth of its gap at least; 0 without a gap."""
    longest = relative_length(kind, pa, pb, pc, pd)
    safe = ZERO
    share = ZERO
    start = ZERO
    for step in range(MOST_STEPS):
        xa = a + share * pa
        xb = b + share * pb
        xc = c + share * pc
        xd = d + share * pd
        found = closest(kind, xa, xb, xc, xd)
        distance = wp.sqrt(found.square)
        gap = distance - offset
        if step == 0:
            start = gap
        if gap <= ZERO or gap < LEFT * start:
            return safe
        safe = share
        if safe == ONE:
            return ONE
        # near the end a step to the least gap would take for ever; longer ones may end too near
        far = gap > TWO * AIM * start
        closed = SCALE * gap
        if far:
            closed = gap - AIM * start
        n = found.apart / distance
        ahead = TWO
        if kind == PLANE:
            rate = plane_rate(n, distance, found.weights, xb, xc, xd, pa, pb, pc, pd)
            if rate > closed:
                ahead = closed / rate
        elif longest > closed:
            ahead = closed / longest
            # from one corner, so that large coordinates do not blur the width
            width = lowest(kind, n, xa - xd, xb - xd, xc - xd, xd - xd) - offset
            rate = -lowest(kind, n, pa, pb, pc, pd)
            closed -= gap - wp.min(gap, width)  # the slab is thinner if n is not quite the normal
            if closed > ZERO:
                if rate <= closed:
                    ahead = TWO
                else:
                    ahead = wp.max(ahead, closed / rate)
        if far and share + ahead >= ONE:
            return ONE
        share = wp.min(share + ahead, ONE)
    return safe
