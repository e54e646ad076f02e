"""Regularised Newton steps, and the curvatures that they are solved with."""

from __future__ import annotations

import pytest
import torch

from optimizers import AugmentedLagrangian, Budget, Problem, RegularizedNewton, minimize
from optimizers.gradient.curvature import Dense, Fisher, Secant, low_rank_solution
from optimizers.testing import boxed, ellipsoid, quadratic_program, rosenbrock, rotated, shifted

D = 7
GENERATOR = torch.Generator().manual_seed(2)


def random(*shape):
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def masks():
    partly = torch.tensor([True, False, True, True, False, True, True])
    return (torch.ones(D, dtype=torch.bool), partly)


def dense_solution(matrix, gradient, shift, free):
    """The same system by torch on the block of the free coordinates."""
    index = free.nonzero()[:, 0]
    block = matrix[index][:, index] + shift * torch.eye(len(index), dtype=matrix.dtype)
    result = torch.zeros_like(gradient)
    result[index] = torch.linalg.solve(block, gradient[index])
    return result


def test_low_rank_solution_is_woodbury():
    factors, core = random(3, D), random(3, 3)
    core = core + core.mT
    gradient, shift = random(D), 50.0
    matrix = shift * torch.eye(D).double() - factors.mT @ torch.linalg.inv(core) @ factors
    solution = low_rank_solution(gradient, shift, factors, core)
    assert torch.allclose(matrix @ solution, gradient, atol=1e-10)


@pytest.mark.parametrize("free", masks())
def test_dense_solution_on_free_coordinates(free):
    half = random(D, D)
    curvature, gradient = Dense(gradient_like()), random(D)
    curvature.matrix = half @ half.mT
    expected = dense_solution(curvature.matrix, gradient, 0.3, free)
    assert torch.allclose(curvature.solve(gradient, 0.3, free), expected, atol=1e-9)


def gradient_like():
    return torch.zeros(D, dtype=torch.float64)


def test_dense_matrix_that_is_not_positive_definite_has_no_solution():
    curvature = Dense(gradient_like())
    curvature.matrix = torch.diag(torch.tensor([1.0, -2.0, 1, 1, 1, 1, 1], dtype=torch.float64))
    free = torch.ones(D, dtype=torch.bool)
    assert curvature.solve(random(D), 1.0, free) is None
    assert curvature.solve(random(D), 2.5, free) is not None
    assert curvature.solve(random(D), 1.0, torch.arange(D) != 1) is not None


@pytest.mark.parametrize("free", masks())
@pytest.mark.parametrize("pairs", [1, 3, 6])
def test_secant_matrix_is_that_of_bfgs(free, pairs):
    """The recursion of the dense BFGS matrix over the newest pairs; Nocedal and Wright (6.19)."""
    half = random(D, D)
    hessian = half @ half.mT + torch.eye(D).double()
    curvature, memory = Secant(4, gradient_like()), 4
    steps = [random(D) for _ in range(pairs)]
    for step in steps:
        curvature.take(step, hessian @ step, random(D), 1e-16)
    newest = hessian @ steps[-1]
    matrix = torch.eye(D).double() * newest.dot(newest) / steps[-1].dot(newest)
    for step in steps[-memory:]:
        change, bent = hessian @ step, matrix @ step
        matrix = matrix - torch.outer(bent, bent) / step.dot(bent)
        matrix = matrix + torch.outer(change, change) / step.dot(change)
    gradient = random(D)
    expected = dense_solution(matrix, gradient, 0.2, free)
    assert torch.allclose(curvature.solve(gradient, 0.2, free), expected, atol=1e-9)


