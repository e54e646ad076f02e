"""Attack-search: smooth, constrained, jumping and failing values, and two models."""

from __future__ import annotations

import io
import itertools
import math

import pytest
import torch

from optimizers import AttackSearch, Budget, Model, Problem, iterate, minimize
from optimizers.direct_search.credit import Credit
from optimizers.direct_search.proposals import ATTACKS
from optimizers.testing import (
    boxed,
    ellipsoid,
    failing,
    quadratic_program,
    rosenbrock,
    rotated,
    shifted,
    sphere,
    split_feasible_set,
)


def least_squares(dimension: int = 6, outputs: int = 9, **options) -> Problem:
    """|tanh(A x) - tanh(A x*)|^2 with x* inside the box."""
    generator = torch.Generator().manual_seed(4)
    matrix = torch.randn(outputs, dimension, generator=generator, dtype=torch.float64)
    inside = torch.rand(dimension, generator=generator, dtype=torch.float64) - 0.5
    wanted = torch.tanh(matrix @ inside)
    return boxed(
        lambda x: torch.tanh(x @ matrix.T),
        dimension,
        -1.0,
        1.0,
        outer=lambda y: (y - wanted).square().sum(-1),
        **options,
    )


def two_models(bias: float, dimension: int = 4, constrained: bool = False) -> Problem:
    """A costly bowl with its minimum at 0.3 and a surrogate of it that is bent by `bias`."""

    def costly(x):
        value = ellipsoid(x - 0.3, 100.0)
        return (value, (x.sum(-1) - 1)[..., None]) if constrained else value

    def cheap(x):
        value = ellipsoid(x - 0.3 - bias, 60.0) + bias * torch.sin(5 * x).sum(-1)
        return (value, (x.sum(-1) - 1 + bias)[..., None]) if constrained else value

    model = Model(cheap, cost=0.01, differentiable=True)
    return boxed(costly, dimension, -1.0, 1.0, differentiable=False, models={0.0: model})


def best(problem: Problem, evaluations: float, method=None, seed: int = 0):
    return minimize(
        problem, method or AttackSearch(), budget=Budget(evaluations=evaluations), seed=seed
    )


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_alone_lowers_a_smooth_value(attack):
    problem = least_squares()
    start = float(problem.evaluate(problem.start[None]).value)
    result = best(problem, 300, AttackSearch(attacks=(attack,), search=False))
    assert result.value < 0.3 * start


@pytest.mark.parametrize("differentiable", [True, False])
def test_least_squares_are_solved_exactly(differentiable):
    result = best(least_squares(differentiable=differentiable), 600)
    assert result.value < 1e-10  # by differences J is not quite exact


def test_smooth_values_take_few_more_gradients_than_lbfgs():
    """The quasi-Newton attack has the lead; what the others try costs less than as much again."""
    for function, dimension in ((rosenbrock, 5), (rotated(ellipsoid, 10), 10)):
        problem = boxed(shifted(function, 0.3), dimension, start=[-1.0] * dimension)
        goal = Budget(evaluations=4000, target=1e-8)
        ours, theirs = (
            minimize(problem, method, budget=goal) for method in ("attack-search", "lbfgs")
        )
        assert ours.reason == "target"
        assert ours.evaluations <= 2 * theirs.evaluations + 30


def test_curved_constraint_is_followed_to_the_solution():
    """Minimise x + y in a disc of radius 1: (-1, -1) / sqrt 2."""
    problem = boxed(
        lambda x: (x.sum(-1), (x.square().sum(-1) - 1)[..., None]), 2, -2.0, 2.0, [0.3, 0.9]
    )
    result = best(problem, 120)
    assert result.violation <= 1e-6
    assert result.value == pytest.approx(-math.sqrt(2), abs=1e-6)


def test_start_that_violates_constraints_is_led_inside():
    problem, solution, _ = quadratic_program()
    problem.start = torch.tensor([4.0, 4.0], dtype=torch.float64)
    result = best(problem, 150)
    assert result.violation <= 1e-6
    assert torch.allclose(result.x, solution, atol=1e-5)


def test_equality_is_met():
    """Minimise |x|^2 on the plane sum x = 1."""
    problem = boxed(
        lambda x: (x.square().sum(-1), (x.sum(-1) - 1)[..., None]), 3, equalities=1, constraints=1
    )
    result = best(problem, 300)
    assert result.violation <= 1e-6
    assert torch.allclose(result.x, torch.full((3,), 1 / 3, dtype=torch.float64), atol=1e-4)


def test_feasible_sets_in_two_parts():
    problem, value = split_feasible_set()
    result = best(problem, 1000)
    assert result.violation <= 1e-6
    assert result.value == pytest.approx(value, abs=1e-2)


@pytest.mark.parametrize("seed", range(2))
def test_staircase_without_slopes_is_left_to_direct_search(seed):
    """Gradients are 0 everywhere, so the direct search has to go alone."""
    problem = boxed(lambda x: (4 * sphere(x - 0.3)).floor() + 0 * x.sum(-1), 4)
    assert best(problem, 1500, seed=seed).value == 0


def test_crashing_half_of_the_box_is_survived():
    def fun(x):
        return torch.where(x[..., 0] > 0.2, math.nan, sphere(x - 0.5))

    result = best(boxed(fun, 3, -1.0, 1.0, [-0.5] * 3), 1000)
    assert result.value < 0.09 + 0.03  # the wall costs 0.3^2, the start is at 3


