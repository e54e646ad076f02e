"""The rules that every method of METHODS has to keep."""

from __future__ import annotations

import io
import itertools
import logging
import math
import random
from dataclasses import replace

import pytest
import torch

from optimizers import METHODS, Budget, Evaluation, Problem, iterate, minimize
from optimizers.testing import (
    boxed,
    failing,
    quadratic_program,
    rosenbrock,
    shifted,
    sphere,
)

COMPOSITE = {"target-surrogate"}  # methods for values F(Phi(x)) only
PLAIN = [name for name in METHODS if name not in COMPOSITE]
SLOW = {"bayes": 40}  # evaluations that a model costing seconds can be asked for here
ROUGH = {  # last steps of fixed length or random samples: right to this share of the width
    "adam": 0.01,
    "icem": 0.01,
    "mppi": 0.01,
    "consensus": 0.01,
    "mixed-order": 0.01,
    "bayes": 0.05,
}
PRECISE = 1e-3

every_method = pytest.mark.parametrize("method", METHODS)
every_precision = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def stream(problem: Problem, method, rounds: int, seed: int = 0, **options):
    """The first records of a run; its queries are kept in the problem's list `asked`."""
    return list(itertools.islice(iterate(problem, method, seed=seed, **options), rounds))


def evaluations(method: str, wanted: int) -> int:
    return min(wanted, SLOW.get(method, wanted))


def posed(method: str, function, *arguments, **options) -> Problem:
    """A problem in the form that the method takes, with its queries noted in the list `asked`."""
    if method in COMPOSITE:
        options["outer"], function = function, torch.clone
    return recorded(boxed(function, *arguments, **options))


def recorded(problem: Problem) -> Problem:
    """The same problem, with its queries noted."""
    problem.asked = []
    evaluate = problem.evaluate

    def noting(x, order=0, *, fidelity=None, iteration=0, target=None):
        problem.asked.append((x.clone(), order, iteration, target is not None))
        return evaluate(x, order, fidelity=fidelity, iteration=iteration, target=target)

    problem.evaluate = noting
    return problem


def valley(method: str, dtype=torch.float64, **options) -> Problem:
    start = [-1.2, 1.0, -0.5, 0.3]
    return posed(method, rosenbrock, 4, -2.0, 2.0, start, dtype=dtype, **options)


def same_queries(first: Problem, second: Problem) -> bool:
    pairs = zip(first.asked, second.asked, strict=True)
    return all(a[1:] == b[1:] and torch.equal(a[0], b[0]) for a, b in pairs)


@every_method
@every_precision
def test_same_seed_asks_the_same_and_leaves_the_global_generator_alone(method, dtype):
    before = torch.get_rng_state()
    first, second = valley(method, dtype), valley(method, dtype)
    rounds = evaluations(method, 30)
    stream(first, method, rounds, seed=3)
    stream(second, method, rounds, seed=3)
    assert same_queries(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(x.dtype == dtype for x, *_ in first.asked)


@pytest.mark.parametrize(
    ("method", "constrained"),
    [(name, under) for name in METHODS for under in (False, True) if name in PLAIN or not under],
)
def test_resumed_run_equals_the_unbroken_one(method, constrained, tmp_path):
    make = (lambda: recorded(quadratic_program()[0])) if constrained else (lambda: valley(method))
    rounds = evaluations(method, 60)
    unbroken = make()
    whole = stream(unbroken, method, rounds, seed=1)
    cuts = sorted(random.Random(5).sample(range(1, len(whole) - 1), 3))
    broken, pieces = make(), []
    for begin, end in itertools.pairwise([0, *cuts, rounds]):
        file = tmp_path / "run.pt"
        pieces += stream(broken, method, end - begin, seed=1, checkpoint=file)
    assert len(pieces) == len(whole)
    for one, other in zip(whole, pieces, strict=True):
        assert one.iteration == other.iteration
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.best_x, other.best_x)
        numbers = (
            "value",
            "best_value",
            "best_violation",
            "evaluations",
            "gradients",
            "reason",
            "events",
        )
        assert all(getattr(one, name) == getattr(other, name) for name in numbers)
    assert same_queries(unbroken, broken)


