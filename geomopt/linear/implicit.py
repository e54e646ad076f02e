"""The solution of a linear system as a differentiable function of matrix and right side."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geomopt.errors import check_tensor
from geomopt.linear.direct import DirectSolver, Factor
from geomopt.linear.pattern import SparsePattern


class _Solution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, factor: Factor, values: Tensor, right: Tensor) -> Tensor:
        solution = factor.solve(right)
        ctx.factor = factor
        ctx.save_for_backward(values, solution)
        return solution

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        values, solution = ctx.saved_tensors
        pattern = ctx.factor.pattern
        adjoint = _Solution.apply(ctx.factor, values, gradients[0])
        of_values = None
        if ctx.needs_input_grad[1]:
            rows, columns = pattern.rows, pattern.columns.long()
            # the matrix is symmetric, so its two mirrored entries share their derivative
            products = adjoint[rows] * solution[columns] + adjoint[columns] * solution[rows]
            of_values = -0.5 * products.reshape(len(rows), -1).sum(dim=1)
        return None, of_values, adjoint if ctx.needs_input_grad[2] else None


def sparse_solve(
    pattern: SparsePattern, values: Tensor, right: Tensor, solver: str | DirectSolver = "auto"
) -> Tensor:
    """Solution x of A(values) x = b, differentiable to any order in values and right side.

    values (nnz,) in the order of `SparsePattern.assemble`, of a symmetric matrix; right (n,) or
    (n, m), float64. With y = A^-1 dL/dx from one more solve with the same factor, dL/db = y and
    dL/dA_ij = -(y_i x_j + y_j x_i) / 2. solver: as for `DirectSolver`, or one on this pattern.
    Raises SingularMatrix, and InputError for other shapes.
    """
    check_tensor("values", values, (pattern.nonzeros,))
    check_tensor("right", right, like=values)
    given = solver if isinstance(solver, DirectSolver) else DirectSolver(pattern, solver)
    result: Any = _Solution.apply(given.factorise(values), values, right)
    return result
