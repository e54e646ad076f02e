"""The limited-memory quasi-Newton step in a box."""

from __future__ import annotations

import torch
from torch import Tensor


def free_coordinates(gradient: Tensor, to_lower: Tensor, to_upper: Tensor) -> Tensor:
    """Mask (d,) of the coordinates that a small step down the gradient can move.

    to_lower <= 0 <= to_upper: (d,), what is left to the bounds.
    """
    held = ((to_lower >= 0) & (gradient > 0)) | ((to_upper <= 0) & (gradient < 0))
    return ~held


def quasi_newton_step(
    gradient: Tensor, to_lower: Tensor, to_upper: Tensor, steps: Tensor, changes: Tensor
) -> Tensor:
    """A direction (d,) of descent; to be clamped into the box as it is followed.

    gradient, to_lower, to_upper: (d,). steps, changes: (k, d), oldest first, past steps and what
    they changed in the gradient. A coordinate that the scaled gradient step takes to its bound
    moves by that step. The others move by the two-loop product of the pairs cut to them, so that
    both blocks descend (Bertsekas, 1982, Projected Newton methods, section 3).
    """
    if not len(steps):
        return -gradient
    gamma = float(steps[-1].dot(changes[-1]) / changes[-1].dot(changes[-1]))
    plain = -gamma * gradient
    bound = ((plain <= to_lower) & (gradient > 0)) | ((plain >= to_upper) & (gradient < 0))
    if bool(bound.any()):
        free = ~bound
        steps, changes = steps * free, changes * free
        product = _two_loop(gradient * free, steps, changes, gamma)
        return torch.where(bound, plain, -product)
    return -_two_loop(gradient, steps, changes, gamma)


def _two_loop(gradient: Tensor, steps: Tensor, changes: Tensor, gamma: float) -> Tensor:
    """H g (Nocedal and Wright, algorithm 7.4) over pairs of positive curvature, else gamma g."""
    products, squares = (steps * changes).sum(1), (changes * changes).sum(1)
    usable = (products > torch.finfo(gradient.dtype).eps * squares).nonzero()[:, 0].tolist()
    curvature, square = products.tolist(), squares.tolist()
    result, weights = gradient.clone(), {}
    for i in reversed(usable):
        weights[i] = float(steps[i].dot(result)) / curvature[i]
        result.sub_(changes[i], alpha=weights[i])
    result.mul_(curvature[usable[-1]] / square[usable[-1]] if usable else gamma)
    for i in usable:
        result.add_(steps[i], alpha=weights[i] - float(changes[i].dot(result)) / curvature[i])
    return result
