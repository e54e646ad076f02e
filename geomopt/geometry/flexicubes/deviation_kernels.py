"""Kernels of the deviation loss: how far each dual vertex is from being equidistant from its plain
crossings.
"""

from functools import cache
from types import SimpleNamespace
from typing import Any

import warp as wp

from geomopt.geometry.flexicubes.connectivity_kernels import along
from geomopt.geometry.flexicubes.vertex_kernels import kernels, unpack


@cache
def deviation_kernels(scalar: Any) -> SimpleNamespace:
    """The two kernels of one precision, wp.float32 or wp.float64."""
    home = wp.get_module(f"{__name__}.{scalar.__name__}")
    shared = kernels(scalar)
    load_field, field_scale, load_points = shared.load_field, shared.field_scale, shared.load_points
    share, inverse_width = shared.share, shared.inverse_width
    vec3, vec4, vec8, mat83 = shared.vec3, shared.vec4, shared.vec8, shared.mat83
    vec7 = wp.types.vector(7, scalar)  # as many crossings as the longest loop has
    zero, one = wp.constant(scalar(0.0)), wp.constant(scalar(1.0))

    @wp.func(module=home)
    def crossing(s: vec8, x: mat83, start: int, end: int):
        """Crossing of the unweighted field."""
        w = share(s[start], s[end])
        return w * x[start] + (one - w) * x[end]

    @wp.func(module=home)
    def sign(value: scalar):
        """-1, 0 or 1."""
        return wp.where(value > zero, one, wp.where(value < zero, -one, zero))

    @wp.kernel(module=home, enable_backward=False)
    def measure_deviation(
        first: int,
        vertices: wp.array(dtype=vec3),
        sdf: wp.array(dtype=scalar),
        deformation: wp.array(dtype=vec3),
        deformed: int,
        cells: wp.vec3i,
        lower: vec3,
        spacing: vec3,
        surface_cells: wp.array(dtype=wp.int32),
        loop_cases: wp.array(dtype=wp.uint8),
        ends: wp.array2d(dtype=wp.int32),
        counts: wp.array2d(dtype=wp.int32),
        loop_crossings: wp.array2d(dtype=wp.int16),
        loop_starts: wp.array2d(dtype=wp.int8),
        deviation: wp.array(dtype=scalar),
    ):
        """Sum over the loops of a cell of sum_e |d_e - mean d|, d_e = |v - p_e|."""
        slot = first + wp.tid()
        case = int(loop_cases[slot])
        place = along(surface_cells[slot], cells[1], cells[2])
        s = load_field(sdf, place, cells)
        s = s * (one / field_scale(s))
        x = load_points(deformation, deformed, place, cells, lower, spacing)
        vertex = ends[0, slot] - counts[0, slot]
        result = scalar(0.0)
        for loop in range(counts[0, slot]):
            begin = int(loop_starts[case, loop])
            length = int(loop_starts[case, loop + 1]) - begin
            distance = vec7()
            mean = scalar(0.0)
            for m in range(length):
                _edge, start, end = unpack(loop_crossings[case, begin + m])
                p = crossing(s, x, start, end)
                distance[m] = wp.length(vertices[vertex] - p)
                mean += distance[m]
            mean /= scalar(length)
            for m in range(length):
                result += wp.abs(distance[m] - mean)
            vertex += 1
        deviation[slot] = result

    @wp.kernel(module=home, enable_backward=False)
    def pull_back_deviation(
        first: int,
        vertices: wp.array(dtype=vec3),
        sdf: wp.array(dtype=scalar),
        deformation: wp.array(dtype=vec3),
        deformed: int,
        cells: wp.vec3i,
        lower: vec3,
        spacing: vec3,
        surface_cells: wp.array(dtype=wp.int32),
        loop_cases: wp.array(dtype=wp.uint8),
        ends: wp.array2d(dtype=wp.int32),
        counts: wp.array2d(dtype=wp.int32),
        loop_crossings: wp.array2d(dtype=wp.int16),
        loop_starts: wp.array2d(dtype=wp.int8),
        gradient: wp.array(dtype=scalar),
        vertices_gradient: wp.array(dtype=vec3),
        corners_gradient: wp.array2d(dtype=vec4),
    ):
        """Adjoint of `measure_deviation` times `gradient`; a vertex on a crossing takes no part in
        its distance.

        The gradient of a corner is that of its value over the scale of the cell, then that of its
        position.
        """
        slot = first + wp.tid()
        case = int(loop_cases[slot])
        place = along(surface_cells[slot], cells[1], cells[2])
        s = load_field(sdf, place, cells)
        s = s * (one / field_scale(s))
        x = load_points(deformation, deformed, place, cells, lower, spacing)
        vertex = ends[0, slot] - counts[0, slot]
        s_gradient = vec8()
        x_gradient = mat83()
        for loop in range(counts[0, slot]):
            begin = int(loop_starts[case, loop])
            length = int(loop_starts[case, loop + 1]) - begin
            v = vertices[vertex]
            distance = vec7()
            mean = scalar(0.0)
            for m in range(length):
                _edge, start, end = unpack(loop_crossings[case, begin + m])
                p = crossing(s, x, start, end)
                distance[m] = wp.length(v - p)
                mean += distance[m]
            mean /= scalar(length)
            mean_sign = scalar(0.0)
            for m in range(length):
                mean_sign += sign(distance[m] - mean)
            mean_sign /= scalar(length)
            v_gradient = vec3()
            for m in range(length):
                if distance[m] > zero:
                    _edge, start, end = unpack(loop_crossings[case, begin + m])
                    w = share(s[start], s[end])
                    p = w * x[start] + (one - w) * x[end]
                    slope = gradient[0] * (sign(distance[m] - mean) - mean_sign) / distance[m]
                    pull = slope * (v - p)
                    v_gradient += pull
                    w_gradient = wp.dot(pull, x[end] - x[start]) * inverse_width(s[start], s[end])
                    s_gradient[start] += w * w_gradient
                    s_gradient[end] += (one - w) * w_gradient
                    x_gradient[start] -= w * pull
                    x_gradient[end] -= (one - w) * pull
            vertices_gradient[vertex] = v_gradient
            vertex += 1
        for corner in range(8):
            moved = x_gradient[corner]
            corners_gradient[slot, corner] = vec4(s_gradient[corner], moved[0], moved[1], moved[2])

    return SimpleNamespace(
        measure_deviation=measure_deviation, pull_back_deviation=pull_back_deviation
    )
