"""Kernels that gather sums in a fixed order, and the product of a sparse matrix with a vector.

A sum has few terms, so on CPU each thread takes `chunk` of them in a row: starting it costs more
than a sum. On CUDA the chunk is 1.
"""

from functools import cache
from types import SimpleNamespace

import warp as wp


@cache
def kernels() -> SimpleNamespace:
    """The kernels, in double precision."""
    home = wp.get_module(f"{__name__}.float64")

    @wp.kernel(module=home, enable_backward=False)
    def add_contributions(
        first: int,
        count: int,
        chunk: int,
        targets: wp.array(dtype=wp.int32),
        starts: wp.array(dtype=wp.int32),
        sources: wp.array(dtype=wp.int32),
        entries: wp.array(dtype=wp.float64),
        sums: wp.array(dtype=wp.float64),
    ):
        """Add to each sum the entries that belong to it; no other thread holds that sum."""
        begin = (first + wp.tid()) * chunk
        k = starts[begin]
        for i in range(begin, wp.min(begin + chunk, count)):
            total = wp.float64(0.0)
            stop = starts[i + 1]
            while k < stop:
                total += entries[sources[k]]
                k += 1
            target = targets[i]
            sums[target] = sums[target] + total

    @wp.kernel(module=home, enable_backward=False)
    def multiply(
        first: int,
        count: int,
        chunk: int,
        starts: wp.array(dtype=wp.int32),
        columns: wp.array(dtype=wp.int32),
        values: wp.array(dtype=wp.float64),
        vector: wp.array(dtype=wp.float64),
        product: wp.array(dtype=wp.float64),
    ):
        """Rows of matrix times vector."""
        begin = (first + wp.tid()) * chunk
        k = starts[begin]
        for row in range(begin, wp.min(begin + chunk, count)):
            total = wp.float64(0.0)
            stop = starts[row + 1]
            while k < stop:
                total += values[k] * vector[columns[k]]
                k += 1
            product[row] = total

    return SimpleNamespace(add_contributions=add_contributions, multiply=multiply)
