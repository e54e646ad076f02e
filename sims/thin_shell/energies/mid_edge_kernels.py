"""Kernel of the mid-edge bending energy.

With edge vectors e_i (from corner i + 1 to i + 2), lengths l_i, normal n and double area A2, the
angle of edge i changes with corner j by

    d alpha_i / d x_j = -rho_ij n + (T_i if j = i + 2, -T_i if j = i + 1)

with rho_ij = e_i . e_j / (A2 l_i). The first part is the turn of the normal. The turn of the edge,
T_i = (d . e_i) (d x e_i) / (l_i |d x e_i|^2), counts where a director d is not perpendicular to it.
The second derivatives differentiate this once more, with d n / d x_k = c_k n^T, c_k = e_k x n / A2
and d A2 / d x_k = -A2 c_k. Weighted with moments M_i, and v = sum_i M_i e_i / (A2 l_i), they are

    -n r_jk^T - (v . e_j) c_k n^T +- M_i d T_i / d e_i,   r_jk = sum_i M_i d rho_ij / d x_k
"""

import math
from functools import cache
from typing import Any

import warp as wp

from sims.thin_shell.energies.crease_kernels import crease_law

ZERO = wp.constant(wp.float64(0.0))
ONE = wp.constant(wp.float64(1.0))
TWO = wp.constant(wp.float64(2.0))
TURN = wp.constant(wp.float64(2.0 * math.pi))
INFINITE = wp.constant(wp.float64(math.inf))
FLATTEST = 1e-12  # sine of the angle between two edges, or edge and director, that is too small
LEAST = wp.constant(wp.float64(FLATTEST))