@pytest.mark.parametrize("free", masks())
@pytest.mark.parametrize("count", [1, 3, 9])
def test_fisher_matrix_is_the_mean_of_outer_products(free, count):
    curvature, gradients = Fisher(4, gradient_like()), [random(D) for _ in range(count)]
    for gradient in gradients:
        curvature.take(random(D), random(D), gradient, 1e-16)
    step = random(D)
    curvature.take(step, 3 * step, gradients[-1], 1e-16)  # met: three times the identity
    gradients.append(gradients[-1])
    newest = torch.stack(gradients[-4:])
    gradient = random(D)
    fisher = newest.mT @ newest / len(newest)
    fisher = fisher * 3 * step.dot(step) / step.dot(fisher @ step)
    expected = dense_solution(fisher, gradient, 0.1, free)
    assert torch.allclose(curvature.solve(gradient, 0.1, free), expected, atol=1e-9)


def test_exact_curvature_solves_a_turned_quadratic_in_a_few_steps():
    """Newton's method is exact on quadratics; the condition 1e6 costs it nothing."""
    problem = boxed(rotated(shifted(ellipsoid, 0.5), 10), 10, start=[-3.0] * 10)
    result = minimize(problem, RegularizedNewton(curvature="hessian"))
    assert result.value < 1e-12
    assert result.iterations < 20


def test_gauss_newton_solves_a_linear_fit_in_a_few_steps():
    design, data = random(30, 8), random(30)
    problem = Problem.from_callable(
        lambda x: x @ design.mT - data,
        [-10.0] * 8,
        [10.0] * 8,
        batched=True,
        differentiable=True,
        outer=lambda y: y.square().sum(-1),
    )
    result = minimize(problem, "regularized-newton")
    expected = torch.linalg.lstsq(design, data[:, None]).solution[:, 0]
    assert torch.allclose(result.x, expected, atol=1e-7)
    assert result.iterations < 20


@pytest.mark.parametrize("curvature", ["lbfgs", "hessian"])
def test_valley_to_its_end(curvature):
    problem = boxed(rosenbrock, 6, -3.0, 3.0, start=[0.5, 1.0, -0.2, 1.0, 0.5, -0.3])
    result = minimize(problem, RegularizedNewton(curvature=curvature))
    assert result.value < 1e-14


def test_bounds_that_hold_the_solution():
    """A quadratic with its minimum outside: the solution of the complementarity conditions."""
    half = random(5, 5)
    hessian = half @ half.mT + torch.eye(5).double()
    centre = torch.tensor([2.0, -2.0, 0.3, 1.5, -0.2], dtype=torch.float64)

    def fun(x):
        return 0.5 * ((x - centre) @ hessian * (x - centre)).sum(-1)

    result = minimize(boxed(fun, 5, -1.0, 1.0), RegularizedNewton(curvature="hessian"))
    gradient = hessian @ (result.x - centre)
    lower, upper = result.x <= -1.0, result.x >= 1.0
    assert bool((gradient[lower] > 0).all())
    assert bool((gradient[upper] < 0).all())
    assert float(gradient[~lower & ~upper].abs().max()) < 1e-6


def test_fisher_descends_with_many_parameters():
    def fun(x):
        return ellipsoid(x - 0.1, condition=100.0)

    problem = boxed(fun, 2000, -1.0, 1.0, start=[0.9] * 2000)
    start = float(problem.evaluate(problem.start[None]).value)
    method = RegularizedNewton(curvature="fisher", memory=32)
    assert minimize(problem, method, budget=Budget(gradients=100)).value < 0.1 * start


def test_augmented_lagrangian_adds_to_the_curvature():
    problem, solution, _ = quadratic_program()
    method = AugmentedLagrangian(RegularizedNewton(curvature="hessian"))
    result = minimize(problem, method, budget=Budget(evaluations=3000))
    assert result.violation <= 1e-6
    assert torch.allclose(result.x, solution, atol=1e-4)


def test_unusable_curvatures_are_named():
    with pytest.raises(ValueError, match="curvature must be one of"):
        RegularizedNewton(curvature="newton")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="needs a composite problem"):
        minimize(boxed(rosenbrock, 3), RegularizedNewton(curvature="gauss-newton"))
