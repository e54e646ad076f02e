"""Kernels of antialias: the search for silhouettes between pixels, and blending."""

# ruff: noqa: UP018, RUF046, SIM102 - int() makes a variable of a kernel; its `and` takes both sides

from typing import Any

import warp as wp

from geomopt.render.precision import per_precision
from geomopt.render.rasterize_kernels import add_gradient, homogeneous, pixel_centre

wp.set_module_options({"enable_backward": False})

MAX_STEPS = wp.constant(64)  # triangles crossed on the way from one pixel to the next


@wp.func
def corner_point(
    clip: wp.array(dtype=wp.vec4d), faces: wp.array(dtype=int), base: int, face: int, k: int
):
    return homogeneous(clip[base + faces[3 * face + k % 3]])


@wp.func
def find_silhouette(
    clip: wp.array(dtype=wp.vec4d),
    faces: wp.array(dtype=int),
    opposites: wp.array(dtype=int),
    base: int,
    start: int,
    goal: int,
    origin: wp.vec3d,
    target: wp.vec3d,
):
    """The edge 3 f + k where the surface seen at pixel centre `origin` ends before `target`, or -1.

    Walks over the surface from face `start` along the segment between the centres. In a triangle
    with corners p the segment leaves through the edge whose line l_k = p_i x p_j is first to fall
    to zero, at c = l_k . origin / (l_k . origin - l_k . target). The edge is a silhouette if
    nothing unique lies across it or if the triangle there lies on the same side of the line. The
    walk ends with -1 where it passes `target` or comes to face `goal`, which is seen there: no
    border.
    """
    zero = wp.float64(0.0)
    face = start
    entered = int(-1)
    for _step in range(MAX_STEPS):
        p0 = corner_point(clip, faces, base, face, 0)
        p1 = corner_point(clip, faces, base, face, 1)
        p2 = corner_point(clip, faces, base, face, 2)
        l0 = wp.cross(p1, p2)
        l1 = wp.cross(p2, p0)
        l2 = wp.cross(p0, p1)
        volume = wp.dot(l0, p0)
        side = wp.sign(volume)
        best = wp.float64(2.0)
        leave = int(-1)
        line = l0
        a = wp.dot(l0, origin) * side
        b = wp.dot(l0, target) * side
        if entered != 0:
            if b < a:
                best = a / (a - b)
                leave = 0
        a = wp.dot(l1, origin) * side
        b = wp.dot(l1, target) * side
        if entered != 1:
            if b < a:
                if a < best * (a - b):
                    best = a / (a - b)
                    leave = 1
                    line = l1
        a = wp.dot(l2, origin) * side
        b = wp.dot(l2, target) * side
        if entered != 2:
            if b < a:
                if a < best * (a - b):
                    best = a / (a - b)
                    leave = 2
                    line = l2
        if leave < 0 or best > wp.float64(1.0):
            return -1
        across = opposites[3 * face + leave]
        if across < 0:
            return 3 * face + leave
        beyond = homogeneous(clip[base + faces[across]])
        if wp.dot(line, beyond) * side >= zero:
            return 3 * face + leave
        face = across / 3
        entered = across % 3
        if face == goal:
            return -1
    return -1


@wp.func
def silhouette_line(
    clip: wp.array(dtype=wp.vec4d), faces: wp.array(dtype=int), base: int, edge: int
):
    return wp.cross(
        corner_point(clip, faces, base, edge / 3, edge + 1 - 3 * (edge / 3)),
        corner_point(clip, faces, base, edge / 3, edge + 2 - 3 * (edge / 3)),
    )


