"""Soap: Adam where nothing is turned, the same path in turned axes, and goes on to the bit."""

import copy

import pytest
import torch

from sims.pde.training.soap import Soap

ROUNDING = 1e-9  # of 40 steps in float64, with bases from a QR each five


def quadratic(rows: int, columns: int, seed: int = 0, decades: float = 2.0):
    """½ |A (W - W*) B|² of factors whose singular values span some decades each."""
    numbers = torch.Generator().manual_seed(seed)

    def factor(count):
        turn = torch.linalg.qr(torch.randn(count, count, dtype=torch.float64, generator=numbers))[0]
        return turn * torch.logspace(0, -decades, count, dtype=torch.float64)

    left, right = factor(rows), factor(columns)
    goal = torch.randn(rows, columns, dtype=torch.float64, generator=numbers)
    return lambda weight: 0.5 * (left.T @ (weight - goal) @ right).square().sum()


def followed(loss, start, optimizer, steps):
    weight = torch.nn.Parameter(start.clone())
    rule = optimizer([weight])
    for _ in range(steps):
        rule.zero_grad()
        loss(weight).backward()
        rule.step()
    return weight.detach()


@pytest.mark.parametrize(("shape", "largest"), [((12,), 1024), ((1, 12), 1024), ((5, 7), 4)])
def test_what_is_not_turned_moves_as_with_adam(shape, largest):
    numbers = torch.Generator().manual_seed(1)
    goal = torch.randn(shape, dtype=torch.float64, generator=numbers)
    own = torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    other = torch.nn.Parameter(own.detach().clone())
    soap = Soap([own], lr=0.1, betas=(0.8, 0.9), largest=largest)
    adam = torch.optim.Adam([other], lr=0.1, betas=(0.8, 0.9))
    for step in range(20):
        for weight, rule in ((own, soap), (other, adam)):
            rule.zero_grad()
            (weight - goal).pow(4).sum().backward()
            if rule is soap or step:  # the first gradient of Soap is for the bases
                rule.step()
    torch.testing.assert_close(own, other, rtol=ROUNDING, atol=ROUNDING)


def test_turned_axes_give_the_turned_path():
    loss = quadratic(6, 6, decades=0.2)  # the first gradient then tells all directions apart
    numbers = torch.Generator().manual_seed(2)
    left, right = (
        torch.linalg.qr(torch.randn(count, count, dtype=torch.float64, generator=numbers))[0]
        for count in (6, 6)
    )
    start = torch.randn(6, 6, dtype=torch.float64, generator=numbers)

    def soap(weights):
        return Soap(weights, lr=0.05, every=5, eps=1e-4)  # above what rounding leaves of zeros

    plain = followed(loss, start, soap, 40)
    turned = followed(
        lambda weight: loss(left.T @ weight @ right), left @ start @ right.T, soap, 40
    )
    torch.testing.assert_close(left.T @ turned @ right, plain, rtol=ROUNDING, atol=ROUNDING)


def test_badly_scaled_directions_are_no_obstacle():
    loss = quadratic(8, 8, seed=3)
    start = torch.zeros(8, 8, dtype=torch.float64)
    found = {
        name: float(loss(followed(loss, start, lambda w, rule=rule: rule(w, lr=0.02), 300)))
        for name, rule in (("soap", Soap), ("adam", torch.optim.Adam))
    }
    assert found["soap"] < 0.2 * found["adam"]


def test_kernels_of_any_dimension_learn():
    torch.manual_seed(4)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3), torch.nn.GELU(), torch.nn.Conv2d(6, 1, 3)
    )
    fields = torch.randn(8, 1, 10, 10)
    rule = Soap(network.parameters(), lr=1e-2, weight_decay=1e-3)
    losses = []
    for _ in range(60):
        rule.zero_grad()
        loss = (network(fields) - fields[..., 2:-2, 2:-2]).square().mean()
        loss.backward()
        losses.append(float(loss.detach()))
        rule.step()
    assert losses[-1] < 0.05 * losses[0]


def test_goes_on_from_its_state_to_the_bit():
    loss = quadratic(5, 6)
    first = torch.nn.Parameter(torch.zeros(5, 6, dtype=torch.float64))
    whole = Soap([first], lr=0.03, every=4)

    def move(weight, rule, steps):
        for _ in range(steps):
            rule.zero_grad()
            loss(weight).backward()
            rule.step()

    move(first, whole, 10)
    second = torch.nn.Parameter(first.detach().clone())
    resumed = Soap([second])
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    move(first, whole, 9)
    move(second, resumed, 9)
    assert torch.equal(first, second)
