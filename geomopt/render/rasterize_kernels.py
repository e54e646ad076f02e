"""Kernels of rasterize.

All geometry is computed in float64 whatever the precision of the images: snapped lines are exact
integers, and a CPU core is as quick in either. Work is given out in spans of elements: a row a
thread on CPU, where a thread costs as much as a pixel, and a pixel a thread on CUDA.
"""

# ruff: noqa: SIM102 - `and` evaluates both sides in a kernel

from typing import Any

import warp as wp

from geomopt.render.precision import per_precision

wp.set_module_options({"enable_backward": False})

EMPTY = wp.constant(wp.int64(0x7FFFFFFFFFFFFFFF))
DEPTH_STEPS = wp.constant(wp.float64(1073741824.0))  # 2^30 for half of the depth range
ID_MASK = wp.constant(wp.int64(0xFFFFFFFF))
SUBPIXELS = wp.constant(wp.float64(4096.0))


@wp.func
def homogeneous(p: wp.vec4d):
    return wp.vec3d(p[0], p[1], p[3])


@wp.func
def edge_line(i: int, j: int, si: wp.vec2d, sj: wp.vec2d, pi: wp.vec3d, pj: wp.vec3d):
    """Line from corner i to j; its value at (x, y, 1) is positive on the left. Opposite for the
    reversed edge, exactly.
    """
    if not wp.isnan(si[0] + sj[0]):
        return wp.vec3d(si[1] - sj[1], sj[0] - si[0], si[0] * sj[1] - sj[0] * si[1])
    if i < j:
        return wp.cross(pi, pj)
    return -wp.cross(pj, pi)


@wp.func
def owns_ties(line: wp.vec3d):
    if line[0] == wp.float64(0.0):
        return line[1] > wp.float64(0.0)
    return line[0] > wp.float64(0.0)


@wp.func
def grow(box: wp.vec4d, p: wp.vec4d, scale_x: wp.float64, scale_y: wp.float64):
    """The box (low x, low y, high x, high y) with the screen position of p; everything if p is on
    the camera plane.
    """
    if p[3] < wp.float64(1.0e-30):
        return wp.vec4d(
            wp.float64(-1.0e30), wp.float64(-1.0e30), wp.float64(1.0e30), wp.float64(1.0e30)
        )
    x = p[0] / p[3] * scale_x
    y = p[1] / p[3] * scale_y
    return wp.vec4d(wp.min(box[0], x), wp.min(box[1], y), wp.max(box[2], x), wp.max(box[3], y))


@wp.func
def grow_by_edge(box: wp.vec4d, p: wp.vec4d, q: wp.vec4d, scale_x: wp.float64, scale_y: wp.float64):
    """Adds the part of edge p q in front of the near plane: p itself and where the edge crosses the
    plane.
    """
    a = p[2] + p[3]
    b = q[2] + q[3]
    out = box
    if a >= wp.float64(0.0):
        out = grow(out, p, scale_x, scale_y)
    if a * b < wp.float64(0.0):
        out = grow(out, p + (q - p) * (a / (a - b)), scale_x, scale_y)
    return out


@wp.func
def first_centre(low: wp.float64, size: int):
    """Index of the first pixel whose centre is at or above `low` grid steps from the middle."""
    position = wp.ceil(low / SUBPIXELS + wp.float64(0.5) * wp.float64(size) - wp.float64(0.5))
    return int(wp.clamp(position, wp.float64(0.0), wp.float64(size)))


@wp.func
def last_centre(high: wp.float64, size: int):
    """One past the last pixel whose centre is at or below `high` grid steps from the middle."""
    position = wp.floor(high / SUBPIXELS + wp.float64(0.5) * wp.float64(size) - wp.float64(0.5))
    return int(wp.clamp(position, wp.float64(-1.0), wp.float64(size) - wp.float64(1.0))) + 1


@wp.func
def inverse_slope(line: wp.vec3d):
    if line[0] == wp.float64(0.0):
        return wp.float64(0.0)
    return wp.float64(1.0) / line[0]


@wp.func
def narrow(reach: wp.vec2d, slope: wp.float64, x: wp.float64, width: int):
    """The columns, from reach[0] to below reach[1], right (slope > 0) or left (slope < 0) of x."""
    column = x / SUBPIXELS + wp.float64(0.5) * wp.float64(width) - wp.float64(0.5)
    if slope > wp.float64(0.0):
        return wp.vec2d(wp.max(reach[0], column - wp.float64(1.0e-6)), reach[1])
    if slope < wp.float64(0.0):
        return wp.vec2d(reach[0], wp.min(reach[1], column + wp.float64(1.0e-6)))
    return reach


