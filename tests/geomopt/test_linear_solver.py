"""Solvers by name have one face, whether they factorise or iterate."""

import pytest
import torch

from geomopt.errors import InputError
from geomopt.linear import SingularMatrix, SparsePattern, open_solver

SOLVED = 1e-9  # residuals of systems with condition numbers below 100


def chain(count: int, shift: float = 0.1) -> tuple[SparsePattern, torch.Tensor]:
    """Springs between neighbours in a row, each unknown tied to the ground by `shift`."""
    links = torch.stack([torch.arange(count - 1), torch.arange(1, count)], dim=1)
    pattern = SparsePattern.of([links], count)
    spring = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    ground = torch.full((count,), shift, dtype=torch.float64)
    return pattern, pattern.assemble([spring.expand(count - 1, 2, 2).contiguous()], ground)


@pytest.mark.parametrize("name", ["superlu", "cg"])
def test_solvers_agree_with_a_dense_solve(name):
    pattern, values = chain(40)
    right = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    factor = open_solver(pattern, name).factorise(values)
    dense = torch.from_numpy(pattern.matrix(values).toarray())
    expected = torch.linalg.solve(dense, right)
    torch.testing.assert_close(factor.solve(right), expected, rtol=1e-9, atol=1e-11)
    assert factor.negative_pivots == 0
    assert factor.solver == name


def test_conjugate_gradients_tell_of_negative_curvature():
    pattern, values = chain(40, shift=-1.0)
    factor = open_solver(pattern, "cg").factorise(values)
    found = factor.solve(torch.ones(40, dtype=torch.float64))
    assert factor.negative_pivots == 1
    assert found.isfinite().all()


def test_a_chain_that_floats_has_no_solution():
    pattern, values = chain(40, shift=0.0)
    with pytest.raises(SingularMatrix):
        open_solver(pattern, "superlu").factorise(values).solve(torch.ones(40).double())


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match=r"linear must be one of .*got 'umfpack'"):
        open_solver(chain(3)[0], "umfpack")


@pytest.mark.parametrize("name", ["superlu", "auto", "cg"])
def test_a_renewed_solver_solves_on_its_own_pattern(name):
    pattern, values = chain(40)
    right = torch.linspace(-1, 1, 40).double()
    solver = open_solver(pattern, name)
    expected = solver.factorise(values).solve(right)
    wider = pattern.joined([torch.tensor([[0, 20], [5, 30]])])
    spring = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double()
    added = [spring.expand(39, 2, 2), spring.expand(2, 2, 2)]
    changed = wider.assemble(added, torch.full((40,), 0.1).double())
    other = solver.renewed(wider)
    assert other.solver == solver.solver
    found = other.factorise(changed).solve(right)
    assert torch.allclose(wider.product(changed, found), right, atol=SOLVED)
    # the first solver goes on, and so does a copy on a pattern with the same nonzeros
    for pattern_again in (pattern.joined([torch.tensor([[3, 4]])]), chain(40)[0]):
        again = solver.renewed(pattern_again)
        assert again.pattern is pattern_again
        for one in (again, solver):
            assert torch.equal(one.factorise(values).solve(right), expected)


def test_the_analysis_of_the_same_nonzeros_is_made_once(monkeypatch):
    pattern, values = chain(40)
    solver = open_solver(pattern, "superlu")
    monkeypatch.setattr("geomopt.linear.direct.LIBRARIES", {})
    other = solver.renewed(pattern.joined([torch.tensor([[3, 4]])]))
    factor = other.factorise(values)
    assert factor.pattern is other.pattern
    with pytest.raises(KeyError):
        solver.renewed(pattern.joined([torch.tensor([[3, 7]])]))