def test_failures_at_random_are_survived():
    problem = boxed(failing(shifted(rosenbrock, 0.2), 0.2), 4, start=[-1.0] * 4)
    assert best(problem, 2000).value < 1e-6


def test_values_without_gradients_use_differences():
    problem = boxed(shifted(rosenbrock, 0.2), 6, start=[-1.0] * 6, differentiable=False)
    result = best(problem, 2500)
    assert result.gradients == 0
    assert result.value < 1e-4


@pytest.mark.parametrize("bias", [0.0, 0.1, 0.4])
def test_biased_surrogate_still_leads_to_the_true_minimum(bias):
    result = best(two_models(bias), 300)
    assert result.value < (1e-10 if bias == 0 else 1e-4)


def test_constraints_of_a_biased_surrogate_are_judged_by_the_true_model():
    result = best(two_models(0.1, constrained=True), 200)
    assert result.violation <= 1e-6
    assert result.value < 1e-2 + float(
        minimize(
            boxed(lambda x: (ellipsoid(x - 0.3, 100.0), (x.sum(-1) - 1)[..., None]), 4, -1.0, 1.0),
            "lbfgs",
        ).value
    )


def test_surrogate_is_asked_for_slopes_and_the_true_model_for_values_only():
    problem, asked = two_models(0.1), []
    evaluate = problem.evaluate

    def noting(x, order=0, **options):
        asked.append((order, options.get("fidelity")))
        return evaluate(x, order, **options)

    problem.evaluate = noting
    result = best(problem, 200)
    assert all(order == 0 for order, fidelity in asked if fidelity is None)
    assert any(order > 0 for order, fidelity in asked if fidelity == 0.0)
    value = float(evaluate(result.x[None]).value)
    assert result.value == value  # what is reported is true


def test_good_surrogate_saves_evaluations():
    """With the function itself as its surrogate, only trials are paid for."""
    function = shifted(rosenbrock, 0.2)
    options = {"differentiable": False, "start": [-1.0] * 6}
    model = Model(function, cost=0.01, differentiable=True)
    goal = Budget(evaluations=3000, target=1e-4)
    helped = minimize(
        boxed(function, 6, models={0.0: model}, **options), "attack-search", budget=goal
    )
    alone = minimize(boxed(function, 6, **options), "direct-search", budget=goal)
    assert helped.reason == "target"
    assert helped.evaluations < 0.5 * alone.evaluations


@pytest.mark.parametrize("make", [two_models, lambda bias: least_squares()])
def test_resumed_search_equals_the_unbroken_one(make, tmp_path):
    method = AttackSearch(attacks=ATTACKS)
    whole = list(itertools.islice(iterate(make(0.2), method, seed=2), 150))
    pieces, file = [], tmp_path / "run.pt"
    for count in (7, 40, 1, 13, 89):
        run = iterate(make(0.2), method, seed=2, checkpoint=file)
        pieces += list(itertools.islice(run, count))
        run.close()
    assert len(pieces) == len(whole) == 150
    for one, other in zip(whole, pieces, strict=True):
        assert torch.equal(one.x, other.x)
        assert (one.value, one.best_value, one.tag) == (other.value, other.best_value, other.tag)


def test_state_in_the_middle_of_a_projected_attack():
    problem = two_models(0.2)
    first = AttackSearch(attacks=("pgd",)).start(problem, seed=1)
    while first.attack is None or first.attack.rounds < 3:
        query = first.ask()
        answer = problem.evaluate(query.points, query.order, fidelity=query.fidelity)
        first.tell(query, answer)
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    second = AttackSearch(attacks=("pgd",)).start(problem, seed=9)
    second.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(first.ask().points, second.ask().points)


def test_attacks_alone_end_by_themselves():
    problem = boxed(lambda x: x.abs().sum(-1), 3, -1.0, 1.0, [0.3, -0.7, 0.2])
    result = best(problem, 5000, AttackSearch(attacks=("fgsm", "l2"), search=False))
    assert result.reason.startswith("converged") or result.value < 1e-6


@pytest.mark.parametrize(
    "options", [{"attacks": ("up",)}, {"attacks": ()}, {"radius": 0.0}, {"floor": 1.0}]
)
def test_unusable_settings_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        AttackSearch(**options)


def test_credit_prefers_what_gains_more_per_price():
    credit = Credit(("sign", "slope"), 0.1)
    for _ in range(3):
        credit.reward("sign", 1.0, 1.0)
        credit.reward("slope", 1.0, 4.0)
    assert credit.pick({"sign", "slope"}) == "sign"


def test_credit_lets_what_fails_sleep_ever_longer():
    credit = Credit(("sign",), 0.1)
    credit.reward("sign", 1.0, 1.0)
    sleeps = []
    for _ in range(6):
        credit.reward("sign", 0.0, 1.0)
        waited = 0
        while credit.pick({"sign"}) is None:
            credit.tick()
            waited += 1
        sleeps.append(waited)
    assert sleeps == [0, 1, 2, 4, 8, 16]
    credit.reward("sign", 1.0, 1.0)
    assert credit.pick({"sign"}) == "sign"
