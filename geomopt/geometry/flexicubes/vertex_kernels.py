"""The kernel of the dual vertices and its adjoint, built once for each precision.

Notation of Shen et al. 2023: s the field, a the corner weights (alpha), b the edge weights (beta),
x the deformed grid points. A kernel works on one surface cell.

The field is divided by the largest finite |s| of its cell first: that changes no crossing, keeps
all products in range, and makes the guard of the denominators a relative one. A point outside the
box has s = +inf; the crossing on an edge to it is its other end.
"""

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import warp as wp

from geomopt.geometry.flexicubes.connectivity_kernels import along


@wp.func
def point_of(place: wp.vec3i, corner: int, cells_y: int, cells_z: int):
    """Index of a corner of the cell at `place`."""
    i = place[0] + (corner & 1)
    j = place[1] + ((corner >> 1) & 1)
    return (i * (cells_y + 1) + j) * (cells_z + 1) + place[2] + (corner >> 2)


@wp.func
def weight_row(cell: int, place: wp.vec3i, cells: wp.vec3i, layer: int):
    """Row of the weights of a cell; -1 in the layer of cells that closes the box."""
    if layer == 0:
        return cell
    inner = place - wp.vec3i(1, 1, 1)
    for axis in range(3):
        if inner[axis] < 0 or inner[axis] >= cells[axis] - 2:
            return -1
    return (inner[0] * (cells[1] - 2) + inner[1]) * (cells[2] - 2) + inner[2]


@wp.func
def unpack(crossing: wp.int16):
    """Edge, start corner and end corner of an entry of `Tables.loop_crossings`."""
    return int(crossing) & 15, int(crossing) >> 4 & 7, int(crossing) >> 7


