"""Small symmetric matrices, without the checks and copies that cost more than the work."""

from __future__ import annotations

import numpy as np


def eigen(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (d,), from the least, and eigenvectors, columns (d, d), of a symmetric matrix.

    Raises LinAlgError where they are not found.
    """
    from scipy.linalg.lapack import dsyevd  # slow to import

    eigenvalues, vectors, failed = dsyevd(matrix)
    if failed:
        raise np.linalg.LinAlgError("eigenvalues were not found")
    return eigenvalues, vectors


def solved(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Of a positive definite matrix (n, n) x = right (n, k), by Cholesky; NaN where it is not."""
    from scipy.linalg.lapack import dposv

    _, solution, failed = dposv(matrix.T, right, lower=1)  # the transpose is read without a copy
    return np.full_like(right, np.nan) if failed else solution
