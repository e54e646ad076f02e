"""The loop that solvers and surrogates share."""

import pytest
import torch

from geomopt.errors import InputError
from sims.pde.rollout import Diverged, rollout


class Growing:
    """u' = factor u, with noise on demand."""

    time_step = 0.5

    def __init__(self, factor=2.0, largest=None):
        self.factor, self.calls = factor, 0
        if largest is not None:
            self.largest = largest

    def step(self, u, generator=None):
        self.calls += 1
        grown = self.factor * u
        if generator is not None:
            grown = grown * torch.randn(u.shape, generator=generator, dtype=u.dtype)
        return grown


class Leaping(Growing):
    def advance(self, u, steps):
        self.calls += 1
        return self.factor**steps * u


def field(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def test_frames_are_the_states_after_every_so_many_steps_without_the_first():
    u = field(3, 2, 5)
    states = rollout(Growing(), u, steps=6, every=2)
    assert states.shape == (3, 3, 2, 5)
    for number in range(3):
        assert torch.equal(states[:, number], 4.0 ** (number + 1) * u)


def test_a_model_that_can_leap_is_asked_for_all_steps_between_frames_at_once():
    model, u = Leaping(), field(2, 1, 4, 4)
    states = rollout(model, u, steps=12, every=4)
    assert model.calls == 3
    assert torch.equal(states, rollout(Growing(), u, steps=12, every=4))


@pytest.mark.parametrize("checkpoint", [False, True])
def test_noise_follows_the_generator_and_leaves_it_where_a_plain_loop_would(checkpoint):
    u = field(2, 1, 4).requires_grad_()
    generator = torch.Generator().manual_seed(1)
    states = rollout(Growing(), u, steps=4, every=2, generator=generator, checkpoint=checkpoint)
    plain = torch.Generator().manual_seed(1)
    by_hand = u
    for _ in range(4):
        by_hand = Growing().step(by_hand, generator=plain)
    assert torch.equal(states[:, -1], by_hand)
    after = generator.get_state()
    assert torch.equal(after, plain.get_state())
    (slope,) = torch.autograd.grad(states[:, -1].sum(), u, retain_graph=True)
    (expected,) = torch.autograd.grad(by_hand.sum(), u)
    assert torch.equal(slope, expected)
    assert torch.equal(generator.get_state(), after)  # the way back draws from its own


def test_checkpoints_do_not_change_gradients():
    u = field(2, 1, 6).requires_grad_()

    def slope(checkpoint):
        value = rollout(Growing(1.1), u, steps=6, every=3, checkpoint=checkpoint).square().sum()
        return torch.autograd.grad(value, u)[0]

    assert torch.equal(slope(True), slope(False))


def test_a_diverging_trajectory_is_stopped_and_counted_and_the_others_go_on():
    u = torch.ones(3, 1, 4, dtype=torch.float64)
    u[1] = 1e200
    with pytest.warns(Diverged, match="1 of 3 trajectories"):
        states = rollout(Growing(1e60), u, steps=3)
    assert states[[0, 2]].isfinite().all()
    assert states[1, 0].isfinite().all()
    assert states[1, 1:].isnan().all()


def test_what_a_surrogate_has_met_bounds_its_rollouts():
    u = torch.ones(2, 1, 4)
    with pytest.warns(Diverged, match="2 of 2"):
        states = rollout(Growing(largest=5.0), u, steps=4)
    assert states[:, :2].isfinite().all()
    assert states[:, 2:].isnan().all()
    assert rollout(Growing(largest=5.0), u, steps=4, largest=20.0).isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be an integer of at least 1, got 0"),
        ({"steps": 2.0}, r"steps must be an integer of at least 1, got 2\.0"),
        ({"steps": 5, "every": 2}, "steps=5 and every=2; 4 would do"),
        ({"steps": 2, "every": -1}, "every must be an integer of at least 1, got -1"),
        ({"steps": 2, "largest": 0.0}, "largest must be above 0"),
        ({"steps": 2, "largest": "much"}, "largest must be a number above 0, got 'much'"),
        ({"steps": 2, "generator": 1}, r"generator must be a torch\.Generator, got 1"),
        ({"steps": 2, "condition": {"viscosity": 1.0}}, "condition must be None for Growing"),
    ],
)
def test_bad_input_is_named(options, message):
    with pytest.raises(InputError, match=message):
        rollout(Growing(), field(1, 1, 4), **options)


@pytest.mark.parametrize("model", [None, Growing, lambda u: u])
def test_what_is_no_model_is_named(model):
    with pytest.raises(InputError, match=r"model must have step\(u\)"):
        rollout(model, field(1, 1, 4), steps=1)


def test_a_model_that_draws_no_noise_does_without_the_generator():
    u, generator = field(1, 1, 4), torch.Generator().manual_seed(1)
    before = generator.get_state()
    model = Leaping()
    model.step = lambda u: 2.0 * u
    states = rollout(model, u, steps=4, every=2, generator=generator)
    assert model.calls == 2  # as one without a generator: at once from frame to frame
    assert torch.equal(states[:, -1], 16.0 * u)
    assert torch.equal(generator.get_state(), before)


def test_checkpoints_meet_the_noise_of_torch_again():
    class Noisy(Growing):
        def step(self, u):
            return u * torch.randn(u.shape, dtype=u.dtype)

    u = field(2, 1, 6).requires_grad_()
    torch.manual_seed(4)
    states = rollout(Noisy(), u, steps=4, every=2, checkpoint=True)
    (slope,) = torch.autograd.grad(states[:, -1].sum(), u)
    assert torch.allclose(slope, (states[:, -1] / u).detach())


def test_a_field_that_is_not_finite_is_refused():
    u = field(2, 1, 4)
    u[0, 0, 1] = torch.nan
    with pytest.raises(InputError, match="u must be finite, got 1 NaN"):
        rollout(Growing(), u, steps=1)
