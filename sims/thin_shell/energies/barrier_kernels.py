"""Kernel of the barrier energy.

With g = |r| - offset, n = r / |r| and the free parameters u of the closest points, whose rates of r
are t_k and of the weights w'_k, the derivatives of the gap are those of the smallest distance,

    g_i = w_i n,    g_ij = w_i w_j Q / |r| - w_i s_j n^T - w_j n s_i^T - |r| (s_i . s_j) n n^T,

s_i = sum_k w'_k,i T_k with the dual vectors T_k . t_l = delta_kl, and Q the projection on what is
normal to n and all t_k. Nothing in it is a difference of large numbers, however small |r|.

The mollifier is a function of c = |X|^2, X = p x q for the edges p and q:

    c_p = 2 q x X,    c_q = 2 X x p,    c_pp = 2 (|q|^2 I - q q^T),    c_qq likewise,
    c_pq = 2 (2 p q^T - q p^T - (p . q) I).

The projected Hessian bounds the exact one from above, term by term and without eigenvalues:
a b^T + b a^T <= alpha a a^T + b b^T / alpha for the mixed terms, nothing for the negative ones.
"""

from functools import cache
from typing import Any

import warp as wp

from sims.thin_shell.contact.closest_kernels import EDGES, PLANE, Closest, closest, duals
from sims.thin_shell.energies.flap_kernels import position

ZERO = wp.constant(wp.float64(0.0))
ONE = wp.constant(wp.float64(1.0))
TWO = wp.constant(wp.float64(2.0))
FOUR = wp.constant(wp.float64(4.0))
INFINITE = wp.constant(wp.float64(wp.inf))


@wp.struct
class Mollifier:
    """m(c), m', m'' and what the derivatives of c come from."""

    value: wp.float64
    first: wp.float64
    second: wp.float64
    p: wp.vec3d
    q: wp.vec3d
    cross: wp.vec3d


@wp.func
def mollifier(kind: int, a: wp.vec3d, b: wp.vec3d, c: wp.vec3d, d: wp.vec3d, parallel: wp.float64):
    """1 - (1 - c / parallel)^2 below `parallel` for two edges, else 1."""
    result = Mollifier()
    result.value = ONE
    if kind == EDGES:
        result.p = b - a
        result.q = d - c
        result.cross = wp.cross(result.p, result.q)
        share = wp.dot(result.cross, result.cross) / parallel
        if share < ONE:
            result.value = share * (TWO - share)
            result.first = TWO * (ONE - share) / parallel
            result.second = -TWO / (parallel * parallel)
    return result


@wp.func
def barrier_law(y: wp.float64):
    """beta(y) = -(y - 1)^2 ln y with its first two derivatives, for 0 < y < 1."""
    logarithm = wp.log(y)
    low = y - ONE
    return wp.vec3d(
        -low * low * logarithm,
        -TWO * low * logarithm - low * low / y,
        -TWO * logarithm - FOUR * low / y + low * low / (y * y),
    )


@wp.func
def boxes_apart(kind: int, a: wp.vec3d, b: wp.vec3d, c: wp.vec3d, d: wp.vec3d):
    """Squared distance of the boxes along the axes around two primitives."""
    low = a
    high = a
    other_low = wp.min(c, d)
    other_high = wp.max(c, d)
    if kind == EDGES:
        low = wp.min(a, b)
        high = wp.max(a, b)
    else:
        other_low = wp.min(b, other_low)
        other_high = wp.max(b, other_high)
    square = ZERO
    for axis in range(3):
        room = wp.max(wp.max(other_low[axis] - high[axis], low[axis] - other_high[axis]), ZERO)
        square += room * room
    return square


@wp.func
def mollifier_rate(m: Mollifier, corner: int):
    """First derivative of c in a corner."""
    if corner < 2:
        rate = TWO * wp.cross(m.q, m.cross)
    else:
        rate = TWO * wp.cross(m.cross, m.p)
    if corner % 2 == 0:
        return -rate
    return rate


@wp.func
def mollifier_block(m: Mollifier, i: int, j: int, project: int):
    """Second derivative of c in the corners i and j, or its bound."""
    identity = wp.identity(3, dtype=wp.float64)
    p = m.p
    q = m.q
    if i > 1:
        p = m.q
        q = m.p
    if (i < 2) == (j < 2):
        block = wp.dot(q, q) * identity - wp.outer(q, q)
        if project > 0:  # 2 X . (dp x dq) <= |X| (|dp|^2 |q| / |p| + |dq|^2 |p| / |q|)
            block += wp.length(m.cross) * wp.length(q) / wp.length(p) * identity
    else:
        block = wp.outer(p, q) - wp.dot(p, q) * identity
        if project == 0:
            block += wp.outer(p, q) - wp.outer(q, p)
    if i % 2 != j % 2:
        return -TWO * block
    return TWO * block


