"""Sample-refine and the parts that it is made of."""

from __future__ import annotations

import math

import pytest
import torch

from optimizers import Box, Budget, Evaluation, Problem, SampleRefine, minimize
from optimizers.hybrid.archive import RADIUS, Archive
from optimizers.hybrid.bandit import DROUGHT, FLOOR, Bandit, gain_between
from optimizers.hybrid.descent import Descent
from optimizers.hybrid.merit import Merit, violation_gradient
from optimizers.hybrid.polish import Polish
from optimizers.hybrid.refine import APART, diverse, rank_agreement
from optimizers.hybrid.space import KnotSpace, knot_spaces
from optimizers.population.cma import Cma
from optimizers.state import seeded
from optimizers.testing import boxed, ellipsoid, rastrigin, rosenbrock, rotated, shifted, sphere
from optimizers.trajectory import Knots


def turned(problem: Problem, degrees: float, failing: float, seed: int = 0) -> Problem:
    """The same problem with gradients turned by an angle, and NaN in a share of the calls."""
    generator, evaluate = torch.Generator().manual_seed(seed), problem.evaluate
    angle = math.radians(degrees)

    def misled(x, order=0, **options):
        answer = evaluate(x, order, **options)
        if order == 0:
            return answer
        slope = answer.gradient
        aside = torch.randn(slope.shape, generator=generator, dtype=slope.dtype)
        length = slope.norm(dim=1, keepdim=True)
        aside -= slope * (aside * slope).sum(1, keepdim=True) / length.square().clamp(min=1e-300)
        aside = aside / aside.norm(dim=1, keepdim=True) * length
        slope = math.cos(angle) * slope + math.sin(angle) * aside
        lost = torch.rand(len(x), generator=generator) < failing
        return Evaluation(answer.value, gradient=slope.masked_fill(lost[:, None], math.nan))

    problem.evaluate = misled
    return problem


def pulled(targets: int = 40) -> Problem:
    """A trajectory whose running sum must follow a sine."""
    wanted = torch.sin(torch.linspace(0, 6, targets, dtype=torch.float64))

    def fun(named):
        return (0.2 * named["speed"][..., 0].cumsum(-1) - wanted).square().mean(-1)

    box = Box((targets, 1), -1.0, 1.0, start=0.0, trajectory=True)
    return Problem({"speed": box}, fun, batched=True, differentiable=True)


# the whole method


def test_smooth_valley_is_solved_to_the_end():
    problem = boxed(shifted(rosenbrock, 0.3), 12, start=[-1.0] * 12)
    assert minimize(problem, "sample-refine", budget=Budget(evaluations=3000)).value < 1e-12


def test_many_minima_are_left_behind_where_a_descent_alone_stays_in_the_first():
    ours, descent = [], []
    for seed in range(3):
        start = [-3.7 + 0.3 * i for i in range(8)]
        problem = boxed(shifted(rastrigin, 0.3), 8, start=start)
        limit = Budget(evaluations=3000)
        ours.append(minimize(problem, SampleRefine(), budget=limit, seed=seed).value)
        descent.append(minimize(problem, "lbfgs", budget=limit, seed=seed).value)
    assert max(ours) < 0.5 * min(descent)


@pytest.mark.parametrize("function", [sphere, rotated(lambda x: ellipsoid(x, 100.0), 8, 3)])
def test_gradients_that_are_turned_and_lost_still_help(function):
    problem = turned(boxed(shifted(function, 0.4), 8, start=[-2.0] * 8), 40.0, 0.2)
    first = float(function(problem.start - 0.4))
    limit = Budget(evaluations=3000)
    assert minimize(problem, "sample-refine", budget=limit).value < 1e-3 * first


def test_without_gradients_it_samples_and_asks_for_none():
    problem = boxed(shifted(sphere, 0.3), 4, start=[2.0] * 4, differentiable=False)
    result = minimize(problem, "sample-refine", budget=Budget(evaluations=1500))
    assert result.gradients == 0
    assert result.value < 1e-8


