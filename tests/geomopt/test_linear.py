"""Assembly and direct solution of sparse symmetric systems, beside dense algebra."""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import sys

import pytest
import torch

from geomopt.errors import BackendUnavailable, InputError
from geomopt.linear import DirectSolver, SingularMatrix, SparsePattern, factorise, sparse_solve
from geomopt.linear import pattern as pattern_module

EXACT = 1e-12  # sums of a few terms of order one
SOLVED = 1e-9  # backward stable solutions of systems with condition numbers below 1e5

INSTALLED = [
    "superlu",
    pytest.param(
        "pardiso",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("pypardiso") is None, reason="pypardiso is not installed"
        ),
    ),
]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def elements(seed=0, size=40):
    """Two kinds of elements on `size` unknowns, the last of which nobody touches, and a mask."""
    draws = generator(seed)
    triples = torch.stack([torch.randperm(size - 1, generator=draws)[:6] for _ in range(30)])
    pairs = torch.stack([torch.randperm(size - 1, generator=draws)[:2] for _ in range(25)])
    free = torch.rand(size, generator=draws) > 0.2
    free[size - 1] = True
    return [triples, pairs], size, free


def matrices(blocks, seed=1, definite=False):
    given = [random(*block.shape, block.shape[1], seed=seed + k) for k, block in enumerate(blocks)]
    return [m @ m.mT if definite else m + m.mT for m in given]


def dense(blocks, given, size):
    result = torch.zeros(size, size, dtype=torch.float64)
    for block, entries in zip(blocks, given, strict=True):
        for unknowns, entry in zip(block, entries, strict=True):
            result[unknowns[:, None], unknowns] += entry
    return result


def system(seed=0, definite=True, shift=1.0):
    """A pattern, values on it and the dense matrix of the free unknowns."""
    blocks, size, free = elements(seed)
    pattern = SparsePattern.of(blocks, size, free)
    given = matrices(blocks, seed + 1, definite)
    values = pattern.assemble(given, torch.full((size,), shift, dtype=torch.float64))
    full = dense(blocks, given, size) + shift * torch.eye(size)
    return pattern, values, full[free][:, free]


def from_dense(matrix):
    """Pattern and values of one full element."""
    count = len(matrix)
    pattern = SparsePattern.of([torch.arange(count)[None]], count)
    return pattern, pattern.assemble([matrix[None].double()])


@pytest.mark.parametrize("seed", range(4))
def test_assembly_is_the_sum_of_the_elements(seed, device):
    blocks, size, free = elements(seed)
    pattern = SparsePattern.of([block.to(device) for block in blocks], size, free.to(device))
    given, diagonal = matrices(blocks, seed), random(size, seed=9)
    values = pattern.assemble([m.to(device) for m in given], diagonal.to(device))
    full = dense(blocks, given, size) + diagonal.diag()
    assert torch.allclose(dense_of(pattern, values), full[free][:, free], atol=EXACT)
    assert torch.equal(pattern.unknowns.cpu(), free.nonzero()[:, 0])
    # compressed rows with ascending columns
    order = pattern.rows * pattern.count + pattern.columns
    assert (order.diff() > 0).all()
    assert (pattern.columns[pattern.diagonal] == pattern.rows[pattern.diagonal]).all()


def dense_of(pattern, values):
    matrix = torch.zeros(pattern.count, pattern.count, dtype=torch.float64)
    matrix[pattern.rows.cpu(), pattern.columns.cpu().long()] = values.cpu()
    return matrix


def test_vectors_and_products_reach_fixed_unknowns(device):
    blocks, size, free = elements()
    pattern = SparsePattern.of([block.to(device) for block in blocks], size, free.to(device))
    given, vector = matrices(blocks), random(size)
    parts = [random(*block.shape, seed=5) for block in blocks]
    expected = torch.zeros(size, dtype=torch.float64)
    for block, part in zip(blocks, parts, strict=True):
        expected.index_add_(0, block.flatten(), part.flatten())
    total = pattern.assemble_vector([part.to(device) for part in parts])
    assert torch.allclose(total.cpu(), expected, atol=EXACT)
    full = dense(blocks, given, size)
    product = pattern.full_product([m.to(device) for m in given], vector.to(device))
    assert torch.allclose(product.cpu(), full @ vector, atol=EXACT)
    small = pattern.product(
        pattern.assemble([m.to(device) for m in given]), vector[free].to(device)
    )
    assert torch.allclose(small.cpu(), full[free][:, free] @ vector[free], atol=EXACT)


def test_one_element_may_name_an_unknown_twice():
    block = torch.tensor([[0, 1, 1], [2, 0, 2]])
    given = matrices([block])
    pattern = SparsePattern.of([block], 3)
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for unknowns, entry in zip(block, given[0], strict=True):
        expected.index_put_((unknowns[:, None], unknowns[None]), entry, accumulate=True)
    assert torch.allclose(dense_of(pattern, pattern.assemble(given)), expected, atol=EXACT)


