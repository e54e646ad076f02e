"""Kernel of the hinge against a wall; the derivatives of a flap stand in `flap_kernels`.

The wall's director stands still while the edge may turn, so that the angle has a second part: with
E = b - a and the coefficients t of a flap,

    alpha_x = w n / h + l t T,    T = (d . E) (E x d) / (l |E x d|^2),

which vanishes when the director is perpendicular to the edge; its derivative does not.
"""

import math
from functools import cache
from typing import Any

import warp as wp

from sims.thin_shell.energies.crease_kernels import crease_law
from sims.thin_shell.energies.flap_kernels import flap, position

ZERO = wp.constant(wp.float64(0.0))
ONE = wp.constant(wp.float64(1.0))
TWO = wp.constant(wp.float64(2.0))
HALF = wp.constant(wp.float64(0.5))
TURN = wp.constant(wp.float64(2.0 * math.pi))
INFINITE = wp.constant(wp.float64(math.inf))


@cache
def kernel() -> Any:
    """Value, gradient and Hessian of hinges against a wall."""
    home = wp.get_module(f"{__name__}.float64")

    @wp.kernel(module=home, enable_backward=False)
    def measure_wall_hinges(
        first: int,
        local: wp.array2d(dtype=wp.float64),
        director: wp.array2d(dtype=wp.float64),
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
        face = flap(a, b, position(local, hinge, 2))
        d = wp.vec3d(director[hinge, 0], director[hinge, 1], director[hinge, 2])
        edge = b - a
        across = wp.cross(edge, d)
        q = wp.dot(across, across)
        corners = wp.int32(3)  # a variable keeps the loops rolled up, and compilation short
        if not (face.valid and q > ZERO):
            value[hinge] = INFINITE
            if order > 0:
                for p in range(3 * corners):
                    gradient[hinge, p] = ZERO
            if order > 1:
                for p in range(3 * corners):
                    for r in range(3 * corners):
                        hessian[hinge, p, r] = ZERO
            return
        squared = wp.dot(edge, edge)
        length = wp.sqrt(squared)
        turn = wp.atan2(wp.dot(d, face.outward), wp.dot(d, face.normal)) - rest_angle[hinge]
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

        w = wp.vec3d(ONE - face.foot, face.foot, -ONE) / face.height
        t = wp.vec3d(ONE, -ONE, ZERO) / length
        lean = wp.dot(d, edge)
        twist = (lean / q) * across
        moment = law[1] * k * turn
        for j in range(corners):
            row = moment * (w[j] * face.normal + t[j] * twist)
            for p in range(3):
                gradient[hinge, 3 * j + p] = row[p]
        if order == 1:
            return

        tangent = law[1] * k + law[2] * (k * turn) * (k * turn)
        along = edge / length
        grown = edge / squared + (TWO / q) * (wp.dot(d, d) * edge - lean * d)
        # derivative of twist / length in the edge vector
        bent = (wp.outer(across, d - lean * grown) - lean * wp.skew(d)) / q
        for j in range(corners):
            row = w[j] * face.normal + t[j] * twist
            for i in range(corners):
                column = w[i] * face.normal + t[i] * twist
                tilted = t[j] * w[i] * along - (w[j] * w[i] + t[j] * t[i]) * face.outward
                second = (
                    wp.outer(face.normal, tilted)
                    + w[j] * wp.outer(t[i] * along - w[i] * face.outward, face.normal)
                    - t[j] * t[i] * length * bent
                )
                block = tangent * wp.outer(row, column) + moment * second
                for p in range(3):
                    for r in range(3):
                        hessian[hinge, 3 * j + p, 3 * i + r] = block[p, r]

    return measure_wall_hinges
