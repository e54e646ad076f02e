"""The steps of directional attacks: where a linear or quadratic model falls most within a radius.

Everything is in units of the parameters' scales. The room of a step are the distances to the
bounds, (to_lower <= 0, to_upper >= 0), (B, d) each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from optimizers.gradient.quasi_newton import free_coordinates

Room = tuple[Tensor, Tensor]
PASSES = 6  # of the quadratic model; each holds the coordinates that the last one took too far
SHIFTS = 8  # of a curvature that is not positive definite, each a hundred times the last


def cut(step: Tensor, radius: Tensor, room: Room) -> Tensor:
    """The step (B, d) clamped into the l_inf ball of radius (B,) and the box."""
    size = radius[:, None]
    return step.clamp(torch.maximum(-size, room[0]), torch.minimum(size, room[1]))


def sign_step(gradient: Tensor, radius: Tensor, room: Room) -> Tensor:
    """The d (B, d) of least <gradient, d> in the l_inf ball and the box: -r sign(gradient), cut.

    Goodfellow et al., 2015 (FGSM). Exact for a linear function, also at the bounds.
    """
    return cut(-radius[:, None] * gradient.sign(), radius, room)


def euclidean_step(gradient: Tensor, radius: Tensor, room: Room) -> Tensor:
    """-r g / |g|_2 (B, d), where g is the gradient without what pushes out of the box; cut."""
    free = gradient * free_coordinates(gradient, *room)
    length = free.norm(dim=1, keepdim=True)
    return cut(-radius[:, None] * free / length.where(length > 0, 1.0), radius, room)


def newton_step(gradient: Tensor, curvature: Tensor, radius: Tensor, room: Room) -> Tensor:
    """-(H + lambda I)^(-1) g (B, d) with lambda = |g| / r, cut to the ball and the box.

    curvature: (B, d, d), symmetric; a positive semidefinite one gives |d|_2 <= r.
    Coordinates that the step takes to a bound are held there, and the others solved again.

    Semenov, Jaggi and Doikov, 2025, where 1 / r is the smoothness that is estimated. Ours: r is
    the radius of the attack, and a matrix that has no Cholesky factor gets a larger lambda.
    """
    free = free_coordinates(gradient, *room)
    step = torch.zeros_like(gradient)
    damping = (gradient * free).norm(dim=1) / radius
    identity = torch.eye(gradient.shape[1], dtype=gradient.dtype, device=gradient.device)
    for _ in range(PASSES):
        held = (curvature @ step.masked_fill(free, 0.0)[..., None])[..., 0]
        mask = free[:, :, None] & free[:, None, :]
        matrix = curvature.where(mask, 0.0) + identity * (~free)[:, None]
        solved = _solve(matrix, -(gradient + held) * free, damping, identity)
        step = torch.where(free, solved, step)
        clamped = cut(step, radius, room)
        leaving = free & (clamped != step)
        step = clamped
        if not bool(leaving.any()):
            break
        free = free & ~leaving
    return step


def _solve(matrix: Tensor, right: Tensor, damping: Tensor, identity: Tensor) -> Tensor:
    """(matrix + damping I)^(-1) right (B, d), with more damping where that is not definite."""
    size = matrix.diagonal(dim1=1, dim2=2).abs().amax(1)
    damping = torch.maximum(damping, size * torch.finfo(matrix.dtype).eps)
    for _ in range(SHIFTS):
        factor, failed = torch.linalg.cholesky_ex(matrix + damping[:, None, None] * identity)
        if not bool(failed.any()):
            return torch.cholesky_solve(right[..., None], factor)[..., 0]
        damping = torch.where(failed > 0, torch.maximum(100 * damping, 1e-6 * size), damping)
    return right / size.clamp(min=torch.finfo(matrix.dtype).tiny)[:, None]


def rooms(points: Tensor, lower: Tensor, upper: Tensor, scale: Tensor) -> Room:
    """The room (B, d) of steps from points (B, d), in units of the scales."""
    return (lower - points) / scale, (upper - points) / scale
