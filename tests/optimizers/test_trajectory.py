"""Knots and limits of motion: the linear maps, their transposes, and what doubling keeps."""

from __future__ import annotations

import pytest
import torch

from optimizers.trajectory import Knots, RateLimit

ROUND_OFF = 1e-11  # float64 through a pseudoinverse whose condition is below 1e3

kinds = pytest.mark.parametrize("kind", ["cubic", "constant"])
sizes = pytest.mark.parametrize(
    ("count", "steps"), [(1, 1), (1, 9), (2, 9), (3, 20), (4, 20), (5, 7), (9, 40), (40, 40)]
)
LIMITS = [None, 0.3, RateLimit(0.4, groups=((0, 2), (1,)), weights=(1.0, 0.2))]
LIMITS += [RateLimit(0.4, groups=((0, 2), (1,)), motions=True)]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@kinds
@sizes
def test_steps_are_weighted_means_of_knots(kind, count, steps):
    weights = Knots(count, steps, kind=kind).weights(torch.zeros((), dtype=torch.float64))
    assert weights.shape == (steps, count)
    assert bool((weights >= 0).all())
    assert torch.allclose(weights.sum(1), weights.new_ones(steps))


@kinds
@sizes
def test_fit_inverts_expand(kind, count, steps):
    knots = Knots(count, steps, 2, kind)
    values = random(3, 2 * count)
    assert torch.allclose(knots.fit(knots.expand(values)), values, atol=ROUND_OFF)


@kinds
@sizes
def test_pull_back_is_the_transpose(kind, count, steps):
    knots = Knots(count, steps, 3, kind)
    values, gradient = random(2, 3 * count), random(2, 3 * steps, seed=1)
    through = (knots.expand(values) * gradient).sum(1)
    assert torch.allclose((values * knots.pull_back(gradient)).sum(1), through)


@kinds
@pytest.mark.parametrize("steps", [1, 2, 7, 30, 64])
def test_doubling_keeps_the_trajectory_up_to_full_resolution(kind, steps):
    knots, values = Knots(1, steps, 2, kind), random(3, 2)
    trajectory = knots.expand(values)
    while knots.count < steps:
        lowest, highest = values.min(), values.max()
        finer, values = knots.doubled(), knots.refine(values)
        assert finer.count > knots.count
        assert torch.allclose(finer.expand(values), trajectory, atol=ROUND_OFF)
        # knots of a refined spline are means of the coarse ones: a box is kept
        assert lowest - ROUND_OFF <= values.min()
        assert values.max() <= highest + ROUND_OFF
        knots, values = finer, values + random(*values.shape, seed=knots.count)
        trajectory = knots.expand(values)
    assert torch.equal(knots.expand(values), values)
    assert knots.doubled() == knots


def test_constant_knots_hold_pieces_of_equal_length():
    assert Knots(3, 7, kind="constant").expand(torch.tensor([1.0, 2.0, 3.0])).tolist() == [
        1, 1, 1, 2, 2, 3, 3,
    ]  # fmt: skip
    values = torch.tensor([1.0, -1.0, 2.0, -2.0])  # time leads: two knots of two channels
    assert Knots(2, 4, 2, "constant").expand(values).tolist() == [1, -1, 1, -1, 2, -2, 2, -2]


@pytest.mark.parametrize("count", [4, 5, 8])
def test_cubic_knots_reproduce_cubics_and_pass_through_their_ends(count):
    time = torch.linspace(-1, 1, 50, dtype=torch.float64)
    cubic = 0.3 - time + 2 * time**2 - 0.7 * time**3
    knots = Knots(count, 50)
    values = knots.fit(cubic)
    assert torch.allclose(knots.expand(values), cubic, atol=ROUND_OFF)
    assert torch.allclose(values[[0, -1]], cubic[[0, -1]], atol=ROUND_OFF)


@kinds
def test_fit_is_the_least_squares_solution(kind):
    knots, trajectory = Knots(6, 25, 2, kind), random(4, 50)
    residual = knots.expand(knots.fit(trajectory)) - trajectory
    assert knots.pull_back(residual).abs().max() < ROUND_OFF  # orthogonal to all trajectories


@kinds
@pytest.mark.parametrize("limit", LIMITS)
def test_gradient_through_knots_equals_differences(kind, limit):
    knots = Knots(4, 12, 3, kind, limit)
    values = random(2, 12)
    assert torch.autograd.gradcheck(knots.expand, (values.requires_grad_(),))
    gradient = random(2, 36, seed=1)
    (expected,) = torch.autograd.grad(knots.expand(values), values, gradient)
    pulled = knots.pull_back(gradient, values)
    assert torch.allclose(pulled, expected)
    assert not pulled.requires_grad


