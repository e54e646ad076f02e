"""Kernel of friction that is regularised in the velocity."""

from functools import cache
from typing import Any

import warp as wp

from sims.thin_shell.energies.friction_kernels import foreseen, slid, write_pair

ZERO = wp.constant(wp.float64(0.0))
ONE = wp.constant(wp.float64(1.0))
TWO = wp.constant(wp.float64(2.0))
THREE = wp.constant(wp.float64(3.0))


@wp.func
def creep_law(u: wp.vec3d, limit: wp.float64, e: wp.float64):
    """(W, f, h) of friction that creeps."""
    distance = wp.length(u)
    law = wp.vec3d(distance, ZERO, ZERO)
    if distance < e:
        law[0] = distance * distance * (ONE - distance / (THREE * e)) / e + e / THREE
        law[1] = (TWO - distance / e) / e
        if distance > ZERO:
            law[2] = -ONE / (e * e * distance)
    else:
        law[1] = ONE / distance
        law[2] = -ONE / (distance * distance * distance)
    return limit * law


@cache
def foresee_kernel() -> Any:
    """The forces of pairs after a linear step."""
    home = wp.get_module(f"{__name__}.foresee.float64")

    @wp.kernel(module=home, enable_backward=False)
    def foresee_creep_friction(
        first: int,
        local: wp.array2d(dtype=wp.float64),
        increment: wp.array2d(dtype=wp.float64),
        weights: wp.array2d(dtype=wp.float64),
        anchor: wp.array2d(dtype=wp.float64),
        normal: wp.array2d(dtype=wp.float64),
        limit: wp.array(dtype=wp.float64),
        reach: wp.array(dtype=wp.float64),
        pulls: wp.array2d(dtype=wp.float64),
        result: wp.array2d(dtype=wp.float64),
    ):
        """The force of one pair."""
        pair = first + wp.tid()
        u = slid(pair, local, weights, anchor, normal)
        law = creep_law(u, limit[pair], reach[pair])
        foreseen(pair, law, limit[pair], u, increment, weights, normal, pulls, result)

    return foresee_creep_friction


@cache
def kernel() -> Any:
    """Value, gradient and Hessian of pairs."""
    home = wp.get_module(f"{__name__}.float64")

    @wp.kernel(module=home, enable_backward=False)
    def measure_creep_friction(
        first: int,
        local: wp.array2d(dtype=wp.float64),
        weights: wp.array2d(dtype=wp.float64),
        anchor: wp.array2d(dtype=wp.float64),
        normal: wp.array2d(dtype=wp.float64),
        limit: wp.array(dtype=wp.float64),
        reach: wp.array(dtype=wp.float64),
        order: int,
        pulls: wp.array2d(dtype=wp.float64),
        value: wp.array(dtype=wp.float64),
        gradient: wp.array2d(dtype=wp.float64),
        hessian: wp.array3d(dtype=wp.float64),
    ):
        """Value, then gradient (order > 0), then Hessian (order > 1) of one pair."""
        pair = first + wp.tid()
        u = slid(pair, local, weights, anchor, normal)
        law = creep_law(u, limit[pair], reach[pair])
        write_pair(pair, law, u, weights, normal, order, pulls, value, gradient, hessian)

    return measure_creep_friction
