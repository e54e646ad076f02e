"""Boxes, named parameters, evaluation of plain functions, and answers that clean themselves."""

from __future__ import annotations

import math

import pytest
import torch

from optimizers import Box, Evaluation, Problem, minimize
from optimizers.testing import rosenbrock


def test_named_parts_are_views_and_flatten_back():
    problem = Problem(
        {"thickness": Box((), 0.1, 2.0), "path": Box((3, 2), -1.0, 1.0)}, lambda p: p["thickness"]
    )
    x = torch.arange(7, dtype=torch.float64)
    named = problem.parameters_of(x)
    assert named["thickness"].shape == ()
    assert named["path"].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert named["path"].data_ptr() == x[1:].data_ptr()
    assert torch.equal(problem.flatten(named), x)
    assert problem.parameters_of(x.expand(5, 7))["path"].shape == (5, 3, 2)


def test_flatten_names_what_does_not_fit():
    problem = Problem({"a": Box(2), "b": Box(())}, lambda p: p["b"])
    with pytest.raises(ValueError, match=r"named \['a', 'b'\], got \['a'\]"):
        problem.flatten({"a": [0.0, 0.0]})
    with pytest.raises(ValueError, match=r"'a' must have shape \(2,\), got \(3,\)"):
        problem.flatten({"a": [0.0, 0.0, 1.0], "b": 1.0})


def test_start_and_scale_follow_from_the_bounds():
    box = {"x": Box(4, [0.0, -math.inf, 3.0, -math.inf], [2.0, -1.0, math.inf, math.inf])}
    problem = Problem(box)
    assert problem.start.tolist() == [1.0, -1.0, 3.0, 0.0]
    assert problem.scale.tolist() == [2.0, 1.0, 1.0, 1.0]
    assert not problem.start_was_outside


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (Box(2, 1.0, 1.0), "lower must be below upper"),
        (Box(2, math.nan, 1.0), "lower must not hold NaN"),
        (Box(2, 0.0, [1.0, 2.0, 3.0]), r"upper must be a number or an array of shape \(2,\)"),
        (Box((), 0.0, 1.0, start=math.inf), "start must be finite"),
        (Box((), 0.0, 1.0, scale=0.0), "scale must be positive"),
        (Box((), 0.0, 1.0, start="here"), "start must be a number"),
    ],
)
def test_unusable_boxes_are_named(box, message):
    with pytest.raises(ValueError, match=rf"parameter 'part': {message}"):
        Problem({"part": box})


@pytest.mark.parametrize("shape", [0, -1, (2, 0), (1.5,), 2.0, None, "ab", True])
def test_unusable_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="shape"):
        Box(shape)


def test_scalar_and_batched_functions_agree():
    def constraints(x):
        return torch.stack((x.sum(-1) - 1, x[..., 0] * x[..., 1]), -1)

    bounds = ([-2.0] * 3, [2.0] * 3)
    scalar = Problem.from_callable(
        lambda x: (rosenbrock(x), constraints(x)), *bounds, differentiable=True
    )
    batched = Problem.from_callable(
        lambda x: (rosenbrock(x), constraints(x)), *bounds, batched=True, differentiable=True
    )
    x = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 4 - 2
    one, other = scalar.evaluate(x, 1), batched.evaluate(x, 1)
    for name in ("value", "constraints", "gradient", "constraint_gradient", "violation"):
        assert torch.allclose(getattr(one, name), getattr(other, name), rtol=1e-14)
    assert scalar.evaluate(x).gradient is None