@pytest.mark.parametrize("limit", LIMITS[1:3])
def test_limited_positions_move_at_most_so_far_and_stay_in_the_box(limit):
    knots = Knots(8, 30, 3, "constant", limit)
    values = random(5, 24).clamp(-1, 1)
    limited = knots.expand(values).view(5, 30, 3)
    motion = limited.diff(dim=1)
    if isinstance(limit, RateLimit):
        length = motion[..., [0, 2]].norm(dim=-1) + 0.2 * motion[..., 1].abs()
        assert length.max() <= limit.limit + ROUND_OFF
    else:
        assert motion.abs().max() <= limit + ROUND_OFF
    assert limited.abs().max() <= 1 + ROUND_OFF
    again = Knots(30, 30, 3, "constant", limit).expand(limited.flatten(1))
    assert torch.allclose(again, limited.flatten(1), atol=ROUND_OFF)


def test_slow_trajectories_pass_a_limit_untouched():
    knots, free = Knots(3, 50, rate_limit=0.2), Knots(3, 50)
    values = torch.tensor([0.0, 1.0, 0.0])
    assert torch.equal(knots.expand(values), free.expand(values))


def test_the_gripper_of_thin_shells_moves_a_millimetre_a_frame():
    """Five velocities of six channels over 80 frames, |dp| + 0.015 |dtheta| <= 1e-3."""
    groups = ((0, 1, 2), (3, 4, 5))
    limit = RateLimit(1e-3, groups, (1.0, 0.015), motions=True)
    knots = Knots(5, 80, 6, "constant", limit)
    wanted = 1e-3 * random(7, 30)
    motion = knots.expand(wanted).view(7, 80, 6)
    length = motion[..., :3].norm(dim=-1) + 0.015 * motion[..., 3:].norm(dim=-1)
    free = Knots(5, 80, 6, "constant").expand(wanted).view(7, 80, 6)
    asked = free[..., :3].norm(dim=-1) + 0.015 * free[..., 3:].norm(dim=-1)
    assert torch.allclose(length, asked.clamp(max=1e-3))
    assert torch.allclose(motion * asked[..., None], free * length[..., None])  # same direction


def test_bounds_that_do_not_vary_are_kept():
    knots = Knots(6, 20, 2)
    lower = torch.tensor([-1.0, 0.0]).repeat(20)
    upper = torch.tensor([1.0, torch.inf]).repeat(20)
    low, high = knots.bounds(lower, upper)
    assert torch.equal(low, torch.tensor([-1.0, 0.0]).repeat(6))
    assert torch.equal(high, torch.tensor([1.0, torch.inf]).repeat(6))


def test_knots_may_go_where_any_of_their_steps_may():
    lower, upper = -torch.ones(6), torch.ones(6)
    lower[0] = upper[0] = 0.5
    lower[4], upper[5] = -2.0, 3.0
    low, high = Knots(3, 6, kind="constant").bounds(lower, upper)
    assert low.tolist() == [-1, -1, -2]
    assert high.tolist() == [1, 1, 3]


@kinds
def test_means_of_a_constant_are_that_constant(kind):
    scale = torch.tensor([0.5, 3.0])
    assert torch.allclose(Knots(5, 17, 2, kind).means(scale.repeat(17)), scale.repeat(5))


def test_float32_stays_float32():
    knots = Knots(4, 10, 1, rate_limit=0.1)
    values = torch.randn(2, 4)
    assert knots.expand(values).dtype == torch.float32
    assert knots.pull_back(torch.ones(2, 10), values).dtype == torch.float32
    assert knots.fit(torch.ones(2, 10)).dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count must be at least 1"),
        ({"count": 11}, "count must be at most steps = 10, got 11"),
        ({"steps": 2.5}, "steps must be an integer"),
        ({"kind": "linear"}, 'kind must be "cubic" or "constant", got \'linear\''),
        ({"rate_limit": -1.0}, "rate_limit must be > 0"),
        ({"rate_limit": RateLimit(1.0, groups=((3,),))}, "channels below 2"),
    ],
)
def test_unusable_settings_are_refused(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Knots(**({"count": 5, "steps": 10, "channels": 2} | change))


def test_unusable_values_are_refused():
    knots = Knots(3, 10, 2, rate_limit=1.0)
    with pytest.raises(ValueError, match=r"values must have shape \(..., 3 \* 2\), got \(4, 20\)"):
        knots.expand(torch.zeros(4, 20))
    with pytest.raises(ValueError, match=r"trajectory must have shape \(..., 10 \* 2\)"):
        knots.fit(torch.zeros(6))
    with pytest.raises(ValueError, match="pull_back needs values"):
        knots.pull_back(torch.zeros(20))
    with pytest.raises(ValueError, match="weights must be one number for each of the groups"):
        RateLimit(1.0, groups=((0,), (1,)), weights=(1.0,))
