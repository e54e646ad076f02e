"""Conjugate gradients, for soft cloth: stiff sheets need thousands of iterations."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from geomopt.linear.library import SingularMatrix
from geomopt.linear.pattern import SparsePattern

Product = Callable[[Tensor], Tensor]


class Iterated(NamedTuple):
    """What an iteration ended with.

    residual: |b - A x| / |b| in the Euclidean norm. negative_curvature: the iteration met a
    direction p with p^T A p <= 0, so that A is not positive definite, and stopped before it (or
    took p as it is, if that was the first).
    """

    solution: Tensor
    iterations: int
    residual: float
    negative_curvature: bool


def conjugate_gradient(
    product: Product,
    right: Tensor,
    preconditioner: Product | None = None,
    tolerance: float = 1e-8,
    iterations: int | None = None,
    start: Tensor | None = None,
) -> Iterated:
    """Solve A x = b for a positive definite A that is given by its product with a vector.

    product: (n,) -> (n,), like `lambda x: pattern.product(values, x)`. right: b (n,), float64.
    preconditioner: an approximate inverse, see `block_jacobi`. Ends at |b - A x| <= tolerance |b|,
    after `iterations` products (10 n by default), or at negative curvature. start: a guess (n,),
    zero by default. Method of Hestenes and Stiefel (1952). Raises InputError for bad shapes.
    """
    check_tensor("right", right, (None,))
    if not tolerance > 0:
        raise InputError(f"tolerance must be positive, got {tolerance}")
    limit = 10 * len(right) if iterations is None else iterations
    apply: Product = torch.clone if preconditioner is None else preconditioner
    if start is None:
        solution, residual = torch.zeros_like(right), right.clone()
    else:
        check_tensor("start", start, (len(right),), like=right)
        solution, residual = start.clone(), right - product(start)
    target = float(right.norm())
    size = float(residual.norm())
    done = 0
    negative = False
    direction = torch.zeros_like(right)
    before = 1.0
    while size > tolerance * target and done < limit:
        corrected = apply(residual)
        slope = float(residual @ corrected)
        direction = corrected + (slope / before if done else 0.0) * direction
        image = product(direction)
        curvature = float(direction @ image)
        done += 1
        if not curvature > 0:
            negative = True
            if done == 1:
                solution = solution + direction
            break
        solution += slope / curvature * direction
        residual -= slope / curvature * image
        before, size = slope, float(residual.norm())
    return Iterated(solution, done, size / target if target > 0 else 0.0, negative)


def block_jacobi(pattern: SparsePattern, values: Tensor, width: int = 3) -> Product:
    """Preconditioner from the inverses of the diagonal blocks of a matrix.

    A block is made of the unknowns width k ... width k + width - 1 of the pattern, fixed ones left
    out: 3 for vertices with their three coordinates. Where a block is not positive definite the
    magnitudes of its diagonal stand for it. Raises InputError for a width below 1.
    """
    check_tensor("values", values, (pattern.nonzeros,))
    if width < 1:
        raise InputError(f"width must be at least 1, got {width}")
    rows = pattern.unknowns[pattern.rows]
    columns = pattern.unknowns[pattern.columns.long()]
    inside = rows // width == columns // width
    count = -(-pattern.size // width)
    blocks = torch.eye(width, dtype=torch.float64, device=values.device).repeat(count, 1, 1)
    place = rows[inside] // width, rows[inside] % width, columns[inside] % width
    blocks[place] = values.detach().double()[inside]
    diagonal = blocks.diagonal(dim1=1, dim2=2).abs()
    diagonal = torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal))
    _, failed = torch.linalg.cholesky_ex(blocks)
    blocks = torch.where((failed != 0)[:, None, None], torch.diag_embed(diagonal), blocks)
    inverses = torch.cholesky_inverse(torch.linalg.cholesky(blocks))

    def apply(vector: Tensor) -> Tensor:
        full = vector.new_zeros(count * width)
        full[pattern.unknowns] = vector
        return (inverses @ full.reshape(count, width, 1)).reshape(-1)[pattern.unknowns]

    return apply


class IterativeSolver:
    """Conjugate gradients with the face of a `DirectSolver`, for matrices of soft cloth.

    tolerance: of each solve, |b - A x| / |b|. Preconditioned by blocks of three unknowns. `solver`
    is "cg".
    """

    def __init__(self, pattern: SparsePattern, tolerance: float = 1e-12) -> None:
        self.pattern, self.tolerance, self.solver = pattern, tolerance, "cg"

    def renewed(self, pattern: SparsePattern) -> IterativeSolver:
        """The same solver for another pattern."""
        return IterativeSolver(pattern, self.tolerance)

    def factorise(self, values: Tensor) -> IterativeFactor:
        """The matrix with `values` (nnz,), ready to be solved with."""
        return IterativeFactor(self, values)


class IterativeFactor:
    """A matrix and its preconditioner; made by `IterativeSolver.factorise`.

    negative_pivots is 1 once a solve has met negative curvature, else 0: an iteration looks along
    its own directions only. smallest_pivot is not known, NaN.
    """

    def __init__(self, parent: IterativeSolver, values: Tensor) -> None:
        self.pattern, self.solver = parent.pattern, parent.solver
        self.negative_pivots, self.smallest_pivot = 0, float("nan")
        self._values, self._tolerance = values.detach().double(), parent.tolerance
        self._preconditioner = block_jacobi(parent.pattern, values)

    def solve(self, right: Tensor) -> Tensor:
        """Solution (n,) in float64; raises SingularMatrix where it ends far from one.

        At negative curvature the last solution before it is returned, a direction of descent.
        """
        check_tensor("right", right, (self.pattern.count,))
        found = conjugate_gradient(
            lambda x: self.pattern.product(self._values, x),
            right.detach().to(self._values),
            self._preconditioner,
            self._tolerance,
        )
        self.negative_pivots = int(found.negative_curvature)
        if not found.negative_curvature and found.residual > 1e3 * self._tolerance:
            raise SingularMatrix(
                f"conjugate gradients stopped at a relative residual of {found.residual:.1e} after "
                f"{found.iterations} iterations; use a direct solver"
            )
        return found.solution.to(right.device)
