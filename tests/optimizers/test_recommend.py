"""The rule of thumb: it names methods that run, for the reasons that it gives."""

from __future__ import annotations

import pytest
import torch

from optimizers import METHODS, Box, Budget, Model, Problem, minimize, recommend
from optimizers.recommend import GUIDE
from optimizers.testing import boxed, quadratic_program, rosenbrock, shifted, sphere


def name(problem, **known):
    method, why = recommend(problem, **known)
    assert why[0].islower() or why[0].isdigit() or why.startswith("F")
    return method if isinstance(method, str) else method.name


def composite(**options):
    return boxed(torch.tanh, 4, outer=lambda y: y.square().sum(-1), **options)


def path():
    return Problem(
        {"path": Box((6, 2), -1.0, 1.0, trajectory=True)},
        lambda p: p["path"].square().sum((-1, -2)),
        batched=True,
        differentiable=True,
    )


CASES = {
    "surrogate": (
        lambda: composite(models={0.0: Model(torch.tanh, differentiable=True)}),
        {},
        "attack-search",
    ),
    "costly outer": (lambda: composite(inner_share=0.1), {}, "target-surrogate"),
    "least squares": (composite, {}, "regularized-newton"),
    "trajectory": (path, {}, "sample-refine"),
    "equalities": (
        lambda: boxed(lambda x: (sphere(x), x[:, :1] - 1), 3, equalities=1),
        {},
        "lagrange-newton",
    ),
    "equalities by values": (
        lambda: boxed(lambda x: (sphere(x), x[:, :1] - 1), 3, equalities=1, differentiable=False),
        {},
        "augmented-lagrangian",
    ),
    "time for several minima": (lambda: boxed(rosenbrock, 5), {}, "sample-refine"),
    "one valley": (lambda: boxed(rosenbrock, 5), {"budget": Budget(evaluations=200)}, "lbfgs"),
    "noisy gradients": (lambda: boxed(rosenbrock, 5), {"noisy": True}, "adam"),
    "many parameters": (lambda: boxed(shifted(sphere, 0.4), 3000), {}, "adam"),
    "many by values": (lambda: boxed(shifted(sphere, 0.4), 3000, differentiable=False), {}, "cma"),
    "values": (lambda: boxed(rosenbrock, 5, differentiable=False), {}, "cma"),
    "few values": (
        lambda: boxed(rosenbrock, 5, differentiable=False),
        {"budget": Budget(evaluations=600)},
        "direct-search",
    ),
    "few values, many parameters": (
        lambda: boxed(shifted(sphere, 0.4), 40, differentiable=False),
        {"budget": Budget(evaluations=800)},
        "gp-gradient",
    ),
    "constraints": (lambda: quadratic_program()[0], {"noisy": False}, "sample-refine"),
}


@pytest.mark.parametrize("case", CASES)
def test_problem_decides(case):
    make, known, expected = CASES[case]
    assert name(make(), **known) == expected


# 300 values say nothing about 3000 parameters
@pytest.mark.parametrize("case", [case for case in CASES if case != "many by values"])
def test_what_is_recommended_runs_and_gains(case):
    make, known, _ = CASES[case]
    problem = make()
    method, _ = recommend(problem, **known)
    result = minimize(problem, method, budget=Budget(evaluations=300))
    first = problem.evaluate(problem.start[None])
    assert result.value <= float(first.value) or result.violation < float(first.violation)


def test_every_method_has_its_line():
    assert list(GUIDE) == list(METHODS)
