"""The penalty on the sharpness of a surrogate, against derivatives of derivatives."""

import math

import pytest
import torch

from optimizers.surrogate.ensemble import Ensemble
from optimizers.surrogate.sharpness import SharpnessPenalty, sharpness

F64 = torch.float64


def mean_prediction(members=3, seed=0):
    """G of a small ensemble over a batch, a function of weights (K, P), and its weights."""
    ensemble = Ensemble(4, members=members, seed=seed)
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return lambda w: ensemble.standardised(w, x).mean((1, 2)), ensemble.weights.detach()


def exact(function, weights):
    """Norm of the gradient and its gradient, by differentiating twice."""
    point = weights.clone().requires_grad_()
    (first,) = torch.autograd.grad(function(point).sum(), point, create_graph=True)
    norm = first.norm(dim=1)
    return norm.detach(), torch.autograd.grad(norm.sum(), point)[0]


def test_norm_and_its_gradient_are_those_of_differentiating_twice():
    function, weights = mean_prediction()
    norm, slope = sharpness(function, weights, radius=1e-6)
    wanted_norm, wanted_slope = exact(function, weights)
    torch.testing.assert_close(norm, wanted_norm)
    # a one-sided difference of 1e-6 is off by 1e-6 third derivatives, and by round-off / 1e-6
    torch.testing.assert_close(slope, wanted_slope, atol=1e-5, rtol=1e-5)


def test_the_error_falls_with_the_first_power_of_the_radius():
    function, weights = mean_prediction()
    wanted = exact(function, weights)[1]
    errors = [float((sharpness(function, weights, r)[1] - wanted).norm()) for r in (2e-3, 1e-3)]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)  # the next order adds a share of r


def test_of_a_quadratic_it_is_exact_for_any_radius():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(5, 5, generator=generator, dtype=F64)
    hessian = matrix @ matrix.T
    weights = torch.randn(2, 5, generator=generator, dtype=F64)
    norm, slope = sharpness(lambda w: 0.5 * ((w @ hessian) * w).sum(1), weights, radius=0.7)
    first = weights @ hessian
    torch.testing.assert_close(norm, first.norm(dim=1))
    torch.testing.assert_close(slope, first @ hessian / first.norm(dim=1, keepdim=True))


def test_where_the_gradient_vanishes_it_is_zero_and_not_nan():
    weights = torch.zeros(2, 3, dtype=F64)
    norm, slope = sharpness(lambda w: w.square().sum(1), weights, radius=0.05)
    assert norm.tolist() == [0, 0]
    assert not slope.any()
    norm, slope = sharpness(lambda w: (0 * w).sum(1) + 1, weights, radius=0.05)
    assert not norm.any()
    assert not slope.any()


def test_members_do_not_see_each_other():
    function, weights = mean_prediction(members=3)
    together = sharpness(function, weights, 0.05)
    ensemble = Ensemble(4, members=1)
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(0), dtype=F64)
    for k in range(3):
        alone = sharpness(
            lambda w: ensemble.standardised(w, x).mean((1, 2)), weights[k : k + 1], 0.05
        )
        torch.testing.assert_close(alone[0], together[0][k : k + 1])
        torch.testing.assert_close(alone[1], together[1][k : k + 1])


def test_a_last_layer_with_a_bias_has_a_sharpness_of_at_least_one():
    function, weights = mean_prediction()
    assert (sharpness(function, weights, 0.05)[0] >= 1).all()


def test_the_multiplier_follows_the_excess_and_stays_at_or_above_zero():
    generator = torch.Generator().manual_seed(0)
    slopes = torch.randn(2, 6, generator=generator, dtype=F64)
    slopes = slopes / slopes.norm(dim=1, keepdim=True) * torch.tensor([[3.0], [0.1]], dtype=F64)
    penalty = SharpnessPenalty(radius=0.5, tolerance=0.4, rate=0.1)
    multiplier = torch.tensor([0.02, 0.02], dtype=F64)
    norm, added, following = penalty.gradient(
        lambda w: (w * slopes).sum(1), torch.zeros(2, 6, dtype=F64), multiplier
    )
    torch.testing.assert_close(norm, torch.tensor([3.0, 0.1], dtype=F64))
    # 0.02 + 0.1 (0.5 * 3 - 0.4) = 0.13, and 0.02 + 0.1 (0.5 * 0.1 - 0.4) < 0
    torch.testing.assert_close(following, torch.tensor([0.13, 0.0], dtype=F64))
    assert added.abs().max() < 1e-12  # a linear G has no curvature


def test_descending_on_the_penalty_alone_lowers_the_sharpness():
    function, weights = mean_prediction()
    penalty, multiplier = SharpnessPenalty(multiplier=1.0), torch.ones(3, dtype=F64)
    before = exact(function, weights)[0]
    for _ in range(50):
        _, added, multiplier = penalty.gradient(function, weights, multiplier)
        weights = weights - 1.0 * added
    assert (exact(function, weights)[0] < 0.9 * before).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("radius", 0.0),
        ("tolerance", -1.0),
        ("multiplier", math.nan),
        ("rate", -1e-3),
        ("spread", -1.0),
    ],
)
def test_unusable_settings_are_named(field, value):
    with pytest.raises(ValueError, match=field):
        SharpnessPenalty(**{field: value})
