"""The trajectory toys obey mechanics; their gradients are exact, or wrong by as much as asked."""

from __future__ import annotations

import math

import pytest
import torch

from optimizers import Budget, Cma, Problem, minimize
from optimizers.testing import sphere, trajectory_toys, untrusted_gradients
from optimizers.testing import trajectories as toys
from optimizers.trajectory import Knots

every_toy = pytest.mark.parametrize("toy", trajectory_toys(), ids=lambda toy: toy.name)


def controls_of(toy, count=16, knots=6, seed=0):
    """Smooth random controls (B, T, c) strong enough to reach every contact."""
    ((_, (steps, channels)),) = toy.problem.trajectories.values()
    generator = torch.Generator().manual_seed(seed)
    values = 2 * torch.rand(count, knots * channels, generator=generator, dtype=torch.float64) - 1
    return Knots(knots, steps, channels).expand(2 * values).clamp(-1, 1).view(count, steps, -1)


@every_toy
def test_batch_equals_its_rows_and_failure_is_none(toy):
    controls = controls_of(toy).flatten(1)
    together = toy.problem.evaluate(controls, 1)
    assert bool(together.ok.all())
    for row in range(3):
        alone = toy.problem.evaluate(controls[row : row + 1], 1)
        # matrix kernels may add in another order, and contact amplifies that
        assert torch.allclose(alone.value, together.value[row], rtol=1e-9)
        assert torch.allclose(alone.gradient[0], together.gradient[row], rtol=1e-6, atol=1e-9)


@every_toy
def test_gradient_equals_differences_along_random_directions(toy):
    controls, step = controls_of(toy, 8).flatten(1) * 0.9, 1e-7
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(controls.shape, generator=generator, dtype=torch.float64)
    slope = (toy.problem.evaluate(controls, 1).gradient * direction).sum(1)
    ahead = toy.problem.evaluate(controls + step * direction).value
    behind = toy.problem.evaluate(controls - step * direction).value
    difference = (ahead - behind) / (2 * step)
    # where a contact begins within the step the slope has a kink: one row may be off
    close = (slope - difference).abs() <= 1e-4 * (1 + slope.abs())
    assert int(close.sum()) >= 7


@every_toy
def test_cost_is_near_one_at_rest_and_best_is_far_below(toy):
    idle = float(toy.problem.evaluate(toy.problem.start[None]).value)
    assert 0.9 < idle < 1.2
    assert toy.best < toy.success < 0.2 * idle


def test_gradient_is_zero_before_contact():
    for toy in (toys.breaking_wall(), toys.block_pushing()):
        gradient = toy.problem.evaluate(toy.problem.start[None], 1).gradient
        assert not bool(gradient.any())  # even of the effort, which is least at rest
    toy = toys.breaking_wall()
    weak = torch.full_like(toy.problem.start[None], 0.5)  # reaches the wall and does not break it
    assert float(toy.simulate(weak.view(1, -1, 1))[0, :, 0].max()) > toys.WALL
    effort = weak.requires_grad_().square().mean() * 0.02
    (expected,) = torch.autograd.grad(effort, weak)
    assert torch.allclose(toy.problem.evaluate(weak, 1).gradient, expected)


def test_mass_and_plate_keep_the_balance_of_momentum():
    toy, h = toys.breaking_wall(), toys.WALL_STEP
    controls = torch.linspace(0.7, 1.0, 9, dtype=torch.float64)[:, None, None].expand(9, 40, 1)
    x, v, plate, w, loose = toy.simulate(controls).unbind(-1)
    push = toys.PUSH * controls[..., 0].repeat_interleave(2, 1)
    change = (v + w).diff(dim=1) / h
    free = (x < plate)[:, :-1]  # without contact, push and drag alone act
    drag = toys.PLATE_DRAG * w[:, :-1]
    assert torch.allclose(change[free], (push - drag)[free])
    moving = loose[:, :-1].bool() & loose[:, 1:].bool()
    assert torch.allclose(change[moving], (push - drag)[moving])
    assert bool(loose[-1, -1])
    assert not bool(w[loose == 0].any())
    # the spring takes up no more than the energy of the run-up
    depth, fastest = (x - plate).max(), v.abs().max()
    assert depth < 1.1 * fastest / math.sqrt(toys.WALL_STIFFNESS)


def test_pole_keeps_its_energy_once_the_force_is_off():
    toy = toys.cart_pole()
    controls = controls_of(toy)
    controls[:, 15:] = 0
    _, v, angle, w = toy.simulate(controls)[:, 30:].unbind(-1)
    total = (toys.CART + toys.POLE) * v.square() / 2
    total = total + toys.POLE * toys.LENGTH * v * w * angle.cos()
    total = total + toys.POLE * toys.LENGTH * (toys.LENGTH * w.square() / 2)
    total = total + toys.POLE * toys.LENGTH * toys.GRAVITY * angle.cos()
    spread = total.max(1).values - total.min(1).values
    # steps of 25 ms are first order: over a second a sixth of the energy of the whole height
    assert spread.max() < 0.17 * 2 * toys.POLE * toys.LENGTH * toys.GRAVITY


