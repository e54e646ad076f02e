"""Adam and L-BFGS against torch, SciPy and closed forms."""

from __future__ import annotations

import math
from itertools import islice

import numpy as np
import pytest
import torch
from scipy.optimize import minimize as scipy_minimize

from optimizers import Adam, Box, Budget, Evaluation, Lbfgs, Problem, iterate, minimize
from optimizers.gradient.quasi_newton import History, quasi_newton_step
from optimizers.testing import boxed, ellipsoid, rosenbrock, shifted, sphere

ROUND_OFF = 1e-12  # of some hundred float64 operations in another order


def free(function, dimension, start, scale=None, **options) -> Problem:
    """A problem without bounds."""
    box = Box(dimension, start=start, scale=scale)
    return Problem(
        {"x": box}, lambda p: function(p["x"]), batched=True, differentiable=True, **options
    )


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9)])
def test_adam_takes_the_steps_of_torch(betas):
    start = [-1.2, 1.0, 0.4]
    x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    reference = torch.optim.Adam([x], lr=0.02, betas=betas)
    schedule = torch.optim.lr_scheduler.ExponentialLR(reference, gamma=0.99)
    for record in islice(iterate(free(rosenbrock, 3, start), Adam(0.02, betas, decay=0.99)), 50):
        assert torch.allclose(record.x, x.detach(), rtol=ROUND_OFF, atol=ROUND_OFF)
        reference.zero_grad()
        rosenbrock(x).backward()
        reference.step()
        schedule.step()


def test_scale_is_the_unit_of_a_step():
    problem = Problem(
        {"small": Box(2, start=1.0, scale=1e-3), "large": Box((), start=1.0, scale=10.0)},
        lambda p: p["small"].square().sum() + p["large"] ** 2,
        differentiable=True,
    )
    first, second = islice(iterate(problem, Adam(step_size=0.1)), 2)
    # the first step of Adam has the length of the step size in each coordinate
    assert torch.allclose(first.x - second.x, torch.tensor([1e-4, 1e-4, 1.0], dtype=torch.float64))


def test_starts_are_independent():
    problem = boxed(rosenbrock, 3, -2.0, 2.0)
    batch = Adam(starts=4).start(problem, seed=1)
    begin = batch.ask().points
    singles = [Adam().start(boxed(rosenbrock, 3, -2.0, 2.0, row), seed=0) for row in begin]
    for _ in range(20):
        query = batch.ask()
        rows = [single.ask() for single in singles]
        assert torch.allclose(query.points, torch.cat([row.points for row in rows]), rtol=ROUND_OFF)
        batch.tell(query, problem.evaluate(query.points, 1))
        for single, row in zip(singles, rows, strict=True):
            single.tell(row, problem.evaluate(row.points, 1))


def test_adam_backs_away_from_a_region_that_cannot_be_evaluated():
    def wall(x):
        return torch.where(x[:, 0] < 0.5, math.nan, 1.0) * shifted(sphere, 0.0)(x)

    problem = boxed(wall, 2, start=[2.0, 1.0])
    result = minimize(problem, Adam(step_size=0.005, decay=0.99), budget=Budget(iterations=400))
    assert result.value < 0.26  # 0.25 at the wall
    assert result.x[0] >= 0.5


@pytest.mark.parametrize("dimension", [2, 10])
def test_lbfgs_solves_an_ill_conditioned_quadratic(dimension):
    start = torch.linspace(-3, 4, dimension).tolist()
    result = minimize(
        boxed(ellipsoid, dimension, start=start),
        Lbfgs(memory=20),
        budget=Budget(gradients=8000, target=1e-10),
    )
    assert result.reason == "target"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lbfgs_converges_to_the_precision_of_its_numbers(dtype):
    result = minimize(boxed(rosenbrock, 10, start=[-1.2] * 10, dtype=dtype), "lbfgs")
    assert result.reason.startswith("converged")
    assert result.value < (1e-10 if dtype == torch.float32 else 1e-18)


def bounded_cases():
    generator = torch.Generator().manual_seed(7)
    for name, function, dimension in (
        ("linear", lambda x: (x * torch.linspace(-1, 2, x.shape[1], dtype=x.dtype)).sum(1), 8),
        ("quadratic outside", shifted(ellipsoid, 2.5), 6),
        (
            "tilted valley",
            lambda x: (
                rosenbrock(x) + (x * torch.linspace(-50, 50, x.shape[1], dtype=x.dtype)).sum(1)
            ),
            20,
        ),
        ("quartic", lambda x: (x - 1).pow(4).sum(1) + (x[:, 1:] * x[:, :-1]).sum(1), 12),
    ):
        start = torch.rand(dimension, generator=generator, dtype=torch.float64) * 4 - 2
        yield pytest.param(boxed(function, dimension, -2.0, 2.0, start), id=name)


