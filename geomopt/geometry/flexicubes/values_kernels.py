"""The kernel that looks at every weight, built once for each width of its bits."""

from functools import cache
from types import SimpleNamespace
from typing import Any

import warp as wp

LINE = 64  # bytes that are compared at once
LINES = wp.constant(64)  # lines of a run


@cache
def value_kernels(bits: Any) -> SimpleNamespace:
    """The kernel for values of one width, given as wp.uint32 or wp.uint64."""
    home = wp.get_module(f"{__name__}.{bits.__name__}")
    line = wp.types.vector(LINE // wp.types.type_size_in_bytes(bits), bits)

    @wp.kernel(module=home, enable_backward=False)
    def find_positive(
        first: int,
        lines: wp.array(dtype=line),
        stride: int,
        infinity: bits,
        positive: wp.array(dtype=wp.uint8),
    ):
        """Whether all values of four runs of lines are positive and finite.

        The bits of a float that is lie between 1 and those of infinity less one; of the others,
        zero wraps to the largest integer when one is taken off. The four runs are far apart, so
        that memory is read from four places at a time.
        """
        block = first + wp.tid()
        one = line(bits(1))
        a = line()
        b = line()
        c = line()
        d = line()
        for place in range(block * LINES, (block + 1) * LINES):
            a = wp.max(a, lines[place] - one)
            b = wp.max(b, lines[place + stride] - one)
            c = wp.max(c, lines[place + 2 * stride] - one)
            d = wp.max(d, lines[place + 3 * stride] - one)
        largest = wp.max(wp.max(wp.max(a, b), wp.max(c, d)))
        positive[block] = wp.where(largest < infinity - bits(1), wp.uint8(1), wp.uint8(0))

    return SimpleNamespace(find_positive=find_positive, line=line)
