"""The yield law of creases: limits, return map, smoothing, damage, derivatives."""

import math

import pytest
import torch
from torch import Tensor

from sims.thin_shell.energies.crease import crease_energy, flow, remaining_stiffness, wrapped

EXACT = 1e-13  # a few operations in float64
BENDING = 0.02
YIELD = 120.0


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def filled(curvature: Tensor, value: float) -> Tensor:
    return torch.full_like(curvature, value)


def potential(curvature: Tensor, limit: float, hardening: float, softness: float) -> Tensor:
    """phi of the curvature."""
    parameters = [filled(curvature, value) for value in (limit, hardening, softness)]
    elastic = BENDING * curvature**2 / 2
    return crease_energy(elastic, filled(curvature, BENDING), *parameters) / BENDING


def flowed(curvature: Tensor, limit: float, hardening: float, softness: float) -> Tensor:
    """The plastic curvature of an element of height 1 m, whose angle is its curvature."""
    constants = [filled(curvature, value) for value in (BENDING, BENDING, limit)]
    law = [filled(curvature, value) for value in (hardening, softness)]
    plastic, amount = flow(curvature[:, None], *constants, *law)
    torch.testing.assert_close(plastic[:, 0].abs(), amount, rtol=EXACT, atol=0)
    return plastic[:, 0]


def test_perfect_yield_is_hubers_function():
    curvature = torch.linspace(0, 500, 101, dtype=torch.float64)
    wanted = torch.where(curvature < YIELD, curvature**2 / 2, YIELD * curvature - YIELD**2 / 2)
    torch.testing.assert_close(potential(curvature, YIELD, 0, 0), wanted, rtol=EXACT, atol=0)


@pytest.mark.parametrize("hardening", [0.0, 0.3, 4.0])
def test_moment_grows_with_the_hardening_slope(hardening: float):
    curvature = column(30.0, 100.0, 130.0, 400.0).requires_grad_()
    energy = potential(curvature, YIELD, hardening, 0)
    (moment,) = torch.autograd.grad(energy.sum(), curvature, create_graph=True)
    (slope,) = torch.autograd.grad(moment.sum(), curvature)
    after = hardening / (1 + hardening)
    torch.testing.assert_close(slope, column(1, 1, after, after), rtol=0, atol=EXACT)
    beyond = YIELD + after * (400.0 - YIELD)
    torch.testing.assert_close(moment.detach()[3], column(beyond)[0], rtol=EXACT, atol=0)


@pytest.mark.parametrize("hardening", [0.0, 0.7])
def test_energy_is_the_least_over_the_plastic_curvature(hardening: float):
    """min over p of (kappa - p)^2 / 2 + yield p + hardening p^2 / 2, where `flow` is the p."""
    curvature = torch.linspace(1, 400, 50, dtype=torch.float64)
    amount = flowed(curvature, YIELD, hardening, 0)

    def spent(p: Tensor) -> Tensor:
        return (curvature - p) ** 2 / 2 + YIELD * p + hardening * p**2 / 2

    least = potential(curvature, YIELD, hardening, 0)
    torch.testing.assert_close(spent(amount), least, rtol=EXACT, atol=0)
    for change in (-1e-2, 1e-2):
        assert (spent((amount + change).clamp(min=0)) >= least * (1 - EXACT)).all()


