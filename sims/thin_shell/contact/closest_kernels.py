"""Closest points of a pair of primitives for kernels, with the rates that derivatives need.

The squared distance of a pair is the smallest |r|^2, r = sum_i w_i x_i, over parameters u of which
the weights are linear functions: barycentric coordinates of a face, shares along an edge. Bounds on
u leave two, one or none of them free, and which ones is found by comparison. With two free, p and q
the rates of r in them and X = p x q,

    u = -((r0 x q) . X, (p x r0) . X) / |X|^2,

where r0 is r at u = 0; if that lies outside of the bounds, the closest of the borders with one
parameter each is taken. Edges and faces without an inside, parallel or folded to a line, are left
to their borders, and those of no length to their ends, so every pair has an answer.
"""

from functools import cache
from typing import Any

import warp as wp

from sims.thin_shell.contact.pairs import EDGE_EDGE, VERTEX_EDGE, VERTEX_PLANE
from sims.thin_shell.energies.flap_kernels import position

ZERO = wp.constant(wp.float64(0.0))
ONE = wp.constant(wp.float64(1.0))
FAR = wp.constant(wp.float64(1e300))
FLAT = wp.constant(wp.float64(1e-20))  # squared sine between the two rates of r
EDGES = wp.constant(EDGE_EDGE)
PLANE = wp.constant(VERTEX_PLANE)
EDGE = wp.constant(VERTEX_EDGE)


@wp.struct
class Closest:
    """weights of the four points; apart = sum_i w_i x_i and its square [m2]; the number of free
    parameters, 0 to 2, and the rates of the weights in the first and second of them, else zero."""

    weights: wp.vec4d
    apart: wp.vec3d
    square: wp.float64
    free: int
    first: wp.vec4d
    second: wp.vec4d


@wp.func
def closer(best: Closest, weights: wp.vec4d, rate: wp.vec4d, start: wp.vec3d, along: wp.vec3d):
    """The better of `best` and weights + t rate, 0 <= t <= 1, at which r is start + t along."""
    square = wp.dot(along, along)
    share = ZERO
    free = wp.int32(0)
    if square > ZERO:
        share = -wp.dot(start, along) / square
        free = 1
        if not share > ZERO:
            share = ZERO
            free = 0
        if share >= ONE:
            share = ONE
            free = 0
    apart = start + share * along
    distance = wp.dot(apart, apart)
    if not distance < best.square:
        return best
    result = Closest()
    result.weights = weights + share * rate
    result.apart = apart
    result.square = distance
    result.free = free
    if free == 1:
        result.first = rate
    return result


@wp.func
def closest(kind: int, a: wp.vec3d, b: wp.vec3d, c: wp.vec3d, d: wp.vec3d):
    """Closest points of a pair of a kind of `pairs`, whose four points are a, b, c, d."""
    result = Closest()
    result.square = FAR
    if kind == EDGE:
        return closer(
            result, wp.vec4d(ONE, -ONE, ZERO, ZERO), wp.vec4d(ZERO, ONE, -ONE, ZERO), a - b, b - c
        )
    start = a - b
    p = b - c
    q = b - d
    weights = wp.vec4d(ONE, -ONE, ZERO, ZERO)
    first = wp.vec4d(ZERO, ONE, -ONE, ZERO)
    second = wp.vec4d(ZERO, ONE, ZERO, -ONE)
    if kind == EDGES:
        start = a - c
        p = b - a
        q = c - d
        weights = wp.vec4d(ONE, ZERO, -ONE, ZERO)
        first = wp.vec4d(-ONE, ONE, ZERO, ZERO)
        second = wp.vec4d(ZERO, ZERO, ONE, -ONE)
    normal = wp.cross(p, q)
    square = wp.dot(normal, normal)
    if square > FLAT * wp.dot(p, p) * wp.dot(q, q):
        u = -wp.dot(wp.cross(start, q), normal) / square
        v = -wp.dot(wp.cross(p, start), normal) / square
        inside = u > ZERO and v > ZERO
        if kind == EDGES:
            inside = inside and u < ONE and v < ONE
        else:
            inside = inside and u + v < ONE
        if inside or kind == PLANE:
            result.weights = weights + u * first + v * second
            result.apart = start + u * p + v * q
            result.square = wp.dot(result.apart, result.apart)
            result.free = 2
            result.first = first
            result.second = second
            return result
    result = closer(result, weights, first, start, p)
    result = closer(result, weights, second, start, q)
    if kind == EDGES:
        result = closer(result, weights + second, first, start + q, p)
        result = closer(result, weights + first, second, start + p, q)
    else:
        result = closer(result, weights + first, second - first, start + p, q - p)
    return result


