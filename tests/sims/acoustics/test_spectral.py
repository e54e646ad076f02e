"""The reference element: published nodes, and what polynomials must get exactly."""

import math

import pytest
import torch

from geomopt.errors import InputError
from sims.acoustics.elements.spectral import element, interpolation_weights

ORDERS = range(1, 7)
EXACT = 1e-13  # rounding of sums of a few terms of order one


# Abramowitz and Stegun, Handbook of Mathematical Functions, table 25.6
@pytest.mark.parametrize(
    ("order", "nodes", "weights"),
    [
        (2, [-1.0, 0.0, 1.0], [1 / 3, 4 / 3, 1 / 3]),
        (3, [-1.0, -math.sqrt(1 / 5), math.sqrt(1 / 5), 1.0], [1 / 6, 5 / 6, 5 / 6, 1 / 6]),
        (
            4,
            [-1.0, -math.sqrt(3 / 7), 0.0, math.sqrt(3 / 7), 1.0],
            [1 / 10, 49 / 90, 32 / 45, 49 / 90, 1 / 10],
        ),
    ],
)
def test_published_nodes_and_weights(order, nodes, weights):
    reference = element(order)
    assert reference.nodes.tolist() == pytest.approx(nodes, abs=EXACT)
    assert reference.weights.tolist() == pytest.approx(weights, abs=EXACT)


@pytest.mark.parametrize("order", ORDERS)
def test_quadrature_is_exact_to_twice_the_order_less_one(order):
    reference = element(order)
    for degree in range(2 * order):
        found = float((reference.weights * reference.nodes**degree).sum())
        assert found == pytest.approx(0.0 if degree % 2 else 2 / (degree + 1), abs=EXACT)


@pytest.mark.parametrize("order", ORDERS)
def test_derivative_is_exact_for_polynomials(order):
    reference = element(order)
    for degree in range(order + 1):
        slope = reference.derivative @ reference.nodes**degree
        wanted = degree * reference.nodes ** max(degree - 1, 0)
        assert slope.tolist() == pytest.approx(wanted.tolist(), abs=10 * EXACT)


@pytest.mark.parametrize("order", ORDERS)
def test_stiffness_is_symmetric_and_blind_to_constants(order):
    stiffness = element(order).stiffness
    assert torch.equal(stiffness, stiffness.T)
    assert float(stiffness.sum(1).abs().max()) < EXACT
    values = torch.linalg.eigvalsh(stiffness)
    assert float(values[0]) > -EXACT
    assert float(values[1]) > 0.1


@pytest.mark.parametrize("order", ORDERS)
def test_interpolation_reproduces_polynomials(order):
    nodes = element(order).nodes
    positions = torch.cat([torch.linspace(-1, 1, 7, dtype=torch.float64), nodes])
    weights = interpolation_weights(order, positions)
    for degree in range(order + 1):
        found = weights @ nodes**degree
        assert found.tolist() == pytest.approx((positions**degree).tolist(), abs=EXACT)


@pytest.mark.parametrize("order", ORDERS)
def test_interpolation_can_be_differentiated_at_nodes_too(order):
    reference = element(order)
    nodes = reference.nodes.clone().requires_grad_()
    slopes = torch.autograd.functional.jacobian(
        lambda x: interpolation_weights(order, x).sum(0), nodes
    )
    # the sum over positions splits, since each weight depends on its own position only
    assert slopes.T.flatten().tolist() == pytest.approx(
        reference.derivative.flatten().tolist(), abs=100 * EXACT
    )
    inside = torch.linspace(-0.9, 0.8, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: interpolation_weights(order, x), inside)


@pytest.mark.parametrize("order", [0, 7, 2.5, True, "4"])
def test_other_orders_are_refused(order):
    with pytest.raises(InputError, match="order must be a whole number from 1 to 6"):
        element(order)
