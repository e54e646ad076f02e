"""Boxes around primitives, in single precision and rounded outwards."""

from functools import cache
from typing import Any

import warp as wp

ROUNDING = wp.constant(wp.float64(1.2e-7))  # two units of the last place of float32


@wp.func
def below(x: wp.float64):
    return wp.float32(x - wp.abs(x) * ROUNDING)


@wp.func
def above(x: wp.float64):
    return wp.float32(x + wp.abs(x) * ROUNDING)


@wp.func
def low_corner(x: wp.vec3d, spread: wp.float64):
    return wp.vec3f(below(x[0] - spread), below(x[1] - spread), below(x[2] - spread))


@wp.func
def high_corner(x: wp.vec3d, spread: wp.float64):
    return wp.vec3f(above(x[0] + spread), above(x[1] + spread), above(x[2] + spread))


@cache
def box_kernel() -> Any:
    """Boxes around primitives of any number of vertices, a spread about each of those."""
    home = wp.get_module(f"{__name__}.boxes")

    @wp.kernel(module=home, enable_backward=False)
    def surround(
        first: int,
        primitives: wp.array2d(dtype=wp.int32),
        positions: wp.array(dtype=wp.vec3d),
        spread: wp.array(dtype=wp.float64),
        lower: wp.array(dtype=wp.vec3f),
        upper: wp.array(dtype=wp.vec3f),
    ):
        """One box."""
        index = first + wp.tid()
        vertex = primitives[index, 0]
        low = low_corner(positions[vertex], spread[vertex])
        high = high_corner(positions[vertex], spread[vertex])
        for corner in range(1, primitives.shape[1]):
            vertex = primitives[index, corner]
            low = wp.min(low, low_corner(positions[vertex], spread[vertex]))
            high = wp.max(high, high_corner(positions[vertex], spread[vertex]))
        lower[index] = low
        upper[index] = high

    return surround
