"""Steppers against solutions that are known in closed form."""

import math

import pytest
import torch
from torch import Tensor

from sims.pde.spectral.advection_diffusion import AdvectionDiffusion
from sims.pde.spectral.burgers import Burgers
from sims.pde.spectral.gray_scott import GrayScott
from sims.pde.spectral.initial import filtered_noise, spots
from sims.pde.spectral.korteweg_de_vries import KortewegDeVries
from sims.pde.spectral.kuramoto_sivashinsky import KuramotoSivashinsky
from sims.pde.spectral.navier_stokes import NavierStokes2D, kolmogorov_forcing

ROUNDING = 1e-13


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_advection_diffusion_is_exact(dimension):
    lengths, points = (2.0, 3.0, 1.5)[:dimension], (16, 12, 8)[:dimension]
    velocity, diffusivity = (0.7, -0.4, 1.1)[:dimension], (0.02, 0.01, 0.03)[:dimension]
    stepper = AdvectionDiffusion(lengths, points, 0.3, velocity, diffusivity, dimension)
    waves = [2 * math.pi * m / edge for m, edge in zip((2, 1, 3), lengths, strict=False)]

    def solution(time: float) -> Tensor:
        phase = torch.full(points, 0.4, dtype=torch.float64)
        rate = 0.0
        for k, x, c, d in zip(waves, stepper.grid(), velocity, diffusivity, strict=True):
            phase = phase + k * (x - c * time)
            rate += d * k**2
        return (1.5 + torch.cos(phase) * math.exp(-rate * time))[None, None]

    for steps in (1, 7):
        after = stepper.advance(solution(0.0), steps)
        assert float((after - solution(0.3 * steps)).abs().max()) < ROUNDING


def test_burgers_front():
    # u = -2 nu phi_x / phi with the heat kernel's phi = 2 + e^(-nu k^2 t) cos k x (Cole 1951)
    viscosity, k = 0.02, 2 * math.pi
    stepper = Burgers(1.0, 128, 0.01, viscosity)
    (x,) = stepper.grid()

    def solution(time: float) -> Tensor:
        decay = math.exp(-viscosity * k**2 * time)
        phi = 1.2 + decay * torch.cos(k * x)
        return (2 * viscosity * k * decay * torch.sin(k * x) / phi)[None, None]

    after = stepper.advance(solution(0.0), 50)
    assert float((after - solution(0.5)).abs().max()) < 1e-8 * float(solution(0.0).max())


@pytest.mark.parametrize("dimension", [2, 3])
def test_burgers_in_more_dimensions_carries_a_plane_front(dimension):
    # a field along and of the first axis alone is the one-dimensional solution
    options = {"length": 1.0, "time_step": 0.01, "viscosity": 0.05}
    line = Burgers(points=32, **options)
    u = filtered_noise(line, 1, torch.Generator().manual_seed(0), waves=2.0, deviation=0.5)
    stepper = Burgers(points=(32, 4, 4)[:dimension], dimension=dimension, **options)
    field = torch.zeros(1, dimension, *stepper.points, dtype=torch.float64)
    field[:, 0] = u[:, 0].reshape(1, 32, *[1] * (dimension - 1))
    after = stepper.advance(field, 20)
    expected = line.advance(u, 20)[:, 0].reshape(1, 32, *[1] * (dimension - 1))
    assert float((after[:, 0] - expected).abs().max()) < ROUNDING
    assert float(after[:, 1:].abs().max()) < ROUNDING


def test_soliton_keeps_its_shape():
    # c / 2 sech^2 (sqrt(c) (x - c t) / 2) (Korteweg and de Vries 1895)
    speed, length, time = 2.0, 40.0, 2.0
    stepper = KortewegDeVries(length, 256, 0.004)
    (x,) = stepper.grid()

    def solution(time: float) -> Tensor:
        distance = (x - 15.0 - speed * time + 0.5 * length) % length - 0.5 * length
        return (speed / 2 / torch.cosh(math.sqrt(speed) / 2 * distance) ** 2)[None, None]

    after = stepper.advance(solution(0.0), round(time / 0.004))
    assert float((after - solution(time)).abs().max()) < 1e-7  # fourth order: 16x less at half h
    energy = solution(0.0).square().mean()
    assert abs(float(after.square().mean() / energy) - 1.0) < 1e-8


