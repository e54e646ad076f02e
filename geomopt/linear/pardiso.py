"""Factorisation by MKL Pardiso, found through the package pypardiso (the `mkl` extra).

The analysis of the pattern is made once for each of two kinds of matrix: L L^T of a positive
definite one, and L D L^T with 1x1 and 2x2 pivots of an indefinite one. The first is half as dear,
and it is what every definite matrix gets: which kind a matrix has does not depend on the others, so
that runs repeat bit for bit. What went before only says which kind is tried first.
"""

from __future__ import annotations

import ctypes
import importlib
import weakref
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomopt.errors import BackendUnavailable
from geomopt.linear.library import SingularMatrix
from geomopt.linear.pattern import SparsePattern

DEFINITE, INDEFINITE = 2, -2
ANALYSE, FACTORISE, SOLVE, RELEASE = 11, 22, 33, -1
NOT_DEFINITE = -4
RUN = 2  # indefinite matrices in a row, after which the next is expected to be one too
MINIMUM_DEGREE, NESTED_DISSECTION = 0, 2
SMALL = 100_000  # nonzeros: below, minimum degree is found sooner and leaves no more fill; above,
# nested dissection leaves down to half the fill on regular triangulations of sheets


@cache
def mkl() -> Any:
    """The library, loaded once. Raises BackendUnavailable."""
    try:
        return importlib.import_module("pypardiso").PyPardisoSolver().libmkl
    except ImportError as error:
        raise BackendUnavailable(
            "the solver 'pardiso' needs the package pypardiso: pip install 'geomopt[mkl]'"
        ) from error


def _pointer(array: np.ndarray | None) -> Any:
    return None if array is None else ctypes.c_void_p(array.ctypes.data)


def _call(handle: _Handle, phase: int, right: np.ndarray | None, result: np.ndarray | None) -> int:
    """One phase; returns the library's error number.

    On one thread, for this call alone: with more the sums are taken in an order that changes from
    call to call, and a run would not repeat.
    """
    library = mkl()
    error = ctypes.c_int32(0)
    integers = [1, 1, handle.kind, phase, len(handle.starts) - 1]
    count = 1 if right is None else right.shape[1]
    before = library.MKL_Set_Num_Threads_Local(ctypes.c_int(1))
    try:
        library["pardiso"](
            _pointer(handle.state),
            *(ctypes.byref(ctypes.c_int32(i)) for i in integers),
            _pointer(handle.values),
            _pointer(handle.starts),
            _pointer(handle.columns),
            _pointer(handle.order),
            ctypes.byref(ctypes.c_int32(count)),
            _pointer(handle.settings),
            ctypes.byref(ctypes.c_int32(0)),
            _pointer(right),
            _pointer(result),
            ctypes.byref(error),
        )
    finally:
        library.MKL_Set_Num_Threads_Local(ctypes.c_int(before))
    return error.value


class _Handle:
    """The library's memory for one kind of matrix on one pattern (upper triangle, from 0)."""

    def __init__(
        self, kind: int, starts: np.ndarray, columns: np.ndarray, order: np.ndarray | None
    ) -> None:
        self.kind = kind
        self.starts, self.columns = starts, columns
        self.values = np.zeros(len(columns))
        self.order = np.zeros(len(starts) - 1, dtype=np.int32) if order is None else order.copy()
        self.state = np.zeros(64, dtype=np.int64)
        self.settings = np.zeros(64, dtype=np.int32)
        self.settings[0] = 1  # the values below instead of the defaults
        small = 2 * len(columns) < SMALL
        self.settings[1] = MINIMUM_DEGREE if small else NESTED_DISSECTION
        self.settings[4] = 2 if order is None else 1  # give the order back, or take it
        self.settings[9] = 13  # pivots below 1e-13 of the norm are moved to it
        self.settings[20] = 1  # 1x1 and 2x2 pivots
        self.settings[34] = 1  # indices from 0
        self.settings[55] = 1  # keep the pivots for `pardiso_getdiag`


def _pivots(handle: _Handle) -> np.ndarray:
    """Pivots (n,) in the order of elimination."""
    pivots, diagonal = np.empty((2, len(handle.order)))
    error = ctypes.c_int32(0)
    mkl()["pardiso_getdiag"](
        _pointer(handle.state),
        _pointer(pivots),
        _pointer(diagonal),
        ctypes.byref(ctypes.c_int32(1)),
        ctypes.byref(error),
    )
    return pivots


