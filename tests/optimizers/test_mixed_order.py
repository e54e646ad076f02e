"""Gradients of mixed order, and the two stages of the baseline."""

from __future__ import annotations

import math

import pytest
import torch

from optimizers import Box, Budget, CmaThenAdam, MixedOrder, Problem, minimize, mixed_gradient
from optimizers.testing import boxed, noisy, shifted, sphere

D, DEVIATION = 10, 0.3
DRAWS = 100_000  # for the true gradient of the smoothed function: its error is below a tenth

LANDSCAPES = {
    "smooth": lambda x: x.square().sum(-1) + 0.3 * x.sin().sum(-1),
    "staircase": lambda x: (0.2 * (5 * x).round()).square().sum(-1) + 0 * x.sum(-1),
    "stiff wall": lambda x: x.square().sum(-1) + 200 * (x[..., 0] - 1).clamp(min=0.0).square(),
    "ripples": lambda x: x.square().sum(-1) + 0.05 * (200 * x).sin().sum(-1),
    "jump": lambda x: x.square().sum(-1) + 10 * (x[..., 0] > 1.1),
}


def answers(function, offsets):
    points = (1 + torch.stack((offsets, -offsets))).requires_grad_()
    values = function(points)
    (gradients,) = torch.autograd.grad(values.sum(), points)
    return values.detach(), gradients


def errors(function, pairs: int, rounds: int = 150) -> dict[str, float]:
    """RMS errors of the estimates to the true gradient of the smoothed function at ones."""
    generator = torch.Generator().manual_seed(0)

    def drawn(count):
        return DEVIATION * torch.randn(count, D, generator=generator, dtype=torch.float64)

    offsets = drawn(DRAWS)
    values, gradients = answers(function, offsets)
    zeroth = (0.5 * (values[0] - values[1])[:, None] * offsets / DEVIATION**2).mean(0)
    jumps = function in (LANDSCAPES["staircase"], LANDSCAPES["jump"])
    true = zeroth if jumps else gradients.mean((0, 1))
    sums, averages = {"mixed": 0.0, "first": 0.0, "zeroth": 0.0, "inverse": 0.0}, None
    for _ in range(rounds):
        offsets = drawn(pairs)
        values, gradients = answers(function, offsets)
        mixed = mixed_gradient(offsets, values, gradients, DEVIATION, averages)
        averages = mixed.averages
        rise = 0.5 * (values[0] - values[1])[:, None]
        noise = (rise * offsets / DEVIATION**2).var(0).sum()
        share = noise / (noise + gradients.mean(0).var(0).sum())
        inverse = share * mixed.first + (1 - share) * mixed.zeroth
        estimates = (mixed.gradient, mixed.first, mixed.zeroth, inverse)
        for name, estimate in zip(sums, estimates, strict=True):
            sums[name] += float((estimate - true).square().sum()) / rounds
    return {name: math.sqrt(total) for name, total in sums.items()}


@pytest.mark.parametrize("name", ["smooth", "stiff wall", "ripples"])
def test_gradients_without_bias_are_believed(name):
    """Hardly worse than the better one of both orders, and far better than the worse one."""
    found = errors(LANDSCAPES[name], pairs=16)
    assert found["mixed"] < 0.5 * found["zeroth"]
    # the rare round in which noise looks like bias costs a share of the zeroth order's error
    assert found["mixed"] < found["first"] + 0.1 * found["zeroth"]


@pytest.mark.parametrize("name", ["staircase", "jump"])
@pytest.mark.parametrize("pairs", [16, 64])
def test_gradients_blind_to_jumps_are_not(name, pairs):
    found = errors(LANDSCAPES[name], pairs)
    assert found["mixed"] < found["first"]
    assert found["mixed"] < found["zeroth"]
    assert found["mixed"] < found["inverse"]


def test_true_gradients_of_a_linear_function_are_taken_alone():
    generator = torch.Generator().manual_seed(0)
    slope = torch.arange(1.0, 5.0, dtype=torch.float64)
    offsets = torch.randn(8, 4, generator=generator, dtype=torch.float64)
    values = torch.stack((offsets @ slope, -offsets @ slope))
    mixed = mixed_gradient(offsets, values, slope.expand(2, 8, 4), 1.0)
    assert torch.equal(mixed.first, slope)
    assert 0 < float(mixed.trust) <= 1


