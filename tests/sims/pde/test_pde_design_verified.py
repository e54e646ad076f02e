"""The loop in which a surrogate proposes and the solver verifies."""

import functools
import math

import pytest
import torch

from geomopt.errors import InputError
from optimizers import Budget, RegularizedNewton, iterate
from sims.pde.design.gradients import gradient_cosine, gradient_table, taylor_remainders
from sims.pde.design.observations import Observations
from sims.pde.design.problems import InverseProblem
from sims.pde.design.unknowns import Field, Number
from sims.pde.design.verified import verified
from sims.pde.rollout import rollout
from sims.pde.spectral.initial import random_waves
from sims.pde.spectral.kuramoto_sivashinsky import KuramotoSivashinsky

DOUBLE = torch.float64
SOLVED = 1e-9  # of J, half the squared relative error: a relative residual of 4e-5


def small_flow(seed=0, count=1, **parameters):
    solver = KuramotoSivashinsky(22.0, 32, 0.1, **parameters)
    generator = torch.Generator().manual_seed(seed)
    return solver, solver.advance(random_waves(solver, count, generator), 800)


def initial_problem(seed=0):
    solver, u = small_flow(seed)
    frames = rollout(solver, u, 24, 8)
    unknown = {"initial": Field(6, start=frames[0, :1], spread=0.5)}
    seen = Observations(frames, [0.8 * (i + 1) for i in range(3)])
    return InverseProblem(solver, seen, unknown, spin_up=0.8)


def viscosity_problem():
    true, u = small_flow(count=2, viscosity=0.9)
    frames = rollout(true, u, 16, 8)
    make = functools.partial(KuramotoSivashinsky, 22.0, 32, 0.1)
    seen = Observations(frames, [0.8, 1.6])
    return InverseProblem(make, seen, {"viscosity": Number(0.5, 2.0)}, initial=u)


LONGER = KuramotoSivashinsky(22.0, 32, 0.8)  # one step where the solver takes eight
WRONG = KuramotoSivashinsky(22.0, 32, 0.4, viscosity=1.6)


class Liar:
    """A model whose frames move against the field, whatever the flow does."""

    time_step, channels, points = 0.8, 1, (32,)

    def step(self, u):
        return -3.0 * u.roll(5, -1) + 0.1


class Exploding(Liar):
    def step(self, u):
        return u * math.inf


class Counted:
    """A stepper that counts its rollouts, by their first steps."""

    def __init__(self, stepper):
        self.stepper, self.steps = stepper, 0
        self.time_step, self.channels, self.points = stepper.time_step, 1, stepper.points

    def step(self, u):
        return self.advance(u, 1)

    def advance(self, u, steps):
        self.steps += steps * len(u)
        return self.stepper.advance(u, steps)


def check_laws(problem, found, calls, radius, largest):
    values = [proposal.value for proposal in found.history]
    assert values == sorted(values, reverse=True)  # never worse, by the solver's own word
    assert float(problem.evaluate(found.x[None]).value) == pytest.approx(found.value, rel=1e-9)
    assert found.value <= float(problem.evaluate(problem.start[None]).value)
    assert found.calls == found.solves + problem.gradient_cost * found.gradients
    assert found.calls <= calls
    assert found.solves == len(found.history) + 1
    assert found.history == () or found.history[0].radius == radius
    for proposal in found.history:
        assert 0 < proposal.radius <= largest
        assert proposal.step <= proposal.radius * (1 + 1e-9)
        assert proposal.accepted == (proposal.value == proposal.trial)
    for before, after in zip(found.history, found.history[1:], strict=False):
        if before.ratio < 0.25:
            assert after.radius < before.radius
        elif before.ratio <= 0.75:
            assert after.radius == before.radius
        else:
            assert after.radius >= before.radius


@pytest.mark.parametrize("correction", ["auto", "outputs"])
def test_a_good_surrogate_needs_few_calls(correction):
    problem = initial_problem()
    found = verified(problem, LONGER, calls=20, target=SOLVED, steps=6, correction=correction)
    check_laws(problem, found, 20, 1.0, 16.0)
    assert found.reason == "target"
    solver_only = RegularizedNewton("gauss-newton")
    for it in iterate(problem, solver_only, budget=Budget(iterations=40, target=found.value)):
        spent = it.evaluations
    assert found.calls <= spent / 3


@pytest.mark.parametrize("model", [WRONG, Liar(), Exploding()], ids=["wrong", "liar", "exploding"])
def test_a_bad_surrogate_does_no_harm(model):
    problem = initial_problem()
    found = verified(problem, model, calls=16, radius=0.5, steps=3)
    check_laws(problem, found, 16, 0.5, 16.0)