@wp.func
def duals(found: Closest, a: wp.vec3d, b: wp.vec3d, c: wp.vec3d, d: wp.vec3d):
    """Vectors T_k with T_k . t_l = delta_kl for the rates t_l of r, zero for what is not free."""
    first = found.first[0] * a + found.first[1] * b + found.first[2] * c + found.first[3] * d
    second = found.second[0] * a + found.second[1] * b + found.second[2] * c + found.second[3] * d
    if found.free == 1:
        first /= wp.dot(first, first)
    if found.free == 2:
        cross = wp.cross(first, second)
        cross /= wp.dot(cross, cross)
        other = wp.cross(cross, first)
        first = wp.cross(second, cross)
        second = other
    return first, second


@wp.func
def row_of(rows: wp.array2d(dtype=wp.float64), row: int):
    return wp.vec4d(rows[row, 0], rows[row, 1], rows[row, 2], rows[row, 3])


@cache
def kernels() -> tuple[Any, Any, Any]:
    """Closest points for derivatives in torch; what they mean, and what that hands back.

    Weights (n, 4), their rates (n, 2, 4) and the dot products (n, 2, 2) of the dual vectors.
    Weights, |r| (n,) and r / |r| (n, 3). The derivative of a function of these in the points.
    """
    home = wp.get_module(f"{__name__}.float64")

    @wp.func(module=home)
    def found_in(local: wp.array2d(dtype=wp.float64), kind: wp.array(dtype=wp.float64), pair: int):
        """The closest points of a row, and their dual vectors."""
        a = position(local, pair, 0)
        b = position(local, pair, 1)
        c = position(local, pair, 2)
        d = position(local, pair, 3)
        found = closest(int(wp.rint(kind[pair])), a, b, c, d)
        first, second = duals(found, a, b, c, d)
        return found, first, second

    @wp.kernel(module=home, enable_backward=False)
    def find_closest(
        first: int,
        local: wp.array2d(dtype=wp.float64),
        kind: wp.array(dtype=wp.float64),
        weights: wp.array2d(dtype=wp.float64),
        rates: wp.array3d(dtype=wp.float64),
        products: wp.array3d(dtype=wp.float64),
    ):
        """One pair."""
        pair = first + wp.tid()
        found, one, two = found_in(local, kind, pair)
        products[pair, 0, 0] = wp.dot(one, one)
        products[pair, 0, 1] = wp.dot(one, two)
        products[pair, 1, 0] = wp.dot(one, two)
        products[pair, 1, 1] = wp.dot(two, two)
        for i in range(4):
            weights[pair, i] = found.weights[i]
            rates[pair, 0, i] = found.first[i]
            rates[pair, 1, i] = found.second[i]

    @wp.kernel(module=home, enable_backward=False)
    def find_touch(
        first: int,
        local: wp.array2d(dtype=wp.float64),
        kind: wp.array(dtype=wp.float64),
        weights: wp.array2d(dtype=wp.float64),
        distance: wp.array(dtype=wp.float64),
        direction: wp.array2d(dtype=wp.float64),
    ):
        """One pair."""
        pair = first + wp.tid()
        found, _one, _two = found_in(local, kind, pair)
        length = wp.sqrt(found.square)
        distance[pair] = length
        axis = wp.vec3d()
        if length > ZERO:
            axis = found.apart / length
        for i in range(4):
            weights[pair, i] = found.weights[i]
        for i in range(3):
            direction[pair, i] = axis[i]

    @wp.kernel(module=home, enable_backward=False)
    def hand_back(
        first: int,
        local: wp.array2d(dtype=wp.float64),
        kind: wp.array(dtype=wp.float64),
        weights: wp.array2d(dtype=wp.float64),
        distance: wp.array(dtype=wp.float64),
        direction: wp.array2d(dtype=wp.float64),
        result: wp.array2d(dtype=wp.float64),
    ):
        """One pair: weights, distance and direction are derivatives in these here."""
        pair = first + wp.tid()
        found, one, two = found_in(local, kind, pair)
        length = wp.sqrt(found.square)
        apart = wp.vec3d()
        if length > ZERO:
            axis = found.apart / length
            turn = wp.vec3d(direction[pair, 0], direction[pair, 1], direction[pair, 2])
            apart = distance[pair] * axis + (turn - wp.dot(turn, axis) * axis) / length
        share = row_of(weights, pair)
        for i in range(4):
            share[i] += wp.dot(apart, position(local, pair, i))
        # du_k = -T_k . dr - sum_l T_k . T_l r . dt_l
        u = wp.dot(share, found.first)
        v = wp.dot(share, found.second)
        pull = u * one + v * two
        spread = wp.dot(pull, one) * found.first + wp.dot(pull, two) * found.second
        for i in range(4):
            row = found.weights[i] * (apart - pull) - spread[i] * found.apart
            for p in range(3):
                result[pair, 3 * i + p] = row[p]

    return find_closest, find_touch, hand_back