def test_force_on_the_cart_is_the_change_of_momentum():
    toy = toys.cart_pole()
    controls = controls_of(toy)
    _, v, angle, w = toy.simulate(controls).unbind(-1)
    momentum = (toys.CART + toys.POLE) * v + toys.POLE * toys.LENGTH * w * angle.cos()
    impulse = 2 * toys.CART_STEP * toys.FORCE * controls[..., 0].sum(1)
    change = momentum[:, -1] - momentum[:, 0]
    assert torch.allclose(change, impulse, atol=0.05 * toys.FORCE)  # of a step of first order


def test_ball_falls_freely_and_enters_neither_floor_nor_wall():
    toy = toys.ball_through_gate()
    controls = controls_of(toy, 64)
    states = toy.simulate(controls)
    x, y = states[..., 0], states[..., 1]
    assert y.min() > 0
    solid = ((x - toys.GATE[0]).abs() < toys.WIDTH[0]) & ((y - toys.GATE[1]).abs() > toys.WIDTH[1])
    assert not bool(solid.any())
    fall = states[:, :8, 3].diff(dim=1) / toys.BALL_STEP  # before the first bounce
    push = toys.THRUST * controls[:, :2, 1].repeat_interleave(4, 1)[:, :7]
    assert torch.allclose(fall, push - toys.GRAVITY)


def test_bounces_lose_energy():
    toy = toys.ball_through_gate()
    states = toy.simulate(torch.zeros(1, 120, 2, dtype=torch.float64))[0]  # four times as long
    height, speed = states[:, 1], states[:, 3]
    tops = height[1:][(speed[:-1] > 0) & (speed[1:] <= 0)]
    assert len(tops) >= 3
    assert bool((tops.diff() < 0).all())
    assert tops[0] < toys.BALL_START[1]


def test_block_and_pusher_keep_the_balance_of_momentum_and_friction_holds_the_block():
    toy, h = toys.block_pushing(), toys.BLOCK_STEP
    controls = controls_of(toy, 64)
    states = toy.simulate(controls)
    u, v = states[..., 2:4], states[..., 7:9]
    push = toys.HAND * controls.repeat_interleave(2, 1)
    friction = toys.GRIP * v[:, 1:] / (v[:, :-1].square().sum(-1, True) + toys.SLIP**2).sqrt()
    change = (0.5 * u + v).diff(dim=1) / h
    assert torch.allclose(change, push - toys.DRAG * u[:, :-1] - friction, atol=1e-9)
    assert v.abs().max() > 0.1  # some do touch it
    untouched = toy.simulate(torch.zeros(1, 30, 2, dtype=torch.float64))
    assert not bool(untouched[..., 4:].any())


def test_pusher_stays_out_of_the_block():
    toy = toys.block_pushing()
    states = toy.simulate(controls_of(toy, 64))
    offset, angle = states[..., :2] - states[..., 4:6], states[..., 6]
    c, s = angle.cos(), angle.sin()
    local = torch.stack(
        (c * offset[..., 0] + s * offset[..., 1], c * offset[..., 1] - s * offset[..., 0]), -1
    )
    assert (local.abs().amax(-1) - toys.SIDE).min() > -0.01


def test_breaking_wall_is_solved_between_knots():
    toy = toys.breaking_wall()
    knots = Knots(5, 40)
    coarse = Problem.from_callable(
        lambda values: toy.problem.evaluate(knots.expand(values)).value,
        [-1.0] * 5,
        [1.0] * 5,
        batched=True,
        constraints=0,
    )
    # wide enough at first that a run-up is among the samples
    settings, budget = Cma(population=40, deviation=0.5), Budget(evaluations=3000)
    values = [minimize(coarse, settings, budget=budget, seed=seed).value for seed in range(3)]
    assert min(values) <= toy.success


def test_untrusted_gradients_have_their_angle_length_and_share_of_failures():
    truth = Problem.from_callable(
        sphere, [-2.0] * 30, [2.0] * 30, batched=True, differentiable=True, constraints=0
    )
    problem = untrusted_gradients(truth, seed=3)
    x = torch.randn(2000, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    told, exact = problem.evaluate(x, 1), truth.evaluate(x, 1)
    # five deviations of a binomial
    assert abs(float((~told.ok).double().mean()) - 0.2) < 5 * math.sqrt(0.2 * 0.8 / 2000)
    good = told.ok
    assert torch.equal(told.value[good], exact.value[good])
    cosine = torch.cosine_similarity(told.gradient[good], exact.gradient[good])
    assert torch.allclose(cosine, torch.full_like(cosine, math.cos(math.radians(40))))
    assert torch.allclose(told.gradient[good].norm(dim=1), exact.gradient[good].norm(dim=1))
    again = untrusted_gradients(truth, seed=3).evaluate(x, 1)
    assert torch.equal(again.gradient, told.gradient)
    assert not torch.equal(problem.evaluate(x, 1).gradient, told.gradient)  # new in each call
    values = problem.evaluate(x)
    assert bool(values.ok.all())
    assert torch.equal(values.value, exact.value)


def test_untrusted_gradients_refuse_what_makes_no_sense():
    toy = toys.breaking_wall()
    with pytest.raises(ValueError, match="missing must be >= 0 and <= 1, got 2"):
        untrusted_gradients(toy.problem, missing=2)
    with pytest.raises(ValueError, match="angle must be >= 0"):
        untrusted_gradients(toy.problem, angle=-0.1)


def test_zero_gradients_stay_zero_when_turned():
    toy = toys.breaking_wall()
    problem = untrusted_gradients(toy.problem, missing=0.0)
    assert not bool(problem.evaluate(toy.problem.start[None], 1).gradient.any())