def test_assembly_does_not_depend_on_the_number_of_threads(monkeypatch):
    """Nor on whether few enough elements are summed without a kernel."""
    draws = generator(3)
    block = torch.randint(0, 4000, (6000, 6), generator=draws)
    pattern = SparsePattern.of([block], 4000, torch.rand(4000, generator=draws) > 0.1)
    given = matrices([block])
    before = torch.get_num_threads()
    found = []
    try:
        for threads, few in ((1, 0), (2, 0), (1, pattern_module.FEW), (2, pattern_module.FEW)):
            torch.set_num_threads(threads)
            monkeypatch.setattr(pattern_module, "FEW", few)
            found.append((pattern.assemble(given), pattern.assemble_vector([given[0][:, 0]])))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert torch.equal(one, two)


@pytest.mark.parametrize("solver", INSTALLED)
@pytest.mark.parametrize("definite", [True, False])
def test_solutions_and_inertia_are_those_of_dense_algebra(solver, definite):
    for seed in range(8):
        pattern, values, matrix = system(seed, definite)
        factor = factorise(pattern, values, solver)
        right = random(len(matrix), 3)
        expected = torch.linalg.solve(matrix, right)
        assert factor.solver == solver
        assert torch.allclose(factor.solve(right), expected, rtol=SOLVED, atol=SOLVED)
        assert torch.allclose(factor.solve(right[:, 1]), expected[:, 1], rtol=SOLVED, atol=SOLVED)
        assert factor.negative_pivots == int((torch.linalg.eigvalsh(matrix) < 0).sum())


@pytest.mark.parametrize("solver", INSTALLED)
def test_a_solver_serves_definite_and_indefinite_values_in_turn(solver):
    pattern, definite, matrix = system()
    _, indefinite, other = system(definite=False, shift=-0.5)
    direct = DirectSolver(pattern, solver)
    right = random(len(matrix))
    factors = [direct.factorise(v) for v in (definite, indefinite, definite, indefinite)]
    # older factors stay valid, in any order
    for factor, dense_matrix in zip(factors, (matrix, other) * 2, strict=True):
        expected = torch.linalg.solve(dense_matrix, right)
        assert torch.allclose(factor.solve(right), expected, rtol=SOLVED, atol=SOLVED)
    assert factors[0].negative_pivots == 0 < factors[1].negative_pivots


@pytest.mark.parametrize("solver", INSTALLED)
def test_a_factor_outlives_a_failure_of_the_next(solver):
    pattern, values, matrix = system()
    direct = DirectSolver(pattern, solver)
    factor, right = direct.factorise(values), random(len(matrix))
    with pytest.raises(SingularMatrix):
        direct.factorise(torch.zeros_like(values)).solve(right)
    hollow = values.clone()
    hollow[(pattern.rows == 3) | (pattern.columns == 3)] = 0.0
    with pytest.raises(SingularMatrix):
        direct.factorise(hollow).solve(right)
    expected = torch.linalg.solve(matrix, right)
    assert torch.allclose(factor.solve(right), expected, rtol=SOLVED, atol=SOLVED)


@pytest.mark.parametrize("solver", INSTALLED)
def test_pivots_are_those_of_the_matrix_without_units(solver):
    coupling = 0.9
    scale = torch.tensor([1e5, 1e-4, 1e2]).double()
    matrix = torch.tensor([[1, coupling, 0], [coupling, 1, 0], [0, 0, 1]], dtype=torch.float64)
    matrix = matrix * scale[:, None] * scale
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        pattern, values = from_dense(matrix[order][:, order])
        factor = factorise(pattern, values, solver)
        assert factor.smallest_pivot == pytest.approx(1 - coupling**2, rel=1e-9)
        assert factor.weakest_unknown in (order.index(0), order.index(1))
        assert factor.negative_pivots == 0


@pytest.mark.parametrize("solver", INSTALLED)
def test_a_pivot_falls_through_zero_at_a_buckling_load(solver):
    """Two rigid bars on three hinges, a spring k in the middle: k - 4 P / L changes its sign."""
    stiffness, length = 3.0, 2.0
    critical = stiffness * length / 4
    pivots = []
    for load in (0.5 * critical, 0.999 * critical, 1.001 * critical):
        matrix = torch.tensor([[stiffness - 4 * load / length, 0.1], [0.1, 1e4]]).double()
        pattern, values = from_dense(matrix)
        factor = factorise(pattern, values, solver)
        pivots.append((factor.negative_pivots, factor.smallest_pivot))
    assert [negative for negative, _ in pivots] == [0, 0, 1]
    assert pivots[1][1] < pivots[0][1]


