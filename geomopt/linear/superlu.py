"""Factorisation by SuperLU, which comes with SciPy.

The ordering (multiple minimum degree of the symmetric pattern) is found once. Rows are exchanged
only where a pivot is exactly zero, which keeps the factor sparse and its pivots those of L D L^T;
whether that was accurate enough shows in the residual of each solve.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu
from torch import Tensor

from geomopt.linear.library import SingularMatrix
from geomopt.linear.pattern import SparsePattern

SYMMETRIC = {"SymmetricMode": True, "DiagPivotThresh": 0.0}
RELAX = 4  # columns in the leaves of the elimination tree that are treated as dense


class SuperLU:
    """The ordering of one pattern; `places` are the stored entries in the order of the columns."""

    name = "superlu"

    def __init__(self, pattern: SparsePattern) -> None:
        self.count = pattern.count
        starts, columns = pattern.starts.cpu().numpy(), pattern.columns.cpu().numpy()
        places = np.arange(pattern.nonzeros)
        # only the pattern counts for the ordering, and this matrix cannot be singular
        ones = np.where(pattern.rows.cpu().numpy() == columns, pattern.nonzeros, 1.0)
        shape = (self.count, self.count)
        model = csc_array((ones, columns, starts), shape=shape)
        order = splu(model, permc_spec="MMD_AT_PLUS_A", relax=RELAX, options=SYMMETRIC).perm_c
        self.order = np.argsort(order)  # unknown that is eliminated at each place
        numbered = csc_array((places, columns, starts), shape=shape)
        self._matrix = numbered[:, self.order][self.order, :].tocsc()
        self._matrix.sort_indices()
        self.places = torch.from_numpy(self._matrix.data.astype(np.int32))

    def factorise(self, values: Tensor) -> SuperLUFactor:
        """Factor of the values that stand at `places`."""
        self._matrix.data = values.numpy()
        return SuperLUFactor(self, self._matrix)


class SuperLUFactor:
    """One factor of the permuted matrix."""

    def __init__(self, library: SuperLU, matrix: csc_array) -> None:
        self._order = library.order
        try:
            options = dict(SYMMETRIC)
            self._factor: Any = splu(matrix, permc_spec="NATURAL", relax=RELAX, options=options)
        except RuntimeError as error:
            raise SingularMatrix from error

    def solve(self, right: np.ndarray) -> np.ndarray:
        """Solution of right (n, m)."""
        result = np.empty_like(right)
        result[self._order] = self._factor.solve(right[self._order])
        return result

    @cached_property
    def pivots(self) -> np.ndarray:
        """Pivot (n,) of each unknown."""
        result = np.empty(len(self._order))
        result[self._order[np.argsort(self._factor.perm_c)]] = self._factor.U.diagonal()
        return result

    @cached_property
    def negative_pivots(self) -> int:
        """Number of negative pivots: of negative eigenvalues, while no rows were exchanged."""
        return int((self.pivots < 0).sum())
