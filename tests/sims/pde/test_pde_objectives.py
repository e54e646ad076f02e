"""Objectives: what they are the mean of, and what their gradients pass through."""

import math

import pytest
import torch

from geomopt.errors import InputError
from sims.pde.networks import FourierNet, UNet
from sims.pde.objectives import (
    Batch,
    frames_of,
    input_noise,
    one_step,
    pushforward,
    refine,
    sobolev,
    unrolled,
)
from sims.pde.surrogates.refiner import Refiner
from sims.pde.surrogates.surrogate import OneStep

DATA = {"time_step": 0.5, "length": 8.0, "points": 16}


@pytest.fixture(autouse=True)
def _weights_of_every_run_alike():
    torch.manual_seed(0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def waves(trajectories=4, frames=4, points=(16,), seed=0):
    size = (trajectories, frames, 1, *points)
    return torch.randn(size, generator=seeded(seed), dtype=torch.float64)


def stirred(model, points=(16,)):
    model.fit_scale(waves(points=points))
    generator = seeded(8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator).to(parameter)
    return model


def model(**options):
    return stirred(OneStep(UNet(1, widths=(4, 6)).double(), **{**DATA, **options}))


def refiner(fine=False, **options):
    seeing = UNet(1, 2, 1, widths=(4, 6), leveled=True).double()
    if not fine:
        return stirred(Refiner(seeing, **DATA, **options))
    return stirred(Refiner(UNet(1, widths=(4, 6)).double(), fine=seeing, **DATA, **options))


OBJECTIVES = {
    "one_step": one_step,
    "unrolled": unrolled(3),
    "pushforward": pushforward(2),
    "sobolev": sobolev(1.0),
    "input_noise": input_noise(0.1),
}


def check_gradient(surrogate, objective):
    """Along random directions in the weights, against central differences."""
    batch = Batch(waves())
    weights = list(surrogate.parameters())
    loss = objective(surrogate, batch, seeded(2))
    gradient = torch.autograd.grad(loss, weights, allow_unused=True)
    step = 1e-5
    for seed in range(2):
        generator = seeded(20 + seed)
        way = [torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in weights]
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                for weight, direction in zip(weights, way, strict=True):
                    weight += sign * step * direction
                ends.append(float(objective(surrogate, batch, seeded(2))))
                for weight, direction in zip(weights, way, strict=True):
                    weight -= sign * step * direction
        slope = (ends[0] - ends[1]) / (2 * step)
        found = sum(
            float((g * direction).sum())
            for g, direction in zip(gradient, way, strict=True)
            if g is not None
        )
        assert found == pytest.approx(slope, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "pushforward"])
def test_gradients_in_weights_meet_differences(name):
    check_gradient(model(), OBJECTIVES[name])


@pytest.mark.parametrize("form", ["epsilon", "velocity"])
@pytest.mark.parametrize("fine", [False, True])
def test_gradients_of_refine_in_weights_meet_differences(form, fine):
    check_gradient(refiner(fine, form=form), refine)


def test_one_step_is_one_where_nothing_is_said_of_scaled_increments():
    still = OneStep(UNet(1, widths=(4, 6)), **DATA)
    states = waves(64, 2)
    still.fit_scale(states)
    assert float(one_step(still, Batch(states)).detach()) == pytest.approx(1.0, abs=1e-3)


def test_one_unrolled_step_is_one_step():
    surrogate, batch = model(), Batch(waves())
    expected = one_step(surrogate, batch)
    for objective in (unrolled(1), pushforward(1), sobolev(0.0)):
        torch.testing.assert_close(objective(surrogate, batch), expected, rtol=1e-13, atol=0)


def test_unrolled_is_the_mean_over_the_steps_of_a_rollout():
    surrogate, states = model(), waves()
    u, parts = states[:, 0], []
    for j in range(1, 4):
        u = surrogate.step(u)
        parts.append(((u - states[:, j]) / surrogate.scale).square().mean())
    torch.testing.assert_close(unrolled(3)(surrogate, Batch(states)), torch.stack(parts).mean())


def test_the_gradient_of_pushforward_is_that_of_the_last_step():
    surrogate, states = model(), waves()
    start = surrogate.advance(states[:, 0], 2).detach()
    last = one_step(surrogate, Batch(torch.stack([start, states[:, 3]], 1)))
    loss = pushforward(3)(surrogate, Batch(states))
    torch.testing.assert_close(loss, last)
    weights = list(surrogate.parameters())
    for one, two in zip(
        torch.autograd.grad(loss, weights), torch.autograd.grad(last, weights), strict=True
    ):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize(("length", "points"), [(8.0, (16,)), ((2.0, 6.0), (8, 12))])
def test_sobolev_is_the_norm_of_derivatives_by_parseval(length, points):
    dimension = len(points)
    network = FourierNet(dimension, width=4, modes=3, layers=2).double()
    surrogate = OneStep(network, time_step=1.0, length=length, points=points)
    surrogate = stirred(surrogate, points)
    grids = torch.meshgrid(
        *[torch.arange(n, dtype=torch.float64) / n * 2 * math.pi for n in points], indexing="ij"
    )
    # an error that is known: 0.3 cos(2 x₁) + 0.1 sin(x_d), of which all derivatives are too
    error = 0.3 * torch.cos(2 * grids[0]) + 0.1 * torch.sin(grids[-1])
    u = waves(points=points)[:, 0]
    following = u + surrogate.scale.view(-1, *[1] * dimension) * (
        surrogate.increment(u).detach() + error
    )
    batch = Batch(torch.stack([u, following], 1))
    lengths = (length,) * dimension if isinstance(length, float) else length
    first, last = (2 * math.pi / lengths[0] * 2) ** 2, (2 * math.pi / lengths[-1]) ** 2
    for exponent in (0.0, 1.0, 2.0, -1.0):
        expected = 0.3**2 / 2 * (1 + first) ** exponent + 0.1**2 / 2 * (1 + last) ** exponent
        found = sobolev(exponent)(surrogate, batch)
        assert float(found.detach()) == pytest.approx(expected, rel=1e-9)


