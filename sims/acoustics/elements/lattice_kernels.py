"""Kernels of the wave operator on a lattice of bricks, one thread for each node.

The stiffness is applied in difference form, as weights times (neighbour - node), so that the
operator of a constant is zero to the last bit in any precision.

Tables, P the order: weights_x, weights_y (n, 2P), for a node between two elements those of the P
nodes below and of the P above, for one inside of an element those of its P + 1 nodes with zero for
itself. weights_z (2P, nz), for the neighbours at -P .. -1, 1 .. P. shares (profiles, 6, nz): how
much of a weight counts at each node of a row, below and above along x, y and z; 1 where all
elements around are air, 0 outside of the room. profiles (nx ny,): which of these a row has,
negative for a row without air. All are given flat.
"""

from functools import cache
from types import SimpleNamespace
from typing import Any

import warp as wp


@cache
def cell_kernels(scalar: Any, order: int) -> SimpleNamespace:
    """The kernels of one precision and order, for CUDA and for rows too short for lanes."""
    home = wp.get_module(f"{__name__}.{scalar.__name__}.{order}")

    @wp.func(module=home)
    def across(
        field: wp.array(dtype=scalar),
        centre: scalar,
        start: int,
        stride: int,
        weights: wp.array(dtype=scalar),
        place: int,
    ):
        """The sum over P neighbours, `stride` apart from `start` on."""
        total = scalar(0.0)
        for step in range(wp.static(order)):
            total += weights[place + step] * (field[start + step * stride] - centre)
        return total

    @wp.func(module=home)
    def aside(
        field: wp.array(dtype=scalar),
        node: int,
        stride: int,
        weights: wp.array(dtype=scalar),
        number: int,
        last: int,
        shares: wp.array(dtype=scalar),
        share: int,
        nz: int,
    ):
        """The part of x or y: `number` along the axis."""
        centre = field[node]
        place = wp.static(2 * order) * number
        local = number % wp.static(order)
        if local > 0:
            start = node - local * stride
            total = across(field, centre, start, stride, weights, place)
            end = field[start + wp.static(order) * stride]
            return shares[share] * (total + weights[place + wp.static(order)] * (end - centre))
        total = scalar(0.0)
        if number > 0:
            start = node - wp.static(order) * stride
            total = shares[share] * across(field, centre, start, stride, weights, place)
        if number < last:
            place += wp.static(order)
            total += shares[share + nz] * across(
                field, centre, node + stride, stride, weights, place
            )
        return total

    @wp.func(module=home)
    def along(
        field: wp.array(dtype=scalar),
        centre: scalar,
        start: int,
        stride: int,
        weights: wp.array(dtype=scalar),
        place: int,
    ):
        """The same along z; only what has a weight is read."""
        total = scalar(0.0)
        for step in range(wp.static(order)):
            weight = weights[place + step * stride]
            if weight != scalar(0.0):
                total += weight * (field[start + step] - centre)
        return total

    @wp.func(module=home)
    def curve(
        field: wp.array(dtype=scalar),
        node: int,
        nx: int,
        ny: int,
        nz: int,
        weights_x: wp.array(dtype=scalar),
        weights_y: wp.array(dtype=scalar),
        weights_z: wp.array(dtype=scalar),
        profiles: wp.array(dtype=wp.int32),
        shares: wp.array(dtype=scalar),
    ):
        """-A of the field at one node."""
        row = node // nz
        profile = profiles[row]
        if profile < 0:
            return scalar(0.0)
        i = row // ny
        k = node - row * nz
        share = 6 * profile * nz + k
        total = aside(field, node, ny * nz, weights_x, i, nx - 1, shares, share, nz)
        share += 2 * nz
        total += aside(field, node, nz, weights_y, row - i * ny, ny - 1, shares, share, nz)
        share += 2 * nz
        centre = field[node]
        start = node - wp.static(order)
        total += shares[share] * along(field, centre, start, nz, weights_z, k)
        k += wp.static(order) * nz
        return total + shares[share + nz] * along(field, centre, node + 1, nz, weights_z, k)

    @wp.kernel(module=home, enable_backward=False)
    def accelerate(
        first: int,
        pressure: wp.array(dtype=scalar),
        nx: int,
        ny: int,
        nz: int,
        weights_x: wp.array(dtype=scalar),
        weights_y: wp.array(dtype=scalar),
        weights_z: wp.array(dtype=scalar),
        profiles: wp.array(dtype=wp.int32),
        shares: wp.array(dtype=scalar),
        out: wp.array(dtype=scalar),
    ):
        """out = -A pressure."""
        node = first + wp.tid()
        out[node] = curve(
            pressure, node, nx, ny, nz, weights_x, weights_y, weights_z, profiles, shares
        )

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
        weights_x: wp.array(dtype=scalar),
        weights_y: wp.array(dtype=scalar),
        weights_z: wp.array(dtype=scalar),
        profiles: wp.array(dtype=wp.int32),
        shares: wp.array(dtype=scalar),
        previous: wp.array(dtype=scalar),
    ):
        """previous <- 2 p - previous + square a - quartic A a."""
        node = first + wp.tid()
        bent = curve(
            acceleration, node, nx, ny, nz, weights_x, weights_y, weights_z, profiles, shares
        )
        p = pressure[node]
        previous[node] = p + ((p - previous[node]) + (square * acceleration[node] + quartic * bent))

    return SimpleNamespace(accelerate=accelerate, advance=advance)