def test_the_solvers_gradient_makes_a_poor_surrogate_go_on():
    problem = viscosity_problem()

    def backwards(viscosity):  # falls where the solver rises
        return KuramotoSivashinsky(22.0, 32, 0.4, viscosity=1.0 / viscosity)

    stubborn = verified(problem, backwards, calls=16, radius=0.2, steps=3, correction="outputs")
    helped = verified(problem, backwards, calls=16, radius=0.2, steps=3)
    assert helped.gradients > 0
    assert stubborn.gradients == 0
    assert helped.value < 0.5 * stubborn.value
    check_laws(problem, helped, 16, 0.2, 16.0)


def test_solves_are_counted_as_they_are_made():
    problem = initial_problem()
    counted = Counted(KuramotoSivashinsky(22.0, 32, 0.1))
    found = verified(problem.by(counted), LONGER, calls=6, correction="outputs")
    # the last rollout is that of the found field, which is handed out after its spin-up of 8 steps
    assert counted.steps == found.solves * 32 + 8


def test_all_that_was_solved_is_kept_and_handed_to_the_fine_tuning():
    problem, told = initial_problem(), []

    def renew(pairs):
        told.append(len(pairs))
        return LONGER

    found = verified(problem, WRONG, calls=20, target=SOLVED, radius=4.0, fine_tune=renew)
    assert told
    assert told == sorted(told)
    assert found.reason == "target"
    assert len(found.pairs) == found.solves
    pair = found.pairs[-1]
    named = problem.parameters_of(pair.x[None])
    torch.testing.assert_close(problem.frames(problem.values(named))[0], pair.frames)


def test_a_killed_loop_goes_on(tmp_path):
    problem = initial_problem()
    whole = verified(problem, LONGER, calls=5, correction="outputs", steps=3)
    path = tmp_path / "loop.pt"
    verified(problem, LONGER, calls=3, correction="outputs", steps=3, path=path)
    resumed = verified(problem, LONGER, calls=5, correction="outputs", steps=3, path=path)
    assert torch.equal(whole.x, resumed.x)
    assert whole.history == resumed.history
    with pytest.raises(ValueError, match="belongs to another run"):
        verified(viscosity_problem(), functools.partial(KuramotoSivashinsky, 22.0, 32, 0.4),
                 path=path)  # fmt: skip


def test_bad_arguments_are_named():
    problem = initial_problem()
    for message, options in {
        "calls must be above 0": {"calls": 0},
        "radius must be above 0": {"radius": -1.0},
        "correction must be": {"correction": "always"},
        "largest must be at least": {"radius": 2.0, "largest": 1.0},
        "start must be a design": {},
    }.items():
        begun = problem.starting(problem.start + (1e9 if not options else 0.0))
        with pytest.raises(InputError, match=message):
            verified(begun, LONGER, **options)
    with pytest.raises(InputError, match="problem must be an InverseProblem"):
        verified(LONGER, LONGER)


def test_gradients_of_a_model_beside_itself_are_the_same():
    solver, u = small_flow(count=3)
    rows = gradient_cosine(solver, solver, u, (0.8, 4.0))
    for row in rows:
        assert row.cosine == pytest.approx(1.0)
        assert row.ratio == pytest.approx(1.0)
        assert all(band == pytest.approx((1.0, 1.0)) for band in row.bands)
    assert rows[0].growth == 1.0
    assert len(gradient_table(rows).splitlines()) == 3


def test_gradients_of_a_wrong_model_turn_with_the_horizon():
    solver, u = small_flow(count=3)
    near, far = gradient_cosine(WRONG, solver, u, (0.4, 8.0))
    assert far.cosine < near.cosine < 1.0
    backwards = gradient_cosine(Liar(), solver, u, (0.8,), objective=lambda v: v[:, 0, 0])
    assert backwards[0].cosine < 0.5
    with pytest.raises(InputError, match="horizons must be multiples"):
        gradient_cosine(LONGER, solver, u, (1.0,))
    with pytest.raises(InputError, match="horizons must be times"):
        gradient_cosine(LONGER, solver, u, ())


def test_taylor_remainders_are_of_second_order():
    problem = initial_problem()
    direction = torch.randn(problem.dimension, dtype=DOUBLE,
                            generator=torch.Generator().manual_seed(0))  # fmt: skip
    remainders, orders = taylor_remainders(problem, problem.start, direction, (1e-2, 1e-3, 1e-4))
    assert remainders.shape == (3,)
    assert orders.tolist() == pytest.approx([2.0, 2.0], abs=0.1)