@every_method
def test_exception_in_the_problem_passes_and_the_run_goes_on_from_its_pending_query(
    method, tmp_path
):
    unbroken, broken = valley(method), valley(method)
    stream(unbroken, method, 12)
    evaluate = broken.evaluate

    def crashing(x, order=0, *, iteration=0, **asked):
        if iteration == 7:
            raise ZeroDivisionError("a bug of the user")
        return evaluate(x, order, iteration=iteration, **asked)

    broken.evaluate = crashing
    with pytest.raises(ZeroDivisionError):
        stream(broken, method, 12, checkpoint=tmp_path / "run.pt")
    broken.evaluate = evaluate
    stream(broken, method, 5, checkpoint=tmp_path / "run.pt")
    assert same_queries(unbroken, broken)


@every_method
@every_precision
def test_queries_stay_in_the_box(method, dtype):
    def slope(x):
        return (x * x.new_tensor([1.0, -2.0, 3.0])).sum(-1)

    bounds = ([-1.0, -math.inf, 0.3], [0.7, 2.0, math.inf])
    problem = posed(method, slope, 3, *bounds, dtype=dtype)
    result = minimize(problem, method, budget=Budget(evaluations=evaluations(method, 2000)))
    for x, *_ in problem.asked:
        assert bool(((x >= problem.lower) & (x <= problem.upper)).all())
    solution = torch.tensor([-1.0, 2.0, 0.3], dtype=dtype)
    assert torch.allclose(result.x, solution, atol=4 * ROUGH.get(method, PRECISE))


@every_method
def test_start_outside_the_box_is_moved_with_a_warning(method, caplog):
    problem = posed(method, sphere, 3, -1.0, 1.0, [9.0, 0.5, -0.5])
    with caplog.at_level(logging.WARNING, "optimizers"):
        first = stream(problem, method, 1)[0]
    assert problem.start.tolist() == [1.0, 0.5, -0.5]
    assert "start moved into the box" in first.events
    assert "outside the box" in caplog.text


@every_method
@pytest.mark.parametrize("limit", [1, 7, 50, 203])
def test_budget_is_exceeded_by_less_than_one_point(method, limit):
    problem, limit = valley(method), evaluations(method, limit)
    result = minimize(problem, method, budget=Budget(evaluations=limit))
    prices = [problem.cost(order, None, aimed) for _, order, _, aimed in problem.asked]
    charged = sum(len(asked[0]) * p for asked, p in zip(problem.asked, prices, strict=True))
    assert result.evaluations == charged
    assert charged < limit + max(prices)
    assert result.reason == "evaluations" or result.reason.startswith("converged")
    assert len(result.history["value"]) == result.iterations == len(problem.asked)


@every_method
def test_batches_that_fail_as_a_whole_are_survived(method):
    problem = valley(method)
    evaluate = problem.evaluate

    def flaky(x, order=0, *, iteration=0, **asked):
        answer = evaluate(x, order, iteration=iteration, **asked)
        return replace(answer, ok=answer.ok & (iteration % 10 not in (0, 4)))

    problem.evaluate = flaky
    records = stream(problem, method, evaluations(method, 150))
    assert records[0].value == math.inf
    assert records[-1].best_value < float(rosenbrock(problem.start))


@every_method
def test_run_without_any_success_says_so(method):
    problem = valley(method)
    evaluate = problem.evaluate
    problem.evaluate = lambda x, order=0, **asked: replace(
        evaluate(x, order, **asked), ok=torch.zeros(len(x), dtype=torch.bool)
    )
    budget = Budget(evaluations=evaluations(method, 3000))
    result = minimize(problem, method, budget=budget)
    assert result.reason == "all evaluations failed"
    assert result.value == math.inf
    assert torch.equal(result.x, problem.start)


@every_method
def test_start_that_cannot_be_evaluated_is_left(method):
    """All methods must look elsewhere: the start alone fails."""

    def fun(x):
        return sphere(x - 0.3) / sphere(x).sign()

    problem = posed(method, fun, 3, -1.0, 1.0, [0.0] * 3)
    budget = Budget(evaluations=evaluations(method, 1500))
    assert minimize(problem, method, budget=budget).value < 1e-2


@every_method
def test_storm_of_failures_still_gets_down(method):
    target = 0.1 if method in SLOW else 1e-3  # from 18
    budget = Budget(evaluations=2 * evaluations(method, 1500), target=target)
    solved = 0
    for seed in range(1 if method in SLOW else 3):
        fun = failing(shifted(sphere, 0.4), 0.2, seed)
        problem = posed(method, fun, 5, -2.0, 2.0, [-1.5] * 5)
        result = minimize(problem, method, budget=budget, seed=seed)
        solved += result.reason == "target"
    assert solved == seed + 1


