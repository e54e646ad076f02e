"""Direct solution of sparse symmetric systems, with one analysis a pattern.

`DirectSolver` holds what depends on the pattern alone and `factorise` gives a `Factor` for one set
of values. The matrix is scaled to ones on its diagonal before a library sees it: unknowns of a
shell are metres and radians, and pivots can only be judged beside each other without units.
"""

from __future__ import annotations

import importlib.util
import logging

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from geomopt.errors import BackendUnavailable, InputError, check_tensor
from geomopt.linear.library import Library, LibraryFactor, SingularMatrix
from geomopt.linear.pardiso import Pardiso
from geomopt.linear.pattern import SparsePattern, launch_rows
from geomopt.linear.pattern_kernels import kernels
from geomopt.linear.superlu import SuperLU

_log = logging.getLogger(__name__)

SOLVERS = ("auto", "superlu", "pardiso", "cudss")
REFINE_ABOVE = 1e-14  # backward error: a factorisation without growth of entries stays below
FAIL_ABOVE = 1e-8  # backward error after refinement that means the factor is useless
SINGULAR_BELOW = 1e-15  # pivot of the scaled matrix: nothing is left but rounding
EMPTY_BELOW = 1e-30  # diagonal entry beside the largest: left unscaled


class DirectSolver:
    """A pattern and the library that factorises matrices on it.

    solver: "superlu", "pardiso", "cudss", or "auto", which takes cuDSS for a pattern on CUDA where
    it is installed, else Pardiso where it is installed, else SuperLU. `solver` says which one it
    is. Raises BackendUnavailable for a named one that is not there.
    """

    def __init__(self, pattern: SparsePattern, solver: str = "auto") -> None:
        self.pattern = pattern
        self.solver = _choose(pattern, solver)
        self._library = _open(pattern, self.solver) if pattern.count else None
        starts, columns = pattern.starts.cpu(), pattern.columns.cpu()
        self._starts, self._columns = starts.numpy(), columns.numpy()
        if self._library is not None:
            places = self._library.places
            self._rows_of = pattern.rows.cpu().int()[places.long()]
            self._columns_of = columns[places.long()]
        self._diagonal = pattern.diagonal.cpu()

    def factorise(self, values: Tensor) -> Factor:
        """Factor of the matrix with `values` (nnz,) float64, as `SparsePattern.assemble` gives.

        Raises SingularMatrix, and InputError for another shape or values that are not finite.
        """
        check_tensor("values", values, (self.pattern.nonzeros,))
        host = values.detach().double().cpu().contiguous()
        if self._library is None:
            return Factor(self, host, torch.ones(0, dtype=torch.float64), None)
        diagonal = host[self._diagonal].abs()
        largest = diagonal.max()
        if not largest > 0:
            largest = host.abs().max()
        scale = torch.where(diagonal > EMPTY_BELOW * largest, diagonal, largest).rsqrt()
        scale.nan_to_num_(nan=1.0, posinf=1.0)
        library = self._library
        scaled = torch.empty(len(library.places), dtype=torch.float64)
        inputs = [library.places, self._rows_of, self._columns_of, scale, host]
        launch_rows(kernels().scale_entries, inputs, [scaled], len(scaled))
        try:
            return Factor(self, host, scale, library.factorise(scaled))
        except SingularMatrix as error:
            if error.unknown is None:
                raise
            unknown = int(self.pattern.unknowns[error.unknown])
            raise SingularMatrix(_singular(unknown), unknown) from error

    def host_matrix(self, values: Tensor) -> csr_array:
        """The matrix (n, n) on the host."""
        parts = (values.numpy(), self._columns, self._starts)
        return csr_array(parts, shape=(self.pattern.count, self.pattern.count))