@pytest.mark.parametrize("solver", INSTALLED)
@pytest.mark.parametrize("fixed", [False, True])
def test_a_singular_matrix_is_named_with_its_unknown(solver, fixed):
    """A chain of springs that hangs on nothing; then unknown 4 on no spring at all."""
    spring = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double()
    block = torch.tensor([[0, 1], [1, 2], [2, 3]])
    free = torch.tensor([not fixed, True, True, True, fixed])
    pattern = SparsePattern.of([block], 5, free)
    values = pattern.assemble([spring.expand(3, 2, 2)])
    with pytest.raises(SingularMatrix, match="singular") as caught:
        factorise(pattern, values, solver).solve(torch.ones(pattern.count).double())
    if fixed and caught.value.unknown is not None:
        assert caught.value.unknown == 4


@pytest.mark.parametrize("solver", INSTALLED)
def test_no_matrix_at_all_is_singular(solver):
    pattern = SparsePattern.of([torch.tensor([[0, 1]])], 2)
    with pytest.raises(SingularMatrix):
        factorise(pattern, torch.zeros(4).double(), solver).solve(torch.ones(2).double())


@pytest.mark.parametrize("solver", INSTALLED)
def test_a_matrix_without_a_diagonal_is_solved(solver):
    matrix = torch.tensor([[0, 1, 0, 0], [1, 0, 2, 0], [0, 2, 0, 1], [0, 0, 1, 0]]).double()
    pattern, values = from_dense(matrix)
    right = random(4)
    solution = factorise(pattern, values, solver).solve(right)
    assert torch.allclose(matrix @ solution, right, atol=EXACT)


@pytest.mark.parametrize("solver", INSTALLED)
def test_small_pivots_do_not_cost_accuracy(solver):
    """Elimination in the wrong order multiplies rounding by 1e10; the residual shows and mends."""
    count = 12
    matrix = 1e-10 * torch.eye(count).double()
    matrix = matrix + torch.diag(torch.ones(count - 1).double(), 1)
    matrix = matrix + torch.diag(torch.ones(count - 1).double(), -1) + 1e-10
    pattern, values = from_dense(matrix)
    right = random(count)
    solution = factorise(pattern, values, solver).solve(right)
    assert torch.allclose(matrix @ solution, right, atol=SOLVED)


@pytest.mark.parametrize("solver", INSTALLED)
def test_results_repeat_bit_for_bit_on_any_number_of_threads(solver):
    """A strip that is large enough for a library to share it out."""
    before = torch.get_num_threads()
    count = 4000
    block = torch.arange(count - 5)[:, None] + torch.arange(6)
    block = torch.cat([block, torch.randperm(count, generator=generator(4))[: 6 * 60].view(-1, 6)])
    given = matrices([block], definite=False)
    right = random(count)
    found = []
    try:
        for threads in (1, 2, 2, 2, 2):
            torch.set_num_threads(threads)
            pattern = SparsePattern.of([block], count)
            values = pattern.assemble(given, torch.full((count,), -0.5))
            factor = factorise(pattern, values, solver)
            found.append((factor.solve(right), factor.smallest_pivot, factor.negative_pivots))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert torch.equal(found[0][0], other[0])
        assert found[0][1:] == other[1:]


@pytest.mark.parametrize("solver", INSTALLED)
def test_nothing_free_is_solved_by_nothing(solver):
    pattern = SparsePattern.of([torch.tensor([[0, 1]])], 2, torch.zeros(2, dtype=torch.bool))
    values = pattern.assemble([torch.ones(1, 2, 2).double()], torch.ones(2).double())
    factor = factorise(pattern, values, solver)
    assert pattern.count == pattern.nonzeros == 0
    assert factor.solve(torch.empty(0).double()).shape == (0,)
    assert (factor.negative_pivots, factor.smallest_pivot) == (0, 1.0)
    product = pattern.full_product([torch.ones(1, 2, 2).double()], torch.ones(2).double())
    assert torch.equal(product, torch.full((2,), 2.0).double())


def test_no_elements_leave_the_diagonal():
    pattern = SparsePattern.of([torch.empty(0, 3, dtype=torch.int64)], 3)
    values = pattern.assemble([torch.empty(0, 3, 3).double()], torch.tensor([1.0, 2.0, 4.0]))
    solution = factorise(pattern, values).solve(torch.ones(3).double())
    assert torch.allclose(solution, torch.tensor([1.0, 0.5, 0.25]).double())
    assert torch.equal(SparsePattern.of([], 2).assemble([]), torch.zeros(2).double())