@wp.kernel
def cover_faces(
    first: int,
    clip: wp.array(dtype=wp.vec4d),
    snapped: wp.array(dtype=wp.vec2d),
    faces: wp.array(dtype=wp.vec3i),
    vertex_count: int,
    height: int,
    width: int,
    stripes: int,
    keys: wp.array(dtype=wp.int64),
):
    """Write the smallest (depth, face) key at each pixel. Element: (view, face, stripe); rows are
    dealt out to stripes.
    """
    element = first + wp.tid()
    stripe = element % stripes
    view = (element / stripes) / faces.shape[0]
    face = (element / stripes) % faces.shape[0]
    corners = faces[face]
    base = view * vertex_count
    c0 = clip[base + corners[0]]
    c1 = clip[base + corners[1]]
    c2 = clip[base + corners[2]]
    s0 = snapped[base + corners[0]]
    s1 = snapped[base + corners[1]]
    s2 = snapped[base + corners[2]]
    zero = wp.float64(0.0)
    scale_x = wp.float64(width) * wp.float64(0.5) * SUBPIXELS
    scale_y = wp.float64(height) * wp.float64(0.5) * SUBPIXELS

    whole = not wp.isnan(s0[0] + s1[0] + s2[0])
    box = wp.vec4d(wp.float64(1.0e30), wp.float64(1.0e30), wp.float64(-1.0e30), wp.float64(-1.0e30))
    if whole:
        box = wp.vec4d(
            wp.min(s0[0], wp.min(s1[0], s2[0])),
            wp.min(s0[1], wp.min(s1[1], s2[1])),
            wp.max(s0[0], wp.max(s1[0], s2[0])),
            wp.max(s0[1], wp.max(s1[1], s2[1])),
        )
    else:
        box = grow_by_edge(box, c0, c1, scale_x, scale_y)
        box = grow_by_edge(box, c1, c2, scale_x, scale_y)
        box = grow_by_edge(box, c2, c0, scale_x, scale_y)
        box = wp.vec4d(
            box[0] - SUBPIXELS, box[1] - SUBPIXELS, box[2] + SUBPIXELS, box[3] + SUBPIXELS
        )  # these corners are not rounded: a pixel more on each side
    column_first = first_centre(box[0], width)
    column_last = last_centre(box[2], width)
    row_first = height - last_centre(box[3], height)
    row_last = height - first_centre(box[1], height)
    if column_first >= column_last or row_first >= row_last:
        return

    p0 = wp.vec3d(c0[0] * scale_x, c0[1] * scale_y, c0[3])
    p1 = wp.vec3d(c1[0] * scale_x, c1[1] * scale_y, c1[3])
    p2 = wp.vec3d(c2[0] * scale_x, c2[1] * scale_y, c2[3])
    l0 = edge_line(corners[1], corners[2], s1, s2, p1, p2)
    l1 = edge_line(corners[2], corners[0], s2, s0, p2, p0)
    l2 = edge_line(corners[0], corners[1], s0, s1, p0, p1)
    area = zero
    plane = wp.vec3d(zero, zero, zero)  # z/w is affine on the screen
    if whole:
        area = (s1[0] - s0[0]) * (s2[1] - s0[1]) - (s2[0] - s0[0]) * (s1[1] - s0[1])
        plane = l0 * (c0[2] / c0[3]) + l1 * (c1[2] / c1[3]) + l2 * (c2[2] / c2[3])
    else:
        area = wp.dot(p0, wp.cross(p1, p2))
        plane = wp.cross(p1, p2) * c0[2] + wp.cross(p2, p0) * c1[2] + wp.cross(p0, p1) * c2[2]
    if area == zero:
        return
    plane = plane / area
    if area < zero:
        l0 = -l0
        l1 = -l1
        l2 = -l2
    ties0 = owns_ties(l0)
    ties1 = owns_ties(l1)
    ties2 = owns_ties(l2)

    i0 = inverse_slope(l0)
    i1 = inverse_slope(l1)
    i2 = inverse_slope(l2)
    start = row_first + (stripe - row_first % stripes + stripes) % stripes
    for row in range(start, row_last, stripes):
        y = (wp.float64(0.5) * wp.float64(height) - wp.float64(row) - wp.float64(0.5)) * SUBPIXELS
        m0 = l0[1] * y + l0[2]
        m1 = l1[1] * y + l1[2]
        m2 = l2[1] * y + l2[2]
        # where the three lines cut the row, with some room for rounding: the test below is exact
        reach = wp.vec2d(wp.float64(column_first), wp.float64(column_last))
        reach = narrow(reach, l0[0], -m0 * i0, width)
        reach = narrow(reach, l1[0], -m1 * i1, width)
        reach = narrow(reach, l2[0], -m2 * i2, width)
        offset = (view * height + row) * width
        # the cuts of a nearly level line may lie beyond the range of int
        column_start = int(wp.ceil(wp.min(reach[0], wp.float64(column_last))))
        column_stop = int(wp.ceil(wp.max(reach[1], wp.float64(column_first))))
        for column in range(column_start, column_stop):
            x = (
                wp.float64(column) + wp.float64(0.5) - wp.float64(0.5) * wp.float64(width)
            ) * SUBPIXELS
            e0 = l0[0] * x + m0
            e1 = l1[0] * x + m1
            e2 = l2[0] * x + m2
            if wp.min(e0, wp.min(e1, e2)) >= zero:
                if (e0 > zero or ties0) and (e1 > zero or ties1) and (e2 > zero or ties2):
                    depth = plane[0] * x + plane[1] * y + plane[2]
                    if depth >= wp.float64(-1.0) and depth <= wp.float64(1.0):
                        step = wp.int64((depth + wp.float64(1.0)) * DEPTH_STEPS)
                        key = step * wp.int64(4294967296) + wp.int64(face)
                        if key < keys[offset + column]:
                            wp.atomic_min(keys, offset + column, key)


