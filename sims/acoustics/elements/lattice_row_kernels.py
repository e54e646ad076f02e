"""Kernels of the wave operator on a lattice of bricks, on rows of nodes.

The same sums from the same tables as in `lattice_kernels`, for the CPU: a thread takes the rows of
one plane of nodes, `width` neighbouring nodes at a time. The inner loops are written in C++, since
Warp's own array access costs several times the arithmetic.
"""

from functools import cache
from types import SimpleNamespace
from typing import Any

import warp as wp

# total + share times the sum over `count` neighbours, `stride` apart from `start` on
ACROSS = """
    #pragma clang fp contract(fast)
    const auto* centre = field.data + node;
    const auto* other = field.data + start;
    const auto* weight = weights.data + place;
    LANES sum;
    for (int step = 0; step < count; ++step, other += stride)
        for (int lane = 0; lane < WIDTH; ++lane)
            sum[lane] += weight[step] * (other[lane] - centre[lane]);
    for (int lane = 0; lane < WIDTH; ++lane)
        total[lane] += shares.data[share + lane] * sum[lane];
    return total;
"""
# the same along the lanes; at the ends of memory only what has a weight is read
ALONG = """
    #pragma clang fp contract(fast)
    const auto* centre = field.data + node;
    const auto* other = field.data + start;
    const auto* weight = weights.data + place;
    LANES sum;
    if (at_end)
        for (int step = 0; step < count; ++step, ++other, weight += stride)
            for (int lane = 0; lane < WIDTH; ++lane) {
                if (weight[lane] != 0)
                    sum[lane] += weight[lane] * (other[lane] - centre[lane]);
            }
    else
        for (int step = 0; step < count; ++step, ++other, weight += stride)
            for (int lane = 0; lane < WIDTH; ++lane)
                sum[lane] += weight[lane] * (other[lane] - centre[lane]);
    for (int lane = 0; lane < WIDTH; ++lane)
        total[lane] += shares.data[share + lane] * sum[lane];
    return total;
"""
STORE = """
    for (int lane = 0; lane < WIDTH; ++lane)
        field.data[node + lane] = value[lane];
"""
# lanes before `skip` were stepped with the block before
STEP = """
    #pragma clang fp contract(fast)
    const auto* p = pressure.data + node;
    const auto* a = acceleration.data + node;
    auto* old = previous.data + node;
    LANES next;
    for (int lane = 0; lane < WIDTH; ++lane)
        next[lane] = p[lane] + ((p[lane] - old[lane]) + (square * a[lane] + quartic * bent[lane]));
    if (skip == 0)
        for (int lane = 0; lane < WIDTH; ++lane)
            old[lane] = next[lane];
    else
        for (int lane = skip; lane < WIDTH; ++lane)
            old[lane] = next[lane];
"""


