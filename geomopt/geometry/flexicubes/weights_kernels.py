"""The adjoint of the map from raw to used weights."""

from functools import cache
from types import SimpleNamespace
from typing import Any

import warp as wp


@cache
def weight_kernels(scalar: Any) -> SimpleNamespace:
    """The kernel of one precision, wp.float32 or wp.float64."""
    home = wp.get_module(f"{__name__}.{scalar.__name__}")
    zero, one, two = (wp.constant(scalar(value)) for value in (0.0, 1.0, 2.0))

    @wp.kernel(module=home, enable_backward=False)
    def pull_back_weights(
        first: int,
        corner_weights: wp.array2d(dtype=scalar),
        edge_weights: wp.array2d(dtype=scalar),
        split_weights: wp.array(dtype=scalar),
        corner_gradient: wp.array2d(dtype=scalar),
        edge_gradient: wp.array2d(dtype=scalar),
        split_gradient: wp.array(dtype=scalar),
        corner_words: wp.array(dtype=wp.int64),
        edge_words: wp.array(dtype=wp.int64),
        words: int,
        reach: scalar,
        raw_gradient: wp.array2d(dtype=scalar),
    ):
        """Gradient of the 21 raw values of a cell, into zeros.

        A used value is h (1 + r tanh(h raw)) with h = 1, for the split weights 1/2. With t = used /
        h - 1 its slope is h^2 (r - t^2 / r). Only surface cells have a gradient, which is seen by
        looking at whole words of memory, `words` of them for four values.
        """
        cell = first + wp.tid()
        bits = wp.int64(0)
        for word in range(2 * words):
            bits |= corner_words[cell * 2 * words + word]
        for word in range(3 * words):
            bits |= edge_words[cell * 3 * words + word]
        if bits == wp.int64(0) and split_gradient[cell] == zero:
            return
        for corner in range(8):
            t = corner_weights[cell, corner] - one
            raw_gradient[cell, corner] = corner_gradient[cell, corner] * (reach - t * t / reach)
        for edge in range(12):
            t = edge_weights[cell, edge] - one
            raw_gradient[cell, 8 + edge] = edge_gradient[cell, edge] * (reach - t * t / reach)
        t = two * split_weights[cell] - one
        raw_gradient[cell, 20] = split_gradient[cell] * (reach - t * t / reach) / (two * two)

    return SimpleNamespace(pull_back_weights=pull_back_weights)
