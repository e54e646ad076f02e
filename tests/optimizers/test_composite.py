"""Values F(Phi(x)), targets of outputs, cheaper models, curvatures, equalities, and prices."""

from __future__ import annotations

import math

import pytest
import torch

from optimizers import Budget, Evaluation, LinearizedTarget, Model, Problem, Query, minimize
from optimizers.evaluation import FEASIBLE

D, K = 4, 3
GENERATOR = torch.Generator().manual_seed(11)
A = torch.randn(D, K, generator=GENERATOR, dtype=torch.float64)
B = torch.randn(D, K, generator=GENERATOR, dtype=torch.float64)


def phi(x):
    return torch.tanh(x @ A) + (x @ B).sin()


def outer(y):
    return (y - 0.5).square().sum(-1) + (0.3 * y).exp().sum(-1), torch.stack(
        (y[..., 0] * y[..., 1] - 0.1, y.square().sum(-1) - 2), -1
    )


def composite(batched=True, **options):
    return Problem.from_callable(
        phi, [-2.0] * D, [2.0] * D, batched=batched, differentiable=True, outer=outer, **options
    )


def plain():
    return Problem.from_callable(
        lambda x: outer(phi(x)), [-2.0] * D, [2.0] * D, batched=True, differentiable=True
    )


def points(count=5, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, D, generator=generator, dtype=torch.float64)


def same(one: Evaluation, other: Evaluation, names):
    for name in names:
        first, second = getattr(one, name), getattr(other, name)
        assert torch.allclose(first, second, rtol=1e-12, atol=1e-13), name


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_composite_answers_as_the_whole_function_does(batched, order):
    x = points()
    answer, whole = composite(batched).evaluate(x, order), plain().evaluate(x, order)
    same(answer, whole, ("value", "constraints"))
    assert torch.allclose(answer.outputs, phi(x))
    leaf = phi(x).requires_grad_()
    (expected,) = torch.autograd.grad(outer(leaf)[0].sum(), leaf)
    assert torch.allclose(answer.output_gradient, expected)
    if order:
        same(answer, whole, ("gradient", "constraint_gradient"))