@cache
def kernels(scalar: Any) -> SimpleNamespace:
    """The kernels of one precision, wp.float32 or wp.float64, in a module of their own."""
    home = wp.get_module(f"{__name__}.{scalar.__name__}")
    vec3 = wp.types.vector(3, scalar)
    vec4 = wp.types.vector(4, scalar)
    vec8 = wp.types.vector(8, scalar)
    mat83 = wp.types.matrix((8, 3), scalar)
    limits = np.finfo(np.float32 if scalar is wp.float32 else np.float64)
    # the narrowest denominator of a gradient, relative to the largest value of the cell
    closest = wp.constant(scalar(limits.eps))
    # the least such value, so that 1 / (smallest closest) is far from overflow
    smallest = wp.constant(scalar(limits.tiny / limits.eps**2))
    infinity = wp.constant(scalar(float("inf")))
    zero, half, one = (wp.constant(scalar(value)) for value in (0.0, 0.5, 1.0))

    @wp.func(module=home)
    def load_field(sdf: wp.array(dtype=scalar), place: wp.vec3i, cells: wp.vec3i):
        """The field at the eight corners."""
        s = vec8()
        for corner in range(8):
            s[corner] = sdf[point_of(place, corner, cells[1], cells[2])]
        return s

    @wp.func(module=home)
    def field_scale(s: vec8):
        """Largest finite magnitude at the corners, kept away from zero."""
        largest = smallest
        for corner in range(8):
            if s[corner] < infinity:
                largest = wp.max(largest, wp.abs(s[corner]))
        return largest

    @wp.func(module=home)
    def load_points(
        deformation: wp.array(dtype=vec3),
        deformed: int,
        place: wp.vec3i,
        cells: wp.vec3i,
        lower: vec3,
        spacing: vec3,
    ):
        """The deformed corners."""
        x = mat83()
        for corner in range(8):
            i = scalar(place[0] + (corner & 1))
            j = scalar(place[1] + ((corner >> 1) & 1))
            k = scalar(place[2] + (corner >> 2))
            p = vec3(
                lower[0] + i * spacing[0], lower[1] + j * spacing[1], lower[2] + k * spacing[2]
            )
            if deformed != 0:
                p += deformation[point_of(place, corner, cells[1], cells[2])]
            x[corner] = p
        return x

    @wp.func(module=home)
    def share(first: scalar, second: scalar):
        """Weight of the first end in the crossing between two weighted values."""
        if first == infinity:
            return zero
        if second == infinity:
            return one
        width = second - first
        if width == zero:
            return half
        return second / width

    @wp.func(module=home)
    def inverse_width(first: scalar, second: scalar):
        """1 / (second - first) as the derivative uses it, bounded."""
        if first == infinity or second == infinity:
            return zero
        width = second - first
        if wp.abs(width) < closest:
            width = wp.where(second < first, -closest, closest)
        return one / width

    @wp.kernel(module=home, enable_backward=False)
    def place_vertices(
        first: int,
        sdf: wp.array(dtype=scalar),
        deformation: wp.array(dtype=vec3),
        corner_weights: wp.array2d(dtype=scalar),
        edge_weights: wp.array2d(dtype=scalar),
        features: wp.array2d(dtype=scalar),
        deformed: int,
        corner_weighted: int,
        edge_weighted: int,
        channels: int,
        cells: wp.vec3i,
        layer: int,
        lower: vec3,
        spacing: vec3,
        surface_cells: wp.array(dtype=wp.int32),
        loop_cases: wp.array(dtype=wp.uint8),
        ends: wp.array2d(dtype=wp.int32),
        counts: wp.array2d(dtype=wp.int32),
        loop_crossings: wp.array2d(dtype=wp.int16),
        loop_starts: wp.array2d(dtype=wp.int8),
        vertices: wp.array(dtype=vec3),
        vertex_features: wp.array2d(dtype=scalar),
    ):
        """v = sum_e b_e u_e / sum_e b_e of every loop, and the same for the features."""
        slot = first + wp.tid()
        cell = surface_cells[slot]
        case = int(loop_cases[slot])
        place = along(cell, cells[1], cells[2])
        row = weight_row(cell, place, cells, layer)
        value = load_field(sdf, place, cells)
        value = value * (one / field_scale(value))
        if corner_weighted != 0 and row >= 0:
            for corner in range(8):
                value[corner] *= corner_weights[row, corner]
        x = load_points(deformation, deformed, place, cells, lower, spacing)
        vertex = ends[0, slot] - counts[0, slot]
        for loop in range(counts[0, slot]):
            total = scalar(0.0)
            v = vec3()
            for m in range(int(loop_starts[case, loop]), int(loop_starts[case, loop + 1])):
                edge, start, end = unpack(loop_crossings[case, m])
                b = one
                if edge_weighted != 0 and row >= 0:
                    b = edge_weights[row, edge]
                w = share(value[start], value[end])
                v += b * (w * x[start] + (one - w) * x[end])
                total += b
                for channel in range(channels):
                    f0 = features[point_of(place, start, cells[1], cells[2]), channel]
                    f1 = features[point_of(place, end, cells[1], cells[2]), channel]
                    vertex_features[vertex, channel] += b * (w * f0 + (one - w) * f1)
            vertices[vertex] = v / total
            for channel in range(channels):
                vertex_features[vertex, channel] /= total
            vertex += 1

    @wp.kernel(module=home, enable_backward=False)
    def pull_back_vertices(
        first: int,
        sdf: wp.array(dtype=scalar),
        deformation: wp.array(dtype=vec3),
        corner_weights: wp.array2d(dtype=scalar),
        edge_weights: wp.array2d(dtype=scalar),
        features: wp.array2d(dtype=scalar),
        deformed: int,
        corner_weighted: int,
        edge_weighted: int,
        channels: int,
        cells: wp.vec3i,
        layer: int,
        lower: vec3,
        spacing: vec3,
        surface_cells: wp.array(dtype=wp.int32),
        loop_cases: wp.array(dtype=wp.uint8),
        ends: wp.array2d(dtype=wp.int32),
        counts: wp.array2d(dtype=wp.int32),
        loop_crossings: wp.array2d(dtype=wp.int16),
        loop_starts: wp.array2d(dtype=wp.int8),
        vertices: wp.array(dtype=vec3),
        vertex_features: wp.array2d(dtype=scalar),
        vertices_gradient: wp.array(dtype=vec3),
        vertex_features_gradient: wp.array2d(dtype=scalar),
        corners_gradient: wp.array2d(dtype=vec4),
        measured: int,
        wants_sdf: int,
        wants_deformation: int,
        wants_corner_weights: int,
        wants_edge_weights: int,
        wants_features: int,
        sdf_gradient: wp.array(dtype=scalar),
        deformation_gradient: wp.array(dtype=vec3),
        corner_weights_gradient: wp.array2d(dtype=scalar),
        edge_weights_gradient: wp.array2d(dtype=scalar),
        features_gradient: wp.array2d(dtype=scalar),
    ):
        """Adjoint of `place_vertices`, with `corners_gradient` of `pull_back_deviation` if
        `measured`. The weights are stored to, the fields of the grid points added to.
        """
        slot = first + wp.tid()
        cell = surface_cells[slot]
        case = int(loop_cases[slot])
        place = along(cell, cells[1], cells[2])
        row = weight_row(cell, place, cells, layer)
        s = load_field(sdf, place, cells)
        scale = field_scale(s)
        s = s * (one / scale)
        a = vec8(one)
        if corner_weighted != 0 and row >= 0:
            for corner in range(8):
                a[corner] = corner_weights[row, corner]
        value = wp.cw_mul(a, s)
        x = load_points(deformation, deformed, place, cells, lower, spacing)
        value_gradient = vec8()
        x_gradient = mat83()
        vertex = ends[0, slot] - counts[0, slot]
        for loop in range(counts[0, slot]):
            begin = int(loop_starts[case, loop])
            stop = int(loop_starts[case, loop + 1])
            total = scalar(0.0)
            if edge_weighted != 0 and row >= 0:
                for m in range(begin, stop):
                    edge, start, end = unpack(loop_crossings[case, m])
                    total += edge_weights[row, edge]
            else:
                total = scalar(stop - begin)
            v = vertices[vertex]
            v_gradient = vertices_gradient[vertex] / total
            for m in range(begin, stop):
                edge, start, end = unpack(loop_crossings[case, m])
                b = one
                if edge_weighted != 0 and row >= 0:
                    b = edge_weights[row, edge]
                w = share(value[start], value[end])
                x0 = x[start]
                x1 = x[end]
                b_gradient = wp.dot(v_gradient, w * x0 + (one - w) * x1 - v)
                w_gradient = wp.dot(v_gradient, x0 - x1)
                for channel in range(channels):
                    p0 = point_of(place, start, cells[1], cells[2])
                    p1 = point_of(place, end, cells[1], cells[2])
                    f0 = features[p0, channel]
                    f1 = features[p1, channel]
                    f_gradient = vertex_features_gradient[vertex, channel] / total
                    b_gradient += f_gradient * (
                        w * f0 + (one - w) * f1 - vertex_features[vertex, channel]
                    )
                    w_gradient += f_gradient * (f0 - f1)
                    if wants_features != 0:
                        wp.atomic_add(features_gradient, p0, channel, b * w * f_gradient)
                        wp.atomic_add(features_gradient, p1, channel, b * (one - w) * f_gradient)
                if wants_edge_weights != 0 and row >= 0:
                    edge_weights_gradient[row, edge] = b_gradient
                w_gradient *= b * inverse_width(value[start], value[end])
                value_gradient[start] += w * w_gradient
                value_gradient[end] += (one - w) * w_gradient
                x_gradient[start] += (b * w) * v_gradient
                x_gradient[end] += (b * (one - w)) * v_gradient
            vertex += 1
        for corner in range(8):
            point = point_of(place, corner, cells[1], cells[2])
            of_field = value_gradient[corner] * a[corner]
            of_position = x_gradient[corner]
            if measured != 0:
                more = corners_gradient[slot, corner]
                of_field += more[0]
                of_position += vec3(more[1], more[2], more[3])
            if wants_sdf != 0:
                wp.atomic_add(sdf_gradient, point, of_field / scale)
            if wants_deformation != 0:
                wp.atomic_add(deformation_gradient, point, of_position)
            if wants_corner_weights != 0 and row >= 0:
                corner_weights_gradient[row, corner] = value_gradient[corner] * s[corner]

    return SimpleNamespace(
        place_vertices=place_vertices,
        pull_back_vertices=pull_back_vertices,
        load_field=load_field,
        field_scale=field_scale,
        load_points=load_points,
        share=share,
        inverse_width=inverse_width,
        vec3=vec3,
        vec4=vec4,
        vec8=vec8,
        mat83=mat83,
    )
