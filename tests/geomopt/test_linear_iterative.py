"""Conjugate gradients beside direct solution, and what they report."""

from __future__ import annotations

import pytest
import torch

from geomopt.errors import InputError
from geomopt.linear import SparsePattern, block_jacobi, conjugate_gradient, factorise

TOLERANCE = 1e-10


def chain(count=60, soft=1e-3, device="cpu"):
    """A membrane of points with three coordinates, stiff and soft springs, held at both ends."""
    generator = torch.Generator().manual_seed(1)
    ends = torch.stack([torch.arange(count - 1), torch.arange(1, count)], dim=1)
    block = (3 * ends[:, :, None] + torch.arange(3)).reshape(-1, 6)
    root = torch.randn(count - 1, 3, 3, generator=generator, dtype=torch.float64)
    stiffness = root @ root.mT + soft * torch.eye(3)
    signs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double()
    matrices = torch.einsum("ab,eij->eaibj", signs, stiffness).reshape(-1, 6, 6)
    free = torch.ones(3 * count, dtype=torch.bool)
    free[[0, 1, 2, -1, -2, -3]] = False
    free[7] = False
    pattern = SparsePattern.of([block.to(device)], 3 * count, free.to(device))
    right = torch.randn(pattern.count, generator=generator, dtype=torch.float64)
    return pattern, pattern.assemble([matrices.to(device)]), right.to(device)


def test_the_solution_is_the_direct_one(device):
    pattern, values, right = chain(device=device)

    def product(vector):
        return pattern.product(values, vector)

    exact = factorise(pattern, values, "superlu").solve(right)
    plain = conjugate_gradient(product, right, tolerance=TOLERANCE)
    helped = conjugate_gradient(product, right, block_jacobi(pattern, values), TOLERANCE)
    for found in (plain, helped):
        assert found.residual <= TOLERANCE
        assert float((right - product(found.solution)).norm() / right.norm()) <= 10 * TOLERANCE
        assert not found.negative_curvature
    assert torch.allclose(helped.solution, exact, rtol=1e-6, atol=1e-6)
    assert helped.iterations < plain.iterations


def test_a_good_start_needs_no_step_and_a_limit_holds():
    pattern, values, right = chain()

    def product(vector):
        return pattern.product(values, vector)

    exact = factorise(pattern, values, "superlu").solve(right)
    assert conjugate_gradient(product, right, start=exact).iterations == 0
    short = conjugate_gradient(product, right, iterations=3)
    assert short.iterations == 3
    assert short.residual > 1e-8
    nothing = conjugate_gradient(product, torch.zeros_like(right))
    assert (nothing.iterations, nothing.residual) == (0, 0.0)


def test_block_jacobi_is_exact_for_separate_points():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(5, 3, 3, generator=generator, dtype=torch.float64)
    block = torch.arange(15).reshape(5, 3)
    pattern = SparsePattern.of([block], 15)
    values = pattern.assemble([root @ root.mT + torch.eye(3)])
    right = torch.randn(15, generator=generator, dtype=torch.float64)
    found = conjugate_gradient(
        lambda x: pattern.product(values, x), right, block_jacobi(pattern, values)
    )
    assert found.iterations == 1
    assert torch.allclose(found.solution, factorise(pattern, values).solve(right))


def test_negative_curvature_is_reported():
    pattern, values, right = chain()
    shifted = values.clone()
    shifted[pattern.diagonal] -= 0.5
    assert factorise(pattern, shifted, "superlu").negative_pivots > 0
    found = conjugate_gradient(
        lambda x: pattern.product(shifted, x), right, block_jacobi(pattern, shifted)
    )
    assert found.negative_curvature
    assert torch.isfinite(found.solution).all()
    # where the first direction is of that kind, it is what comes back: downhill for a Newton step
    at_once = conjugate_gradient(lambda x: -x, right)
    assert (at_once.negative_curvature, at_once.iterations) == (True, 1)
    assert float(at_once.solution @ right) > 0


def test_bad_input_is_named():
    pattern, values, right = chain()
    with pytest.raises(InputError, match="tolerance must be positive"):
        conjugate_gradient(lambda x: x, right, tolerance=0.0)
    with pytest.raises(InputError, match="start must have shape"):
        conjugate_gradient(lambda x: x, right, start=right[:3])
    with pytest.raises(InputError, match="right must be finite"):
        conjugate_gradient(lambda x: x, right * float("nan"))
    with pytest.raises(InputError, match="width must be at least 1"):
        block_jacobi(pattern, values, 0)