@pytest.mark.parametrize("outputs", [K, 9])
def test_curvature_of_a_composite_is_gauss_newton(outputs):
    """J^T F'' J from Jacobians by torch, for more and for fewer outputs than parameters."""
    wide = torch.randn(D, outputs, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    problem = Problem.from_callable(
        lambda x: torch.tanh(x @ wide),
        [-2.0] * D,
        [2.0] * D,
        batched=True,
        differentiable=True,
        outer=lambda y: (y**4).sum(-1) + y.prod(-1),
    )
    x = points(2)
    curvature = problem.evaluate(x, 2).curvature
    for row, got in zip(x, curvature, strict=True):
        y = torch.tanh(row @ wide)
        jacobian = torch.autograd.functional.jacobian(lambda z: torch.tanh(z @ wide), row)
        bent = torch.autograd.functional.hessian(lambda y: (y**4).sum() + y.prod(), y)
        assert torch.allclose(got, jacobian.T @ bent @ jacobian, rtol=1e-10, atol=1e-12)


def test_curvature_of_a_plain_function_is_its_hessian():
    x = points(3)
    curvature = plain().evaluate(x, 2).curvature
    for row, got in zip(x, curvature, strict=True):
        expected = torch.autograd.functional.hessian(lambda z: outer(phi(z))[0], row)
        assert torch.allclose(got, expected, rtol=1e-10, atol=1e-12)


def test_linear_outer_function_has_no_curvature():
    problem = Problem.from_callable(
        phi, [-1.0] * D, [1.0] * D, batched=True, differentiable=True, outer=lambda y: y.sum(-1)
    )
    assert torch.equal(problem.evaluate(points(), 2).curvature, torch.zeros(5, D, D).double())


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("count", [K, K + 2])
def test_target_is_a_function_of_outputs_and_constraints(batched, count):
    """Its gradient agrees with central differences in float64."""
    x = points(2)
    direction = torch.randn(2, count, generator=torch.Generator().manual_seed(5)).double()
    target = LinearizedTarget(direction, 0.3 * direction, damping=0.7)
    problem = composite(batched)

    def value(x):
        y = phi(x)
        return target.value(torch.cat((y, outer(y)[1]), 1)[:, :count])

    answer = problem.evaluate(x, 1, target=target)
    assert torch.allclose(answer.value, value(x))
    assert torch.allclose(answer.outputs, phi(x))
    step = 1e-6 * torch.eye(D, dtype=torch.float64)
    slopes = [(value(x + row) - value(x - row)) / 2e-6 for row in step]
    # central differences of step 1e-6 are right to about 1e-9 of the value
    assert torch.allclose(answer.gradient, torch.stack(slopes, 1), atol=1e-7)


def test_outputs_of_a_plain_function_are_its_value_and_constraints():
    """So the Hessian of a Lagrangian is the curvature of a target (1, multipliers)."""
    x = points(2)
    direction = torch.tensor([[1.0, 0.5, -2.0]] * 2, dtype=torch.float64)
    answer = plain().evaluate(x, 2, target=LinearizedTarget(direction))

    def lagrangian(z):
        value, constraints = outer(phi(z))
        return value + 0.5 * constraints[0] - 2 * constraints[1]

    for row, got in zip(x, answer.curvature, strict=True):
        expected = torch.autograd.functional.hessian(lagrangian, row)
        assert torch.allclose(got, expected, rtol=1e-10, atol=1e-12)


def test_targets_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"outputs \(5, 2\), got \(5, 3\)"):
        composite().evaluate(points(), 0, target=LinearizedTarget(torch.ones(5, 2).double()))
    with pytest.raises(ValueError, match="anchor must have the shape"):
        LinearizedTarget(torch.ones(5, 2), torch.ones(5, 3))
    with pytest.raises(ValueError, match="anchor must be given"):
        LinearizedTarget(torch.ones(5, 2), damping=1.0)


def test_models_answer_by_their_fidelity():
    model = Model(lambda x: 0.9 * phi(x), cost=0.1, differentiable=True)
    coarse = Model(lambda x: 1.1 * phi(x), cost=0.3)
    problem = composite(models={0.0: coarse, 0.5: model})
    x = points()
    assert torch.allclose(problem.evaluate(x, 1, fidelity=0.5).outputs, 0.9 * phi(x))
    assert problem.surrogate == 0.5
    assert composite().surrogate is None
    with pytest.raises(ValueError, match="order must be 0 for this problem"):
        problem.evaluate(x, 1, fidelity=0.0)
    with pytest.raises(ValueError, match=r"None or one of \[0.0, 0.5\]"):
        problem.evaluate(x, fidelity=0.7)


def test_unusable_models_are_named():
    with pytest.raises(ValueError, match=r"fidelities in \[0, 1\) to optimizers.Model"):
        composite(models={1.0: Model(phi)})
    with pytest.raises(ValueError, match="cost must be"):
        Model(phi, cost=-1.0)
    with pytest.raises(TypeError, match="function must be callable"):
        Model(3.0)  # pyright: ignore[reportArgumentType]


def test_prices_follow_order_model_and_target():
    models = {0.0: Model(phi, cost=0.1, differentiable=True)}
    problem = composite(models=models, gradient_cost=4, inner_share=0.25)
    assert [problem.cost(order) for order in (0, 1, 2)] == [1, 4, 1 + 3 * D]
    assert plain().cost(2) == 3 * (1 + D)
    assert problem.cost(1, 0.0) == pytest.approx(0.4)
    assert problem.cost(1, 0.0, target=True) == pytest.approx(0.1)


def test_costly_outer_functions_are_not_differentiated_unasked():
    problem = composite(inner_share=0.1)
    assert problem.evaluate(points(), 0).output_gradient is None
    assert problem.evaluate(points(), 1).output_gradient is not None


