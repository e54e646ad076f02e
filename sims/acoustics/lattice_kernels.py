"""Kernels of the wave operator on a lattice of bricks.

The stiffness is applied in difference form, as weights times (neighbour - node), so that the
operator of a constant is zero to the last bit in any precision.

Tables of an axis with n nodes: below, above (n,), how many nodes of the element below and above a
node are coupled with it along the axis; weights (n, 2P), for the neighbours 1..P below and then
1..P above. shares (profiles, 6, nz): how much of a weight counts at each node of a row, for below
and above along x, y and z; 1 where all elements around are air, 0 outside of the room. profile
(rows,): which of these profiles a row has, negative for a row without air.
"""

from functools import cache
from types import SimpleNamespace
from typing import Any

import warp as wp


@cache
def cell_kernels(scalar: Any) -> SimpleNamespace:
    """One thread for each node, for CUDA and for the ends of memory."""
    home = wp.get_module(f"{__name__}.cells.{scalar.__name__}")

    @wp.func(module=home)
    def along(
        field: wp.array(dtype=scalar),
        node: int,
        stride: int,
        weights: wp.array2d(dtype=scalar),
        place: int,
        below: wp.array(dtype=wp.int32),
        above: wp.array(dtype=wp.int32),
        shares: wp.array3d(dtype=scalar),
        profile: int,
        axis: int,
        k: int,
    ):
        """The second difference along one axis."""
        centre = field[node]
        order = weights.shape[1] // 2
        lower = scalar(0.0)
        for step in range(below[place]):
            lower += weights[place, step] * (field[node - (step + 1) * stride] - centre)
        upper = scalar(0.0)
        for step in range(above[place]):
            upper += weights[place, order + step] * (field[node + (step + 1) * stride] - centre)
        return shares[profile, 2 * axis, k] * lower + shares[profile, 2 * axis + 1, k] * upper

    @wp.func(module=home)
    def curve(
        field: wp.array(dtype=scalar),
        node: int,
        ny: int,
        nz: int,
        weights_x: wp.array2d(dtype=scalar),
        weights_y: wp.array2d(dtype=scalar),
        weights_z: wp.array2d(dtype=scalar),
        below: wp.array2d(dtype=wp.int32),
        above: wp.array2d(dtype=wp.int32),
        profiles: wp.array(dtype=wp.int32),
        shares: wp.array3d(dtype=scalar),
    ):
        """-A of the field at one node."""
        row = node // nz
        profile = profiles[row]
        if profile < 0:
            return scalar(0.0)
        k = node % nz
        x = along(
            field, node, ny * nz, weights_x, row // ny, below[0], above[0], shares, profile, 0, k
        )
        y = along(field, node, nz, weights_y, row % ny, below[1], above[1], shares, profile, 1, k)
        z = along(field, node, 1, weights_z, k, below[2], above[2], shares, profile, 2, k)
        return x + y + z

    @wp.kernel(module=home, enable_backward=False)
    def accelerate(
        first: int,
        pressure: wp.array(dtype=scalar),
        ny: int,
        nz: int,
        weights_x: wp.array2d(dtype=scalar),
        weights_y: wp.array2d(dtype=scalar),
        weights_z: wp.array2d(dtype=scalar),
        below: wp.array2d(dtype=wp.int32),
        above: wp.array2d(dtype=wp.int32),
        profiles: wp.array(dtype=wp.int32),
        shares: wp.array3d(dtype=scalar),
        out: wp.array(dtype=scalar),
    ):
        """out = -A pressure."""
        node = first + wp.tid()
        out[node] = curve(
            pressure,
            node,
            ny,
            nz,
            weights_x,
            weights_y,
            weights_z,
            below,
            above,
            profiles,
            shares,
        )

    @wp.kernel(module=home, enable_backward=False)
    def advance(
        first: int,
        pressure: wp.array(dtype=scalar),
        acceleration: wp.array(dtype=scalar),
        square: scalar,
        quartic: scalar,
        ny: int,
        nz: int,
        weights_x: wp.array2d(dtype=scalar),
        weights_y: wp.array2d(dtype=scalar),
        weights_z: wp.array2d(dtype=scalar),
        below: wp.array2d(dtype=wp.int32),
        above: wp.array2d(dtype=wp.int32),
        profiles: wp.array(dtype=wp.int32),
        shares: wp.array3d(dtype=scalar),
        previous: wp.array(dtype=scalar),
    ):
        """previous <- 2 p - previous + square a - quartic A a."""
        node = first + wp.tid()
        bent = curve(
            acceleration,
            node,
            ny,
            nz,
            weights_x,
            weights_y,
            weights_z,
            below,
            above,
            profiles,
            shares,
        )
        p = pressure[node]
        previous[node] = p + ((p - previous[node]) + (square * acceleration[node] + quartic * bent))

    return SimpleNamespace(accelerate=accelerate, advance=advance)