@cache
def kernel() -> Any:
    """Value, gradient and Hessian of faces."""
    home = wp.get_module(f"{__name__}.float64")

    @wp.func(module=home)
    def turn_of_edge(d: wp.vec3d, e: wp.vec3d):
        """T of the module's text."""
        across = wp.cross(d, e)
        return wp.dot(d, e) / (wp.length(e) * wp.dot(across, across)) * across

    @wp.func(module=home)
    def turn_of_edge_slope(d: wp.vec3d, e: wp.vec3d):
        """Derivative (3, 3) of T in the edge vector."""
        across = wp.cross(d, e)
        q = wp.dot(across, across)
        squared = wp.dot(e, e)
        de = wp.dot(d, e)
        grown = e / squared + (wp.dot(d, d) * e - de * d) * (TWO / q)
        return (wp.outer(across, d - de * grown) + de * wp.skew(d)) / (wp.sqrt(squared) * q)

    @wp.func(module=home)
    def turns(j: int, dots: wp.mat33d, scale: wp.vec3d, n: wp.vec3d, edge_turn: wp.mat33d):
        """Change of the three angles with corner j, one row an angle; scale_i = 1 / (A2 l_i)."""
        rows = wp.mat33d()
        for i in range(3):
            rows[i] = (-dots[i, j] * scale[i]) * n
        a = (j + 1) % 3
        b = (j + 2) % 3
        rows[a] = rows[a] + edge_turn[a]
        rows[b] = rows[b] - edge_turn[b]
        return rows

    @wp.kernel(module=home, enable_backward=False)
    def measure_bending(
        first: int,
        local: wp.array2d(dtype=wp.float64),
        directors: wp.array3d(dtype=wp.float64),
        signs: wp.array2d(dtype=wp.float64),
        rest_angles: wp.array2d(dtype=wp.float64),
        stiffness: wp.array3d(dtype=wp.float64),
        bending: wp.array(dtype=wp.float64),
        yield_curvature: wp.array(dtype=wp.float64),
        hardening: wp.array(dtype=wp.float64),
        softness: wp.array(dtype=wp.float64),
        order: int,
        value: wp.array(dtype=wp.float64),
        gradient: wp.array2d(dtype=wp.float64),
        hessian: wp.array3d(dtype=wp.float64),
    ):
        """Value, then gradient (order > 0), then Hessian (order > 1) of one face."""
        face = first + wp.tid()
        corners = wp.int32(3)  # variables keep the loops rolled up, and compilation short
        unknowns = wp.int32(12)
        e = wp.mat33d()
        d = wp.mat33d()
        k = wp.mat33d()
        for i in range(3):
            for c in range(3):
                e[i, c] = local[face, (3 * i + 6) % 9 + c] - local[face, (3 * i + 3) % 9 + c]
                d[i, c] = directors[face, i, c]
                k[i, c] = stiffness[face, i, c]
        dots = e * wp.transpose(e)
        cross = wp.cross(e[0], e[1])
        longest = wp.max(dots[0, 0], wp.max(dots[1, 1], dots[2, 2]))
        area = wp.length(cross)  # twice the area
        valid = area > LEAST * longest
        for i in range(3):
            # a director along its edge has no angle about it
            across = wp.length(wp.cross(d[i], e[i]))
            valid = valid and across > LEAST * wp.length(d[i]) * wp.length(e[i])
        if not valid:
            value[face] = INFINITE
            if order > 0:
                for p in range(unknowns):
                    gradient[face, p] = ZERO
            if order > 1:
                for p in range(unknowns):
                    for q in range(unknowns):
                        hessian[face, p, q] = ZERO
            return

        n = cross / area
        length = wp.vec3d(wp.sqrt(dots[0, 0]), wp.sqrt(dots[1, 1]), wp.sqrt(dots[2, 2]))
        s = wp.vec3d(signs[face, 0], signs[face, 1], signs[face, 2])
        g = wp.vec3d()
        for i in range(3):
            out = wp.dot(wp.cross(d[i], e[i]), n) / length[i]
            alpha = s[i] * local[face, 9 + i] + wp.atan2(out, wp.dot(d[i], n))
            alpha -= TURN * wp.rint(alpha / TURN)
            g[i] = alpha - rest_angles[face, i]
        kg = k * g
        law = crease_law(
            wp.dot(g, kg) / TWO,
            bending[face],
            yield_curvature[face],
            hardening[face],
            softness[face],
        )
        value[face] = law[0]
        if order == 0:
            return

        moment = law[1] * kg
        turn = wp.mat33d()
        for i in range(3):
            turn[i] = turn_of_edge(d[i], e[i])
            gradient[face, 9 + i] = s[i] * moment[i]
        scale = wp.vec3d(ONE, ONE, ONE) / area
        for i in range(3):
            scale[i] = scale[i] / length[i]
        weight = wp.cw_mul(moment, scale)
        v = wp.transpose(e) * weight
        for j in range(3):
            a = (j + 1) % 3
            b = (j + 2) % 3
            part = moment[a] * turn[a] - moment[b] * turn[b] - wp.dot(v, e[j]) * n
            for c in range(3):
                gradient[face, 3 * j + c] = part[c]
        if order == 1:
            return

        tangent = law[1] * k + law[2] * wp.outer(kg, kg)
        slope = wp.mat33d()
        for j in range(corners):
            pulled = tangent * turns(j, dots, scale, n, turn)
            for i in range(3):
                for c in range(3):
                    entry = s[i] * pulled[i, c]
                    hessian[face, 9 + i, 3 * j + c] = entry
                    hessian[face, 3 * j + c, 9 + i] = entry
                hessian[face, 9 + i, 9 + j] = s[i] * s[j] * tangent[i, j]
            for l in range(j + 1):
                a = (l + 1) % 3
                b = (l + 2) % 3
                side = wp.cross(e[l], n) / area
                sigma = wp.dot(v, e[j])
                r = (
                    weight[a] * (e[j] - (dots[a, j] / dots[a, a]) * e[a])
                    - weight[b] * (e[j] - (dots[b, j] / dots[b, b]) * e[b])
                    + sigma * side
                )
                if l == (j + 1) % 3:
                    r -= v
                if l == (j + 2) % 3:
                    r += v
                if l == j:
                    slope = moment[a] * turn_of_edge_slope(d[a], e[a])
                    slope += moment[b] * turn_of_edge_slope(d[b], e[b])
                else:
                    i = 3 - j - l
                    slope = -moment[i] * turn_of_edge_slope(d[i], e[i])
                block = (
                    wp.transpose(pulled) * turns(l, dots, scale, n, turn)
                    - wp.outer(n, r)
                    - wp.outer(sigma * side, n)
                    + slope
                )
                for p in range(3):
                    for q in range(3):
                        hessian[face, 3 * j + p, 3 * l + q] = block[p, q]
                        hessian[face, 3 * l + q, 3 * j + p] = block[p, q]

    return measure_bending
