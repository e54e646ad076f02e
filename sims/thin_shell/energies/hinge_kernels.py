"""Kernel of the hinge energy; the derivatives of a flap stand in `flap_kernels`."""

import math
from functools import cache
from typing import Any

import warp as wp

from sims.thin_shell.energies.crease_kernels import crease_law
from sims.thin_shell.energies.flap_kernels import flap, position

ZERO = wp.constant(wp.float64(0.0))
ONE = wp.constant(wp.float64(1.0))
HALF = wp.constant(wp.float64(0.5))
TURN = wp.constant(wp.float64(2.0 * math.pi))
INFINITE = wp.constant(wp.float64(math.inf))


@cache
def kernel() -> Any:
    """Value, gradient and Hessian of hinges."""
    home = wp.get_module(f"{__name__}.float64")

    @wp.func(module=home)
    def mixed(
        along: wp.vec3d,
        outward: wp.vec3d,
        w: wp.vec4d,
        t: wp.vec4d,
        j: int,
        k: int,
    ):
        """B in the symmetric second derivative n B_jk^T + B_kj n^T; w comes over h, t over l."""
        return t[j] * w[k] * along - (w[j] * w[k] + HALF * t[j] * t[k]) * outward

    @wp.kernel(module=home, enable_backward=False)
    def measure_hinges(
        first: int,
        local: wp.array2d(dtype=wp.float64),
        rest_angle: wp.array(dtype=wp.float64),
        stiffness: wp.array(dtype=wp.float64),
        bending: wp.array(dtype=wp.float64),
        yield_curvature: wp.array(dtype=wp.float64),
        hardening: wp.array(dtype=wp.float64),
        softness: wp.array(dtype=wp.float64),
        order: int,
        value: wp.array(dtype=wp.float64),
        gradient: wp.array2d(dtype=wp.float64),
        hessian: wp.array3d(dtype=wp.float64),
    ):
        """Value, then gradient (order > 0), then Hessian (order > 1) of one hinge."""
        hinge = first + wp.tid()
        a = position(local, hinge, 0)
        b = position(local, hinge, 1)
        one = flap(a, b, position(local, hinge, 2))
        two = flap(b, a, position(local, hinge, 3))
        corners = wp.int32(4)  # a variable keeps the loops rolled up, and compilation short
        if not (one.valid and two.valid):
            value[hinge] = INFINITE
            if order > 0:
                for p in range(3 * corners):
                    gradient[hinge, p] = ZERO
            if order > 1:
                for p in range(3 * corners):
                    for q in range(3 * corners):
                        hessian[hinge, p, q] = ZERO
            return
        length = wp.length(b - a)
        along = (b - a) / length
        angle = wp.atan2(
            wp.dot(wp.cross(one.normal, two.normal), along), wp.dot(one.normal, two.normal)
        )
        turn = angle - rest_angle[hinge]
        turn -= TURN * wp.rint(turn / TURN)
        k = stiffness[hinge]
        law = crease_law(
            HALF * k * turn * turn,
            bending[hinge],
            yield_curvature[hinge],
            hardening[hinge],
            softness[hinge],
        )
        value[hinge] = law[0]
        if order == 0:
            return

        w1 = wp.vec4d(ONE - one.foot, one.foot, -ONE, ZERO) / one.height
        w2 = wp.vec4d(two.foot, ONE - two.foot, ZERO, -ONE) / two.height
        moment = law[1] * k * turn
        for j in range(corners):
            row = moment * (w1[j] * one.normal + w2[j] * two.normal)
            for p in range(3):
                gradient[hinge, 3 * j + p] = row[p]
        if order == 1:
            return

        tangent = law[1] * k + law[2] * (k * turn) * (k * turn)
        t1 = wp.vec4d(ONE, -ONE, ZERO, ZERO) / length
        t2 = -t1  # the second flap has the edge from b to a
        for j in range(corners):
            row = w1[j] * one.normal + w2[j] * two.normal
            for i in range(j + 1):
                column = w1[i] * one.normal + w2[i] * two.normal
                ji1 = mixed(along, one.outward, w1, t1, j, i)
                ij1 = mixed(along, one.outward, w1, t1, i, j)
                ji2 = mixed(-along, two.outward, w2, t2, j, i)
                ij2 = mixed(-along, two.outward, w2, t2, i, j)
                block = tangent * wp.outer(row, column) + moment * (
                    wp.outer(one.normal, ji1)
                    + wp.outer(ij1, one.normal)
                    + wp.outer(two.normal, ji2)
                    + wp.outer(ij2, two.normal)
                )
                for p in range(3):
                    for q in range(3):
                        hessian[hinge, 3 * j + p, 3 * i + q] = block[p, q]
                        hessian[hinge, 3 * i + q, 3 * j + p] = block[p, q]

    return measure_hinges
