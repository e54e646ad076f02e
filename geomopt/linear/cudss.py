"""Factorisation by cuDSS on the GPU, through the package nvmath-python."""

from __future__ import annotations

import importlib
import logging
import warnings
import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomopt.errors import BackendUnavailable
from geomopt.linear.library import SingularMatrix
from geomopt.linear.pattern import SparsePattern


class CuDSS:
    """The plan of one pattern. There is one factor at a time; an older one factors again."""

    def __init__(self, pattern: SparsePattern) -> None:
        try:
            advanced: Any = importlib.import_module("nvmath.sparse.advanced")
        except ImportError as error:
            raise BackendUnavailable(
                "the solver 'cudss' needs the package nvmath-python with cuDSS: "
                "pip install 'nvmath-python[cu12]' nvidia-cudss-cu12"
            ) from error
        upper = pattern.columns >= pattern.rows
        self.places = upper.nonzero()[:, 0].int()
        counts = torch.bincount(pattern.rows[upper], minlength=pattern.count)
        starts = torch.zeros_like(pattern.starts)
        starts[1:] = counts.cumsum(0)
        # both operands are read where they are, so new numbers are written into them
        self.values = torch.ones(len(self.places), dtype=torch.float64, device=upper.device)
        self.right = torch.zeros(pattern.count, dtype=torch.float64, device=upper.device)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
            matrix = torch.sparse_csr_tensor(
                starts,
                pattern.columns[upper],
                self.values,
                (pattern.count, pattern.count),
                check_invariants=True,
            )
        self.values = matrix.values()
        quiet = logging.getLogger(f"{__name__}.library")
        quiet.setLevel(logging.ERROR)  # it warns of every plan that one thread makes
        options = advanced.DirectSolverOptions(
            sparse_system_type=advanced.DirectSolverMatrixType.SYMMETRIC,
            sparse_system_view=advanced.DirectSolverMatrixViewType.UPPER,
            logger=quiet,
        )
        self.solver: Any = advanced.DirectSolver(matrix, self.right, options=options)
        weakref.finalize(self, self.solver.free)
        self.solver.plan()
        self.held: object = None  # the mark of the factor that the memory holds

    def factorise(self, values: Tensor) -> CuDSSFactor:
        """Factor of the values that stand at `places`."""
        return CuDSSFactor(self, values)


class CuDSSFactor:
    """One factor, valid in the library's memory until the next."""

    stable = False

    def __init__(self, library: CuDSS, values: Tensor) -> None:
        self._library, self._values = library, values
        self._mark = object()
        info = self._hold()
        self._negative = int(info.inertia[1])
        self._smallest = float(np.abs(info.diag).min())

    def solve(self, right: Tensor) -> Tensor:
        """Solution (n, m) of right (n, m)."""
        self._hold()
        columns = []
        for column in right.unbind(1):
            self._library.right.copy_(column)
            columns.append(self._library.solver.solve())
        return torch.stack(columns, dim=1)

    def negative_pivots(self) -> int:
        """Number of negative pivots."""
        return self._negative

    def smallest_pivot(self) -> tuple[float, int | None]:
        """Smallest |pivot|."""
        return self._smallest, None

    def pivot_rows(self) -> bool:
        """There is no other way of pivoting."""
        return False

    def _hold(self) -> Any:
        library = self._library
        if library.held is not self._mark:
            library.held = None  # in case of an error
            library.values.copy_(self._values)
            info = library.solver.factorize()
            if info.info:
                raise SingularMatrix(f"cuDSS could not factorise the matrix, info {info.info}")
            library.held = self._mark
        return library.solver.factorization_info