@cache
def row_kernels(scalar: Any, width: int) -> SimpleNamespace:
    """The kernels of one precision, one thread for each x; rows have at least `width` nodes."""
    home = wp.get_module(f"{__name__}.{scalar.__name__}.{width}")
    lanes = wp.types.vector(width, scalar)
    spelled = f"wp::vec_t<{width}, wp::{scalar.__name__}>"
    across_code, along_code, store_code, step_code = (
        code.replace("LANES", spelled).replace("WIDTH", str(width))
        for code in (ACROSS, ALONG, STORE, STEP)
    )

    @wp.func_native(snippet=across_code)
    def across(
        total: lanes,
        field: wp.array(dtype=scalar),
        node: int,
        start: int,
        stride: int,
        count: int,
        weights: wp.array(dtype=scalar),
        place: int,
        shares: wp.array(dtype=scalar),
        share: int,
    ) -> lanes: ...

    @wp.func_native(snippet=along_code)
    def along(
        total: lanes,
        field: wp.array(dtype=scalar),
        node: int,
        start: int,
        stride: int,
        count: int,
        weights: wp.array(dtype=scalar),
        place: int,
        shares: wp.array(dtype=scalar),
        share: int,
        at_end: bool,
    ) -> lanes: ...

    @wp.func_native(snippet=store_code)
    def store(field: wp.array(dtype=scalar), node: int, value: lanes): ...

    @wp.func_native(snippet=step_code)
    def step(
        pressure: wp.array(dtype=scalar),
        acceleration: wp.array(dtype=scalar),
        bent: lanes,
        square: scalar,
        quartic: scalar,
        previous: wp.array(dtype=scalar),
        node: int,
        skip: int,
    ): ...

    @wp.func(module=home)
    def aside(
        total: lanes,
        field: wp.array(dtype=scalar),
        node: int,
        stride: int,
        order: int,
        weights: wp.array(dtype=scalar),
        number: int,
        local: int,
        last: int,
        shares: wp.array(dtype=scalar),
        share: int,
        nz: int,
    ):
        """Add the part of x or y: `number` along the axis, `local` within its element."""
        place = 2 * order * number
        if local > 0:
            start = node - local * stride
            return across(
                total, field, node, start, stride, order + 1, weights, place, shares, share
            )
        if number > 0:
            start = node - order * stride
            total = across(total, field, node, start, stride, order, weights, place, shares, share)
        if number < last:
            start = node + stride
            place += order
            share += nz
            total = across(total, field, node, start, stride, order, weights, place, shares, share)
        return total

    @wp.func(module=home)
    def curve(
        field: wp.array(dtype=scalar),
        i: int,
        j: int,
        k: int,
        local_x: int,
        local_y: int,
        nx: int,
        ny: int,
        nz: int,
        order: int,
        weights_x: wp.array(dtype=scalar),
        weights_y: wp.array(dtype=scalar),
        weights_z: wp.array(dtype=scalar),
        shares: wp.array(dtype=scalar),
        profile: int,
    ):
        """-A of the field at the nodes from k on of row (i, j)."""
        row = i * ny + j
        node = row * nz + k
        share = 6 * profile * nz + k
        total = aside(
            lanes(), field, node, ny * nz, order, weights_x, i, local_x, nx - 1, shares, share, nz
        )
        share += 2 * nz
        total = aside(
            total, field, node, nz, order, weights_y, j, local_y, ny - 1, shares, share, nz
        )
        share += 2 * nz
        at_end = row == 0 or row == nx * ny - 1
        total = along(
            total, field, node, node - order, nz, order, weights_z, k, shares, share, at_end
        )
        share += nz
        k += order * nz
        return along(total, field, node, node + 1, nz, order, weights_z, k, shares, share, at_end)

    @wp.kernel(module=home, enable_backward=False)
    def accelerate(
        first: int,
        pressure: wp.array(dtype=scalar),
        nx: int,
        ny: int,
        nz: int,
        order: int,
        weights_x: wp.array(dtype=scalar),
        weights_y: wp.array(dtype=scalar),
        weights_z: wp.array(dtype=scalar),
        profiles: wp.array(dtype=wp.int32),
        shares: wp.array(dtype=scalar),
        out: wp.array(dtype=scalar),
    ):
        """out = -A pressure."""
        i = first + wp.tid()
        local_x = i % order
        local_y = wp.int32(0)
        for j in range(ny):
            row = i * ny + j
            profile = profiles[row]
            for block in range((nz + wp.static(width - 1)) / wp.static(width)):
                k = wp.min(block * wp.static(width), nz - wp.static(width))
                bent = lanes()
                if profile >= 0:
                    bent = curve(
                        pressure,
                        i,
                        j,
                        k,
                        local_x,
                        local_y,
                        nx,
                        ny,
                        nz,
                        order,
                        weights_x,
                        weights_y,
                        weights_z,
                        shares,
                        profile,
                    )
                store(out, row * nz + k, bent)
            local_y = wp.where(local_y == order - 1, 0, local_y + 1)

    @wp.kernel(module=home, enable_backward=False)
    def advance(
        first: int,
        pressure: wp.array(dtype=scalar),
        acceleration: wp.array(dtype=scalar),
        square: scalar,
        quartic: scalar,
        nx: int,
        ny: int,
        nz: int,
        order: int,
        weights_x: wp.array(dtype=scalar),
        weights_y: wp.array(dtype=scalar),
        weights_z: wp.array(dtype=scalar),
        profiles: wp.array(dtype=wp.int32),
        shares: wp.array(dtype=scalar),
        previous: wp.array(dtype=scalar),
    ):
        """previous <- 2 p - previous + square a - quartic A a."""
        i = first + wp.tid()
        local_x = i % order
        local_y = wp.int32(0)
        for j in range(ny):
            row = i * ny + j
            profile = profiles[row]
            if profile >= 0:
                for block in range((nz + wp.static(width - 1)) / wp.static(width)):
                    k = wp.min(block * wp.static(width), nz - wp.static(width))
                    bent = curve(
                        acceleration,
                        i,
                        j,
                        k,
                        local_x,
                        local_y,
                        nx,
                        ny,
                        nz,
                        order,
                        weights_x,
                        weights_y,
                        weights_z,
                        shares,
                        profile,
                    )
                    step(
                        pressure,
                        acceleration,
                        bent,
                        square,
                        quartic,
                        previous,
                        row * nz + k,
                        block * wp.static(width) - k,
                    )
            local_y = wp.where(local_y == order - 1, 0, local_y + 1)

    return SimpleNamespace(accelerate=accelerate, advance=advance)
