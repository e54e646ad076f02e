"""How many sweeps solve for what the walls push, and with which coefficients."""

from __future__ import annotations

import math

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

SLACK = 1.05  # around eigenvalues that were found to a percent


def sweeps_for(
    among: sparse.csr_array, gain: np.ndarray, mass: np.ndarray, fraction: float, tolerance: float
) -> list[tuple[float, float]]:
    """Coefficients (momentum, weight) of each Chebyshev sweep for (1 + G T) φ = right.

    T = 1 - fraction A among the walls' nodes (W, W), G = diag(gain), scaled by the diagonal. The
    matrix is self-adjoint and positive in the inner product of M (1 + diag(G T)) / G, so that its
    eigenvalues, found by Lanczos, bound the error: below `tolerance` of that of the start.
    """
    count = len(gain)
    scale = np.sqrt(mass)
    whole = 1 + gain * (1 - fraction * among.diagonal())
    roots = np.sqrt(gain / whole)
    coupled = sparse.diags_array(roots * scale) @ among @ sparse.diags_array(roots / scale)
    matrix = sparse.csr_array(sparse.diags_array((1 + gain) / whole) - fraction * coupled)
    if count < 3:
        low, *_, high = np.linalg.eigvalsh(matrix.toarray())[[0, -1]]
    else:
        start = np.random.default_rng(0).standard_normal(count)
        options = {"k": 1, "tol": 1e-2, "v0": start, "return_eigenvectors": False}
        high = float(linalg.eigsh(matrix, which="LA", **options)[0])
        low = float(linalg.eigsh(matrix, which="SA", **options)[0])
    return coefficients(low / SLACK, high * SLACK, tolerance)


def coefficients(low: float, high: float, tolerance: float) -> list[tuple[float, float]]:
    """Of Chebyshev's semi-iteration for eigenvalues between low and high (Golub and Varga, Numer.
    Math. 3 (1961) 147): d <- momentum d + weight r, x <- x + d.
    """
    middle, half = (high + low) / 2, (high - low) / 2
    found = [(0.0, 1 / middle)]
    sigma = middle / half
    rho, error = 1 / sigma, 1.0
    growth = sigma + math.sqrt(sigma * sigma - 1)
    while error > tolerance:
        following = 1 / (2 * sigma - rho)
        found.append((following * rho, 2 * following / half))
        rho = following
        error = 2 / (growth ** len(found) + growth ** -len(found))
    return found