@wp.kernel
def find_borders(
    first: int,
    clip: wp.array(dtype=wp.vec4d),
    faces: wp.array(dtype=int),
    opposites: wp.array(dtype=int),
    face_in: wp.array(dtype=int),
    depth: wp.array(dtype=Any),
    vertex_count: int,
    height: int,
    width: int,
    span: int,
    edges: wp.array(dtype=int),
    blend: wp.array(dtype=Any),
):
    """For each pixel and its right and lower neighbour: the silhouette between them and its place.

    edges: 2 (3 f + k) + 1 if the second pixel's surface is the nearer one, else + 0; -1 for none.
    blend: s - 1/2, where the first pixel's colour reaches over the fraction s of the way.
    """
    start = (first + wp.tid()) * span
    for pixel in range(start, wp.min(start + span, face_in.shape[0])):
        mine = face_in[pixel]
        for axis in range(2):
            other = pixel + 1
            inside = pixel % width < width - 1
            if axis == 1:
                other = pixel + width
                inside = (pixel / width) % height < height - 1
            if inside:
                theirs = face_in[other]
                if theirs != mine:
                    second = int(0)
                    near = pixel
                    far = other
                    if theirs >= 0 and (mine < 0 or depth[other] < depth[pixel]):
                        second = 1
                        near = other
                        far = pixel
                    base = (pixel / (height * width)) * vertex_count
                    origin = pixel_centre(near / width, near % width, height, width)
                    target = pixel_centre(far / width, far % width, height, width)
                    edge = find_silhouette(
                        clip, faces, opposites, base, face_in[near], face_in[far], origin, target
                    )
                    if edge >= 0:
                        line = silhouette_line(clip, faces, base, edge)
                        across = wp.abs(line[0]) * wp.float64(height)
                        along = wp.abs(line[1]) * wp.float64(width)
                        # steep edges belong to pairs in a row, flat ones to pairs in a column
                        if (axis == 0 and across >= along) or (axis == 1 and along > across):
                            a = wp.dot(line, origin)
                            c = wp.clamp(
                                a / (a - wp.dot(line, target)), wp.float64(0.0), wp.float64(1.0)
                            )
                            if second == 1:
                                c = wp.float64(1.0) - c
                            edges[2 * pixel + axis] = 2 * edge + second
                            blend[2 * pixel + axis] = blend.dtype(c - wp.float64(0.5))


@wp.func
def mix(
    image: wp.array(dtype=Any),
    pixel: int,
    other: int,
    channels: int,
    weight: Any,
    out: wp.array(dtype=Any),
):
    for channel in range(channels):
        out[pixel * channels + channel] += weight * (
            image[other * channels + channel] - image[pixel * channels + channel]
        )


@wp.kernel
def blend_pixels(
    first: int,
    image: wp.array(dtype=Any),
    blend: wp.array(dtype=Any),
    channels: int,
    height: int,
    width: int,
    span: int,
    out: wp.array(dtype=Any),
):
    """Each pixel gathers from its four neighbours; `out` comes as a copy of the image."""
    start = (first + wp.tid()) * span
    for pixel in range(start, wp.min(start + span, blend.shape[0] / 2)):
        column = pixel % width
        row = (pixel / width) % height
        weight = blend[2 * pixel]
        zero = weight - weight
        if weight < zero:
            mix(image, pixel, pixel + 1, channels, -weight, out)
        weight = blend[2 * pixel + 1]
        if weight < zero:
            mix(image, pixel, pixel + width, channels, -weight, out)
        if column > 0:
            weight = blend[2 * (pixel - 1)]
            if weight > zero:
                mix(image, pixel, pixel - 1, channels, weight, out)
        if row > 0:
            weight = blend[2 * (pixel - width) + 1]
            if weight > zero:
                mix(image, pixel, pixel - width, channels, weight, out)


@wp.func
def unmix(
    gradient: wp.array(dtype=Any),
    pixel: int,
    other: int,
    channels: int,
    own: Any,
    given: Any,
    out: wp.array(dtype=Any),
):
    """The pixel lost `own` of its colour and gave `given` of it to the other."""
    for channel in range(channels):
        out[pixel * channels + channel] += (
            given * gradient[other * channels + channel]
            - own * gradient[pixel * channels + channel]
        )


