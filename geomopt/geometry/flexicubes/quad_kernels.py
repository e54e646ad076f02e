"""The kernels that split the quads into triangles, built once for each precision.

g are the split weights (gamma of Shen et al. 2023) of the four cells of a quad, in its order. A
kernel works on one quad.
"""

from functools import cache
from types import SimpleNamespace
from typing import Any

import warp as wp

from geomopt.geometry.flexicubes.connectivity_kernels import along
from geomopt.geometry.flexicubes.vertex_kernels import weight_row


@cache
def quad_kernels(scalar: Any) -> SimpleNamespace:
    """The kernels of one precision, wp.float32 or wp.float64, in a module of their own."""
    home = wp.get_module(f"{__name__}.{scalar.__name__}")
    vec3 = wp.types.vector(3, scalar)
    vec4 = wp.types.vector(4, scalar)
    zero, half, one = (wp.constant(scalar(value)) for value in (0.0, 0.5, 1.0))

    @wp.func(module=home)
    def split_weight(
        split_weights: wp.array(dtype=scalar),
        weighted: int,
        slot: int,
        cells: wp.vec3i,
        layer: int,
        surface_cells: wp.array(dtype=wp.int32),
    ):
        """The split weight of the cell in a slot."""
        if weighted == 0:
            return one
        cell = surface_cells[slot]
        row = weight_row(cell, along(cell, cells[1], cells[2]), cells, layer)
        if row < 0:
            return one
        return split_weights[row]

    @wp.func(module=home)
    def diagonal_share(g: vec4):
        """g0 g2 / (g0 g2 + g1 g3)."""
        return one / (one + (g[1] / g[0]) * (g[3] / g[2]))

    @wp.kernel(module=home, enable_backward=False)
    def place_midpoints(
        first: int,
        split_weights: wp.array(dtype=scalar),
        weighted: int,
        cells: wp.vec3i,
        layer: int,
        surface_cells: wp.array(dtype=wp.int32),
        quads: wp.array(dtype=wp.vec4i),
        quad_slots: wp.array(dtype=wp.vec4i),
        channels: int,
        duals: int,
        vertices: wp.array(dtype=vec3),
        vertex_features: wp.array2d(dtype=scalar),
        faces: wp.array(dtype=wp.vec3i),
    ):
        """m between the midpoints of the two diagonals, and the four triangles around it."""
        quad = first + wp.tid()
        v = quads[quad]
        g = vec4()
        for p in range(4):
            g[p] = split_weight(
                split_weights, weighted, quad_slots[quad][p], cells, layer, surface_cells
            )
        w = half * diagonal_share(g)
        middle = duals + quad
        vertices[middle] = w * (vertices[v[0]] + vertices[v[2]]) + (half - w) * (
            vertices[v[1]] + vertices[v[3]]
        )
        for channel in range(channels):
            even = vertex_features[v[0], channel] + vertex_features[v[2], channel]
            odd = vertex_features[v[1], channel] + vertex_features[v[3], channel]
            vertex_features[middle, channel] = w * even + (half - w) * odd
        for p in range(4):
            faces[4 * quad + p] = wp.vec3i(v[p], v[(p + 1) % 4], middle)

    @wp.kernel(module=home, enable_backward=False)
    def pull_back_midpoints(
        first: int,
        split_weights: wp.array(dtype=scalar),
        weighted: int,
        cells: wp.vec3i,
        layer: int,
        surface_cells: wp.array(dtype=wp.int32),
        quads: wp.array(dtype=wp.vec4i),
        quad_slots: wp.array(dtype=wp.vec4i),
        channels: int,
        duals: int,
        wants_split_weights: int,
        vertices: wp.array(dtype=vec3),
        vertex_features: wp.array2d(dtype=scalar),
        vertices_gradient: wp.array(dtype=vec3),
        vertex_features_gradient: wp.array2d(dtype=scalar),
        split_weights_gradient: wp.array(dtype=scalar),
    ):
        """Adjoint of `place_midpoints`; adds to the gradients of the dual vertices."""
        quad = first + wp.tid()
        v = quads[quad]
        g = vec4()
        for p in range(4):
            g[p] = split_weight(
                split_weights, weighted, quad_slots[quad][p], cells, layer, surface_cells
            )
        w = half * diagonal_share(g)
        middle = duals + quad
        m_gradient = vertices_gradient[middle]
        for p in range(4):
            part = wp.where(p % 2 == 0, w, half - w)
            wp.atomic_add(vertices_gradient, v[p], part * m_gradient)
        apart = vertices[v[0]] + vertices[v[2]] - vertices[v[1]] - vertices[v[3]]
        w_gradient = half * wp.dot(m_gradient, apart)
        for channel in range(channels):
            f_gradient = vertex_features_gradient[middle, channel]
            spread = zero
            for p in range(4):
                part = wp.where(p % 2 == 0, w, half - w)
                wp.atomic_add(vertex_features_gradient, v[p], channel, part * f_gradient)
                spread += wp.where(p % 2 == 0, half, -half) * vertex_features[v[p], channel]
            w_gradient += f_gradient * spread
        if wants_split_weights != 0:
            slope = (w + w) * (one - (w + w)) * w_gradient
            for p in range(4):
                cell = surface_cells[quad_slots[quad][p]]
                row = weight_row(cell, along(cell, cells[1], cells[2]), cells, layer)
                if row >= 0:
                    wp.atomic_add(
                        split_weights_gradient, row, wp.where(p % 2 == 0, slope, -slope) / g[p]
                    )

    @wp.kernel(module=home, enable_backward=False)
    def split_quads(
        first: int,
        split_weights: wp.array(dtype=scalar),
        weighted: int,
        cells: wp.vec3i,
        layer: int,
        surface_cells: wp.array(dtype=wp.int32),
        quads: wp.array(dtype=wp.vec4i),
        quad_slots: wp.array(dtype=wp.vec4i),
        faces: wp.array(dtype=wp.vec3i),
    ):
        """Two triangles on the diagonal with the larger product of split weights."""
        quad = first + wp.tid()
        v = quads[quad]
        g = vec4()
        for p in range(4):
            g[p] = split_weight(
                split_weights, weighted, quad_slots[quad][p], cells, layer, surface_cells
            )
        if g[0] * g[2] > g[1] * g[3]:
            faces[2 * quad] = wp.vec3i(v[0], v[1], v[2])
            faces[2 * quad + 1] = wp.vec3i(v[0], v[2], v[3])
        else:
            faces[2 * quad] = wp.vec3i(v[0], v[1], v[3])
            faces[2 * quad + 1] = wp.vec3i(v[1], v[2], v[3])

    return SimpleNamespace(
        place_midpoints=place_midpoints,
        pull_back_midpoints=pull_back_midpoints,
        split_quads=split_quads,
    )
