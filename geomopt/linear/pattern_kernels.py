"""Kernels that gather sums in a fixed order, and the product of a sparse matrix with a vector."""

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
        targets: wp.array(dtype=wp.int32),
        starts: wp.array(dtype=wp.int32),
        sources: wp.array(dtype=wp.int32),
        entries: wp.array(dtype=wp.float64),
        sums: wp.array(dtype=wp.float64),
    ):
        """Add to one sum the entries that belong to it; no other thread holds that sum."""
        i = first + wp.tid()
        total = wp.float64(0.0)
        for k in range(starts[i], starts[i + 1]):
            total += entries[sources[k]]
        target = targets[i]
        sums[target] = sums[target] + total

    @wp.kernel(module=home, enable_backward=False)
    def multiply(
        first: int,
        starts: wp.array(dtype=wp.int32),
        columns: wp.array(dtype=wp.int32),
        values: wp.array(dtype=wp.float64),
        vector: wp.array(dtype=wp.float64),
        product: wp.array(dtype=wp.float64),
    ):
        """One row of matrix times vector."""
        row = first + wp.tid()
        total = wp.float64(0.0)
        for k in range(starts[row], starts[row + 1]):
            total += values[k] * vector[columns[k]]
        product[row] = total

    @wp.kernel(module=home, enable_backward=False)
    def scale_entries(
        first: int,
        places: wp.array(dtype=wp.int32),
        rows: wp.array(dtype=wp.int32),
        columns: wp.array(dtype=wp.int32),
        scale: wp.array(dtype=wp.float64),
        values: wp.array(dtype=wp.float64),
        scaled: wp.array(dtype=wp.float64),
    ):
        """An entry of D A D, picked from the values of A."""
        i = first + wp.tid()
        scaled[i] = values[places[i]] * scale[rows[i]] * scale[columns[i]]

    return SimpleNamespace(
        add_contributions=add_contributions, multiply=multiply, scale_entries=scale_entries
    )