@pytest.mark.parametrize("softness", [0.0, 0.2])
@pytest.mark.parametrize("hardening", [0.0, 0.5])
def test_moments_are_those_of_what_does_not_flow(hardening: float, softness: float):
    """d W / d angles = K (angles - plastic part), for full stiffness matrices."""
    source = torch.Generator().manual_seed(3)
    root = torch.randn(200, 3, 3, generator=source, dtype=torch.float64)
    stiffness = root @ root.mT + torch.eye(3, dtype=torch.float64)
    turn = torch.randn(200, 3, generator=source, dtype=torch.float64).requires_grad_()
    constants = [torch.full((200,), value).double() for value in (1.0, 2.5, hardening, softness)]
    moments = (stiffness @ turn[:, :, None])[:, :, 0]
    energy = crease_energy((turn * moments).sum(1) / 2, *constants)
    (gradient,) = torch.autograd.grad(energy.sum(), turn)
    plastic, amount = flow(turn.detach(), stiffness, *constants)
    left = (stiffness @ (turn.detach() - plastic)[:, :, None])[:, :, 0]
    torch.testing.assert_close(gradient, left, rtol=1e-12, atol=1e-12)
    assert 20 < int((amount > 0).sum()) < 180
    # the plastic part is measured as curvature in the same norm
    norm = (plastic * (stiffness @ plastic[:, :, None])[:, :, 0]).sum(1).sqrt()
    torch.testing.assert_close(norm, amount, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("hardening", [0.0, 0.5])
def test_what_has_flowed_rests(hardening: float):
    """After the update a sharp crease is on its yield surface, and a second one changes nothing."""
    curvature = column(100.0, 150.0, -500.0)
    plastic = flowed(curvature, YIELD, hardening, 0)
    left = curvature - plastic
    limit = YIELD + hardening * plastic.abs()
    torch.testing.assert_close(left[1:].abs(), limit[1:], rtol=EXACT, atol=0)
    again = [
        float(flowed(left[k : k + 1], float(limit[k]), hardening, 0)[0].abs()) for k in range(3)
    ]
    assert max(again) <= EXACT * 500


def test_softness_rounds_the_yield_and_nothing_else():
    curvature = torch.linspace(-300, 300, 601, dtype=torch.float64)
    sharp = flowed(curvature, YIELD, 0.2, 0)
    for softness in (0.4, 0.1, 0.01):
        soft = flowed(curvature, YIELD, 0.2, softness)
        outside = (curvature.abs() - YIELD).abs() >= softness * YIELD
        torch.testing.assert_close(soft[outside], sharp[outside], rtol=EXACT, atol=EXACT)
        # largest at yield itself, a quarter of the width
        worst = (soft - sharp).abs().max()
        wanted = column(softness * YIELD / 4 / 1.2)[0]
        torch.testing.assert_close(worst, wanted, rtol=EXACT, atol=0)
        gap = potential(curvature, YIELD, 0.2, softness) - potential(curvature, YIELD, 0.2, 0)
        assert gap.abs().max() <= (softness * YIELD) ** 2 / 6


def test_nothing_leaks_below_yield():
    curvature = column(0.0, 1e-9, 50.0, YIELD * 0.8, YIELD * (1 - 0.2) * (1 + 1e-9))
    amount = flowed(curvature, YIELD, 0.0, 0.2)
    assert (amount[:4] == 0).all()
    assert amount[4] > 0
    assert torch.equal(potential(curvature, YIELD, 0, 0.2)[:4], (curvature**2 / 2)[:4])
    assert (flowed(column(1e6), math.inf, 0.0, 0.2) == 0).all()


def test_derivatives_are_finite_where_the_formulas_are_not():
    """No curvature, no yield, no softness, alone and together."""
    size = [(k, y, w) for k in (0.0, 1.0, 3.0) for y in (2.0, math.inf) for w in (0.0, 0.2)]
    turn, limit, softness = (column(*part)[:, None] for part in zip(*size, strict=True))
    given = [
        tensor.clone().requires_grad_()
        for tensor in (
            turn,
            torch.ones_like(turn[:, 0]),
            torch.ones_like(turn[:, 0]),
            limit[:, 0],
            torch.zeros_like(turn[:, 0]),
            softness[:, 0],
        )
    ]
    plastic, amount = flow(*given)
    elastic = given[1] * given[0][:, 0] ** 2 / 2
    results = (plastic.sum() + amount.sum(), crease_energy(elastic, *given[2:]).sum())
    for result in results:
        first = torch.autograd.grad(result, given, create_graph=True)
        second = torch.autograd.grad(sum(part.square().sum() for part in first), given)
        for part in (*first, *second):
            assert part.isfinite().all()


def test_derivatives_against_differences():
    turn = column(-1.0, 0.3, 1.4, 1.9, 5.0)[:, None]
    ones = torch.ones(5, dtype=torch.float64)
    inputs = (turn, 1.1 * ones, 0.9 * ones, 1.6 * ones, 0.3 * ones, 0.25 * ones)
    inputs = tuple(part.clone().requires_grad_() for part in inputs)

    def energy(turn: Tensor, stiffness: Tensor, *constants: Tensor) -> Tensor:
        return crease_energy(stiffness * turn[:, 0] ** 2 / 2, *constants)

    assert torch.autograd.gradcheck(flow, inputs)
    assert torch.autograd.gradgradcheck(energy, inputs)


def test_damage():
    accumulated = column(0.0, 10.0, 1e9).requires_grad_()
    left = remaining_stiffness(accumulated, 0.4, filled(accumulated, 10.0))
    torch.testing.assert_close(left.detach(), column(1.0, 1 - 0.4 * (1 - math.exp(-1)), 0.6))
    (slope,) = torch.autograd.grad(left.sum(), accumulated)
    torch.testing.assert_close(slope[0], column(-0.04)[0])
    elastic = filled(accumulated, math.inf).requires_grad_()
    left = remaining_stiffness(accumulated, 0.4, elastic)
    assert (left == 1).all()
    for part in torch.autograd.grad(left.sum(), [accumulated, elastic]):
        assert (part == 0).all()


def test_wrapped():
    angle = column(0.0, 3.0, 3.3, -3.3, 7.0, -20.0)
    found = wrapped(angle)
    assert (found.abs() <= math.pi).all()
    torch.testing.assert_close(found.cos(), angle.cos())
    torch.testing.assert_close(found.sin(), angle.sin())
