"""Which element entries are summed at which nonzero: counting sorts on the host."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csc_array, csr_array

from geomopt.errors import InputError


def _sorted_places(keys: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Stable counting sort of keys in [0, count): starts (count + 1,) and places of each key."""
    ones = np.ones(keys.size, dtype=np.int8)
    begin = np.arange(keys.size + 1, dtype=np.int32)
    # rows of one entry each: turning rows into columns is a counting sort in compiled code
    by_key = csr_array((ones, keys.astype(np.int32), begin), shape=(keys.size, count)).tocsc()
    return by_key.indptr, by_key.indices


def vector_entries(index: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """targets, starts and sources that sum element vectors with unknowns `index` (n, k)."""
    starts, places = _sorted_places(index.reshape(-1), size)
    targets = np.flatnonzero(np.diff(starts))
    return targets, np.append(starts[targets], starts[-1]), places


def matrix_entries(index: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct pairs row * count + column of the elements, and starts and sources of their sums.

    Pairs of the upper triangle, ascending. index (n, k): unknowns of the elements, where `count`
    stands for a fixed one.
    """
    elements, size = index.shape
    if elements * size * size > np.iinfo(np.int32).max:
        raise InputError(
            f"a block must have less than 2^31 entries, got {elements} elements of {size} unknowns"
        )
    # by column: the places (element, corner) of each unknown, and for each the k entries of it
    starts, places = _sorted_places(index.reshape(-1), count + 1)
    places = places[: starts[count]]
    columns = np.repeat(np.arange(count, dtype=np.int32), np.diff(starts[: count + 1]))
    rows = index[places // max(size, 1)]
    sources = places[:, None] * np.int32(size) + np.arange(size, dtype=np.int32)
    kept = rows <= columns[:, None]
    stored = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])[starts[: count + 1]]
    # by row, keeping the order of columns; the entries are mirrored: (column, row) is read
    by_row = csc_array(
        (sources[kept], rows[kept], stored.astype(np.int32)), shape=(count, count)
    ).tocsr()
    keys = np.repeat(np.arange(count, dtype=np.int64) * count, np.diff(by_row.indptr))
    keys += by_row.indices
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[first], np.append(first, len(keys)), by_row.data


def mirrored(keys: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """starts, columns of a symmetric matrix and the place of each entry among `keys`, its upper."""
    if 2 * keys.size > np.iinfo(np.int32).max:
        raise InputError(f"a matrix must have less than 2^31 nonzeros, got {2 * keys.size}")
    rows = (keys // max(count, 1)).astype(np.int32)
    columns = (keys - rows * np.int64(count)).astype(np.int32)
    places = np.arange(keys.size, dtype=np.int32)
    shape = (count, count)
    begin = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))]).astype(np.int32)
    lower = csr_array((places, columns, begin), shape=shape).tocsc()
    # each row: the mirrored entries left of the diagonal, then its own from the diagonal on
    ahead = np.diff(lower.indptr) - 1
    starts = np.concatenate([[0], np.cumsum(ahead + np.diff(begin))]).astype(np.int32)
    result = np.empty((2, starts[-1]), dtype=np.int32)
    own = starts[:-1] + ahead - begin[:-1]
    at = places + own[rows]
    result[:, at] = columns, places
    owner = np.repeat(np.arange(count, dtype=np.int32), np.diff(lower.indptr))
    at = np.arange(keys.size) + (starts[:-1] - lower.indptr[:-1])[owner]
    left = lower.indices != owner
    result[:, at[left]] = lower.indices[left], lower.data[left]
    return starts, result[0], result[1]