def test_gradients_equal_finite_differences():
    problem = Problem.from_callable(
        lambda x: (rosenbrock(x), x.square().sum() - 1), [-2.0] * 4, [2.0] * 4, differentiable=True
    )
    x = torch.rand(1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    step = 1e-6
    shifts = step * torch.eye(4, dtype=torch.float64)
    plus, minus = problem.evaluate(x + shifts), problem.evaluate(x - shifts)
    exact = problem.evaluate(x, 1)
    differences = (plus.value - minus.value) / (2 * step)
    truncation = 1e-7  # third derivatives times step squared, and round-off over the step
    assert torch.allclose(exact.gradient[0], differences, rtol=truncation, atol=truncation)
    columns = (plus.constraints - minus.constraints)[:, 0] / (2 * step)
    assert torch.allclose(
        exact.constraint_gradient[0, 0], columns, rtol=truncation, atol=truncation
    )


def test_value_without_a_gradient_is_a_bug_but_a_constant_constraint_is_not():
    bounds = ([0.0] * 2, [1.0] * 2)
    detached = Problem.from_callable(lambda x: x.detach().sum(), *bounds, differentiable=True)
    with pytest.raises(ValueError, match="does not depend on its argument"):
        detached.evaluate(detached.start[None], 1)
    constant = Problem.from_callable(lambda x: (x.sum(), [1.0]), *bounds, differentiable=True)
    answer = constant.evaluate(constant.start[None], 1)
    assert answer.constraint_gradient.tolist() == [[[0.0, 0.0]]]


def test_plain_numbers_are_values_too():
    problem = Problem.from_callable(
        lambda x: (float(x[0]), [1.0, float(x[1])]), [0.0] * 2, [4.0] * 2
    )
    answer = problem.evaluate(torch.tensor([[1.0, 3.0]], dtype=torch.float64))
    assert answer.value.tolist() == [1.0]
    assert answer.constraints.tolist() == [[1.0, 3.0]]
    assert answer.violation.tolist() == [4.0]


def test_errors_of_the_function_pass_and_its_argument_is_its_own():
    def wrong(x):
        x.zero_()
        raise KeyError("bug")

    problem = Problem.from_callable(wrong, [1.0], [2.0])
    x = problem.start[None].clone()
    with pytest.raises(KeyError, match="bug"):
        problem.evaluate(x)
    assert x.item() == 1.5


@pytest.mark.parametrize(
    ("fun", "batched", "message"),
    [
        (lambda x: x, False, "value of one design"),
        (lambda x: x.sum(), True, r"value with shape \(2,\), got \(\)"),
        (lambda x: "low", False, r"numbers as its value, or .* got str"),
        (lambda x: 1j, False, "complex numbers have no order"),
        (lambda x: [x.sum(), [1.0]], False, r"or the tuple \(value, constraints\), got list"),
        (lambda x: (x.sum(1), x[:, 0]), True, r"constraints with shape \(2, m\), got \(2,\)"),
    ],
)
def test_wrong_answers_of_the_function_are_named(fun, batched, message):
    problem = Problem.from_callable(fun, [0.0] * 3, [1.0] * 3, batched=batched)
    with pytest.raises(ValueError, match=message):
        problem.evaluate(torch.rand(2, 3, dtype=torch.float64))


def test_number_of_constraints_may_not_change():
    problem = Problem.from_callable(lambda x: (0.0, [1.0] * (1 + int(x[0] > 0.5))), [0.0], [1.0])
    with pytest.raises(ValueError, match="same number of constraints"):
        problem.evaluate(torch.tensor([[0.1], [0.9]], dtype=torch.float64))


def test_answer_cleans_itself():
    nan, inf = math.nan, math.inf
    answer = Evaluation(
        torch.tensor([1.0, nan, 3.0, 4.0, 5.0, -inf], requires_grad=True),
        constraints=torch.tensor([[0.5, -1.0]] * 2 + [[nan, 0.0]] + [[0.0, 2.0]] * 3),
        gradient=torch.tensor([[1.0, 2.0]] * 3 + [[inf, 0.0]] + [[3.0, 4.0]] * 2),
        ok=torch.tensor([True, True, True, True, False, True]),
    )
    assert answer.ok.tolist() == [True, False, False, False, False, False]
    assert answer.value.tolist() == [1.0] + [inf] * 5
    assert answer.gradient.tolist() == [[1.0, 2.0]] + [[0.0, 0.0]] * 5
    assert answer.violation.tolist() == [0.5] + [inf] * 5
    assert not answer.value.requires_grad


def test_answer_of_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="value must be a tensor"):
        Evaluation(3.0)
    with pytest.raises(ValueError, match="gradient must be a tensor of 2 dimensions with 2 rows"):
        Evaluation(torch.zeros(2), gradient=torch.zeros(2))


def test_box_alone_says_who_has_to_answer():
    with pytest.raises(ValueError, match="answer its queries yourself"):
        Problem.box([0.0], [1.0]).evaluate(torch.zeros(1, 1))


def test_samples_are_reproducible_and_inside():
    problem = Problem({"x": Box(3, [0.0, -math.inf, 1.0], [1.0, 0.5, math.inf])})
    one, other = (problem.sample(200, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one, other)
    assert bool(((one >= problem.lower) & (one <= problem.upper)).all())


def test_precision_is_that_of_the_bounds_unless_given():
    low, high = torch.zeros(2), torch.ones(2)
    assert Problem.from_callable(sum, low, high).dtype == torch.float32
    assert Problem.from_callable(sum, low, high.double()).dtype == torch.float64
    assert Problem.from_callable(sum, low, high, dtype=torch.float64).dtype == torch.float64
    assert Problem.from_callable(sum, [0.0], [1.0]).dtype == torch.float64
    with pytest.raises(ValueError, match=r"dtype must be torch.float32 or torch.float64"):
        Problem.from_callable(sum, low, high, dtype=torch.float16)


def test_known_number_of_constraints_is_checked():
    problem = Problem.from_callable(lambda x: (0.0, [1.0, 2.0]), [0.0], [1.0], constraints=1)
    with pytest.raises(ValueError, match="must return 1 constraints, got 2"):
        minimize(problem, "cma")
