"""Where the sum of element matrices has its nonzeros, and how the sum is taken.

A matrix H = sum_e P_e^T H_e P_e is stored by its nonzeros in compressed rows. For each nonzero the
pattern keeps the list of the element entries that belong to it, so that assembly reads and never
scatters: the sum has one order, whatever the device and the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from scipy.sparse import csc_array, csr_array
from torch import Tensor

from geomopt.errors import InputError, check_indices, check_shape, check_tensor
from geomopt.launch import launch
from geomopt.linear.entries import matrix_entries, mirrored, vector_entries
from geomopt.linear.join import Stored, join, union
from geomopt.linear.pattern_kernels import kernels

CHUNK = 256  # sums that a CPU thread takes in a row
GRAIN = 16  # chunks worth a thread
FEW = 2**18  # terms of all sums: up to here the host does without a kernel, in a quarter of a ms


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
        if not entries.is_cuda and len(self.sources) <= FEW:
            # the same sums in the same order, without the cost of starting a kernel
            used, matrix = self._matrix
            found = matrix @ entries.numpy()[:used]
            sums.index_add_(0, self.targets, torch.from_numpy(found))
            return
        inputs = [self.targets, self.starts, self.sources, entries]
        _launch_rows(kernels().add_contributions, inputs, [sums], len(self.targets))

    @cached_property
    def _matrix(self) -> tuple[int, csr_array]:
        """How many of the entries there are up to the last source, and what turns them to sums."""
        used = int(self.sources.max()) + 1 if len(self.sources) else 0
        parts = (_ones()[: len(self.sources)], self.sources.numpy(), self.starts.numpy())
        return used, csr_array(parts, shape=(len(self.targets), used))


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
        numbers = _numbers(np.flatnonzero(mask), size)
        indices = [block.cpu().numpy() for block in blocks]
        found = [matrix_entries(numbers[index], count) for index in indices]
        keys = union([np.arange(count) * (count + 1), *(pairs for pairs, _, _ in found)])
        starts, columns, mirror = mirrored(keys, count)
        rows = np.repeat(np.arange(count, dtype=np.int32), np.diff(starts))
        return cls(
            size=size,
            unknowns=_tensor(np.flatnonzero(mask), device),
            starts=_tensor(starts, device),
            columns=_tensor(columns, device),
            diagonal=_tensor(np.flatnonzero(rows == columns), device),
            mirror=_tensor(mirror, device),
            blocks=tuple(block.long().to(device) for block in blocks),
            matrix_sums=tuple(
                _gather(np.searchsorted(keys, pairs), begin, sources, device)
                for pairs, begin, sources in found
            ),
            vector_sums=tuple(_gather(*vector_entries(index, size), device) for index in indices),
        )

    def joined(self, blocks: Sequence[Tensor]) -> SparsePattern:
        """The pattern with the elements of more blocks (n_b, k_b) after its own.

        The same as `of` all blocks together, but the own ones are not gone through again: what
        depends on them alone is shared. Where the new elements have no nonzero that is not there
        already, `starts` and `columns` are those of this pattern, as the same objects. Raises
        InputError for indices out of range.
        """
        for number, block in enumerate(blocks):
            check_indices(f"blocks[{number}]", block, (None, None), self.size)
        if not blocks:
            return self
        device, base = self.columns.device, self._stored
        numbers = _numbers(self.unknowns.cpu().numpy(), self.size)
        indices = [block.cpu().numpy() for block in blocks]
        found = [matrix_entries(numbers[index], self.count) for index in indices]
        targets, wide = join(base, [pairs for pairs, _, _ in found])
        result = self
        if wide is not None:
            moved = _tensor(wide.moved, device)
            result = replace(
                self,
                starts=_tensor(wide.starts, device),
                columns=_tensor(wide.columns, device),
                diagonal=_tensor(wide.diagonal, device),
                mirror=_tensor(wide.mirror, device),
                matrix_sums=tuple(
                    replace(sums, targets=moved.index_select(0, sums.targets))
                    for sums in self.matrix_sums
                ),
            )
        return replace(
            result,
            blocks=self.blocks + tuple(block.long().to(device) for block in blocks),
            matrix_sums=result.matrix_sums
            + tuple(
                _gather(part, begin, sources, device)
                for part, (_, begin, sources) in zip(targets, found, strict=True)
            ),
            vector_sums=self.vector_sums
            + tuple(_gather(*vector_entries(index, self.size), device) for index in indices),
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

    @cached_property
    def _stored(self) -> Stored:
        arrays = (self.starts, self.columns, self.diagonal, self.mirror)
        starts, columns, diagonal, mirror = (array.cpu().numpy() for array in arrays)
        keys = np.repeat(np.arange(self.count) * self.count, np.diff(starts)) + columns
        return Stored(keys, starts, columns, diagonal, mirror)

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


@cache
def _ones() -> np.ndarray:
    return np.ones(FEW)


def _numbers(unknowns: np.ndarray, size: int) -> np.ndarray:
    """Row (size,) of each unknown.

    Fixed ones share the number after the last: one row and column at the end, which is cut off.
    """
    numbers = np.full(size, len(unknowns), dtype=np.int32)
    numbers[unknowns] = np.arange(len(unknowns), dtype=np.int32)
    return numbers


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def _gather(
    targets: np.ndarray, starts: np.ndarray, sources: np.ndarray, device: torch.device
) -> Gather:
    arrays = (targets, starts, sources)
    return Gather(*(_tensor(array.astype(np.int32, copy=False), device) for array in arrays))


def _flat(entries: Tensor) -> Tensor:
    return entries.detach().double().contiguous().reshape(-1)
