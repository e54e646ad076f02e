"""New nonzeros put between those of a pattern, which are not sorted again; on the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from geomopt.errors import InputError


@dataclass(frozen=True)
class Stored:
    """The arrays of a `SparsePattern`, and the key row * count + column of each nonzero (int64)."""

    keys: np.ndarray
    starts: np.ndarray
    columns: np.ndarray
    diagonal: np.ndarray
    mirror: np.ndarray


@dataclass(frozen=True)
class Widened:
    """A pattern with more nonzeros.

    moved: new place of each entry of the old upper triangle. inserted: of the new keys.
    """

    starts: np.ndarray
    columns: np.ndarray
    diagonal: np.ndarray
    mirror: np.ndarray
    moved: np.ndarray
    inserted: np.ndarray


def union(runs: Sequence[np.ndarray]) -> np.ndarray:
    """The distinct numbers of ascending runs of numbers from 0 on, ascending."""
    # a stable sort merges runs that are sorted already
    merged = np.sort(np.concatenate(runs), kind="stable")
    return merged[np.diff(merged, prepend=-1) > 0]


def join(base: Stored, runs: Sequence[np.ndarray]) -> tuple[list[np.ndarray], Widened | None]:
    """Places in the upper triangle of the keys of each of several ascending runs of them.

    Together with the pattern in which they stand, None where it has all of them already.
    """
    ends = np.cumsum([len(keys) for keys in runs])[:-1]
    keys = np.concatenate(runs)
    at = np.searchsorted(base.keys, keys)  # never past the end: the last key is a diagonal one
    missing = base.keys.take(at) != keys
    places = base.mirror.take(at)
    if not missing.any():
        return np.split(places, ends), None
    absent = zip(runs, np.split(missing, ends), strict=True)
    fresh = union([run.compress(new) for run, new in absent])
    among = np.searchsorted(fresh, keys.compress(missing))
    first = np.empty_like(fresh)
    first[among] = at[missing]
    wide = _widened(base, fresh, first)
    places = wide.moved.take(places)
    places[missing] = wide.inserted[among]
    return np.split(places, ends), wide


def _widened(base: Stored, fresh: np.ndarray, at: np.ndarray) -> Widened:
    """The pattern with new keys of the upper triangle, and their mirror images.

    fresh (m,): ascending keys; at (m,): the place of the first larger key of the pattern.
    """
    count = len(base.diagonal)
    total = len(base.keys) + 2 * len(fresh)
    if total > np.iinfo(np.int32).max:
        raise InputError(f"a matrix must have less than 2^31 nonzeros, got {total}")
    rows, columns = (part.astype(np.int32) for part in np.divmod(fresh, count))
    numbers = np.arange(len(fresh), dtype=np.int32)
    begin = np.searchsorted(rows, np.arange(count + 1)).astype(np.int32)
    lower = csr_array((numbers, columns, begin), shape=(count, count)).tocsc()
    owner = np.repeat(np.arange(count, dtype=np.int64), np.diff(lower.indptr))
    lower_at = np.searchsorted(base.keys, owner * count + lower.indices)
    # in each row the new entries left of the diagonal come before those right of it
    new = np.concatenate([at + numbers + lower.indptr[rows + 1], lower_at + numbers + begin[owner]])
    # left of a new entry of the upper triangle stands the diagonal or an entry right of it
    above = base.mirror.take(at - 1) + 1
    inserted = above + numbers
    upper = (len(base.keys) + count) // 2
    ahead = np.bincount(above, minlength=upper)[:upper].cumsum(dtype=np.int32)
    moved = np.arange(upper, dtype=np.int32) + ahead

    kept = np.ones(total, dtype=bool)
    kept[new] = False
    old = np.flatnonzero(kept)

    def merged(there: np.ndarray, right: np.ndarray, left: np.ndarray) -> np.ndarray:
        result = np.empty(total, dtype=np.int32)
        result[old] = there
        result[new] = np.concatenate([right, left])
        return result

    transposed = inserted.take(np.asarray(lower.data, np.int32))
    return Widened(
        starts=base.starts + begin + lower.indptr,
        columns=merged(base.columns, columns, lower.indices),
        diagonal=base.diagonal + (begin[:-1] + lower.indptr[1:]),
        mirror=merged(moved.take(base.mirror), inserted, transposed),
        moved=moved,
        inserted=inserted,
    )