@pytest.mark.parametrize("solver", INSTALLED)
def test_the_solution_has_the_gradient_of_its_equation(solver):
    pattern, values, matrix = system(2, definite=False)
    half = (pattern.nonzeros + pattern.count) // 2
    upper = torch.zeros(half, dtype=torch.float64)
    upper[pattern.mirror.long()] = values
    right = random(len(matrix), 2)
    direct = DirectSolver(pattern, solver)

    def solution(upper, right):
        return sparse_solve(pattern, upper[pattern.mirror.long()], right, direct)

    given = (upper.requires_grad_(), right.requires_grad_())
    assert torch.autograd.gradcheck(solution, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(solution, given, fast_mode=True)


def test_the_gradient_of_a_named_entry_is_shared_with_its_mirror():
    """x = A^-1 b with A = [[2, a], [a, 3]], b = (1, 0): dx_0/da = 2 a * 3 / (6 - a^2)^2."""
    a = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    two, three = torch.tensor([2.0, 3.0]).double()
    pattern, _ = from_dense(torch.eye(2))
    values = torch.stack([two, a, a, three])
    sparse_solve(pattern, values, torch.tensor([1.0, 0.0]).double())[0].backward()
    assert a.grad is not None
    assert float(a.grad) == pytest.approx(2 * 0.5 * 3 / (6 - 0.25) ** 2)


def test_auto_says_in_the_log_what_it_took(caplog):
    pattern, values, _ = system()
    with caplog.at_level(logging.INFO, logger="geomopt.linear"):
        factor = factorise(pattern, values)
    assert factor.solver in ("superlu", "pardiso")
    assert f"direct solver {factor.solver}" in caplog.text


def test_a_named_library_that_is_missing_says_so(monkeypatch):
    from geomopt.linear import pardiso

    pattern, _, _ = system()
    with pytest.raises(BackendUnavailable, match="cudss"):
        DirectSolver(pattern, "cudss")
    monkeypatch.setitem(sys.modules, "pypardiso", None)
    pardiso.mkl.cache_clear()
    with pytest.raises(BackendUnavailable, match=r"geomopt\[mkl\]"):
        DirectSolver(pattern, "pardiso")
    pardiso.mkl.cache_clear()


@pytest.mark.skipif(
    importlib.util.find_spec("pypardiso") is None, reason="pypardiso is not installed"
)
def test_pardiso_gives_its_memory_back():
    """The library counts its own allocations [bytes]."""
    from geomopt.linear import pardiso

    def allocated():
        buffers = ctypes.c_int(0)
        count = pardiso.mkl()["mkl_mem_stat"]
        count.restype = ctypes.c_int64
        return count(ctypes.byref(buffers))

    pattern, values, _ = system()
    DirectSolver(pattern, "pardiso").factorise(values).solve(random(pattern.count))
    before = allocated()
    for _ in range(5):
        DirectSolver(pattern, "pardiso").factorise(values).solve(random(pattern.count))
    assert allocated() <= before


BAD = [
    (lambda: SparsePattern.of([torch.tensor([[0, 3]])], 3), r"blocks\[0\] must index"),
    (lambda: SparsePattern.of([torch.tensor([0, 1])], 3), r"blocks\[0\] must have shape"),
    (lambda: SparsePattern.of([], 3, torch.ones(2, dtype=torch.bool)), "free must have shape"),
    (lambda: SparsePattern.of([], 3, torch.ones(3)), "free must be a bool"),
    (lambda: system()[0].assemble([]), "matrices must have one tensor for each of the 2"),
    (lambda: SparsePattern.of([], 2).assemble([], torch.ones(3)), "diagonal must have shape"),
    (lambda: factorise(*system()[:2], "lapack"), "solver must be auto"),
    (lambda: factorise(system()[0], torch.ones(3)), "values must have shape"),
    (lambda: factorise(system()[0], system()[1] * float("nan")), "values must be finite"),
    (lambda: factorise(*system()[:2]).solve(torch.ones(3)), "right must have shape"),
    (lambda: factorise(*from_dense(torch.eye(1))).solve(torch.full((1,), torch.inf)), "finite"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("solver", INSTALLED)
def test_a_solution_does_not_depend_on_the_matrix_before(solver):
    pattern, definite, _ = system()
    _, indefinite, _ = system(definite=False, shift=-0.5)
    hidden = 3 * definite  # indefinite with a positive diagonal
    hidden[pattern.diagonal] = definite[pattern.diagonal]
    right, direct = random(pattern.count), DirectSolver(pattern, solver)
    values = {"definite": definite, "indefinite": indefinite, "hidden": hidden}
    turns = "definite hidden definite definite indefinite indefinite hidden hidden definite hidden"
    found: dict[str, list[torch.Tensor]] = {}
    for name in turns.split():
        factor = direct.factorise(values[name])
        assert (factor.negative_pivots == 0) == (name == "definite")
        found.setdefault(name, []).append(factor.solve(right))
    for first, *others in found.values():
        for other in others:
            assert torch.equal(first, other)
