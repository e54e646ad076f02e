"""Direct solution of sparse symmetric systems, with one analysis a pattern.

`DirectSolver` holds what depends on the pattern alone and `factorise` gives a `Factor` for one set
of values. The matrix is scaled to ones on its diagonal before a library sees it: unknowns of a
shell are metres and radians, and pivots can only be judged beside each other without units.
"""

from __future__ import annotations

import importlib.util
import logging
from copy import copy

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from geomopt.errors import BackendUnavailable, InputError, check_tensor
from geomopt.linear.cudss import CuDSS
from geomopt.linear.library import LibraryFactor, SingularMatrix
from geomopt.linear.pardiso import Pardiso
from geomopt.linear.pattern import SparsePattern
from geomopt.linear.superlu import SuperLU

_log = logging.getLogger(__name__)

LIBRARIES = {"superlu": SuperLU, "pardiso": Pardiso, "cudss": CuDSS}
REFINE_ABOVE = 1e-14  # backward error: a factorisation without growth of entries stays below
FAIL_ABOVE = 1e-8  # backward error after refinement that means the factor is useless
SUSPECT_ABOVE = 1e11  # |x| / |b| of the scaled system, a lower bound of its condition number
SINGULAR_BELOW = 1e-13  # pivot of the scaled matrix: nothing is left but rounding
EMPTY_BELOW = 1e-30  # diagonal entry beside the largest: left unscaled


class DirectSolver:
    """A pattern and the library that factorises matrices on it.

    solver: "superlu", "pardiso", "cudss", or "auto", which takes cuDSS for a pattern on CUDA where
    it is installed, else Pardiso where it is installed, else SuperLU; the latter two work on the
    host. `solver` says which one it is. Raises BackendUnavailable for a named one that is not
    there, InputError for another name.
    """

    def __init__(self, pattern: SparsePattern, solver: str = "auto") -> None:
        if solver != "auto" and solver not in LIBRARIES:
            raise InputError(f"solver must be auto, {', '.join(LIBRARIES)}, got {solver!r}")
        self.solver = _best(pattern) if solver == "auto" else solver
        _log.info("direct solver %s for %d unknowns", self.solver, pattern.count)
        if self.solver == "cudss" and not pattern.columns.is_cuda:
            raise BackendUnavailable(
                f"the solver 'cudss' works on CUDA; the pattern is on {pattern.columns.device}"
            )
        self._open(pattern)

    def renewed(self, pattern: SparsePattern) -> DirectSolver:
        """The same library for another pattern, with this analysis where the nonzeros are the same.

        Both solvers stay valid.
        """
        result = copy(self)
        if _same_nonzeros(pattern, self.pattern):
            result.pattern = pattern
        else:
            result._open(pattern)
        return result

    def _open(self, pattern: SparsePattern) -> None:
        self.pattern = pattern
        self._library = LIBRARIES[self.solver](pattern) if pattern.count else None
        if self._library is not None:
            places = self._library.places
            self._rows = pattern.rows.to(places.device)[places.long()].int()
            self._columns = pattern.columns.to(places.device)[places.long()]
            self._diagonal = pattern.diagonal.to(places.device)
        self._host = (pattern.columns.cpu().numpy(), pattern.starts.cpu().numpy())

    def factorise(self, values: Tensor) -> Factor:
        """Factor of the matrix with `values` (nnz,), as `SparsePattern.assemble` gives them.

        The factor stays valid when others are made. Raises SingularMatrix, and InputError for
        another shape or values that are not finite.
        """
        check_tensor("values", values, (self.pattern.nonzeros,))
        library = self._library
        if library is None:
            return Factor(self, values, values, None)
        device = library.places.device
        # a copy, for the residuals of later solves
        held = values.detach().to(device, torch.float64, copy=True).contiguous()
        scale = _scale(held, held[self._diagonal])
        scaled = held.index_select(0, library.places)
        scaled *= scale.index_select(0, self._rows)
        scaled *= scale.index_select(0, self._columns)
        return Factor(self, held, scale, library.factorise(scaled))

    def product(self, values: Tensor, vectors: Tensor) -> Tensor:
        """Matrix times vectors (n, m), on the device of the library."""
        if values.is_cuda:
            columns = [self.pattern.product(values, column) for column in vectors.unbind(1)]
            return torch.stack(columns, dim=1)
        count = self.pattern.count
        matrix = csr_array((values.numpy(), *self._host), shape=(count, count))
        return torch.from_numpy(np.asarray(matrix @ vectors.numpy()))