def test_black_box_inside_a_known_outer_function():
    """Phi knows no torch, yet F tells how much each output matters."""
    problem = Problem.from_callable(
        lambda x: [math.sin(float(x[0])), float(x[1]) ** 2], [-1.0] * 2, [1.0] * 2, outer=sum_square
    )
    answer = problem.evaluate(torch.tensor([[0.5, 0.7]], dtype=torch.float64))
    assert torch.allclose(answer.output_gradient, 2 * answer.outputs)


def sum_square(y):
    return y.square().sum(-1)


@pytest.mark.parametrize("current", [False, True])
def test_driver_charges_models_and_keeps_only_true_values(current):
    class Careless:
        """Asks the surrogate, then the true model, in turn."""

        name, order, handles_constraints, by_rank = "careless", 0, True, False

        def start(self, problem, seed=0):
            from optimizers.evaluation import Incumbent

            class Running:
                best, done, turn = Incumbent(problem.start), None, 0

                def ask(self, remaining=math.inf):
                    fidelity = 0.0 if self.turn % 2 else None
                    return Query(problem.start[None], 0, fidelity)

                def tell(self, query, evaluation):
                    self.turn += 1
                    if query.is_true:
                        self.best.offer(query.points, evaluation)

                def events(self):
                    return ()

            return Running()

    problem = composite(models={0.0: Model(lambda x: phi(x) - 5.0, cost=0.25)}, current=current)
    result = minimize(problem, Careless(), budget=Budget(iterations=6))
    assert result.evaluations == pytest.approx(3 + 3 * 0.25)
    assert result.value == pytest.approx(float(outer(phi(problem.start))[0]))


@pytest.mark.parametrize("batched", [False, True])
def test_equalities_are_violated_on_both_sides(batched):
    def fun(x):
        return x.sum(-1), torch.stack((x[..., 0] - 1, x[..., 1]), -1)

    problem = Problem.from_callable(fun, [-3.0] * 2, [3.0] * 2, batched=batched, equalities=1)
    answer = problem.evaluate(torch.tensor([[2.0, -0.5], [0.0, 0.25], [0.0, 0.0]]).double())
    assert answer.violation.tolist() == [1.5, 0.25, 0.0]
    assert answer.to(torch.zeros((), dtype=torch.float32)).violation.tolist() == [1.5, 0.25, 0.0]


def test_too_many_equalities_are_refused():
    with pytest.raises(ValueError, match="at most the 1 constraints, got 2"):
        Problem.box([0.0], [1.0], constraints=1, equalities=2)


def test_failed_rows_are_cleared_everywhere():
    rows = torch.tensor([1.0, math.nan])
    answer = Evaluation(
        rows,
        outputs=torch.ones(2, 3),
        output_gradient=torch.ones(2, 3),
        curvature=torch.ones(2, 2, 2),
    )
    assert answer.ok.tolist() == [True, False]
    for name in ("outputs", "output_gradient", "curvature"):
        assert float(getattr(answer, name)[1].abs().sum()) == 0
    assert Evaluation(torch.ones(2), curvature=torch.full((2, 1, 1), math.inf)).ok.tolist() == [
        False,
        False,
    ]


@pytest.mark.parametrize("method", ["lbfgs", "adam"])
def test_composites_are_ordinary_problems_for_every_method(method):
    problem = composite()
    result = minimize(problem, method, budget=Budget(evaluations=2000))
    assert result.violation <= FEASIBLE
    assert result.value < float(outer(phi(problem.start))[0])


def test_trajectories_are_told_apart():
    from optimizers import Box

    problem = Problem({"mass": Box((), 0.0, 1.0), "path": Box((5, 2), -1.0, 1.0, trajectory=True)})
    assert problem.trajectories == {"path": (slice(1, 11), (5, 2))}
    with pytest.raises(ValueError, match="first axis is time"):
        Box((), trajectory=True)
