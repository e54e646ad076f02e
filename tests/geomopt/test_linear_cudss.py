"""cuDSS: on CUDA where it is installed, and how it is called, by a stand-in on the host."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from geomopt.linear import DirectSolver, SparsePattern
from geomopt.linear.cudss import CuDSS

SOLVED = 1e-9  # backward stable solutions of well-conditioned systems


class DenseSolver:
    """The part of nvmath's DirectSolver that is used, on a dense matrix; operands by reference."""

    freed = 0
    planned = 0

    def __init__(self, matrix, right, options):
        assert options.sparse_system_view == "upper"
        assert matrix.crow_indices().dtype == matrix.col_indices().dtype == torch.int32
        self.matrix, self.right = matrix, right
        self.factorization_info = SimpleNamespace(info=0)

    def plan(self):
        DenseSolver.planned += 1

    def factorize(self):
        upper = self.matrix.to_dense()
        self.held = upper + upper.mT - torch.diag(upper.diagonal())
        eigenvalues = torch.linalg.eigvalsh(self.held).numpy()
        negative = int((eigenvalues < 0).sum())
        self.factorization_info.inertia = np.array([len(eigenvalues) - negative, negative])
        self.factorization_info.diag = eigenvalues
        return self.factorization_info

    def solve(self):
        return torch.linalg.solve(self.held, self.right)

    def free(self):
        DenseSolver.freed += 1


def system(device="cpu", shift=1.0):
    generator = torch.Generator().manual_seed(0)
    block = torch.randint(0, 20, (30, 4), generator=generator)
    root = torch.randn(30, 4, 4, generator=generator, dtype=torch.float64)
    free = torch.rand(20, generator=generator) > 0.2
    pattern = SparsePattern.of([block.to(device)], 20, free.to(device))
    diagonal = torch.full((20,), shift, dtype=torch.float64, device=device)
    right = torch.randn(pattern.count, 2, generator=generator, dtype=torch.float64)
    return pattern, pattern.assemble([(root @ root.mT).to(device)], diagonal), right.to(device)


def test_factors_of_one_plan_take_turns(monkeypatch):
    """Values and right sides are written into the operands; an older factor factors again."""
    advanced = ModuleType("nvmath.sparse.advanced")
    advanced.DirectSolver = DenseSolver
    advanced.DirectSolverOptions = SimpleNamespace
    advanced.DirectSolverMatrixType = SimpleNamespace(SYMMETRIC="symmetric")
    advanced.DirectSolverMatrixViewType = SimpleNamespace(UPPER="upper")
    monkeypatch.setitem(sys.modules, "nvmath.sparse.advanced", advanced)

    pattern, values, right = system()
    library = CuDSS(pattern)
    upper = library.places.long()
    dense = torch.from_numpy(pattern.matrix(values).toarray())
    shift = 4.0 * torch.eye(pattern.count)
    shifted = values.clone()
    shifted[pattern.diagonal] -= 4.0
    first, second = library.factorise(values[upper]), library.factorise(shifted[upper])
    for factor, matrix in ((second, dense - shift), (first, dense), (second, dense - shift)):
        expected = torch.linalg.solve(matrix, right)
        assert torch.allclose(factor.solve(right), expected, rtol=SOLVED, atol=SOLVED)
        assert factor.negative_pivots() == int((torch.linalg.eigvalsh(matrix) < 0).sum())
        assert factor.smallest_pivot()[0] > 0
    assert DenseSolver.planned == 1
    del library, first, second, factor
    assert DenseSolver.freed == 1


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec("nvmath") is None,
    reason="no CUDA device or no nvmath-python",
)
def test_cudss_agrees_with_the_host():
    for shift in (1.0, -4.0):
        pattern, values, right = system("cuda", shift)
        there = DirectSolver(pattern).factorise(values)
        here = DirectSolver(pattern, "superlu").factorise(values)
        assert there.solver == "cudss"
        assert there.solve(right).is_cuda
        assert torch.allclose(there.solve(right), here.solve(right), rtol=SOLVED, atol=SOLVED)
        assert there.negative_pivots == here.negative_pivots
