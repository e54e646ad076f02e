"""The kernel that turns a field into one bit for each grid point, built once for each precision."""

from functools import cache
from types import SimpleNamespace
from typing import Any

import warp as wp


@cache
def sign_kernels(scalar: Any) -> SimpleNamespace:
    """The kernel of one precision, wp.float32 or wp.float64, in a module of its own."""
    home = wp.get_module(f"{__name__}.{scalar.__name__}")
    vec4 = wp.types.vector(4, scalar)
    zero = wp.constant(scalar(0.0))

    @wp.kernel(module=home, enable_backward=False)
    def pack_signs(
        first: int,
        fours: wp.array(dtype=vec4),
        sdf: wp.array(dtype=scalar),
        points: int,
        inside: wp.array(dtype=wp.int64),
    ):
        """Bit p % 64 of word p // 64: whether point p is inside; 0 past the last point.

        Full words read the field through `fours`, four values at once, which the compiler turns
        into vector comparisons.
        """
        word = first + wp.tid()
        bits = wp.uint64(0)
        if 64 * word + 64 <= points:
            for part in range(16):
                values = fours[16 * word + part]
                for i in range(4):
                    bit = wp.uint64(1) << wp.uint64(4 * part + i)
                    bits |= wp.where(values[i] < zero, bit, wp.uint64(0))
        else:
            for i in range(points - 64 * word):
                bit = wp.uint64(1) << wp.uint64(i)
                bits |= wp.where(sdf[64 * word + i] < zero, bit, wp.uint64(0))
        inside[word] = wp.int64(bits)

    return SimpleNamespace(pack_signs=pack_signs)
