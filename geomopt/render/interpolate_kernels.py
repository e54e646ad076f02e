"""Kernels of interpolate: spans of pixels as in the kernels of rasterize."""

from typing import Any

import warp as wp

from geomopt.render.precision import per_precision

wp.set_module_options({"enable_backward": False})


@wp.kernel
def interpolate_pixels(
    first: int,
    attributes: wp.array(dtype=Any),
    faces: wp.array(dtype=wp.vec3i),
    face_in: wp.array(dtype=int),
    barycentric: wp.array(dtype=Any),
    channels: int,
    view_pixels: int,
    view_stride: int,
    span: int,
    out: wp.array(dtype=Any),
):
    """out = b_0 A_0 + b_1 A_1 + b_2 A_2; `out` comes zeroed. view_stride: attributes between views,
    0 if they share them.
    """
    start = (first + wp.tid()) * span
    for pixel in range(start, wp.min(start + span, face_in.shape[0])):
        face = face_in[pixel]
        if face >= 0:
            corners = faces[face]
            base = (pixel / view_pixels) * view_stride
            i0 = base + corners[0] * channels
            i1 = base + corners[1] * channels
            i2 = base + corners[2] * channels
            b0 = barycentric[3 * pixel]
            b1 = barycentric[3 * pixel + 1]
            b2 = barycentric[3 * pixel + 2]
            for channel in range(channels):
                out[pixel * channels + channel] = (
                    b0 * attributes[i0 + channel]
                    + b1 * attributes[i1 + channel]
                    + b2 * attributes[i2 + channel]
                )


@wp.kernel
def interpolate_pixels_adjoint(
    first: int,
    attributes: wp.array(dtype=Any),
    faces: wp.array(dtype=wp.vec3i),
    face_in: wp.array(dtype=int),
    barycentric: wp.array(dtype=Any),
    gradient: wp.array(dtype=Any),
    channels: int,
    view_pixels: int,
    view_stride: int,
    span: int,
    want_attributes: int,
    attribute_gradient: wp.array(dtype=Any),
    barycentric_gradient: wp.array(dtype=Any),
):
    """Scatter b_k dL/dout to the corners' attributes; dL/db_k = A_k . dL/dout."""
    start = (first + wp.tid()) * span
    for pixel in range(start, wp.min(start + span, face_in.shape[0])):
        face = face_in[pixel]
        if face >= 0:
            corners = faces[face]
            base = (pixel / view_pixels) * view_stride
            for k in range(3):
                vertex = base + corners[k] * channels
                weight = barycentric[3 * pixel + k]
                total = weight - weight
                for channel in range(channels):
                    g = gradient[pixel * channels + channel]
                    total += g * attributes[vertex + channel]
                    if want_attributes > 0:
                        wp.atomic_add(attribute_gradient, vertex + channel, weight * g)
                barycentric_gradient[3 * pixel + k] = total


INTERPOLATE = per_precision(interpolate_pixels, "attributes", "barycentric", "out")
INTERPOLATE_ADJOINT = per_precision(
    interpolate_pixels_adjoint,
    *("attributes", "barycentric", "gradient", "attribute_gradient", "barycentric_gradient"),
)
