"""Kernels of mapped spectral elements: forces of elements, sums over the elements of a node.

Elements come in blocks of a few lanes, which a CPU works on at once: value q of lane l of a block
stands at [block, q, l]. On CUDA a block is one element, and a thread works on one of its nodes.
Nodes of an element are numbered with x slowest. A metric has six entries, xx, xy, xz, yy, yz, zz.
"""

from functools import cache
from types import SimpleNamespace
from typing import Any

import warp as wp


@cache
def block_kernels(scalar: Any, order: int, lanes: int) -> SimpleNamespace:
    """The kernels over blocks, for wp.float32 or wp.float64, an order and a number of lanes."""
    home = wp.get_module(f"{__name__}.{scalar.__name__}.{order}.{lanes}")
    row = wp.types.vector(length=lanes, dtype=scalar)
    size, width = wp.constant(wp.int32(order + 1)), wp.constant(wp.int32(lanes))
    terms = order + 1  # a plain number: sums over it are unrolled, which is four times as fast
    number = terms**3
    count = wp.constant(wp.int32(number))

    @wp.func(module=home)
    def gathered(field: wp.array(dtype=scalar), nodes: wp.array2d(dtype=wp.int32), block: int):
        """Values at the nodes, less the first: equal ones have derivatives of exactly zero."""
        values = wp.zeros(shape=(number,), dtype=row)
        base = row()
        for lane in range(width):
            base[lane] = field[nodes[block, lane]]
        for q in range(count):
            value = row()
            for lane in range(width):
                value[lane] = field[nodes[block, q * width + lane]]
            values[q] = value - base
        return values

    @wp.kernel(module=home, enable_backward=False)
    def find_forces(
        first: int,
        field: wp.array(dtype=scalar),
        nodes: wp.array2d(dtype=wp.int32),
        slopes: wp.array2d(dtype=scalar),
        metric: wp.array3d(dtype=row),
        forces: wp.array2d(dtype=row),
    ):
        """D^T G D of the field in one block."""
        block = first + wp.tid()
        n = size  # a variable keeps the loops over nodes rolled up, and compilation short
        u = gathered(field, nodes, block)
        flux_x = wp.zeros(shape=(number,), dtype=row)
        flux_y = wp.zeros(shape=(number,), dtype=row)
        flux_z = wp.zeros(shape=(number,), dtype=row)
        for i in range(n):
            for j in range(n):
                for k in range(n):
                    q = (i * n + j) * n + k
                    x, y, z = row(), row(), row()
                    for a in range(terms):
                        x += slopes[i, a] * u[(a * n + j) * n + k]
                        y += slopes[j, a] * u[(i * n + a) * n + k]
                        z += slopes[k, a] * u[(i * n + j) * n + a]
                    xy, xz, yz = metric[block, q, 1], metric[block, q, 2], metric[block, q, 4]
                    flux_x[q] = (
                        wp.cw_mul(metric[block, q, 0], x) + wp.cw_mul(xy, y) + wp.cw_mul(xz, z)
                    )
                    flux_y[q] = (
                        wp.cw_mul(xy, x) + wp.cw_mul(metric[block, q, 3], y) + wp.cw_mul(yz, z)
                    )
                    flux_z[q] = (
                        wp.cw_mul(xz, x) + wp.cw_mul(yz, y) + wp.cw_mul(metric[block, q, 5], z)
                    )
        for i in range(n):
            for j in range(n):
                for k in range(n):
                    force = row()
                    for a in range(terms):
                        force += slopes[a, i] * flux_x[(a * n + j) * n + k]
                        force += slopes[a, j] * flux_y[(i * n + a) * n + k]
                        force += slopes[a, k] * flux_z[(i * n + j) * n + a]
                    forces[block, (i * n + j) * n + k] = force

    @wp.kernel(module=home, enable_backward=False)
    def add_metric_gradient(
        first: int,
        left: wp.array(dtype=scalar),
        right: wp.array(dtype=scalar),
        nodes: wp.array2d(dtype=wp.int32),
        slopes: wp.array2d(dtype=scalar),
        sums: wp.array3d(dtype=row),
    ):
        """Add the derivative of left^T K right in the metric of one block."""
        block = first + wp.tid()
        n = size
        u = gathered(left, nodes, block)
        v = gathered(right, nodes, block)
        for i in range(n):
            for j in range(n):
                for k in range(n):
                    q = (i * n + j) * n + k
                    ux, uy, uz = row(), row(), row()
                    vx, vy, vz = row(), row(), row()
                    for a in range(terms):
                        along_x, along_y = (a * n + j) * n + k, (i * n + a) * n + k
                        along_z = (i * n + j) * n + a
                        ux += slopes[i, a] * u[along_x]
                        uy += slopes[j, a] * u[along_y]
                        uz += slopes[k, a] * u[along_z]
                        vx += slopes[i, a] * v[along_x]
                        vy += slopes[j, a] * v[along_y]
                        vz += slopes[k, a] * v[along_z]
                    sums[block, q, 0] = sums[block, q, 0] + wp.cw_mul(ux, vx)
                    sums[block, q, 1] = sums[block, q, 1] + wp.cw_mul(ux, vy) + wp.cw_mul(uy, vx)
                    sums[block, q, 2] = sums[block, q, 2] + wp.cw_mul(ux, vz) + wp.cw_mul(uz, vx)
                    sums[block, q, 3] = sums[block, q, 3] + wp.cw_mul(uy, vy)
                    sums[block, q, 4] = sums[block, q, 4] + wp.cw_mul(uy, vz) + wp.cw_mul(uz, vy)
                    sums[block, q, 5] = sums[block, q, 5] + wp.cw_mul(uz, vz)

    return SimpleNamespace(
        row=row, find_forces=find_forces, add_metric_gradient=add_metric_gradient
    )


