"""Pulses that a wall sends back, against closed forms in time."""

import math

import pytest
import torch

from sims.acoustics.exact.reflection import absorption, reflected_pulse, reflection
from sims.acoustics.walls.wall import Wall, from_parameters

SPEED = 343.0
WIDTH = 0.2183606
TIMES = torch.linspace(-0.004, 0.04, 300, dtype=torch.float64)


def pulse(times):
    return torch.exp(-((SPEED * times / WIDTH) ** 2))


@pytest.mark.parametrize("angle", [0.0, 1.0])
def test_a_resistance_sends_back_a_share(angle):
    wall = Wall.impedance(1200.0)
    back = reflected_pulse(wall.admittance_at, TIMES, WIDTH, amplitude=2.0, angle=angle)
    share = float(wall.reflection(100.0, angle).real)
    torch.testing.assert_close(back, 2.0 * share * pulse(TIMES), rtol=0, atol=1e-11)


@pytest.mark.parametrize("rate", [40.0, 3000.0])
def test_a_spring_sends_back_the_pulse_less_what_it_stores(rate):
    """y = s/F: R = (F - s)/(F + s) = -1 + 2F/(s + F), a convolution with an exponential."""
    wall = Wall(torch.tensor([[0.0, 0.0, rate]], dtype=torch.float64))
    back = reflected_pulse(wall.admittance_at, TIMES, WIDTH)
    spread = WIDTH / SPEED
    # the pulse under exp(-F t): a Gaussian integral with its centre moved by F spread² / 2
    stored = torch.exp((rate * spread) ** 2 / 4 - rate * TIMES) * torch.erfc(
        rate * spread / 2 - TIMES / spread
    )
    expected = -pulse(TIMES) + rate * spread * math.sqrt(math.pi) * stored
    torch.testing.assert_close(back, expected, rtol=0, atol=1e-10)


def test_the_spectrum_of_what_comes_back_is_the_reflection_factor():
    wall = Wall.miki()
    count, step = 1024, 2e-4
    times = (torch.arange(count, dtype=torch.float64) - 40) * step
    back = torch.fft.rfft(reflected_pulse(wall.admittance_at, times, WIDTH))
    sent = torch.fft.rfft(pulse(times))
    f = torch.fft.rfftfreq(count, step, dtype=torch.float64)
    band = slice(1, int(torch.searchsorted(f, 1000.0)))
    torch.testing.assert_close(back[band] / sent[band], wall.reflection(f[band]), rtol=0, atol=1e-6)


def test_nothing_comes_back_before_it_was_sent():
    back = reflected_pulse(Wall.miki().admittance_at, TIMES, WIDTH)
    assert float(back[TIMES < -0.0035].abs().max()) < 1e-11


def test_gradients_of_the_pulse_reach_the_wall():
    parameters = torch.randn(2, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    times = torch.tensor([0.0, 0.002, 0.007], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda p, t: reflected_pulse(from_parameters(p).admittance_at, t, WIDTH),
        (parameters.requires_grad_(), times), eps=1e-6, atol=1e-7,
    )  # fmt: skip


def test_what_is_not_reflected_is_absorbed():
    y = torch.complex(*torch.rand(2, 50, generator=torch.Generator().manual_seed(0)).double())
    for angle in (0.0, 0.8, 1.5):
        torch.testing.assert_close(absorption(y, angle), 1 - reflection(y, angle).abs() ** 2)