def test_trajectory_is_sampled_through_knots_and_polished_at_every_step():
    problem = pulled()
    search = SampleRefine().start(problem, seed=0)
    kinds = set()
    for _ in range(120):
        query = search.ask(2000)
        kinds.add((query.tag.split(",")[0], query.order))
        search.tell(query, problem.evaluate(query.points, query.order))
    assert search.cma.problem.dimension < problem.dimension
    assert {("polish", 1), ("screen", 0), ("refine", 0)} <= kinds
    assert minimize(pulled(), SampleRefine(), budget=Budget(evaluations=2000)).value < 1e-4


def test_knots_double_where_samples_stall():
    problem = pulled()
    problem.differentiable = False
    search = SampleRefine(knots=4).start(problem, seed=0)
    happened = []
    for _ in range(400):
        query = search.ask(1e5)
        search.tell(query, problem.evaluate(query.points))
        happened += search.events()
    assert any("knots doubled" in event for event in happened)
    assert search.best.value < 0.5 * float(problem.evaluate(problem.start[None]).value)


def test_budget_that_is_left_goes_to_the_polish_of_the_best_point():
    problem = boxed(shifted(rosenbrock, 0.3), 80, start=[-1.0] * 80)
    search, tags, left = SampleRefine().start(problem, seed=0), [], 1500.0
    while left > 0:
        query = search.ask(left)
        tags.append(query.tag)
        left -= len(query.points) * (problem.gradient_cost if query.order else 1)
        search.tell(query, problem.evaluate(query.points, query.order))
    late = tags[-150:]  # of the last 40 %, 200 gradients, too few to converge
    assert sum(tag.startswith("polish") for tag in late) == len(late)


def test_equality_and_inequality_are_met_to_the_tolerance():
    def fun(x):
        along = x.sum(-1) - 1  # = 0
        return (x - 2).square().sum(-1), torch.stack((x[..., 0] - 0.1, along), -1)

    problem = boxed(fun, 3, equalities=1)
    result = minimize(problem, "sample-refine", budget=Budget(evaluations=3000))
    solution = torch.tensor([0.1, 0.45, 0.45], dtype=torch.float64)
    assert result.violation <= 1e-6
    assert torch.allclose(result.x, solution, atol=1e-4)  # of FEASIBLE over the slopes, and more


