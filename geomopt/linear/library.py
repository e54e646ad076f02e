"""What a library of factorisations gives to `DirectSolver`, and the error they share."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor


class SingularMatrix(ArithmeticError):
    """A matrix that cannot be solved with; `unknown` says whose pivot vanished, where known."""

    def __init__(self, message: str = "the matrix is singular", unknown: int | None = None) -> None:
        super().__init__(message)
        self.unknown = unknown


class LibraryFactor(Protocol):
    """A factor of a symmetric matrix of n rows whose diagonal entries are 1 or -1 (or 0)."""

    negative_pivots: int
    pivots: np.ndarray

    def solve(self, right: np.ndarray) -> np.ndarray:
        """Solution of right (n, m)."""
        ...


class Library(Protocol):
    """One pattern in one library. `places`: the stored entries it takes, in its own order."""

    name: str
    places: Tensor

    def factorise(self, values: Tensor) -> LibraryFactor:
        """Factor of the values that stand at `places`; SingularMatrix where there is none."""
        ...