class Factor:
    """A factorised matrix; made by `DirectSolver.factorise`. `solver` names its library."""

    def __init__(
        self, solver: DirectSolver, values: Tensor, scale: Tensor, factor: LibraryFactor | None
    ) -> None:
        self.pattern, self.solver = solver.pattern, solver.solver
        self._factor = factor
        self._scale = scale.numpy()[:, None]
        self._matrix = solver.host_matrix(values)

    def solve(self, right: Tensor) -> Tensor:
        """Solution (n,) or (n, m) of the system with right side `right` of that shape.

        A solution with a residual above rounding is refined once. Raises SingularMatrix where
        there is no solution to working precision.
        """
        check_tensor("right", right)
        if right.ndim not in (1, 2) or len(right) != self.pattern.count:
            raise InputError(
                f"right must have shape ({self.pattern.count},) or ({self.pattern.count}, any), "
                f"got {tuple(right.shape)}"
            )
        if self._factor is None or right.numel() == 0:
            return torch.zeros_like(right)
        given = right.detach().double().cpu().numpy().reshape(len(right), -1)
        solution = self._apply(given)
        error, residual = self._error(solution, given)
        if not error <= REFINE_ABOVE:
            refined = solution + self._apply(residual)
            after, _ = self._error(refined, given)
            if after < error:
                solution, error = refined, after
        if not error <= FAIL_ABOVE or not np.isfinite(solution).all():
            raise self._no_solution()
        result = torch.from_numpy(np.ascontiguousarray(solution).reshape(right.shape))
        return result.to(right.device)

    @property
    def negative_pivots(self) -> int:
        """Number of negative pivots, which is the number of negative eigenvalues."""
        return 0 if self._factor is None else self._factor.negative_pivots

    @property
    def smallest_pivot(self) -> float:
        """Smallest |pivot| of the matrix scaled to ones on its diagonal; free of units.

        1 for a diagonal matrix, at most 1 for a definite one, 0 for a singular one.
        """
        return 1.0 if self._factor is None else float(np.abs(self._factor.pivots).min())

    @property
    def weakest_unknown(self) -> int | None:
        """The unknown, among all of the pattern, that has the smallest pivot."""
        if self._factor is None:
            return None
        return int(self.pattern.unknowns[int(np.abs(self._factor.pivots).argmin())])

    def _apply(self, right: np.ndarray) -> np.ndarray:
        assert self._factor is not None
        return self._scale * self._factor.solve(self._scale * right)

    def _error(self, solution: np.ndarray, right: np.ndarray) -> tuple[float, np.ndarray]:
        """Residual beside |x| and |b| of the scaled system, and the residual itself."""
        residual = right - self._matrix @ solution
        size = np.abs(solution / self._scale).max() + np.abs(self._scale * right).max()
        if size == 0:
            return 0.0, residual
        return float(np.abs(self._scale * residual).max() / size), residual

    def _no_solution(self) -> SingularMatrix:
        unknown = self.weakest_unknown
        return SingularMatrix(_singular(unknown), unknown)


def factorise(pattern: SparsePattern, values: Tensor, solver: str = "auto") -> Factor:
    """Factor of one matrix; keep a `DirectSolver` to factorise several on one pattern."""
    return DirectSolver(pattern, solver).factorise(values)


def _singular(unknown: int | None) -> str:
    return f"the matrix is singular to working precision; its weakest pivot is unknown {unknown}"


def _choose(pattern: SparsePattern, solver: str) -> str:
    if solver not in SOLVERS:
        raise InputError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}")
    if solver != "auto":
        return solver
    chosen = "superlu" if importlib.util.find_spec("pypardiso") is None else "pardiso"
    _log.info("direct solver: %s, %d unknowns", chosen, pattern.count)
    return chosen


def _open(pattern: SparsePattern, solver: str) -> Library:
    if solver == "superlu":
        return SuperLU(pattern)
    if solver == "pardiso":
        return Pardiso(pattern)
    raise BackendUnavailable("the solver 'cudss' needs the package nvmath-python and CUDA")