@pytest.mark.parametrize("problem", list(bounded_cases()))
def test_lbfgs_equals_scipy_in_a_box(problem):
    calls = []

    def value_and_gradient(x):
        answer = problem.evaluate(torch.as_tensor(x)[None], 1)
        calls.append(x)
        return float(answer.value[0]), answer.gradient[0].numpy()

    bounds = np.stack((problem.lower.numpy(), problem.upper.numpy()), 1)
    options = {"ftol": 1e-15, "gtol": 1e-12, "maxfun": 5000, "maxiter": 5000}
    reference = scipy_minimize(
        value_and_gradient,
        problem.start.numpy(),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options=options,
    )
    result = minimize(problem, "lbfgs", budget=Budget(gradients=5000))
    assert result.value <= reference.fun + 1e-9 * max(1.0, abs(reference.fun))
    assert result.gradients <= 2 * len(calls) + 10


def test_lbfgs_is_independent_of_units():
    """Powers of two change no digit, so the same steps are taken."""
    plain = boxed(rosenbrock, 4, -2.0, 2.0, [-1.2, 1.0, 0.5, -0.3])
    scaled = boxed(lambda x: 1024 * rosenbrock(x / 4), 4, -8.0, 8.0, [-4.8, 4.0, 2.0, -1.2])
    one, other = (list(islice(iterate(problem, "lbfgs"), 40)) for problem in (plain, scaled))
    for a, b in zip(one, other, strict=True):
        assert torch.equal(4 * a.x, b.x)
        assert 1024 * a.value == b.value


def test_lbfgs_backs_away_from_a_region_that_cannot_be_evaluated():
    def barrier(x):
        return -torch.log(1 - x[:, 0]) - torch.log(x[:, 0]) + (x[:, 1] - 3).square()

    result = minimize(boxed(barrier, 2, start=[0.01, -4.0]), "lbfgs", budget=Budget(gradients=100))
    assert torch.allclose(result.x, torch.tensor([0.5, 3.0], dtype=torch.float64), atol=1e-5)


def test_lbfgs_looks_for_a_start_that_can_be_evaluated():
    def half_known(x):
        return torch.where(x[:, 0] < 0, math.nan, 1.0) * sphere(x - 1)

    result = minimize(boxed(half_known, 2, start=[-1.0, 0.0]), "lbfgs")
    assert result.value < 1e-15


def filled(steps, changes) -> History:
    """A ring of these pairs, after older ones that it has dropped."""
    history = History(len(steps), steps[0])
    for step, change in zip((*steps.flip(0), *steps), (*changes.flip(0), *changes), strict=True):
        assert history.take(step, change, ROUND_OFF)
    return history


def test_quasi_newton_step_is_newtons_on_a_quadratic():
    """After d exact, conjugate pairs the two-loop product inverts the Hessian (BFGS theorem)."""
    curvature = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    steps = torch.eye(3, dtype=torch.float64)
    gradient = torch.tensor([3.0, -2.0, 5.0], dtype=torch.float64)
    wide = torch.full((3,), 100.0, dtype=torch.float64)
    step = quasi_newton_step(gradient, (-wide, wide), filled(steps, steps * curvature))
    assert torch.allclose(step, -gradient / curvature, rtol=ROUND_OFF)


def test_quasi_newton_step_descends_on_both_blocks():
    generator = torch.Generator().manual_seed(3)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    hessian = root @ root.T + torch.eye(6, dtype=torch.float64)
    for _ in range(20):
        steps = torch.randn(4, 6, generator=generator, dtype=torch.float64)
        gradient = torch.randn(6, generator=generator, dtype=torch.float64)
        room = 0.1 * torch.rand(6, generator=generator, dtype=torch.float64)
        step = quasi_newton_step(gradient, (-room, room), filled(steps, steps @ hessian))
        assert float(step.clamp(-room, room).dot(gradient)) < 0


def test_function_without_slope_converges_at_once():
    result = minimize(boxed(lambda x: 0 * x.sum(1) + 2, 3), "lbfgs")
    assert result.reason == "converged: gradient"
    assert result.value == 2


def test_current_values_do_not_confuse_evaluation_of_many_parameters():
    problem = free(sphere, 5000, 0.5, dtype=torch.float32)
    problem.current = True
    last = list(islice(iterate(problem, Adam(step_size=0.05)), 60))[-1]
    assert last.best_value < 5000 * 0.25 * 1e-2
    assert isinstance(problem.evaluate(problem.start[None]), Evaluation)


def test_adam_that_only_fails_from_some_point_on_ends_with_what_it_has():
    calls = []

    def fun(x):
        calls.append(1)
        return x.square().sum() * (1.0 if len(calls) <= 3 else math.nan)

    problem = Problem.from_callable(fun, [-1.0] * 2, [1.0] * 2, [0.5, 0.5], differentiable=True)
    result = minimize(problem, "adam", budget=Budget(iterations=10_000))
    assert result.value < 0.5
    assert result.reason.startswith("converged: ")