@wp.func
def pixel_centre(row: int, column: int, height: int, width: int):
    """Position (x/w, y/w, 1) of a pixel centre; rows count on through the views."""
    return wp.vec3d(
        wp.float64(2 * column + 1) / wp.float64(width) - wp.float64(1.0),
        wp.float64(1.0) - wp.float64(2 * (row % height) + 1) / wp.float64(height),
        wp.float64(1.0),
    )


@wp.func
def clamped(b: wp.vec3d):
    """Each entry brought into [0, 1]."""
    zero = wp.float64(0.0)
    one = wp.float64(1.0)
    return wp.vec3d(wp.clamp(b[0], zero, one), wp.clamp(b[1], zero, one), wp.clamp(b[2], zero, one))


@wp.kernel
def resolve_pixels(
    first: int,
    clip: wp.array(dtype=wp.vec4d),
    faces: wp.array(dtype=wp.vec3i),
    keys: wp.array(dtype=wp.int64),
    vertex_count: int,
    height: int,
    width: int,
    span: int,
    face_out: wp.array(dtype=int),
    barycentric_out: wp.array(dtype=Any),
    depth_out: wp.array(dtype=Any),
):
    """Face, barycentric weights b_k = a_k / (a_0 + a_1 + a_2), clamped to [0, 1], and z/w at each
    pixel.

    Weights leave [0, 1] only where a corner was rounded past the pixel centre.
    """
    start = (first + wp.tid()) * span
    row = start / width
    base = (row / height) * vertex_count
    zero = wp.float64(0.0)
    one = wp.float64(1.0)
    step = wp.float64(2.0) / wp.float64(width)
    centre = pixel_centre(row, start - row * width, height, width)
    for i in range(span):
        pixel = start + i
        key = keys[pixel]
        if key == EMPTY:
            face_out[pixel] = -1
            depth_out[pixel] = depth_out.dtype(one)
            for k in range(3):
                barycentric_out[3 * pixel + k] = barycentric_out.dtype(zero)
        else:
            face = int(key & ID_MASK)
            corners = faces[face]
            c0 = clip[base + corners[0]]
            c1 = clip[base + corners[1]]
            c2 = clip[base + corners[2]]
            p0 = homogeneous(c0)
            p1 = homogeneous(c1)
            p2 = homogeneous(c2)
            f = wp.vec3d(centre[0] + step * wp.float64(i), centre[1], one)
            a0 = wp.dot(wp.cross(p1, p2), f)
            a1 = wp.dot(wp.cross(p2, p0), f)
            a2 = wp.dot(wp.cross(p0, p1), f)
            total = a0 + a1 + a2
            b = wp.vec3d(one / wp.float64(3.0), one / wp.float64(3.0), one / wp.float64(3.0))
            if total != zero:
                b = wp.vec3d(a0, a1, a2) * (one / total)
                if wp.min(b) < zero:
                    b = clamped(b)
                    b = b / (b[0] + b[1] + b[2])
            face_out[pixel] = face
            for k in range(3):
                barycentric_out[3 * pixel + k] = barycentric_out.dtype(b[k])
            z = b[0] * c0[2] + b[1] * c1[2] + b[2] * c2[2]
            w = b[0] * c0[3] + b[1] * c1[3] + b[2] * c2[3]
            depth_out[pixel] = depth_out.dtype(wp.clamp(z / w, -one, one))


