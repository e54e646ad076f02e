"""Factorisation by SuperLU, which comes with SciPy.

The ordering (multiple minimum degree of the symmetric pattern) is found once, from two orders of
departure, see `_ordering`. Rows are exchanged only where a pivot is exactly zero, which keeps the
factor sparse and its pivots those of L D L^T; whether that was accurate enough shows in the
residual of each solve.
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
RELAX = 1  # leaves of the elimination tree are not made denser than they are
WORTH_A_SHUFFLE = 0.95  # of the fill; shuffled rows lie further apart in memory


class SuperLU:
    """The ordering of one pattern; `places` are the stored entries in the order of the columns."""

    def __init__(self, pattern: SparsePattern) -> None:
        starts, columns = pattern.starts.cpu().numpy(), pattern.columns.cpu().numpy()
        shape = (pattern.count, pattern.count)
        self.order = _ordering(starts, columns)  # row that is eliminated at each place
        numbered = csc_array((np.arange(pattern.nonzeros), columns, starts), shape=shape)
        self.matrix = numbered[:, self.order][self.order, :].tocsc()
        self.matrix.sort_indices()
        self.places = torch.from_numpy(self.matrix.data.astype(np.int32))

    def factorise(self, values: Tensor) -> SuperLUFactor:
        """Factor of the values that stand at `places`."""
        self.matrix.data = values.numpy()
        return SuperLUFactor(self)


class SuperLUFactor:
    """The factor of the permuted matrix that the library holds at this moment."""

    stable = False

    def __init__(self, library: SuperLU) -> None:
        self._order = library.order
        self._matrix = library.matrix  # its values change with the next factor
        self._values = library.matrix.data
        self._factor = _factor(library.matrix, "NATURAL", SYMMETRIC)
        self._pivoted: Any = None

    def solve(self, right: Tensor) -> Tensor:
        """Solution (n, m) of right (n, m)."""
        given = right.numpy()
        result = np.empty_like(given)
        factor = self._factor if self._pivoted is None else self._pivoted
        result[self._order] = factor.solve(given[self._order])
        return torch.from_numpy(result)

    def negative_pivots(self) -> int:
        """Number of negative pivots; of negative eigenvalues, while no rows were exchanged."""
        return int((self._pivots < 0).sum())

    def smallest_pivot(self) -> tuple[float, int | None]:
        """Smallest |pivot| and its row."""
        place = int(np.abs(self._pivots).argmin())
        column = int(np.flatnonzero(self._factor.perm_c == place)[0])
        return float(abs(self._pivots[place])), int(self._order[column])

    def pivot_rows(self) -> bool:
        """Factor anew with the largest entry of each column as its pivot; the pivots stay."""
        if self._pivoted is not None:
            return False
        parts = (self._values, self._matrix.indices, self._matrix.indptr)
        self._pivoted = _factor(csc_array(parts, shape=self._matrix.shape), "COLAMD", {})
        return True

    @cached_property
    def _pivots(self) -> np.ndarray:
        return self._factor.U.diagonal()


def _ordering(starts: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Rows in an order of elimination with little fill.

    Rows of one pattern (the coordinates of a vertex) stay together and are ordered as one, which
    takes a small part of the time. Minimum degree leaves many ties on a regular mesh, and which row
    comes first then decides on up to a half of the work. So the groups are tried as they come, and
    shuffled: sorted by a hash of their pattern.
    """
    count = len(starts) - 1
    marks = np.random.default_rng(0).integers(2**63, size=count, dtype=np.uint64)
    hashes = np.add.reduceat(marks.take(columns), starts[:-1])
    sequence = hashes.argsort(kind="stable")
    begins = np.diff(hashes[sequence], prepend=~hashes[sequence[0]]) != 0
    group = np.empty(count, dtype=np.int32)
    group[sequence] = begins.cumsum(dtype=np.int32) - 1
    width = np.bincount(group)
    first = sequence[begins]
    found = []
    for rows in (np.sort(first), first):
        # only the pattern counts for the ordering, and this matrix cannot be singular
        model = _part(starts, columns, rows)
        factor = _factor(model, "MMD_AT_PLUS_A", SYMMETRIC)
        order = group[rows[factor.perm_c.argsort()]]
        below, lower = width[order], factor.L
        found.append((below @ np.add.reduceat(below[lower.indices], lower.indptr[:-1]), order))
    plain, other = found
    order = other[1] if other[0] < WORTH_A_SHUFFLE * plain[0] else plain[1]
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return rank[group].argsort(kind="stable")


def _part(starts: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> csc_array:
    """A definite matrix with the pattern of some rows and the same columns, in their order."""
    number = np.full(len(starts) - 1, -1, dtype=np.int32)
    number[rows] = np.arange(len(rows), dtype=np.int32)
    lengths = np.diff(starts)[rows]
    ends = lengths.cumsum()
    entries = number[
        columns[np.arange(ends[-1]) + np.repeat(starts[rows] + lengths - ends, lengths)]
    ]
    kept = entries >= 0
    begin = np.append(0, kept.cumsum(dtype=np.int32)[ends - 1])
    entries = entries[kept]
    owner = np.repeat(np.arange(len(rows), dtype=np.int32), np.diff(begin))
    values = np.where(entries == owner, float(len(rows)), 1.0)
    result = csc_array((values, entries, begin), shape=(len(rows), len(rows)))
    result.sort_indices()
    return result


def _factor(matrix: csc_array, ordering: str, options: dict[str, Any]) -> Any:
    try:
        return splu(matrix, permc_spec=ordering, relax=RELAX, options=options)
    except RuntimeError as error:
        raise SingularMatrix(f"the matrix is singular; SuperLU says: {error}") from error