def test_sobolev_takes_the_spacing_of_each_trajectory():
    told = OneStep(
        UNet(1, widths=(4, 6), conditions=1).double(), **DATA, conditions={"spacing": (0.4, 0.6)}
    )
    told = stirred(told)
    u = waves(2)[:, 0]
    spacing = torch.tensor([0.5, 0.4], dtype=torch.float64)
    wave = torch.cos(2 * math.pi * torch.arange(16, dtype=torch.float64) / 16)
    following = u + told.scale * (told.increment(u, {"spacing": spacing}).detach() + wave)
    batch = Batch(torch.stack([u, following], 1), {"spacing": spacing})
    expected = (0.5 * (1 + (2 * math.pi / (16 * spacing)) ** 2)).mean()
    torch.testing.assert_close(sobolev(1.0)(told, batch).detach(), expected)


def test_input_noise_is_taken_off_on_average_and_in_units_of_the_field():
    still = OneStep(UNet(1, widths=(4, 6)).double(), **DATA)
    states = 5 * waves(256, 2)
    still.fit_scale(states)
    plain = float(one_step(still, Batch(states)).detach())
    noisy = float(input_noise(0.5)(still, Batch(states), seeded()).detach())
    added = float((0.5 * still.spread / still.scale).square())
    # 4096 values, whose squares spread by sqrt(2): 5 % is over two standard errors
    assert noisy == pytest.approx(plain + added, rel=0.05)


def test_refine_is_the_mean_over_levels_of_what_the_network_should_give():
    surrogate, batch = refiner(levels=2), Batch(waves(512, 2))
    silent = Refiner(UNet(1, 2, 1, widths=(4, 6), leveled=True).double(), **DATA, levels=2)
    silent.fit_scale(batch.states)
    # y has unit deviation, and so has ε: a network that says nothing is wrong by 1 at all levels
    assert float(refine(silent, batch, seeded()).detach()) == pytest.approx(1.0, abs=0.05)
    assert float(refine(surrogate, batch, seeded()).detach()) != 1.0


def test_refine_with_a_fine_network_trains_both_and_leaves_a_frozen_first_alone():
    surrogate, batch = refiner(fine=True), Batch(waves())
    refine(surrogate, batch, seeded()).backward()
    assert all(weight.grad is not None for weight in surrogate.parameters())
    both = refine(surrogate, batch, seeded()).detach()
    surrogate.network.requires_grad_(False)
    fine = refine(surrogate, batch, seeded()).detach()
    torch.testing.assert_close(both, fine + one_step_of(surrogate, batch))


def one_step_of(surrogate, batch):
    states = batch.states
    y = surrogate.first(surrogate.seen(states[:, 0]), None)
    return (y - surrogate.target(states[:, 0], states[:, 1])).square().mean().detach()


def test_noise_is_that_of_the_generator():
    for surrogate, objective in ((refiner(), refine), (model(), input_noise(0.1))):
        losses = [
            float(objective(surrogate, Batch(waves()), seeded(n)).detach()) for n in (0, 0, 1)
        ]
        assert losses[0] == losses[1] != losses[2]


def test_names_that_the_surrogate_does_not_know_are_left_aside():
    surrogate = model()
    batch = Batch(waves(), {"drag": torch.ones(4), "time_step": torch.full((4,), 0.5)})
    assert one_step(surrogate, batch) == one_step(surrogate, Batch(waves()))
    wrong = Batch(waves(), {"spacing": torch.full((4,), 0.4)})
    with pytest.raises(InputError, match=r"spacing must be 0\.5"):
        one_step(surrogate, wrong)


def test_frames_that_each_objective_needs():
    needed = [frames_of(objective) for objective in OBJECTIVES.values()]
    assert needed == [2, 4, 3, 2, 2]
    with pytest.raises(InputError, match="states must have 4 frames for this objective, got 3"):
        unrolled(3)(model(), Batch(waves(frames=3)))


def test_arguments_that_cannot_be():
    with pytest.raises(InputError, match=r"states must have shape \(B, F, C, \*space\)"):
        Batch(torch.zeros(4, 2, 16))
    with pytest.raises(InputError, match="states must be finite"):
        Batch(torch.full((4, 2, 1, 16), math.nan))
    with pytest.raises(InputError, match=r"condition 'drag' must have shape \(4\)"):
        Batch(waves(), {"drag": torch.ones(3)})
    with pytest.raises(InputError, match="model must be a Refiner"):
        refine(model(), Batch(waves()))
    with pytest.raises(InputError, match="model must be a surrogate, got Conv1d"):
        one_step(torch.nn.Conv1d(1, 1, 1), Batch(waves()))
    with pytest.raises(InputError, match="batch must be a Batch, got Tensor"):
        one_step(model(), waves())
    with pytest.raises(InputError, match=r"generator must be a torch\.Generator or None, got 0"):
        refine(refiner(), Batch(waves()), 0)
    for make, said in (
        (lambda: unrolled(0), "steps must be an integer of at least 1"),
        (lambda: pushforward(True), "steps must be an integer of at least 1"),
        (lambda: sobolev(math.inf), "exponent must be a finite number"),
        (lambda: input_noise(0.0), "std must be above 0"),
    ):
        with pytest.raises(InputError, match=said):
            make()
    with pytest.raises(InputError, match=r"u must have shape \(any, 1, 16\)"):
        one_step(model(), Batch(waves(points=(32,))))