@cache
def kernel() -> Any:
    """Value, gradient and Hessian of pairs."""
    home = wp.get_module(f"{__name__}.float64")

    @wp.kernel(module=home, enable_backward=False)
    def measure_barriers(
        first: int,
        local: wp.array2d(dtype=wp.float64),
        kinds: wp.array(dtype=wp.float64),
        stiffness: wp.array(dtype=wp.float64),
        ranges: wp.array(dtype=wp.float64),
        offset: wp.array(dtype=wp.float64),
        parallel: wp.array(dtype=wp.float64),
        order: int,
        project: int,
        value: wp.array(dtype=wp.float64),
        gradient: wp.array2d(dtype=wp.float64),
        hessian: wp.array3d(dtype=wp.float64),
    ):
        """Value, then gradient (order > 0), then Hessian (order > 1) of one pair."""
        pair = first + wp.tid()
        a = position(local, pair, 0)
        b = position(local, pair, 1)
        c = position(local, pair, 2)
        d = position(local, pair, 3)
        kind = int(wp.rint(kinds[pair]))
        reach = ranges[pair]
        corners = wp.int32(4)  # a variable keeps the loops rolled up, and compilation short
        outer = offset[pair] + reach
        gap = reach
        found = Closest()
        if kind == PLANE or boxes_apart(kind, a, b, c, d) < outer * outer:
            found = closest(kind, a, b, c, d)
            gap = wp.sqrt(found.square) - offset[pair]
        if gap >= reach or gap <= ZERO:
            value[pair] = wp.where(gap > ZERO, ZERO, INFINITE)
            if order > 0:
                for p in range(3 * corners):
                    gradient[pair, p] = ZERO
            if order > 1:
                for p in range(3 * corners):
                    for q in range(3 * corners):
                        hessian[pair, p, q] = ZERO
            return
        m = mollifier(kind, a, b, c, d, parallel[pair])
        law = stiffness[pair] * barrier_law(gap / reach)
        energy = reach * reach * law[0]
        slope = reach * law[1]
        value[pair] = m.value * energy
        if order == 0:
            return

        distance = wp.sqrt(found.square)
        normal = found.apart / distance
        w = found.weights
        for i in range(corners):
            row = m.value * slope * w[i] * normal
            if m.first > ZERO:
                row += energy * m.first * mollifier_rate(m, i)
            for p in range(3):
                gradient[pair, 3 * i + p] = row[p]
        if order == 1:
            return

        dual, other = duals(found, a, b, c, d)
        identity = wp.identity(3, dtype=wp.float64)
        across = wp.outer(normal, normal)
        along = wp.matrix(shape=(3, 3), dtype=wp.float64)
        if found.free == 1:
            along = wp.outer(dual, dual) / wp.dot(dual, dual)
        if found.free == 2:
            along = identity - across
        push = -m.value * slope
        main = m.value * law[2] * across
        mixed = push
        turning = push * distance
        if project == 0:
            main -= push / distance * (identity - across - along)
        else:
            mixed = ZERO
            total = ZERO
            for i in range(corners):
                spread = found.first[i] * dual + found.second[i] * other
                total += wp.dot(spread, spread)
            if total > ZERO:
                balance = wp.sqrt(total / (wp.float64(found.free) * wp.dot(w, w)))
                main += push * balance * along
                turning += push / balance
        bend = energy * m.first
        double = energy * m.second
        cross = slope * m.first
        if project > 0 and m.first > ZERO:
            double = ZERO
            rate = mollifier_rate(m, 0)
            other_rate = mollifier_rate(m, 2)
            square = TWO * (wp.dot(rate, rate) + wp.dot(other_rate, other_rate))
            if square > ZERO:
                balance = wp.sqrt(square / wp.dot(w, w))
                main -= cross * balance * across
                double = -cross / balance
            cross = ZERO
        for j in range(corners):
            spread = found.first[j] * dual + found.second[j] * other
            for i in range(j + 1):
                before = found.first[i] * dual + found.second[i] * other
                block = w[j] * w[i] * main + turning * wp.dot(spread, before) * across
                block += mixed * (w[j] * wp.outer(before, normal) + w[i] * wp.outer(normal, spread))
                if m.first > ZERO:
                    rate = mollifier_rate(m, j)
                    other_rate = mollifier_rate(m, i)
                    block += bend * mollifier_block(m, j, i, project)
                    block += double * wp.outer(rate, other_rate)
                    block += cross * (
                        w[j] * wp.outer(normal, other_rate) + w[i] * wp.outer(rate, normal)
                    )
                for p in range(3):
                    for q in range(3):
                        hessian[pair, 3 * j + p, 3 * i + q] = block[p, q]
                        hessian[pair, 3 * i + q, 3 * j + p] = block[p, q]

    return measure_barriers