@cache
def node_kernels(scalar: Any) -> SimpleNamespace:
    """The kernels over nodes, and over the nodes of elements, for wp.float32 or wp.float64."""
    home = wp.get_module(f"{__name__}.{scalar.__name__}.nodes")
    vec3 = wp.types.vector(length=3, dtype=scalar)

    @wp.func(module=home)
    def gradient(
        field: wp.array(dtype=scalar),
        nodes: wp.array2d(dtype=wp.int32),
        slopes: wp.array2d(dtype=scalar),
        element: int,
        q: int,
        n: int,
    ):
        """Derivatives of a field along the three axes at node q of an element."""
        i, j, k = q // (n * n), q // n % n, q % n
        base = field[nodes[element, 0]]
        found = vec3()
        for a in range(n):
            found += vec3(
                slopes[i, a] * (field[nodes[element, (a * n + j) * n + k]] - base),
                slopes[j, a] * (field[nodes[element, (i * n + a) * n + k]] - base),
                slopes[k, a] * (field[nodes[element, (i * n + j) * n + a]] - base),
            )
        return found

    @wp.kernel(module=home, enable_backward=False)
    def find_fluxes(
        first: int,
        field: wp.array(dtype=scalar),
        nodes: wp.array2d(dtype=wp.int32),
        slopes: wp.array2d(dtype=scalar),
        metric: wp.array3d(dtype=scalar),
        fluxes: wp.array2d(dtype=vec3),
    ):
        """G D of the field at one node of one element."""
        place = first + wp.tid()
        n = slopes.shape[0]
        number = n * n * n
        element, q = place // number, place % number
        g = gradient(field, nodes, slopes, element, q, n)
        xy, xz, yz = metric[element, q, 1], metric[element, q, 2], metric[element, q, 4]
        fluxes[element, q] = vec3(
            metric[element, q, 0] * g[0] + xy * g[1] + xz * g[2],
            xy * g[0] + metric[element, q, 3] * g[1] + yz * g[2],
            xz * g[0] + yz * g[1] + metric[element, q, 5] * g[2],
        )

    @wp.kernel(module=home, enable_backward=False)
    def sum_fluxes(
        first: int,
        fluxes: wp.array2d(dtype=vec3),
        slopes: wp.array2d(dtype=scalar),
        forces: wp.array(dtype=scalar),
    ):
        """D^T of the fluxes at one node of one element."""
        place = first + wp.tid()
        n = slopes.shape[0]
        number = n * n * n
        element, q = place // number, place % number
        i, j, k = q // (n * n), q // n % n, q % n
        force = scalar(0.0)
        for a in range(n):
            force += slopes[a, i] * fluxes[element, (a * n + j) * n + k][0]
            force += slopes[a, j] * fluxes[element, (i * n + a) * n + k][1]
            force += slopes[a, k] * fluxes[element, (i * n + j) * n + a][2]
        forces[place] = force

    @wp.kernel(module=home, enable_backward=False)
    def add_metric_gradient(
        first: int,
        left: wp.array(dtype=scalar),
        right: wp.array(dtype=scalar),
        nodes: wp.array2d(dtype=wp.int32),
        slopes: wp.array2d(dtype=scalar),
        sums: wp.array3d(dtype=scalar),
    ):
        """Add the derivative of left^T K right in the metric at one node of one element."""
        place = first + wp.tid()
        n = slopes.shape[0]
        number = n * n * n
        element, q = place // number, place % number
        u = gradient(left, nodes, slopes, element, q, n)
        v = gradient(right, nodes, slopes, element, q, n)
        sums[element, q, 0] = sums[element, q, 0] + u[0] * v[0]
        sums[element, q, 1] = sums[element, q, 1] + u[0] * v[1] + u[1] * v[0]
        sums[element, q, 2] = sums[element, q, 2] + u[0] * v[2] + u[2] * v[0]
        sums[element, q, 3] = sums[element, q, 3] + u[1] * v[1]
        sums[element, q, 4] = sums[element, q, 4] + u[1] * v[2] + u[2] * v[1]
        sums[element, q, 5] = sums[element, q, 5] + u[2] * v[2]

    @wp.func(module=home)
    def total(
        node: int,
        forces: wp.array(dtype=scalar),
        offsets: wp.array(dtype=wp.int32),
        entries: wp.array(dtype=wp.int32),
    ):
        """Sum of the forces that elements put on a node."""
        force = scalar(0.0)
        for place in range(offsets[node], offsets[node + 1]):
            force += forces[entries[place]]
        return force

    @wp.kernel(module=home, enable_backward=False)
    def accelerate_nodes(
        first: int,
        forces: wp.array(dtype=scalar),
        offsets: wp.array(dtype=wp.int32),
        entries: wp.array(dtype=wp.int32),
        scale: wp.array(dtype=scalar),
        acceleration: wp.array(dtype=scalar),
    ):
        """-scale times the forces on one node."""
        node = first + wp.tid()
        acceleration[node] = -scale[node] * total(node, forces, offsets, entries)

    @wp.kernel(module=home, enable_backward=False)
    def advance_nodes(
        first: int,
        pressure: wp.array(dtype=scalar),
        acceleration: wp.array(dtype=scalar),
        forces: wp.array(dtype=scalar),
        offsets: wp.array(dtype=wp.int32),
        entries: wp.array(dtype=wp.int32),
        scale: wp.array(dtype=scalar),
        second: scalar,
        fourth: scalar,
        previous: wp.array(dtype=scalar),
    ):
        """One step at one node; forces are those of the accelerations."""
        node = first + wp.tid()
        p = pressure[node]
        change = second * acceleration[node]
        change -= fourth * scale[node] * total(node, forces, offsets, entries)
        # the difference is exact where the field is smooth in time, the sum rounds once
        previous[node] = p + ((p - previous[node]) + change)

    return SimpleNamespace(
        find_fluxes=find_fluxes,
        sum_fluxes=sum_fluxes,
        add_metric_gradient=add_metric_gradient,
        accelerate_nodes=accelerate_nodes,
        advance_nodes=advance_nodes,
    )
