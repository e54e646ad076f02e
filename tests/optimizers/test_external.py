"""Solvers of other libraries behind the bridge: the same answers, ends that are clean."""

from __future__ import annotations

import gc
import math
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from scipy.optimize import minimize as scipy_minimize

from optimizers import Budget, Problem, iterate, minimize
from optimizers.external.bridge import RunningBridge, ThreadTalk
from optimizers.external.nomad import Nomad
from optimizers.external.objective import Frame, Objective
from optimizers.external.pycma import Pycma
from optimizers.external.scipy import (
    ScipyCobyqa,
    ScipyDifferentialEvolution,
    ScipyLbfgsb,
    ScipyNelderMead,
    ScipySlsqp,
    ScipyTrustConstr,
)
from optimizers.testing import boxed, failing, rosenbrock, sphere

CONSTRAINED = [ScipySlsqp(), ScipyTrustConstr(), ScipyCobyqa(), Nomad(), Pycma()]
named = {"ids": lambda settings: settings.name}


def solver_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "_work" in thread.name]


def with_solve(solve, problem=None) -> RunningBridge:
    """A bridge to a solver of our own."""
    problem = problem or boxed(sphere, 2, start=[1.0, 2.0])
    return RunningBridge(problem, 0, 0, lambda *_: ThreadTalk(lambda c, n: solve(c, n)), "own")


def answered(optimizer, problem, rounds=1):
    for _ in range(rounds):
        query = optimizer.ask()
        optimizer.tell(query, problem.evaluate(query.points, query.order))