def test_blocks_trust_their_own_coordinates():
    """Three coordinates jump where their gradient is zero, the others are smooth."""

    def function(x):
        return 4 * (3 * x[..., :3]).round().sum(-1) + x[..., 3:].square().sum(-1)

    generator = torch.Generator().manual_seed(1)
    blocks, averages = (torch.arange(D) >= 3).long(), None
    for _ in range(30):
        offsets = DEVIATION * torch.randn(64, D, generator=generator, dtype=torch.float64)
        values, gradients = answers(function, offsets)
        mixed = mixed_gradient(offsets, values, gradients, DEVIATION, averages, blocks)
        averages = mixed.averages
    blind, smooth = mixed.trust.tolist()
    assert blind < 0.3
    assert smooth > 0.7


def test_estimates_that_do_not_fit_are_refused():
    offsets = torch.zeros(4, 3)
    with pytest.raises(ValueError, match="values and gradients"):
        mixed_gradient(offsets, torch.zeros(2, 3), torch.zeros(2, 4, 3), 0.1)
    with pytest.raises(ValueError, match="at least 2 pairs"):
        mixed_gradient(offsets[:1], torch.zeros(2, 1), torch.zeros(2, 1, 3), 0.1)
    with pytest.raises(ValueError, match="deviation"):
        mixed_gradient(offsets, torch.zeros(2, 4), torch.zeros(2, 4, 3), 0.0)
    with pytest.raises(ValueError, match="samples must be even"):
        MixedOrder(samples=5)


def test_terraces_whose_gradients_are_zero_are_descended():
    def terraces(x):
        return x.round().square().sum(-1) + 0 * x.sum(-1)

    problem = boxed(shifted(terraces, 0.3), 6, start=[-3.2] * 6)
    assert minimize(problem, "adam", budget=Budget(evaluations=3000)).value > 20
    assert minimize(problem, "mixed-order", budget=Budget(evaluations=3000)).value <= 1


def test_noise_is_averaged():
    problem = boxed(noisy(shifted(sphere, 0.3), 0.01), 6, start=[-3.0] * 6)
    result = minimize(problem, "mixed-order", budget=Budget(evaluations=3000))
    assert float(sphere(result.x - 0.3)) < 1e-2


def test_trajectory_has_a_block_for_each_step():
    boxes = {"mass": Box((), 0.0, 1.0), "path": Box((5, 2), -1.0, 1.0, trajectory=True)}
    problem = Problem(boxes, lambda named: named["path"].square().sum() + named["mass"])
    problem.differentiable = True
    blocks = MixedOrder(samples=64).start(problem).blocks
    assert blocks is not None
    assert blocks.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert MixedOrder().start(problem).blocks is None
    halves = MixedOrder(samples=64, blocks=2).start(problem).blocks
    assert halves is not None
    assert halves.bincount().tolist() == [6, 5]


def test_baseline_samples_knots_first_and_descends_from_the_best_of_them():
    wanted = torch.sin(torch.linspace(0, 6, 30, dtype=torch.float64))

    def fun(named):
        return (named["path"][..., 0] - wanted).square().mean(-1)

    box = Box((30, 1), -1.0, 1.0, start=0.0, trajectory=True)
    problem = Problem({"path": box}, fun, batched=True, differentiable=True)
    search, left, orders = CmaThenAdam().start(problem, seed=0), 600.0, []
    sampled = math.inf
    while left > 0:
        query = search.ask(left)
        left -= len(query.points) * (3 if query.order else 1)
        orders.append(query.order)
        if query.order == 1 and sampled == math.inf:
            sampled = search.best.value
            assert torch.equal(query.points[0], search.best.x)
        search.tell(query, problem.evaluate(query.points, query.order))
    assert orders == sorted(orders)
    assert sum(orders) == pytest.approx(300 / 3, abs=4)  # the last generation is not cut
    assert search.best.value < 0.5 * sampled
