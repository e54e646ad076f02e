"""Kernels of the sign-change loss."""

from functools import cache
from types import SimpleNamespace
from typing import Any

import warp as wp


@cache
def kernels(scalar: Any) -> SimpleNamespace:
    """The two kernels of one precision, wp.float32 or wp.float64."""
    home = wp.get_module(f"{__name__}.{scalar.__name__}")
    zero, one = wp.constant(scalar(0.0)), wp.constant(scalar(1.0))

    @wp.func(module=home)
    def entropy(s: scalar, target: scalar):
        """Binary cross entropy of the logit s against a target, without overflow."""
        return wp.max(s, zero) - s * target + wp.log(one + wp.exp(-wp.abs(s)))

    @wp.func(module=home)
    def slope(s: scalar, target: scalar):
        """Derivative of `entropy` in s."""
        e = wp.exp(-wp.abs(s))
        return wp.where(s < zero, e, one) / (one + e) - target

    @wp.kernel(module=home, enable_backward=False)
    def measure_sign_changes(
        first: int,
        sdf: wp.array(dtype=scalar),
        points: wp.vec3i,
        losses: wp.array(dtype=scalar),
        counts: wp.array(dtype=wp.int32),
    ):
        """Loss and number of the changing edges that leave the points of one row along z."""
        row = first + wp.tid()
        step = wp.vec3i(points[1] * points[2], points[2], 1)
        loss = scalar(0.0)
        count = wp.int32(0)
        size = wp.vec3i(
            wp.where(row // points[1] + 1 < points[0], points[2], 0),
            wp.where(row % points[1] + 1 < points[1], points[2], 0),
            points[2] - 1,
        )
        for axis in range(3):
            for k in range(size[axis]):
                point = row * points[2] + k
                a = sdf[point]
                b = sdf[point + step[axis]]
                if (a < zero) != (b < zero):
                    loss += entropy(a, wp.where(b < zero, zero, one))
                    loss += entropy(b, wp.where(a < zero, zero, one))
                    count += 1
        losses[row] = loss
        counts[row] = count

    @wp.kernel(module=home, enable_backward=False)
    def pull_back_sign_changes(
        first: int,
        sdf: wp.array(dtype=scalar),
        points: wp.vec3i,
        gradient: wp.array(dtype=scalar),
        sdf_gradient: wp.array(dtype=scalar),
    ):
        """Adjoint, gathered at each point of a row from its neighbours of the other sign."""
        row = first + wp.tid()
        place = wp.vec3i(row // points[1], row % points[1], 0)
        step = wp.vec3i(points[1] * points[2], points[2], 1)
        for k in range(points[2]):
            place[2] = k
            point = row * points[2] + k
            s = sdf[point]
            inside = s < zero
            others = wp.int32(0)
            for axis in range(3):
                if place[axis] > 0:
                    others += wp.where((sdf[point - step[axis]] < zero) != inside, 1, 0)
                if place[axis] + 1 < points[axis]:
                    others += wp.where((sdf[point + step[axis]] < zero) != inside, 1, 0)
            if others > 0:
                pull = slope(s, wp.where(inside, one, zero))
                sdf_gradient[point] = gradient[0] * scalar(others) * pull

    return SimpleNamespace(
        measure_sign_changes=measure_sign_changes, pull_back_sign_changes=pull_back_sign_changes
    )
