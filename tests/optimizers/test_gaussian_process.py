"""Gaussian process: closed forms against differences, autograd and the definition."""

from __future__ import annotations

import math

import pytest
import torch

from optimizers.surrogate.gaussian_process import (
    KERNELS,
    condition,
    fit,
    kernel_terms,
    log_likelihood,
)

STEP = 1e-5  # of central differences: error about 1e-10 in float64
CLOSE = {"rtol": 1e-6, "atol": 1e-7}

every_kernel = pytest.mark.parametrize("kernel", KERNELS)
stationary = pytest.mark.parametrize("kernel", ["rbf", "matern52"])


def data(count: int = 20, d: int = 4):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, d, generator=generator, dtype=torch.float64)
    values = torch.stack((inputs.sin().sum(1), inputs.square().sum(1)), 1)
    lengths = torch.linspace(1.0, 2.0, d, dtype=torch.float64)
    points = torch.randn(3, d, generator=generator, dtype=torch.float64)
    return inputs, values, lengths, points


@every_kernel
def test_kernel_is_symmetric_and_positive_definite(kernel):
    inputs, *_ = data()
    covariance = kernel_terms(kernel, inputs, inputs)[0]
    assert torch.allclose(covariance, covariance.T)
    assert torch.linalg.eigvalsh(covariance)[0] > 0


def test_kernel_of_a_network_is_that_of_random_relu_layers():
    """16 networks of 3 layers, 1000 wide: relative deviation sqrt(5 * 3 / 16000), 4 of them."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    total = torch.zeros(5, 5, dtype=torch.float64)
    for _ in range(16):
        layer = torch.cat((torch.ones(5, 1, dtype=torch.float64), inputs), 1)
        for _ in range(3):
            width = (layer.shape[1], 1000)
            weights = torch.randn(width, generator=generator, dtype=torch.float64)
            layer = (layer @ weights).clamp(min=0.0) * math.sqrt(2 / 1000)
        total += layer @ layer.T / 16
    assert torch.allclose(total, kernel_terms("network", inputs, inputs)[0], rtol=0.12)


@every_kernel
def test_gradient_of_the_mean_equals_autograd_and_differences(kernel):
    inputs, values, lengths, points = data()
    process = condition(inputs, values, lengths, 1e-6, kernel)
    mean, gradient = process.mean_and_gradient(points)
    assert torch.allclose(mean, process.mean(points))
    x = points.clone().requires_grad_()
    (automatic,) = torch.autograd.grad(process.mean(x)[:, 0].sum(), x)
    assert torch.allclose(gradient[:, 0], automatic)
    for axis, unit in enumerate(torch.eye(4, dtype=torch.float64)):
        ahead, behind = process.mean(points + STEP * unit), process.mean(points - STEP * unit)
        assert torch.allclose(gradient[:, :, axis], (ahead - behind) / (2 * STEP), **CLOSE)


@stationary
def test_hessian_of_the_mean_equals_differences(kernel):
    inputs, values, lengths, points = data()
    process = condition(inputs, values, lengths, 1e-6, kernel)
    hessian = process.mean_hessian(points[0])
    for axis, unit in enumerate(torch.eye(4, dtype=torch.float64)):
        ahead = process.mean_and_gradient(points[:1] + STEP * unit)[1][0]
        behind = process.mean_and_gradient(points[:1] - STEP * unit)[1][0]
        assert torch.allclose(hessian[:, axis], (ahead - behind) / (2 * STEP), **CLOSE)


@every_kernel
def test_gradient_covariance_is_the_mixed_difference_of_the_posterior(kernel):
    inputs, values, lengths, points = data()
    process = condition(inputs, values, lengths, 1e-6, kernel)

    def posterior(first, second):
        left = kernel_terms(kernel, process.scaled(first), process.inputs)[0]
        right = kernel_terms(kernel, process.scaled(second), process.inputs)[0]
        prior = kernel_terms(kernel, process.scaled(first), process.scaled(second))[0]
        return prior - left @ torch.cholesky_solve(right.T, process.factor)

    step = 1e-4
    ahead = points[:1] + step * torch.eye(4, dtype=torch.float64)
    behind = points[:1] - step * torch.eye(4, dtype=torch.float64)
    mixed = posterior(ahead, ahead) - posterior(ahead, behind)
    mixed = mixed - posterior(behind, ahead) + posterior(behind, behind)
    covariance = process.gradient_covariance(points)
    # the network kernel has a kink of third order at equal points, so the error is of first order
    assert torch.allclose(covariance[0], mixed / (4 * step**2), atol=1e-4, rtol=1e-4)
    assert torch.allclose(
        process.gradient_variance(points), covariance.diagonal(dim1=1, dim2=2).sum(1)
    )


@every_kernel
def test_data_are_interpolated_and_known_there(kernel):
    inputs, values, lengths, points = data()
    process = condition(inputs, values, lengths, 0.0, kernel)
    assert torch.allclose(process.mean(inputs), values, atol=1e-5)
    assert float(process.deviation(inputs).max()) < 1e-3 * float(process.deviation(points).max())


@every_kernel
def test_gradients_of_the_likelihood_equal_differences(kernel):
    inputs, values, lengths, _ = data()
    _, slopes, noise_slope = log_likelihood(inputs, values, lengths, 1e-2, kernel)

    def at(shift, noise=1e-2):
        return log_likelihood(inputs, values, lengths * shift.exp(), noise, kernel)[0]

    for axis, unit in enumerate(STEP * torch.eye(4, dtype=torch.float64)):
        difference = (at(unit) - at(-unit)) / (2 * STEP)
        assert float(slopes[axis]) == pytest.approx(difference, rel=1e-5, abs=1e-5)
    zero = torch.zeros(4, dtype=torch.float64)
    difference = at(zero, 1e-2 * math.exp(STEP)) - at(zero, 1e-2 * math.exp(-STEP))
    assert noise_slope == pytest.approx(difference / (2 * STEP), rel=1e-5, abs=1e-5)


def test_fit_finds_the_axis_that_matters():
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    values = (2 * inputs[:, :1]).sin() + 0.1 * inputs[:, 1:2]
    lengths, noise = fit(inputs, values, torch.ones(3, dtype=torch.float64), 1e-4)
    assert float(lengths[0]) < 0.5 * float(lengths[1:].min())
    assert noise < 1e-3
    shared, _ = fit(inputs, values, torch.ones(3, dtype=torch.float64), 1e-4, shared=True)
    assert torch.allclose(shared, shared[0].expand(3))


def test_fit_finds_the_noise():
    """60 values tell a deviation to about a tenth; a factor of 2 leaves room."""
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(60, 2, generator=generator, dtype=torch.float64)
    clean = inputs.sin().sum(1, keepdim=True)
    values = clean + 0.1 * torch.randn(60, 1, generator=generator, dtype=torch.float64)
    lengths, noise = fit(inputs, values, torch.ones(2, dtype=torch.float64), 1e-2)
    process = condition(inputs, values, lengths, noise)
    assert 0.05 < math.sqrt(noise * float(process.variance[0])) < 0.2
    # and the mean is nearer to the truth than the data are
    assert float((process.mean(inputs) - clean).square().mean()) < 0.5 * 0.1**2


def test_inputs_that_are_not_finite_are_refused():
    inputs, values, lengths, _ = data()
    with pytest.raises(ValueError, match="finite"):
        condition(inputs * math.nan, values, lengths)