class Pardiso:
    """The analyses of one pattern. There is one factor at a time; an older one factors again."""

    def __init__(self, pattern: SparsePattern) -> None:
        mkl()
        rows, columns = pattern.rows.cpu().numpy(), pattern.columns.cpu().numpy()
        places = np.flatnonzero(columns >= rows)
        counts = np.bincount(rows[places], minlength=pattern.count)
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        self._columns = columns[places].astype(np.int32)
        self._handles: dict[int, _Handle] = {}
        self._indefinite = 0  # how many in a row
        self.places = torch.from_numpy(places.astype(np.int32))
        self.held: object = None  # the mark of the factor that the memory holds

    def handle(self, kind: int) -> _Handle:
        """The memory of one kind, analysed at its first use and freed with this object."""
        if kind not in self._handles:
            other = next(iter(self._handles.values()), None)
            order = None if other is None else other.order  # finding one is half of the analysis
            handle = _Handle(kind, self._starts, self._columns, order)
            error = _call(handle, ANALYSE, None, None)
            weakref.finalize(self, _call, handle, RELEASE, None, None)
            if error:
                raise MemoryError(f"Pardiso could not analyse the pattern, error {error}")
            self._handles[kind] = handle
        return self._handles[kind]

    def factorise(self, values: Tensor) -> PardisoFactor:
        """Factor of the values that stand at `places`."""
        return PardisoFactor(self, values.numpy())

    def run(self, values: np.ndarray) -> _Handle:
        """Factorise and return the memory that holds the factor."""
        # an entry of the diagonal, which is the first of its row, may tell before anything is tried
        hopeless = bool((values[self._starts[:-1]] < 0).any())
        expected = hopeless or self._indefinite >= RUN
        definite = None if expected else self._factorised(DEFINITE, values)
        handle = definite or self._factorised(INDEFINITE, values)
        if handle is None:
            raise SingularMatrix("Pardiso could not factorise the matrix")
        if expected and not hopeless and handle.settings[22] == 0:
            definite = self._factorised(DEFINITE, values)
        self._indefinite = 0 if definite else self._indefinite + 1
        return definite or handle

    def _factorised(self, kind: int, values: np.ndarray) -> _Handle | None:
        """The memory with the factor of one kind, None for a matrix that has none."""
        handle = self.handle(kind)
        handle.values = values
        error = _call(handle, FACTORISE, None, None)
        if error not in (0, NOT_DEFINITE):
            raise SingularMatrix(f"Pardiso could not factorise the matrix, error {error}")
        return None if error else handle


class PardisoFactor:
    """One factor, valid in the library's memory until the next."""

    def __init__(self, library: Pardiso, values: np.ndarray) -> None:
        self._library, self._values = library, values
        self._mark = object()
        handle = self._hold()
        self._negative = int(handle.settings[22]) if handle.kind == INDEFINITE else 0
        pivots = np.abs(_pivots(handle))
        place = int(pivots.argmin())
        self.stable = handle.settings[13] == 0
        # a pivot that had to be moved away from zero was zero to working precision
        smallest = 0.0 if handle.settings[13] else float(pivots[place])
        self._smallest = smallest, int(handle.order[place])

    def solve(self, right: Tensor) -> Tensor:
        """Solution (n, m) of right (n, m)."""
        given = np.asfortranarray(right.numpy())
        result = np.empty_like(given)
        error = _call(self._hold(), SOLVE, given, result)
        if error:
            raise MemoryError(f"Pardiso could not solve, error {error}")
        return torch.from_numpy(result)

    def negative_pivots(self) -> int:
        """Number of negative pivots, counting those of 2x2 blocks: of negative eigenvalues."""
        return self._negative

    def smallest_pivot(self) -> tuple[float, int | None]:
        """Smallest |pivot| and its row; of a 2x2 pivot the diagonal counts."""
        return self._smallest

    def pivot_rows(self) -> bool:
        """There is no other way of pivoting."""
        return False

    def _hold(self) -> _Handle:
        library = self._library
        if library.held is not self._mark:
            library.held = None  # in case of an error
            self._handle = library.run(self._values)
            library.held = self._mark
        return self._handle
