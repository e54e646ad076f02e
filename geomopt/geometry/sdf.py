"""Signed distances of simple solids, and how to join and move them.

Every function takes points (..., 3) and returns distances (...), negative inside, in the dtype and
on the device of the points. Shape parameters are numbers or tensors that broadcast against the
points (lengths (...), vectors (..., 3)), and everything is differentiable in points and parameters,
with finite gradients at centres and edges.

notched = difference(sphere(points, 1.0), box(translate(points, (0.0, 0.0, 1.0)), (2.0, 0.2, 0.2)))

A distance is *exact* when it is the distance to the nearest surface point; its gradient then has
length 1 almost everywhere. A *bound* has the right sign and zero set and is never larger than the
distance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Number = float | Tensor
Vector = Sequence[float] | Tensor


def _like(points: Tensor, value: float | Sequence[float] | Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=points.dtype, device=points.device)


def _length(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=-1)  # its gradient at zero is zero


def _beyond(excess: Tensor) -> Tensor:
    """Distance from the box excess <= 0; excess (..., n) is how far a coordinate is past its
    limit.
    """
    return _length(excess.clamp(min=0)) + excess.amax(dim=-1).clamp(max=0)


def sphere(points: Tensor, radius: Number = 1.0) -> Tensor:
    """Exact distance to a sphere around the origin."""
    return _length(points) - _like(points, radius)


def box(points: Tensor, half_sizes: Vector) -> Tensor:
    """Exact distance to a box around the origin; half_sizes (3,) along x, y, z."""
    return _beyond(points.abs() - _like(points, half_sizes))


def rounded_box(points: Tensor, half_sizes: Vector, radius: Number) -> Tensor:
    """Exact distance to a box of half_sizes (3,) with its edges rounded to `radius`."""
    rounding = _like(points, radius)
    return box(points, _like(points, half_sizes) - rounding[..., None]) - rounding


def torus(points: Tensor, major_radius: Number, minor_radius: Number) -> Tensor:
    """Exact distance to a ring around z: a tube of the minor radius along the major circle."""
    across = torch.stack(
        torch.broadcast_tensors(
            _length(points[..., :2]) - _like(points, major_radius), points[..., 2]
        ),
        dim=-1,
    )
    return _length(across) - _like(points, minor_radius)


def cylinder(points: Tensor, radius: Number, half_height: Number) -> Tensor:
    """Exact distance to a capped cylinder along z around the origin."""
    radial = _length(points[..., :2]) - _like(points, radius)
    axial = points[..., 2].abs() - _like(points, half_height)
    return _beyond(torch.stack(torch.broadcast_tensors(radial, axial), dim=-1))


def capsule(points: Tensor, start: Vector, end: Vector, radius: Number) -> Tensor:
    """Exact distance to the points within `radius` of the segment from start (3,) to end (3,)."""
    first, last = _like(points, start), _like(points, end)
    return _to_segment(points, first, last) - _like(points, radius)


def _to_segment(points: Tensor, start: Tensor, end: Tensor) -> Tensor:
    along = end - start
    squared = (along * along).sum(dim=-1)
    place = ((points - start) * along).sum(dim=-1) / torch.where(squared > 0, squared, 1)
    return _length(points - start - place.clamp(0, 1)[..., None] * along)


def cone(points: Tensor, radius: Number, height: Number) -> Tensor:
    """Exact distance to a cone with its base in the plane z = 0 and its tip at z = height."""
    radial, level = _length(points[..., :2]), points[..., 2]
    radial, level, wide, high = torch.broadcast_tensors(
        radial, level, _like(points, radius), _like(points, height)
    )
    nil = torch.zeros_like(radial)
    at = torch.stack([radial, level], dim=-1)
    rim, tip = torch.stack([wide, nil], dim=-1), torch.stack([nil, high], dim=-1)
    to_surface = torch.minimum(
        _to_segment(at, torch.zeros_like(at), rim), _to_segment(at, rim, tip)
    )
    is_inside = (level > 0) & (radial * high + level * wide < wide * high)
    return torch.where(is_inside, -to_surface, to_surface)


def plane(points: Tensor, normal: Vector, offset: Number = 0.0) -> Tensor:
    """Exact distance to the half-space p . n <= offset; n is `normal` (3,) made a unit vector."""
    direction = _like(points, normal)
    return (points * direction).sum(dim=-1) / _length(direction) - _like(points, offset)


def ellipsoid(points: Tensor, semi_axes: Vector) -> Tensor:
    """Bound of the distance to an ellipsoid: min(a) (|p / a| - 1) for semi_axes a (3,)."""
    axes = _like(points, semi_axes)
    return axes.amin(dim=-1) * (_length(points / axes) - 1)


def gyroid(points: Tensor, period: Number) -> Tensor:
    """Bound of the distance to a gyroid, which halves space and repeats after `period`.

    sin x cos y + sin y cos z + sin z cos x over its steepest slope, for points in units of period /
    2 pi.
    """
    unit = _like(points, period) / (2 * math.pi)
    angle = points / unit[..., None]
    wave = (angle.sin() * angle.roll(-1, dims=-1).cos()).sum(dim=-1)
    return wave * unit / math.sqrt(3)


def union(first: Tensor, *others: Tensor) -> Tensor:
    """Distance to what lies in any of the solids: exact outside, a bound inside."""
    for other in others:
        first = torch.minimum(first, other)
    return first


def intersection(first: Tensor, *others: Tensor) -> Tensor:
    """Distance to what lies in all of the solids: exact inside, a bound outside."""
    for other in others:
        first = torch.maximum(first, other)
    return first


def difference(solid: Tensor, removed: Tensor) -> Tensor:
    """Distance to the solid without what lies in `removed`: exact inside, a bound outside."""
    return torch.maximum(solid, -removed)


def smooth_union(first: Tensor, second: Tensor, width: Number) -> Tensor:
    """The union with a fillet where the distances differ by less than `width` > 0; a bound.

    min(a, b) - max(width - |a - b|, 0)^2 / (4 width), which has a continuous gradient.
    """
    near = (width - (first - second).abs()).clamp(min=0)
    return torch.minimum(first, second) - near * near / (4 * width)


def translate(points: Tensor, offset: Vector) -> Tensor:
    """Points (..., 3) to give to a solid so that it appears moved by `offset` (3,)."""
    return points - _like(points, offset)


def rotate(points: Tensor, axis: Vector, angle: Number) -> Tensor:
    """Points (..., 3) to give to a solid so that it appears turned about `axis` (3,).

    angle: radians, counter-clockwise when the axis points at the viewer. Rodrigues' formula for the
    inverse turn.
    """
    direction = _like(points, axis)
    direction = (direction / _length(direction)[..., None]).expand_as(points)
    turn = _like(points, angle)[..., None]
    along = (points * direction).sum(dim=-1, keepdim=True) * direction
    across = torch.linalg.cross(direction, points)
    return along + (points - along) * turn.cos() - across * turn.sin()


def scale(points: Tensor, factor: Number) -> Tensor:
    """Points (..., 3) to give to a solid so that it appears `factor` > 0 times as large.

    Lengths shrink with the points: multiply the distance by the factor, as in factor *
    torus(scale(points, factor), 1.0, 0.2).
    """
    return points / _like(points, factor)[..., None]