def test_small_waves_follow_the_linear_dispersion():
    small = 1e-9
    ks = KuramotoSivashinsky(30.0, 32, 0.1, viscosity=0.7)
    kdv = KortewegDeVries(30.0, 32, 0.1, dispersion=0.3)
    for stepper, rate in ((ks, lambda k: k**2 - 0.7 * k**4), (kdv, lambda k: 0.3j * k**3)):
        k = 2 * math.pi * 3 / 30.0
        (x,) = stepper.grid()
        wave = small * torch.exp(1j * k * x)
        after = stepper.advance(wave.real[None, None].contiguous(), 20)
        expected = (wave * torch.exp(torch.tensor(2.0 * rate(k), dtype=torch.complex128))).real
        assert float((after - expected).abs().max()) < 1e-6 * small


def test_homogeneous_reaction_is_the_ordinary_equation():
    feed, kill, u, v = 0.03, 0.06, 0.6, 0.3
    stepper = GrayScott(points=8, time_step=0.2, feed=feed, kill=kill)
    field = torch.tensor([u, v], dtype=torch.float64).view(1, 2, 1, 1).repeat(1, 1, 8, 8)

    def rate(u: float, v: float) -> tuple[float, float]:
        return -u * v * v + feed * (1 - u), u * v * v - (feed + kill) * v

    h = 0.005  # Runge and Kutta's fourth order, far below the stepper's error
    for _ in range(2000):
        a = rate(u, v)
        b = rate(u + h / 2 * a[0], v + h / 2 * a[1])
        c = rate(u + h / 2 * b[0], v + h / 2 * b[1])
        d = rate(u + h * c[0], v + h * c[1])
        u += h / 6 * (a[0] + 2 * b[0] + 2 * c[0] + d[0])
        v += h / 6 * (a[1] + 2 * b[1] + 2 * c[1] + d[1])
    after = stepper.advance(field, 50)
    assert float((after[0, 0] - u).abs().max()) < 1e-7
    assert float((after[0, 1] - v).abs().max()) < 1e-7


def test_a_spot_divides():
    # Pearson 1993, Science 261, 189: replicating spots
    stepper = GrayScott(length=0.5, points=48)
    start = spots(stepper, 1, torch.Generator().manual_seed(0), number=1, radius=0.08)
    after = stepper.advance(start, 700)[0, 1]
    neighbours = torch.stack(
        [after.roll((i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
    )
    assert int(((after > neighbours.amax(0)) & (after > 0.2)).sum()) >= 2


def test_state_of_rest_stays():
    field = torch.tensor([1.0, 0.0], dtype=torch.float64).view(1, 2, 1).repeat(1, 1, 16)
    after = GrayScott(points=16, dimension=1).advance(field, 100)
    assert float((after - field).abs().max()) < ROUNDING


def test_laminar_kolmogorov_flow_is_steady():
    # viscosity k^2 w + drag w = curl of the force
    viscosity, drag, wave = 0.05, 0.1, 2
    forcing = kolmogorov_forcing(24, wave, 0.3)
    stepper = NavierStokes2D(
        points=24, time_step=0.1, viscosity=viscosity, drag=drag, forcing=forcing
    )
    steady = (forcing / (viscosity * wave**2 + drag))[None, None]
    assert float((stepper.advance(steady, 100) - steady).abs().max()) < 1e-12
    # u = amplitude / (viscosity k^2 + drag) sin k y
    expected = 0.3 / (viscosity * wave**2 + drag) * torch.sin(wave * stepper.grid()[1])
    assert float((stepper.velocity(steady)[0, 0] - expected).abs().max()) < 1e-12


def test_modes_beyond_dealiasing_feel_the_linear_part_alone():
    stepper = KortewegDeVries(30.0, 32, 0.01)
    (x,) = stepper.grid()
    k = 2 * math.pi * 13 / 30.0  # above a third of 32
    low = torch.cos(2 * math.pi * x / 30.0)[None, None]
    both = low + 0.5 * torch.cos(k * x)
    moved = 0.5 * torch.cos(k * x + k**3 * 0.05)
    expected = stepper.advance(low, 5) + moved
    assert float((stepper.advance(both, 5) - expected).abs().max()) < ROUNDING