def test_settings_that_make_no_sense_are_refused():
    for settings in ({"population": 2}, {"refined": 0.0}, {"refine_steps": 0}, {"knots": 0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            SampleRefine(**settings)
    with pytest.raises(ValueError, match=r"knots must be of a trajectory .* \(40, 1\)"):
        SampleRefine(knots=Knots(3, 7)).start(pulled())


# its parts


def test_bandit_gives_the_budget_to_the_phase_that_gains_and_the_floor_to_the_others():
    bandit, spent = Bandit(("a", "b", "c")), {"a": 0.0, "b": 0.0, "c": 0.0}
    prices = {"a": 10.0, "b": 60.0, "c": 30.0}
    for _ in range(600):
        phase = bandit.choose(bandit.phases)
        bandit.told(phase, 1.0 if phase == "b" else 0.0, prices[phase], bandit.phases)
        spent[phase] += prices[phase]
    total = sum(spent.values())
    assert bandit.best() == "b"
    # shares hold up to a few phases of the longest price
    assert abs(spent["a"] / total - FLOOR) < 0.02
    extra = (1 - 3 * FLOOR) * DROUGHT / (DROUGHT + math.log(2))  # of the phase that explores
    assert abs(spent["c"] / total - FLOOR - extra) < 0.02


def test_bandit_knows_no_unit_of_the_value():
    gains = torch.rand(60, generator=torch.Generator().manual_seed(0)).tolist()
    runs = []
    for unit in (1.0, 1024.0):
        bandit, chosen = Bandit(("a", "b")), []
        for gain in gains:
            phase = bandit.choose(bandit.phases)
            chosen.append(phase)
            bandit.told(phase, unit * gain * (phase == "b"), 5.0, bandit.phases)
        runs.append(chosen)
    assert runs[0] == runs[1]


def test_gain_is_of_the_violation_until_feasible():
    assert gain_between(5.0, 3.0, 9.0, 1.0) == 2.0
    assert gain_between(5.0, 0.0, 2.0, 0.0) == 3.0
    assert gain_between(math.inf, math.inf, 2.0, 0.0) == 1.0


def test_diverse_takes_the_best_and_leaves_out_its_neighbours():
    points = torch.tensor([[0.0, 0.0], [0.1, 0.1], [2.0, 0.0], [2.1, 0.0], [0.0, 3.0]]).double()
    order, lengths = torch.tensor([1, 0, 3, 2, 4]), torch.ones(2).double()
    chosen = diverse(points, order, lengths, 4)
    assert chosen.tolist() == [1, 3, 4]
    gaps = torch.cdist(points[chosen], points[chosen]) / math.sqrt(2) + torch.eye(3)
    assert bool((gaps > APART).all())


def test_rank_agreement_is_kendalls_tau():
    first = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert rank_agreement(first, first.exp()) == 1.0
    assert rank_agreement(first, -first) == -1.0
    swapped = torch.tensor([1.0, 2.0, 4.0, 3.0])  # one of six pairs turned
    assert rank_agreement(first, swapped) == pytest.approx(4 / 6)
    assert rank_agreement(first[:1], first[:1]) == 0.0


def test_descent_measures_how_much_of_a_predicted_decrease_comes_true():
    """At 40 degrees a short step gains cos 40 = 0.77 of what its gradient predicts."""
    angle = math.radians(40)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    start = torch.tensor([[3.0, 1.0]], dtype=torch.float64)
    for matrix, expected in ((torch.eye(2), 1.0), (turn, math.cos(angle))):
        search = Descent(start, torch.full((2,), 1e-6, dtype=torch.float64))
        for _ in range(2):
            x = search.trial
            slope = 2 * x @ matrix.double()
            search.told(x.square().sum(1), slope, torch.tensor([True]))
            # straight down the slope, as far as one length
            search.trial = search.best - 1e-6 * search.gradient
        assert float(search.agreement) == pytest.approx(expected, abs=1e-4)  # second order of 1e-6


def test_descent_returns_to_its_best_point_and_drops_failures():
    start = torch.zeros(2, 1, dtype=torch.float64)
    search = Descent(start, torch.ones(1, dtype=torch.float64))
    bound = torch.full((1,), 9.0, dtype=torch.float64)
    slope = torch.ones(2, 1, dtype=torch.float64)
    search.told(torch.tensor([1.0, 1.0]), slope, torch.tensor([True, True]))
    search.advance(-bound, bound)
    search.told(torch.tensor([2.0, math.inf]), 0 * slope, torch.tensor([True, False]))
    search.advance(-bound, bound)
    assert torch.equal(search.best, start)
    assert search.share.tolist() == [0.5, 0.5]
    assert search.merit.tolist() == [1.0, 1.0]


def test_merit_gradient_against_differences():
    def fun(x):
        rows = torch.stack((x[..., 0] * x[..., 1] - 0.1, x.sum(-1) - 9, x[..., 2].square() - 1), -1)
        return x.pow(3).sum(-1), rows

    problem = boxed(fun, 3, equalities=1)
    x = torch.tensor([[0.5, 0.7, 0.4], [0.2, 0.1, 1.5]], dtype=torch.float64)
    answer, step = problem.evaluate(x, 1), 1e-6
    merit = Merit(problem.scale)
    merit.learn(answer)
    assert merit.weight > 0
    for at in range(3):
        offset = step * torch.eye(3, dtype=torch.float64)[at]
        rise = merit.of(problem.evaluate(x + offset)) - merit.of(problem.evaluate(x - offset))
        found = merit.gradient(answer)[:, at]
        # central differences are exact to 1e-12 times the third derivative and round-off / step
        assert torch.allclose(rise / (2 * step), found, rtol=1e-6)
    assert violation_gradient(answer).shape == x.shape


def test_archive_repels_within_a_tenth_of_the_scales():
    problem = boxed(sphere, 2)
    archive = Archive(problem)
    points = torch.tensor([[1.0, 1.0], [1.9, 1.9], [2.1, 2.1]], dtype=torch.float64)
    assert not bool(archive.repels(points).any())
    archive.add(points[0])
    assert float(archive.distance(points)[2]) == pytest.approx(0.11)  # 1.1 of 10 on each axis
    assert RADIUS == 0.1
    assert archive.repels(points).tolist() == [True, True, False]


def test_knot_space_maps_mixed_designs_there_and_back():
    boxes = {
        "mass": Box((), 0.0, 2.0),
        "path": Box((12, 2), -1.0, 1.0, trajectory=True),
        "gain": Box(3, -1.0, 1.0),
    }
    problem = Problem(boxes, differentiable=True)
    part, _ = problem.trajectories["path"]
    space = KnotSpace(problem, [(part, Knots(4, 12, 2))])
    assert space.dimension == 1 + 8 + 3
    points = space.box(space.fit(problem.start)).sample(5, seeded(problem, 1))
    x = space.expand(points)
    assert x.shape == (5, problem.dimension)
    # least squares of what lies in the range of the map gives it back, up to round-off
    assert torch.allclose(space.fit(x), points, atol=1e-12)
    finer = space.doubled()
    assert torch.allclose(finer.expand(finer.fit(x)), x, atol=1e-12)
    gradient = torch.randn(5, problem.dimension, dtype=torch.float64)
    step = 1e-7 * torch.randn(points.shape, dtype=torch.float64)
    rise = (gradient * (space.expand(points + step) - x)).sum(1)
    pulled_back = (space.pull_back(gradient, points) * step).sum(1)
    # the map is linear: what differs is round-off of 1e-16 beside steps of 1e-7
    assert torch.allclose(rise, pulled_back, rtol=1e-6, atol=1e-14)


def test_both_kinds_of_knots_are_tried_and_plain_designs_stay_as_they_are():
    kinds = [space.knots[0][1].kind for space in knot_spaces(pulled(), None)]
    assert sorted(kinds) == ["constant", "cubic"]
    (plain,) = knot_spaces(boxed(sphere, 3), None)
    assert plain.is_identity
    assert plain.is_finest


def test_polish_hands_over_to_cautious_steps_where_gradients_mislead():
    valley = rotated(lambda x: ellipsoid(x, 1000.0), 6, 2)
    for degrees, expected in ((0.0, {"quasi-newton"}), (40.0, {"quasi-newton", "cautious"})):
        problem = turned(boxed(valley, 6, start=[2.0] * 6), degrees, 0.0)
        polish = Polish(problem, problem.start, 0.1 * problem.scale, 0.0)
        engines, generator = set(), seeded(problem, 0)
        for _ in range(100):
            engines.add(polish.engine)
            query = polish.ask()
            polish.tell(query, problem.evaluate(query.points, 1), generator)
            if polish.done:
                break
        assert engines == expected


def test_injected_points_replace_candidates_and_long_steps_are_shortened():
    problem = boxed(sphere, 6)
    search = Cma(population=8).start(problem, seed=0)
    query = search.ask()
    near, far = query.points[3] + 0.01, torch.full((6,), 4.9, dtype=torch.float64)
    search.inject(torch.tensor([1, 2]), torch.stack((near, far)))
    points = search.mean[0] + search.deviation[0] * search.steps[0]
    lengths = (search.noise[0]).norm(dim=1)
    assert torch.allclose(points[1] * problem.scale, near)  # inside, where the box is straight
    assert float(lengths[2]) <= math.sqrt(6) + 12 / 8 + 1e-12  # round-off
    assert torch.allclose(search.steps[0, 2] / search.steps[0, 2, 0], far / far[0])


def test_trajectories_get_a_fifth_of_the_budget_for_smooth_noise_before_any_gradient():
    problem, left, tags = pulled(), 1000.0, []
    search = SampleRefine().start(problem, seed=0)
    while left > 0:
        query = search.ask(left)
        tags += [query.tag] * len(query.points)
        left -= len(query.points) * problem.cost(query.order)
        search.tell(query, problem.evaluate(query.points, query.order))
    count = tags.count("smooth start")
    assert 200 <= count <= 240  # whole generations, of 40 at most
    assert set(tags[:count]) == {"smooth start"}
    assert SampleRefine().start(problem).ask(150).tag != "smooth start"  # not one generation
    assert SampleRefine().start(boxed(sphere, 3)).ask(1000).tag == "polish"