@wp.kernel
def blend_pixels_adjoint(
    first: int,
    gradient: wp.array(dtype=Any),
    blend: wp.array(dtype=Any),
    channels: int,
    height: int,
    width: int,
    span: int,
    out: wp.array(dtype=Any),
):
    """The gradient of the image; `out` comes as a copy of the incoming gradient."""
    start = (first + wp.tid()) * span
    for pixel in range(start, wp.min(start + span, blend.shape[0] / 2)):
        column = pixel % width
        row = (pixel / width) % height
        weight = blend[2 * pixel]
        zero = weight - weight
        if weight != zero:
            unmix(
                gradient,
                pixel,
                pixel + 1,
                channels,
                wp.max(-weight, zero),
                wp.max(weight, zero),
                out,
            )
        weight = blend[2 * pixel + 1]
        if weight != zero:
            unmix(
                gradient,
                pixel,
                pixel + width,
                channels,
                wp.max(-weight, zero),
                wp.max(weight, zero),
                out,
            )
        if column > 0:
            weight = blend[2 * (pixel - 1)]
            if weight != zero:
                unmix(
                    gradient,
                    pixel,
                    pixel - 1,
                    channels,
                    wp.max(weight, zero),
                    wp.max(-weight, zero),
                    out,
                )
        if row > 0:
            weight = blend[2 * (pixel - width) + 1]
            if weight != zero:
                unmix(
                    gradient,
                    pixel,
                    pixel - width,
                    channels,
                    wp.max(weight, zero),
                    wp.max(-weight, zero),
                    out,
                )


@wp.kernel
def move_silhouettes(
    first: int,
    clip: wp.array(dtype=wp.vec4d),
    faces: wp.array(dtype=int),
    edges: wp.array(dtype=int),
    image: wp.array(dtype=Any),
    gradient: wp.array(dtype=Any),
    channels: int,
    vertex_count: int,
    height: int,
    width: int,
    span: int,
    clip_gradient: wp.array(dtype=Any),
):
    """The gradient of the ends of the silhouettes between pixels.

    dL/ds = g . (I_first - I_second) with g at the blended pixel; s = c or 1 - c, and with
    a = l . origin, b = l . target: c = a / (a - b), dc/dl = (a target - b origin) / (a - b)^2.
    """
    start = (first + wp.tid()) * span
    for pixel in range(start, wp.min(start + span, edges.shape[0] / 2)):
        for axis in range(2):
            code = edges[2 * pixel + axis]
            if code >= 0:
                edge = code / 2
                other = pixel + 1
                if axis == 1:
                    other = pixel + width
                origin = pixel_centre(pixel / width, pixel % width, height, width)
                target = pixel_centre(other / width, other % width, height, width)
                # measured from the first pixel, whichever is nearer: c is the same point
                base = (pixel / (height * width)) * vertex_count
                k = edge - 3 * (edge / 3)
                p = corner_point(clip, faces, base, edge / 3, k + 1)
                q = corner_point(clip, faces, base, edge / 3, k + 2)
                line = wp.cross(p, q)
                a = wp.dot(line, origin)
                b = wp.dot(line, target)
                blended = pixel
                if a / (a - b) >= wp.float64(0.5):
                    blended = other
                slope = wp.float64(0.0)
                for channel in range(channels):
                    slope += wp.float64(gradient[blended * channels + channel]) * (
                        wp.float64(image[pixel * channels + channel])
                        - wp.float64(image[other * channels + channel])
                    )
                g = (target * a - origin * b) * (slope / ((a - b) * (a - b)))
                corners = 3 * (edge / 3)
                add_gradient(clip_gradient, base + faces[corners + (k + 1) % 3], wp.cross(q, g))
                add_gradient(clip_gradient, base + faces[corners + (k + 2) % 3], wp.cross(g, p))


FIND_BORDERS = per_precision(find_borders, "depth", "blend")
BLEND = per_precision(blend_pixels, "image", "blend", "out")
BLEND_ADJOINT = per_precision(blend_pixels_adjoint, "gradient", "blend", "out")
MOVE_SILHOUETTES = per_precision(move_silhouettes, "image", "gradient", "clip_gradient")