@wp.kernel
def resolve_pixels_adjoint(
    first: int,
    clip: wp.array(dtype=wp.vec4d),
    faces: wp.array(dtype=wp.vec3i),
    face_in: wp.array(dtype=int),
    gradient: wp.array(dtype=Any),
    vertex_count: int,
    height: int,
    width: int,
    span: int,
    clip_gradient: wp.array(dtype=Any),
):
    """From the gradient of the barycentric weights to x, y and w of the corners.

    With f the pixel centre and q_i = p_i x f: a_0 = p_1 . q_2 and so on in turn. For s_k = dL/da_k,
    dL/dp_0 = s_2 q_1 - s_1 q_2 and so on.
    """
    start = (first + wp.tid()) * span
    row = start / width
    base = (row / height) * vertex_count
    zero = wp.float64(0.0)
    one = wp.float64(1.0)
    step = wp.float64(2.0) / wp.float64(width)
    centre = pixel_centre(row, start - row * width, height, width)
    for i in range(span):
        pixel = start + i
        face = face_in[pixel]
        if face >= 0:
            g = wp.vec3d(
                wp.float64(gradient[3 * pixel]),
                wp.float64(gradient[3 * pixel + 1]),
                wp.float64(gradient[3 * pixel + 2]),
            )
            if g[0] != zero or g[1] != zero or g[2] != zero:
                corners = faces[face]
                p0 = homogeneous(clip[base + corners[0]])
                p1 = homogeneous(clip[base + corners[1]])
                p2 = homogeneous(clip[base + corners[2]])
                f = wp.vec3d(centre[0] + step * wp.float64(i), centre[1], one)
                q0 = wp.cross(p0, f)
                q1 = wp.cross(p1, f)
                q2 = wp.cross(p2, f)
                a = wp.vec3d(wp.dot(p1, q2), wp.dot(p2, q0), wp.dot(p0, q1))
                total = a[0] + a[1] + a[2]
                if total != zero:
                    share = one / total
                    b = a * share
                    if wp.min(b) < zero:
                        g = unclamped_gradient(g, b)
                    s = (g - wp.vec3d(one, one, one) * wp.dot(g, b)) * share
                    add_gradient(clip_gradient, base + corners[0], q1 * s[2] - q2 * s[1])
                    add_gradient(clip_gradient, base + corners[1], q2 * s[0] - q0 * s[2])
                    add_gradient(clip_gradient, base + corners[2], q0 * s[1] - q1 * s[0])


@wp.func
def unclamped_gradient(g: wp.vec3d, b: wp.vec3d):
    """Back through t / (t_0 + t_1 + t_2), t = clamp(b, 0, 1)."""
    zero = wp.float64(0.0)
    one = wp.float64(1.0)
    t = clamped(b)
    size = t[0] + t[1] + t[2]
    out = (g - wp.vec3d(one, one, one) * (wp.dot(g, t) / size)) / size
    for k in range(3):
        if t[k] != b[k]:
            out[k] = zero
    return out


@wp.func
def add_gradient(gradient: wp.array(dtype=Any), vertex: int, d: wp.vec3d):
    """Add to x, y and w of a vertex."""
    wp.atomic_add(gradient, 4 * vertex, gradient.dtype(d[0]))
    wp.atomic_add(gradient, 4 * vertex + 1, gradient.dtype(d[1]))
    wp.atomic_add(gradient, 4 * vertex + 3, gradient.dtype(d[2]))


RESOLVE = per_precision(resolve_pixels, "barycentric_out", "depth_out")
RESOLVE_ADJOINT = per_precision(resolve_pixels_adjoint, "gradient", "clip_gradient")
