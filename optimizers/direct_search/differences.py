"""Gradients by differences, for models that give values and outputs only."""

from __future__ import annotations

import torch
from torch import Tensor

from optimizers.evaluation import Evaluation
from optimizers.problem import Problem


def difference_points(problem: Problem, points: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """The points (B (1 + d), d) to ask, each of (B, d) before its d neighbours, and steps (B, d).

    width: (B,), of a step in units of the scales, at least the root of round-off. A step that
    would leave the box goes the other way, or as far as the box is wide.
    """
    eps = torch.finfo(points.dtype).eps
    size = (points.abs() + problem.scale) * eps**0.5
    size = torch.maximum(width[:, None] * problem.scale, size)
    up, down = problem.upper - points, points - problem.lower
    steps = torch.where(size <= up, size, torch.where(size <= down, -size, 0.0))
    steps = torch.where(steps == 0, torch.where(up >= down, up, -down), steps)
    around = points[:, None] + torch.diag_embed(steps)
    around = torch.clamp(around, problem.lower, problem.upper)
    steps = around.diagonal(dim1=1, dim2=2) - points  # as far as round-off let them go
    return torch.cat((points[:, None], around), 1).flatten(0, 1), steps


def differenced(answer: Evaluation, steps: Tensor, direction: Tensor | None = None) -> Evaluation:
    """The answer of order 2 at the B points, from one of order 0 at `difference_points`.

    Forward differences of the value and the constraints. The curvature is J^T F'' J, from the
    differences of the outputs and of the gradient of F at them; it is 0 for a problem that is not
    composite. A neighbour that failed tells of no change.
    direction: (B, K); with it the gradient is J^T u by the differences of the K outputs, which are
    those of `LinearizedTarget`.
    """
    count, dimension = steps.shape
    rows = dimension + 1
    ok = answer.ok.view(count, rows)
    known = ok[:, 1:] & ok[:, :1]

    def base(rowwise: Tensor) -> Tensor:
        return rowwise.view(count, rows, *rowwise.shape[1:])[:, 0]

    def slopes(rowwise: Tensor) -> Tensor:
        """(B, d, ...) differences over steps."""
        table = rowwise.view(count, rows, *rowwise.shape[1:])
        shape = (count, dimension, *[1] * (rowwise.ndim - 1))
        change = (table[:, 1:] - table[:, :1]) / steps.view(shape)
        return change.where(known.view(shape), 0.0)

    constraints, outputs, pull = answer.constraints, answer.outputs, answer.output_gradient
    jacobian = None if constraints is None else slopes(constraints).mT
    curvature = steps.new_zeros(count, dimension, dimension)
    if outputs is not None and pull is not None:
        bent = slopes(outputs) @ slopes(pull).mT
        curvature = 0.5 * (bent + bent.mT)
    if direction is None:
        gradient = slopes(answer.value)
    else:
        told = answer.value[:, None] if outputs is None else outputs
        if direction.shape[1] > told.shape[1] and constraints is not None:
            told = torch.cat((told, constraints), 1)
        gradient = (slopes(told) @ direction[..., None])[..., 0]
    return Evaluation(
        base(answer.value),
        None if constraints is None else base(constraints),
        gradient,
        jacobian,
        ok=ok[:, 0],
        equalities=answer.equalities,
        outputs=None if outputs is None else base(outputs),
        output_gradient=None if pull is None else base(pull),
        curvature=curvature,
    )
