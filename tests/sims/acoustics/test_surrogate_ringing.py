"""Driven modes against closed forms, and the recursion of `identify` on modes that are known."""

import math

import numpy
import pytest
import torch

from sims.acoustics.surrogates.fourier import FourierBasis
from sims.acoustics.surrogates.identify import damped, leading, reciprocal, undamped
from sims.acoustics.surrogates.ringing import TOGETHER, ring

EXACT = 1e-9  # relative, of sums and eigenvalues in float64
STEP = 4e-4


def swell(times, length):
    """A force that begins and ends at rest."""
    return torch.sin(math.pi * times / length) ** 4 * torch.cos(900 * times)


def test_a_smooth_force_rings_as_its_integral_says():
    rates = torch.tensor([-20 + 900j, -3 + 0j, 0 + 2000j], dtype=torch.complex128)
    length = STEP * 200
    times = STEP * torch.arange(201, dtype=torch.float64)
    found = ring(rates, swell(times, length).to(torch.complex128).expand(3, -1), STEP)
    places, weights = (torch.tensor(v) for v in numpy.polynomial.legendre.leggauss(400))
    for number in (30, 120, 200):
        at = times[number] * (places + 1) / 2
        values = torch.exp(rates[:, None] * (times[number] - at)) * swell(at, length)
        expected = (values * weights).sum(1) * times[number] / 2
        # the cubic's error, (ω dt)⁴ of the force over 4!
        assert (found[:, number] - expected).abs().max() < 2e-3 * expected.abs().max()


def test_long_forces_go_on_over_the_ends_of_the_pieces():
    rates = torch.tensor([-2 + 300j, -5 + 1000j], dtype=torch.complex128)
    count = TOGETHER + 300
    generator = torch.Generator().manual_seed(0)
    force = torch.randn(2, count, generator=generator, dtype=torch.float64).to(rates.dtype)
    force[:, :2] = 0  # between silence and a sudden start there would be a slope
    silence = force[:, :500] * 0
    whole = ring(rates, force, STEP)
    later = ring(rates, torch.cat([silence, force], 1), STEP)[:, 500:]  # other pieces
    assert torch.allclose(whole[:, 1:-2], later[:, 1:-2], rtol=0, atol=EXACT)


def synthetic(rates, sources=12, functions=9):
    """Series of modes of random shapes, orthonormal, with the weights of a reciprocal room."""
    generator = torch.Generator().manual_seed(3)
    draw = torch.randn(functions, len(rates), generator=generator, dtype=torch.float64)
    shapes = torch.linalg.qr(draw).Q
    at_sources = torch.randn(sources, functions, generator=generator, dtype=torch.float64)
    times = STEP * torch.arange(60, dtype=torch.float64)
    ringing = torch.exp(rates[:, None] * times)
    return shapes, at_sources, ringing


def test_frequencies_of_undamped_modes_are_found_even_where_two_are_equal():
    frequencies = 2 * math.pi * torch.tensor([80.0, 200.0, 200.0, 310.0], dtype=torch.float64)
    shapes, at_sources, ringing = synthetic(1j * frequencies)
    series = torch.einsum("kj,sj,jt->skt", shapes, at_sources @ shapes, ringing.real)
    axes = leading(series, 4)
    found, mixed = undamped(torch.einsum("kl,skt->slt", axes, series), STEP)
    assert torch.allclose(found.sort().values, frequencies, rtol=EXACT)
    # a group of equal frequencies spans the same functions
    together = axes @ mixed
    assert torch.allclose(together @ together.T, shapes @ shapes.T, atol=1e-8)


def test_damped_modes_are_found_with_shapes_that_are_their_own_sources():
    rates = torch.tensor(
        [-10 + 500j, -30 + 1200j, -30 + 1200j, -25 + 1900j], dtype=torch.complex128
    )
    shapes, at_sources, ringing = synthetic(rates)
    tilt = torch.exp(1j * torch.tensor([0.1, -0.2, 0.05, 0.15], dtype=torch.float64))
    exact = shapes * tilt
    weights = at_sources.to(exact.dtype) @ exact
    series = torch.einsum("kj,sj,jt->skt", exact, weights, ringing).real
    axes = leading(series, 4)
    found = damped(torch.einsum("kl,skt->slt", axes, series), STEP)
    order = found.rates.imag.argsort()
    assert torch.allclose(found.rates[order], rates, rtol=1e-7)
    learned = axes.to(exact.dtype) @ reciprocal(found, at_sources @ axes)
    # signs, and rotations among equal rates, are free: products of a mode with itself are not
    assert torch.allclose(learned @ learned.T, exact @ exact.T, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_basis_holds_one_of_each_pair_of_waves(dtype):
    low, high = torch.zeros(3), torch.tensor([1.0, 2.0, 1.5])
    basis = FourierBasis.around(low, high, 9.0, 1.4)
    points = torch.rand(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = basis.at(points.to(dtype))
    assert values.shape == (5, basis.count)
    waves = basis.numbers * basis.step
    assert not waves[0].any()
    held = {tuple(row) for row in basis.numbers[1:].tolist()}
    assert not any(tuple(-n for n in row) in held for row in held)
    angle = (points - basis.centre) @ waves.T
    exact = torch.cat([torch.cos(angle), torch.sin(angle)[:, 1:]], 1)
    assert torch.allclose(values, exact.to(dtype), atol=1e-5 if dtype == torch.float32 else 1e-12)
