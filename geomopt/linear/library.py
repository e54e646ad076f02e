"""What a library of factorisations gives to `DirectSolver`, and the error they share."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class SingularMatrix(ArithmeticError):
    """A matrix that cannot be solved with; `unknown` says whose pivot vanished, where known."""

    def __init__(self, message: str, unknown: int | None = None) -> None:
        super().__init__(message)
        self.unknown = unknown


class LibraryFactor(Protocol):
    """A factor of a symmetric matrix of n rows whose diagonal entries are 1 or -1 (or 0).

    stable: whether its solutions have a residual of rounding by the way it was made.
    """

    @property
    def stable(self) -> bool: ...

    def solve(self, right: Tensor) -> Tensor:
        """Solution (n, m) of right (n, m)."""
        ...

    def negative_pivots(self) -> int:
        """Number of negative pivots."""
        ...

    def smallest_pivot(self) -> tuple[float, int | None]:
        """Smallest |pivot|, and its row where the library tells."""
        ...

    def pivot_rows(self) -> bool:
        """Factor anew with exchanges of rows for accuracy; False if that is done or not offered."""
        ...


class Library(Protocol):
    """One pattern in one library. `places`: stored entries that it takes, in its own order.

    `places` is on the device where the library works, and so are all tensors of its factors.
    """

    places: Tensor

    def factorise(self, values: Tensor) -> LibraryFactor:
        """Factor of the values that stand at `places`; SingularMatrix where there is none."""
        ...