def test_answers_are_those_of_scipy():
    """In a box of width one, whose scale is one, the solver sees the problem as it is."""
    start = [0.1, 0.9, 0.2, 0.6]
    problem = boxed(lambda x: rosenbrock(4 * x - 2), 4, 0.0, 1.0, start)
    result = minimize(problem, ScipyLbfgsb(), budget=Budget(gradients=500))

    def with_gradient(x):
        answer = problem.evaluate(torch.as_tensor(x)[None], 1)
        assert answer.gradient is not None
        return float(answer.value), answer.gradient[0].numpy()

    options = {"ftol": 1e-14, "gtol": 0.0, "maxls": 50}
    theirs = scipy_minimize(
        with_gradient, start, jac=True, method="L-BFGS-B", bounds=[(0, 1)] * 4, options=options
    )
    assert result.reason.startswith("converged")
    assert result.gradients == theirs.nfev
    # the same operations up to a multiplication by the scale, 1
    assert np.allclose(result.x.numpy(), theirs.x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("settings", [ScipyLbfgsb(), ScipySlsqp(), ScipyTrustConstr()], **named)
def test_values_alone_are_enough_for_methods_that_follow_slopes(settings):
    problem = boxed(rosenbrock, 3, -2.0, 2.0, [-1.0, 1.0, 0.5], differentiable=False)
    result = minimize(problem, settings, budget=Budget(evaluations=3000))
    assert result.gradients == 0
    assert result.value < 1e-8


def test_differences_are_gradients_and_stay_in_the_box():
    """Of the value and of a constraint, also at an upper bound and beside a failure."""
    asked = []

    def call(points):
        asked.extend(points)
        rows = np.stack((np.sin(points).sum(1), points[:, 0] * points[:, 1]), 1)
        rows[points[:, 2] > 0.3] = np.inf
        return list(rows)

    problem = boxed(sphere, 3, 0.0, 1.0)
    objective = Objective(call, Frame.of(problem, 0), np.random.default_rng(0))
    point = np.array([1.0, 0.5, 0.3])
    slopes = objective.slopes(point)
    assert np.all(np.array(asked) <= 1.0)
    # a forward difference of width 1.5e-8 loses half of the digits
    assert np.allclose(slopes[0], [math.cos(1.0), math.cos(0.5), 0.0], atol=1e-7)
    assert np.allclose(slopes[1], [0.5, 1.0, 0.0], atol=1e-7)


@pytest.mark.parametrize("settings", CONSTRAINED, **named)
def test_equalities_and_inequalities_are_met(settings):
    """The nearest point to (2, 2) with x + y = 1 and x <= 0.2 is (0.2, 0.8)."""

    def fun(x):
        inequality, equality = x[..., 0] - 0.2, x.sum(-1) - 1
        return (x - 2).square().sum(-1), torch.stack((inequality, equality), -1)

    problem = boxed(fun, 2, constraints=2, equalities=1, start=[0.0, 0.0])
    evaluations = 150 if settings.name == "nomad" else 1500
    result = minimize(problem, settings, budget=Budget(evaluations=evaluations))
    assert result.violation <= 1e-6
    # a mesh and a population meet a line of no width only roughly
    tolerance = 0.3 if settings.name in ("nomad", "pycma") else 1e-4
    assert torch.allclose(result.x, result.x.new_tensor([0.2, 0.8]), atol=tolerance)


def test_abandoned_threads_end():
    before = len(solver_threads())
    problem = boxed(rosenbrock, 3)
    for settings in (ScipyLbfgsb(), ScipyNelderMead(), Pycma(), ScipyCobyqa()):
        optimizer = settings.start(problem)
        answered(optimizer, problem, 3)
        assert len(solver_threads()) == before + 1
        del optimizer
        gc.collect()
        deadline = time.monotonic() + 10
        while len(solver_threads()) > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(solver_threads()) == before


def test_interpreter_exits_while_solvers_wait():
    script = """
from optimizers import Problem, iterate
from optimizers.external.nomad import Nomad
from optimizers.external.scipy import ScipySlsqp
problem = Problem.from_callable(lambda x: (x ** 2).sum(), [-1.0] * 2, [1.0] * 2, [0.5] * 2)
runs = [iterate(problem, settings) for settings in (ScipySlsqp(), Nomad())]
print([next(run).iteration for run in runs])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[0, 0]\n"
    assert done.stderr == ""


def test_solver_that_breaks_says_so():
    def breaks_at_once(call, note):
        raise ZeroDivisionError("of the solver")

    def breaks_later(call, note):
        call(np.zeros((1, 2)))
        raise ZeroDivisionError("of the solver")

    problem = boxed(sphere, 2)
    with pytest.raises(RuntimeError, match="own could not begin: of the solver"):
        with_solve(breaks_at_once).ask()
    optimizer = with_solve(breaks_later)
    answered(optimizer, problem)
    assert optimizer.done == "stopped: own raised ZeroDivisionError: of the solver"
    assert optimizer.best.value == 0.0


def test_batch_is_asked_in_parts_where_the_budget_ends():
    seen = []

    def solve(call, note):
        seen.append(call(np.arange(10.0).reshape(5, 2)))
        note("one batch")
        return "converged: enough"

    problem = Problem.box([0.0] * 2, [1.0] * 2, differentiable=False)
    optimizer = with_solve(solve, problem)
    problem.evaluate = boxed(sphere, 2).evaluate
    query = optimizer.ask(remaining=2)
    assert len(query.points) == 2
    assert bool((query.points <= 1).all())
    optimizer.tell(query, problem.evaluate(query.points))
    other = with_solve(solve, problem)
    other.load_state_dict(optimizer.state_dict())
    for running in (optimizer, other):
        query = running.ask()
        assert len(query.points) == 3
        running.tell(query, problem.evaluate(query.points))
        assert running.done == "converged: enough"
        assert running.events() == ("one batch",)
    assert np.array_equal(seen[0], seen[1])


def test_state_of_another_solver_is_refused():
    problem = boxed(rosenbrock, 3)
    optimizer, other = ScipyNelderMead().start(problem), ScipyNelderMead(radius=0.2).start(problem)
    answered(optimizer, problem, 5)
    with pytest.raises(ValueError, match="asks other points than in the record"):
        other.load_state_dict(optimizer.state_dict())


def test_pycma_leaves_the_generator_of_numpy_alone(monkeypatch):
    def forbidden(*_):
        raise AssertionError("the global generator was touched")

    for name in ("seed", "rand", "randn", "random", "uniform", "standard_normal"):
        monkeypatch.setattr(f"numpy.random.{name}", forbidden)
    minimize(boxed(rosenbrock, 3), Pycma(), budget=Budget(evaluations=2000))


def test_pycma_restarts_with_twice_the_population():
    records = list(iterate(boxed(sphere, 2), Pycma(), budget=Budget(evaluations=3000)))
    events = [event for record in records for event in record.events]
    assert any(event.startswith("restart with population 12") for event in events)


def test_search_that_failures_have_ended_begins_anew():
    """One failure in ten ends line searches again and again."""
    problem = boxed(failing(rosenbrock, 0.1, seed=3), 4, -2.0, 2.0, [-1.0, 1.0, 0.5, 0.5])
    records = list(iterate(problem, ScipyLbfgsb(), budget=Budget(gradients=600)))
    events = [event for record in records for event in record.events]
    assert any(event.startswith("begins anew") for event in events)
    assert records[-1].best_value < 1e-6


def test_differential_evolution_searches_near_the_start_where_a_side_is_free():
    problem = boxed(sphere, 2, -math.inf, math.inf, [1.5, -1.0])
    result = minimize(problem, ScipyDifferentialEvolution(), budget=Budget(evaluations=2000))
    assert result.value < 1e-6


def test_nomad_is_refused_in_many_dimensions():
    with pytest.raises(ValueError, match="at most 20 dimensions, got 21"):
        Nomad().start(boxed(sphere, 21))


@pytest.mark.parametrize(("settings", "extra"), [(Nomad(), "nomad"), (Pycma(), "cma")])
def test_missing_package_is_named(settings, extra, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=rf"pip install geomopt\[{extra}\]"):
        settings.start(boxed(sphere, 3))
