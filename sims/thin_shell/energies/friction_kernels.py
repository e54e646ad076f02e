"""Kernel of anchored friction, and what all friction has in common.

An energy W of u = P (sum_i w_i x_i - anchor), P = 1 - n n^T, that depends on |u| alone has

    W_i = w_i f u,    W_ij = w_i w_j (f P + h u u^T),    f = W' / |u|,    h = (W'' - f) / |u|^2.
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
def write_pair(
    pair: int,
    law: wp.vec3d,
    u: wp.vec3d,
    weights: wp.array2d(dtype=wp.float64),
    normal: wp.array2d(dtype=wp.float64),
    order: int,
    value: wp.array(dtype=wp.float64),
    gradient: wp.array2d(dtype=wp.float64),
    hessian: wp.array3d(dtype=wp.float64),
):
    """W, its gradient and Hessian from law = (W, f, h)."""
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
        block += law[2] * wp.outer(u, u)
        for i in range(corners):
            for j in range(corners):
                share = weights[pair, i] * weights[pair, j]
                for p in range(3):
                    for q in range(3):
                        hessian[pair, 3 * i + p, 3 * j + q] = share * block[p, q]


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
        value: wp.array(dtype=wp.float64),
        gradient: wp.array2d(dtype=wp.float64),
        hessian: wp.array3d(dtype=wp.float64),
    ):
        """Value, then gradient (order > 0), then Hessian (order > 1) of one pair."""
        pair = first + wp.tid()
        u = slid(pair, local, weights, anchor, normal)
        law = wp.vec3d()
        if limit[pair] > ZERO:
            k = stiffness[pair]
            law = crease_law(HALF * k * wp.dot(u, u), k, limit[pair] / k, ZERO, softness[pair])
            law = wp.vec3d(law[0], k * law[1], k * k * law[2])
        write_pair(pair, law, u, weights, normal, order, value, gradient, hessian)

    return measure_friction
