"""Small symmetric matrices, without the checks and copies that cost more than the work."""

from __future__ import annotations

import numpy as np


def eigen(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (d,), from the least, and eigenvectors, columns (d, d), of a symmetric matrix.

    Raises LinAlgError where they are not found.
    """
    from scipy.linalg import lapack  # slow to import

    eigenvalues, vectors, failed = lapack.dsyevd(matrix)  # pyright: ignore - not in its stubs
    if failed:
        raise np.linalg.LinAlgError("eigenvalues were not found")
    return eigenvalues, vectors


def solved(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Of a positive definite matrix (n, n) x = right (n, k), by Cholesky; NaN where it is not."""
    from scipy.linalg import lapack

    # the transpose is read without a copy
    _, solution, failed = lapack.dposv(matrix.T, right, lower=1)  # pyright: ignore - the same
    return np.full_like(right, np.nan) if failed else solution
