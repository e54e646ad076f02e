"""L-BFGS: gradients to a target beside SciPy, and what it does at the end of precision."""

from __future__ import annotations

import math
from statistics import median

import numpy as np
import pytest
import torch
from scipy.optimize import minimize as scipy_minimize

from optimizers import Budget, Lbfgs, minimize
from optimizers.gradient.quasi_newton import History
from optimizers.testing import boxed, ellipsoid, rosenbrock, rotated

LIMIT = 600  # gradients of a run


def quartic(x):
    return (x - 1).pow(4).sum(1) + 0.1 * (x[:, 1:] - x[:, :-1]).square().sum(1)


def logsumexp(x):
    generator = torch.Generator().manual_seed(5)
    planes = torch.randn(40, x.shape[1], generator=generator, dtype=torch.float64).to(x.dtype)
    return torch.logsumexp(x @ planes.T + planes[:, 0], 1)


def leaning_valley(x):
    return rosenbrock(x) + (x * torch.linspace(-50, 50, x.shape[1], dtype=x.dtype)).sum(1)


def turned_bowl(x):
    """Condition 1e4, and a minimum that most coordinates of a unit box cannot reach."""
    bowl = rotated(lambda y: ellipsoid(y, 1e4), x.shape[1], seed=1)
    return bowl(x - 3 * torch.cos(torch.arange(x.shape[1])))


def starts(dimension, width, count=7):
    generator = torch.Generator().manual_seed(0)
    numbers = torch.rand(count, dimension, generator=generator, dtype=torch.float64)
    return ((2 * numbers - 1) * width).tolist()


def ours(problem):
    """Values in the order of the gradients."""
    search, values = Lbfgs().start(problem), []
    while search.done is None and len(values) < LIMIT:
        query = search.ask()
        evaluation = problem.evaluate(query.points, 1)
        search.tell(query, evaluation)
        values.append(float(evaluation.value[0]))
    return values


def scipys(problem):
    values = []

    def value_and_gradient(x):
        answer = problem.evaluate(torch.as_tensor(x, dtype=problem.dtype)[None], 1)
        values.append(float(answer.value[0]))
        return values[-1], answer.gradient[0].double().numpy()

    bounds = np.stack((problem.lower.double().numpy(), problem.upper.double().numpy()), 1)
    options = {"ftol": 1e-15, "gtol": 1e-12, "maxfun": LIMIT, "maxiter": LIMIT}
    start = problem.start.double().numpy()
    scipy_minimize(
        value_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    return values


@pytest.mark.parametrize(
    ("function", "dimension", "width", "far", "dtype"),
    [
        (ellipsoid, 10, 5.0, 1, torch.float64),
        (rotated(ellipsoid, 10), 10, 5.0, 1, torch.float64),
        (rotated(ellipsoid, 10), 10, 5.0, 100, torch.float64),
        (rotated(ellipsoid, 10), 10, 5.0, 1, torch.float32),
        (rosenbrock, 10, 5.0, 1, torch.float64),
        (rosenbrock, 10, 5.0, 100, torch.float64),
        (quartic, 40, 5.0, 1, torch.float64),
        (logsumexp, 20, 5.0, 1, torch.float64),
        (leaning_valley, 20, 2.0, 1, torch.float64),
        (leaning_valley, 20, 2.0, 1, torch.float32),
        (turned_bowl, 50, 1.0, 1, torch.float64),
        (turned_bowl, 50, 1.0, 1, torch.float32),
    ],
)
def test_gradients_to_target_are_at_most_those_of_scipy(function, dimension, width, far, dtype):
    bound = width if far == 1 else math.inf
    share = 1e-8 if dtype == torch.float64 else 1e-6
    counts = []
    for start in starts(dimension, width * far):
        problem = boxed(function, dimension, -bound, bound, start, dtype=dtype)
        runs = ours(problem), scipys(problem)
        lowest = min(map(min, runs))
        goal = lowest + share * (runs[0][0] - lowest)
        met = [next((i for i, v in enumerate(run, 1) if v <= goal), math.inf) for run in runs]
        counts.append(met)
    one, other = (median(column) for column in zip(*counts, strict=True))
    assert one <= 1.2 * other  # a fifth: the spread of a median of seven such runs


def test_axes_of_different_steepness_cost_little():
    """The diagonal learns them at once; 20 pairs alone take 1400 gradients, as in a turned one."""
    problem = boxed(ellipsoid, 40, start=starts(40, 5.0)[0])
    result = minimize(problem, "lbfgs", budget=Budget(gradients=2000, target=1e-8))
    assert result.reason == "target"
    assert result.gradients < 300


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("function", [rosenbrock, quartic, leaning_valley, rotated(ellipsoid, 10)])
def test_runs_end_where_round_off_hides_the_rest(function, dtype):
    """Beside an offset most digits of the minimum are lost, and with them the last decreases."""
    problem = boxed(lambda x: function(x) + 1e6, 10, -2.0, 2.0, starts(10, 2.0)[0], dtype=dtype)
    result = minimize(problem, "lbfgs", budget=Budget(gradients=2000))
    assert result.reason.startswith("converged")
    final = 4 * torch.finfo(dtype).eps * result.value
    reached = int((result.history["best_value"] <= result.value + final).nonzero()[0])
    assert result.gradients - reached < 30  # less than one whole line search


def test_ring_keeps_the_newest_pairs_and_a_positive_diagonal():
    generator = torch.Generator().manual_seed(2)
    hessian = torch.diag(torch.logspace(-6, 6, 8, dtype=torch.float64))
    history, taken = History(3, hessian[0]), []
    for _ in range(40):
        step = torch.randn(8, generator=generator, dtype=torch.float64)
        step *= 10.0 ** torch.randint(-8, 8, (8,), generator=generator)
        taken.append(step)
        assert history.take(step, hessian @ step, 1e-15)
        assert bool((history.stiffness > 0).all())
        assert bool(history.stiffness.isfinite().all())
    kept = [history.steps[row] for row in history.rows()]
    assert all(torch.equal(a, b) for a, b in zip(kept, taken[-3:], strict=True))
    assert not history.take(step, -step, 1e-15)  # a pair without positive curvature
    history.clear()
    assert len(history) == 0