@every_method
@every_precision
def test_state_is_plain_and_independent_of_the_running_search(method, dtype):
    problem = valley(method, dtype)
    settings = METHODS[method]()
    optimizer, other = settings.start(problem, seed=2), settings.start(problem, seed=9)

    def advance(running, rounds):
        asked = []
        for _ in range(rounds):
            query = running.ask()
            asked.append(query.points.clone())
            running.tell(query, answer(query))
        return asked

    def answer(query):
        return problem.evaluate(query.points, query.order, target=query.target)

    advance(optimizer, 17)
    pending = optimizer.ask()  # a state may be taken between ask and tell
    buffer = io.BytesIO()
    state = optimizer.state_dict()
    torch.save(state, buffer)
    optimizer.tell(pending, answer(pending))
    expected = advance(optimizer, 9)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    other.tell(pending, answer(pending))
    assert all(torch.equal(a, b) for a, b in zip(expected, advance(other, 9), strict=True))
    third = settings.start(problem, seed=4)
    third.load_state_dict(state)  # the copy did not change while its owner went on
    assert torch.equal(third.ask().points, pending.points)


@every_method
def test_answers_that_do_not_fit_are_refused(method):
    optimizer = METHODS[method]().start(valley(method))
    query = optimizer.ask()
    with pytest.raises(ValueError, match="rows"):
        optimizer.tell(query, Evaluation(torch.zeros(len(query.points) + 1)))


@pytest.mark.parametrize("method", PLAIN)
def test_constraints_are_met(method):
    problem, solution, _ = quadratic_program()
    budget = Budget(evaluations=evaluations(method, 3000))
    result = minimize(problem, method, budget=budget, seed=0)
    assert result.violation <= 1e-6
    assert torch.allclose(result.x, solution, atol=10 * ROUGH.get(method, 0.1 * PRECISE))


@pytest.mark.parametrize("method", [name for name, kind in METHODS.items() if kind.by_rank])
def test_ranks_decide_where_a_method_says_so(method):
    plain, grown, lifted = (
        recorded(boxed(lambda x, f=f: f(sphere(x - 0.3)), 4, start=[2.0] * 4, differentiable=False))
        for f in (lambda v: v, lambda v: torch.exp(v / 4), lambda v: v + 1024.0)
    )
    for problem in (plain, grown, lifted):
        stream(problem, method, 25)
    assert same_queries(plain, grown)
    assert same_queries(plain, lifted)


@every_method
def test_method_goes_on_after_its_objective_has_changed(method):
    """As adapters change it: values told before no longer count, and lower ones are found."""
    problem = valley(method)
    optimizer = METHODS[method]().start(problem, seed=1)
    assert optimizer.rows >= 1
    for _ in range(evaluations(method, 25)):
        query = optimizer.ask()
        optimizer.tell(query, problem.evaluate(query.points, query.order, target=query.target))
    optimizer.done = "converged: to what it was"
    optimizer.objective_changed()
    assert optimizer.best.value == math.inf
    assert optimizer.done is None
    moved = posed(method, shifted(sphere, 0.2), 4, -2.0, 2.0, [-1.2, 1.0, -0.5, 0.3])
    for _ in range(evaluations(method, 150)):
        query = optimizer.ask()
        optimizer.tell(query, moved.evaluate(query.points, query.order, target=query.target))
    assert optimizer.best.value < 0.5 * float(sphere(problem.start - 0.2))


@every_method
def test_settings_are_frozen_and_named(method):
    settings = METHODS[method]()
    assert settings.name == method
    assert settings == METHODS[method]()
    with pytest.raises(AttributeError):
        settings.order = 5


@every_method
def test_searches_live_on_the_device_of_the_problem(method, device, tmp_path):
    def make():
        return valley(method, device=device)

    options = {"checkpoint": tmp_path / "run.pt"}
    first = minimize(make(), method, budget=Budget(iterations=20), **options)
    assert first.x.device.type == device.type
    more = minimize(make(), method, budget=Budget(iterations=40), **options)
    assert more.value < float(rosenbrock(make().start))
