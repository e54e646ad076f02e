"""Kernel of anchored friction, and what all friction has in common.

An energy W of u = P (sum_i w_i x_i - anchor), P = 1 - n n^T, that depends on |u| alone has

    W_i = w_i f u,    W_ij = w_i w_j (f P + h u u^T),    f = W' / |u|,    h = (W'' - f) / |u|^2.

With a force t at hand for f u, that of `friction.foresee`, the Hessian has u t^T for f u u^T, made
symmetric; it is positive semi-definite as long as t is no longer than f u.
"""

from functools import cache
from typing import Any

import warp as wp

from sims.thin_shell.energies.crease_kernels import crease_law
from sims.thin_shell.energies.flap_kernels import position

ZERO = wp.constant(wp.float64(0.0))
HALF = wp.constant(wp.float64(0.5))


@wp.func
def row_vector(rows: wp.array2d(dtype=wp.float64), row: int):
    return wp.vec3d(rows[row, 0], rows[row, 1], rows[row, 2])


@wp.func
def slid(
    pair: int,
    local: wp.array2d(dtype=wp.float64),
    weights: wp.array2d(dtype=wp.float64),
    anchor: wp.array2d(dtype=wp.float64),
    normal: wp.array2d(dtype=wp.float64),
):
    """u of a pair."""
    apart = -row_vector(anchor, pair)
    for i in range(4):
        apart += weights[pair, i] * position(local, pair, i)
    axis = row_vector(normal, pair)
    return apart - wp.dot(apart, axis) * axis


@wp.func
def clipped(force: wp.vec3d, most: wp.float64):
    """A force made as short as `most`, if it is longer."""
    size = wp.length(force)
    if size > most:
        return most / size * force
    return force


@wp.func
def foreseen(
    pair: int,
    law: wp.vec3d,
    limit: wp.float64,
    u: wp.vec3d,
    increment: wp.array2d(dtype=wp.float64),
    weights: wp.array2d(dtype=wp.float64),
    normal: wp.array2d(dtype=wp.float64),
    pulls: wp.array2d(dtype=wp.float64),
    result: wp.array2d(dtype=wp.float64),
):
    """The force after a linear step, see `friction.foresee`."""
    rate = wp.vec3d()
    corners = wp.int32(4)
    for i in range(corners):
        rate += weights[pair, i] * position(increment, pair, i)
    axis = row_vector(normal, pair)
    rate -= wp.dot(rate, axis) * axis
    pull = law[1] * u
    if pulls.shape[0] > 0:
        pull = clipped(row_vector(pulls, pair), wp.length(pull))
    force = law[1] * (u + rate)
    if law[2] != ZERO:
        force += law[2] / law[1] * wp.dot(u, rate) * pull
    force = clipped(force, limit)
    for p in range(3):
        result[pair, p] = force[p]


@wp.func
def write_pair(
    pair: int,
    law: wp.vec3d,
    u: wp.vec3d,
    weights: wp.array2d(dtype=wp.float64),
    normal: wp.array2d(dtype=wp.float64),
    order: int,
    pulls: wp.array2d(dtype=wp.float64),
    value: wp.array(dtype=wp.float64),
    gradient: wp.array2d(dtype=wp.float64),
    hessian: wp.array3d(dtype=wp.float64),
):
    """W, its gradient and Hessian from law = (W, f, h); with `pulls` in the latter if there are."""
    value[pair] = law[0]
    corners = wp.int32(4)  # a variable keeps the loops rolled up, and compilation short
    if order > 0:
        force = law[1] * u
        for i in range(corners):
            for p in range(3):
                gradient[pair, 3 * i + p] = weights[pair, i] * force[p]
    if order > 1:
        axis = row_vector(normal, pair)
        block = law[1] * (wp.identity(3, dtype=wp.float64) - wp.outer(axis, axis))
        if pulls.shape[0] > 0:
            if law[2] != ZERO:
                pull = clipped(row_vector(pulls, pair), law[1] * wp.length(u))
                mixed = wp.outer(u, pull)
                block += HALF * law[2] / law[1] * (mixed + wp.transpose(mixed))
        else:
            block += law[2] * wp.outer(u, u)
        for i in range(corners):
            for j in range(corners):
                share = weights[pair, i] * weights[pair, j]
                for p in range(3):
                    for q in range(3):
                        hessian[pair, 3 * i + p, 3 * j + q] = share * block[p, q]


@wp.func
def spring_law(u: wp.vec3d, limit: wp.float64, k: wp.float64, softness: wp.float64):
    """(W, f, h) of a spring."""
    law = wp.vec3d()
    if limit > ZERO:
        law = crease_law(HALF * k * wp.dot(u, u), k, limit / k, ZERO, softness)
        law = wp.vec3d(law[0], k * law[1], k * k * law[2])
    return law


@cache
def foresee_kernel() -> Any:
    """The forces of anchored pairs after a linear step."""
    home = wp.get_module(f"{__name__}.foresee.float64")

    @wp.kernel(module=home, enable_backward=False)
    def foresee_friction(
        first: int,
        local: wp.array2d(dtype=wp.float64),
        increment: wp.array2d(dtype=wp.float64),
        weights: wp.array2d(dtype=wp.float64),
        anchor: wp.array2d(dtype=wp.float64),
        normal: wp.array2d(dtype=wp.float64),
        limit: wp.array(dtype=wp.float64),
        stiffness: wp.array(dtype=wp.float64),
        softness: wp.array(dtype=wp.float64),
        pulls: wp.array2d(dtype=wp.float64),
        result: wp.array2d(dtype=wp.float64),
    ):
        """The force of one pair."""
        pair = first + wp.tid()
        u = slid(pair, local, weights, anchor, normal)
        law = spring_law(u, limit[pair], stiffness[pair], softness[pair])
        foreseen(pair, law, limit[pair], u, increment, weights, normal, pulls, result)

    return foresee_friction


@cache
def kernel() -> Any:
    """Value, gradient and Hessian of anchored pairs."""
    home = wp.get_module(f"{__name__}.float64")

    @wp.kernel(module=home, enable_backward=False)
    def measure_friction(
        first: int,
        local: wp.array2d(dtype=wp.float64),
        weights: wp.array2d(dtype=wp.float64),
        anchor: wp.array2d(dtype=wp.float64),
        normal: wp.array2d(dtype=wp.float64),
        limit: wp.array(dtype=wp.float64),
        stiffness: wp.array(dtype=wp.float64),
        softness: wp.array(dtype=wp.float64),
        order: int,
        pulls: wp.array2d(dtype=wp.float64),
        value: wp.array(dtype=wp.float64),
        gradient: wp.array2d(dtype=wp.float64),
        hessian: wp.array3d(dtype=wp.float64),
    ):
        """Value, then gradient (order > 0), then Hessian (order > 1) of one pair."""
        pair = first + wp.tid()
        u = slid(pair, local, weights, anchor, normal)
        law = spring_law(u, limit[pair], stiffness[pair], softness[pair])
        write_pair(pair, law, u, weights, normal, order, pulls, value, gradient, hessian)

    return measure_friction