class Factor:
    """A factorised matrix; made by `DirectSolver.factorise`. `solver` names its library."""

    def __init__(
        self, parent: DirectSolver, values: Tensor, scale: Tensor, factor: LibraryFactor | None
    ) -> None:
        self.pattern, self.solver = parent.pattern, parent.solver
        self._parent, self._values, self._factor = parent, values, factor
        self._scale = scale[:, None]

    def solve(self, right: Tensor) -> Tensor:
        """Solution (n,) or (n, m) of the system with the right side `right` of that shape.

        Where the factor was made without pivoting for stability, a residual above rounding is
        refined once, and far above it SuperLU factorises again with exchanges of rows. Raises
        SingularMatrix where there is no solution to working precision, InputError for another
        shape.
        """
        check_tensor("right", right)
        if right.ndim not in (1, 2) or len(right) != self.pattern.count:
            raise InputError(
                f"right must have shape ({self.pattern.count},) or ({self.pattern.count}, any), "
                f"got {tuple(right.shape)}"
            )
        if self._factor is None or right.numel() == 0:
            return torch.zeros_like(right, requires_grad=False)
        given = right.detach().double().to(self._values.device).reshape(len(right), -1)
        given = self._scale * given
        solution, error = self._refined(self._factor, given)
        if not error <= FAIL_ABOVE and self._factor.pivot_rows():
            solution, error = self._refined(self._factor, given)
        suspect = not float(solution.abs().max()) <= SUSPECT_ABOVE * float(given.abs().max())
        if not error <= FAIL_ABOVE or (suspect and self.smallest_pivot < SINGULAR_BELOW):
            unknown = self.weakest_unknown
            raise SingularMatrix(
                "the matrix is singular to working precision; "
                f"the weakest pivot is that of unknown {unknown}",
                unknown,
            )
        return (self._scale * solution).reshape(right.shape).to(right.device)

    @property
    def negative_pivots(self) -> int:
        """Number of negative pivots, which is the number of negative eigenvalues."""
        return 0 if self._factor is None else self._factor.negative_pivots()

    @property
    def smallest_pivot(self) -> float:
        """Smallest |pivot| of the matrix scaled to ones on its diagonal; free of units.

        1 for a diagonal matrix, at most 1 for a definite one, 0 for a singular one.
        """
        return 1.0 if self._factor is None else self._factor.smallest_pivot()[0]

    @property
    def weakest_unknown(self) -> int | None:
        """The unknown, among all of the pattern, with the smallest pivot; None where not known."""
        row = None if self._factor is None else self._factor.smallest_pivot()[1]
        return None if row is None else int(self.pattern.unknowns[row])

    def _refined(self, factor: LibraryFactor, right: Tensor) -> tuple[Tensor, float]:
        """Solution with its backward error, after one step of refinement where that helps."""
        solution = factor.solve(right)
        if factor.stable:
            return solution, 0.0
        error, residual = self._error(solution, right)
        if error <= REFINE_ABOVE:
            return solution, error
        refined = solution + factor.solve(residual)
        after, _ = self._error(refined, right)
        return (refined, after) if after < error else (solution, error)

    def _error(self, solution: Tensor, right: Tensor) -> tuple[float, Tensor]:
        """Residual of the scaled system beside |x| + |b|, and the residual itself."""
        product = self._parent.product(self._values, self._scale * solution)
        residual = right - self._scale * product
        size = float(solution.abs().max()) + float(right.abs().max())
        return (float(residual.abs().max()) / size if size > 0 else 0.0), residual


def factorise(pattern: SparsePattern, values: Tensor, solver: str = "auto") -> Factor:
    """Factor of one matrix; keep a `DirectSolver` to factorise several on one pattern."""
    return DirectSolver(pattern, solver).factorise(values)


def _scale(values: Tensor, diagonal: Tensor) -> Tensor:
    """Scale (n,) that makes the diagonal entries 1 or -1, but for those that are next to zero."""
    size = diagonal.abs()
    largest = size.max()
    if not float(largest) > 0:
        largest = values.abs().max()
    if not float(largest) > 0:
        raise SingularMatrix("the matrix is singular: all of its entries are zero")
    return torch.where(size > EMPTY_BELOW * largest, size, largest).rsqrt()


def _same_nonzeros(one: SparsePattern, other: SparsePattern) -> bool:
    if one.columns is other.columns and one.starts is other.starts:
        return True
    if one.columns.device != other.columns.device or one.nonzeros != other.nonzeros:
        return False
    return torch.equal(one.starts, other.starts) and torch.equal(one.columns, other.columns)


def _best(pattern: SparsePattern) -> str:
    if pattern.columns.is_cuda and importlib.util.find_spec("nvmath") is not None:
        return "cudss"
    return "superlu" if importlib.util.find_spec("pypardiso") is None else "pardiso"
