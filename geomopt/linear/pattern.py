"""Where the sum of element matrices has its nonzeros, and how the sum is taken.

A matrix H = sum_e P_e^T H_e P_e is stored by its nonzeros in compressed rows. For each nonzero the
pattern keeps the list of the element entries that belong to it, so that assembly reads and never
scatters: the sum has one order, whatever the device and the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.sparse import csc_array, csr_array
from torch import Tensor

from geomopt.errors import InputError, check_indices, check_shape, check_tensor
from geomopt.launch import launch
from geomopt.linear.pattern_kernels import kernels

CHUNK = 256  # sums that a CPU thread takes in a row
GRAIN = 16  # chunks worth a thread


def _launch_rows(kernel: Any, inputs: Sequence[Any], outputs: Sequence[Tensor], count: int) -> None:
    """Run a kernel of `pattern_kernels` over `count` independent rows."""
    chunk = 1 if outputs[0].is_cuda else CHUNK
    given = [count, chunk, *inputs]
    launch(kernel, -(-count // chunk), given, outputs, split=True, grain=GRAIN)


@dataclass(frozen=True, eq=False)
class Gather:
    """Sums with a fixed order: sum targets[i] += entries[sources[starts[i] : starts[i + 1]]]."""

    targets: Tensor
    starts: Tensor
    sources: Tensor

    def add(self, entries: Tensor, sums: Tensor) -> None:
        """Add `entries`, flat and contiguous, to `sums` in place."""
        inputs = [self.targets, self.starts, self.sources, entries]
        _launch_rows(kernels().add_contributions, inputs, [sums], len(self.targets))


@dataclass(frozen=True, eq=False)
class SparsePattern:
    """The nonzeros of the free rows and columns of a sum of symmetric element matrices.

    size: number of all unknowns. unknowns (n,) int64: the free ones, ascending, which are the rows
    of the matrix. starts (n + 1,), columns (nnz,) int32: compressed rows with ascending columns; by
    symmetry the same arrays are compressed columns. diagonal (n,) int64: place of each diagonal
    entry, which is stored whether or not an element touches it. mirror (nnz,) int32: place of each
    entry in the upper triangle, which is what is summed; the lower one is its copy.
    """

    size: int
    unknowns: Tensor
    starts: Tensor
    columns: Tensor
    diagonal: Tensor
    mirror: Tensor
    blocks: tuple[Tensor, ...]
    matrix_sums: tuple[Gather, ...]
    vector_sums: tuple[Gather, ...]

    @classmethod
    def of(cls, blocks: Sequence[Tensor], size: int, free: Tensor | None = None) -> SparsePattern:
        """Find the pattern of element matrices (n_b, k_b, k_b) that act on unknowns `blocks`.

        blocks: integer tensors (n_b, k_b) with entries in [0, size), each row the unknowns of one
        element. free (size,) bool: unknowns that are solved for; all of them by default. The
        pattern lives on the device of the mask. Takes time linear in the number of element
        entries. Raises InputError for indices out of range and a mask of the wrong shape.
        """
        if not isinstance(size, int) or size < 0:
            raise InputError(f"size must be a whole number, got {size!r}")
        for number, block in enumerate(blocks):
            check_indices(f"blocks[{number}]", block, (None, None), size)
        if free is None:
            device = blocks[0].device if blocks else torch.device("cpu")
            free = torch.ones(size, dtype=torch.bool, device=device)
        if not isinstance(free, Tensor):
            raise InputError(f"free must be a bool tensor, got {type(free).__name__}")
        check_shape("free", free, (size,))
        if free.dtype != torch.bool:
            raise InputError(f"free must be a bool tensor, got {free.dtype}")
        device = free.device
        mask = free.cpu().numpy()
        count = int(mask.sum())
        # fixed unknowns share the number `count`: one row and column at the end, cut off below
        numbers = np.full(size, count, dtype=np.int32)
        numbers[mask] = np.arange(count, dtype=np.int32)

        indices = [block.cpu().numpy() for block in blocks]
        found = [_matrix_entries(numbers[index], count) for index in indices]
        own = np.arange(count, dtype=np.int64) * (count + 1)
        # a stable sort merges runs that are sorted already
        keys = np.sort(np.concatenate([own, *(pairs for pairs, _, _ in found)]), kind="stable")
        keys = keys[np.diff(keys, prepend=-1) > 0]
        starts, columns, mirror = _mirrored(keys, count)

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        def gather(targets: np.ndarray, starts: np.ndarray, sources: np.ndarray) -> Gather:
            return Gather(*(tensor(a.astype(np.int32)) for a in (targets, starts, sources)))

        rows = np.repeat(np.arange(count, dtype=np.int32), np.diff(starts))
        return cls(
            size=size,
            unknowns=tensor(np.flatnonzero(mask)),
            starts=tensor(starts),
            columns=tensor(columns),
            diagonal=tensor(np.flatnonzero(rows == columns)),
            mirror=tensor(mirror),
            blocks=tuple(block.long().to(device) for block in blocks),
            matrix_sums=tuple(
                gather(np.searchsorted(keys, pairs), begin, sources)
                for pairs, begin, sources in found
            ),
            vector_sums=tuple(gather(*_vector_entries(index, size)) for index in indices),
        )

    @property
    def count(self) -> int:
        """Number n of free unknowns."""
        return len(self.unknowns)

    @property
    def nonzeros(self) -> int:
        """Number of stored entries."""
        return len(self.columns)

    @cached_property
    def rows(self) -> Tensor:
        """Row of each stored entry, (nnz,) int64."""
        lengths = self.starts.diff().long()
        return torch.repeat_interleave(
            torch.arange(self.count, device=self.columns.device), lengths
        )

    def assemble(self, matrices: Sequence[Tensor], diagonal: Tensor | None = None) -> Tensor:
        """Values (nnz,) float64 of the sum of element matrices (n_b, k_b, k_b), one per block.

        Only one of each two mirrored entries is read. diagonal (size,): what is added to the
        diagonal, with entries of fixed unknowns, which are passed over.
        """
        self._check("matrices", matrices, 2)
        half = (self.nonzeros + self.count) // 2
        upper = torch.zeros(half, dtype=torch.float64, device=self.columns.device)
        for sums, entries in zip(self.matrix_sums, matrices, strict=True):
            sums.add(_flat(entries), upper)
        values = upper.index_select(0, self.mirror)
        if diagonal is not None:
            check_tensor("diagonal", diagonal, (self.size,), finite=False)
            values[self.diagonal] += diagonal.detach().double()[self.unknowns]
        return values

    def assemble_vector(self, vectors: Sequence[Tensor]) -> Tensor:
        """Sum (size,) float64 of element vectors (n_b, k_b), over all unknowns, fixed ones too."""
        self._check("vectors", vectors, 1)
        total = torch.zeros(self.size, dtype=torch.float64, device=self.columns.device)
        for sums, entries in zip(self.vector_sums, vectors, strict=True):
            sums.add(_flat(entries), total)
        return total

    def full_product(self, matrices: Sequence[Tensor], vector: Tensor) -> Tensor:
        """Sum of element matrices times a vector (size,), with the rows of fixed unknowns."""
        self._check("matrices", matrices, 2)
        check_tensor("vector", vector, (self.size,), finite=False)
        parts = [
            (entries.double() @ vector.double()[block].unsqueeze(-1)).squeeze(-1)
            for entries, block in zip(matrices, self.blocks, strict=True)
        ]
        return self.assemble_vector(parts)

    def product(self, values: Tensor, vector: Tensor) -> Tensor:
        """Matrix with `values` (nnz,) times a vector (n,), both over free unknowns."""
        check_tensor("values", values, (self.nonzeros,), finite=False)
        check_tensor("vector", vector, (self.count,), finite=False)
        result = torch.empty_like(vector, dtype=torch.float64)
        inputs = [self.starts, self.columns, _flat(values), _flat(vector)]
        _launch_rows(kernels().multiply, inputs, [result], self.count)
        return result

    def matrix(self, values: Tensor) -> csc_array:
        """The matrix as a SciPy array on the host, sharing memory where it can."""
        shape = (self.count, self.count)
        parts = (_flat(values), self.columns, self.starts)
        result = csc_array(tuple(part.detach().cpu().numpy() for part in parts), shape=shape)
        result.has_canonical_format = True
        return result

    def _check(self, name: str, given: Sequence[Tensor], order: int) -> None:
        if len(given) != len(self.blocks):
            raise InputError(
                f"{name} must have one tensor for each of the {len(self.blocks)} blocks, "
                f"got {len(given)}"
            )
        for number, (entries, block) in enumerate(zip(given, self.blocks, strict=True)):
            elements, size = block.shape
            shape = (elements, *(size,) * order)
            check_tensor(f"{name}[{number}]", entries, shape, finite=False)


def _flat(entries: Tensor) -> Tensor:
    return entries.detach().double().contiguous().reshape(-1)


def _sorted_places(keys: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Stable counting sort of keys in [0, count): starts (count + 1,) and places of each key."""
    ones = np.ones(keys.size, dtype=np.int8)
    begin = np.arange(keys.size + 1, dtype=np.int32)
    # rows of one entry each: turning rows into columns is a counting sort in compiled code
    by_key = csr_array((ones, keys.astype(np.int32), begin), shape=(keys.size, count)).tocsc()
    return by_key.indptr, by_key.indices


def _vector_entries(index: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """targets, starts and sources that sum element vectors with unknowns `index` (n, k)."""
    starts, places = _sorted_places(index.reshape(-1), size)
    targets = np.flatnonzero(np.diff(starts))
    return targets, np.append(starts[targets], starts[-1]), places


def _matrix_entries(index: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def _mirrored(keys: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
