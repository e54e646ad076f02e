"""How fast steppers converge, and what their equations conserve."""

import math

import pytest
import torch
from torch import Tensor

from sims.pde.spectral.burgers import Burgers
from sims.pde.spectral.gray_scott import GrayScott
from sims.pde.spectral.initial import filtered_noise, random_waves, spots
from sims.pde.spectral.korteweg_de_vries import KortewegDeVries
from sims.pde.spectral.kuramoto_sivashinsky import KuramotoSivashinsky
from sims.pde.spectral.navier_stokes import NavierStokes2D, kolmogorov_forcing

ROUNDING = 1e-12  # what a few hundred steps in float64 may differ by


def error(u: Tensor, reference: Tensor) -> float:
    return float((u - reference).norm() / reference.norm())


@pytest.fixture(scope="module")
def attractor() -> Tensor:
    """Two states of the Kuramoto-Sivashinsky attractor, L = 64."""
    stepper = KuramotoSivashinsky(length=64.0, points=256, time_step=0.1)
    return stepper.advance(random_waves(stepper, 2, torch.Generator().manual_seed(1)), 1500)


def test_kuramoto_sivashinsky_order(attractor):
    def at(h: float) -> Tensor:
        return KuramotoSivashinsky(64.0, 256, h).advance(attractor, round(4.0 / h))

    reference = at(0.00625)
    coarse, fine = error(at(0.05), reference), error(at(0.025), reference)
    assert coarse < 5e-6
    # stiff order reduction: four only in the limit, 3.5 here (Kassam and Trefethen 2005)
    assert math.log2(coarse / fine) > 3.3


def test_kuramoto_sivashinsky_resolution(attractor):
    # N = 128 holds the attractor to 2e-5 over 4 s: the spectrum falls off exponentially
    fine = KuramotoSivashinsky(64.0, 256, 0.05).advance(attractor, 80)
    coarse = KuramotoSivashinsky(64.0, 128, 0.05).advance(attractor[..., ::2].contiguous(), 80)
    assert error(coarse, fine[..., ::2]) < 1e-3


def test_navier_stokes_order():
    options = {"points": 48, "viscosity": 5e-3, "drag": 0.1}
    forcing = kolmogorov_forcing(48, 4)
    rest = NavierStokes2D(**options, forcing=forcing)
    start = filtered_noise(rest, 1, torch.Generator().manual_seed(0), waves=3.0, deviation=4.0)

    def at(h: float) -> Tensor:
        stepper = NavierStokes2D(**options, time_step=h, forcing=forcing)
        return stepper.advance(start, round(0.4 / h))

    reference = at(0.00125)
    coarse, fine = error(at(0.02), reference), error(at(0.01), reference)
    assert math.log2(coarse / fine) == pytest.approx(4.0, abs=0.1)


def test_gray_scott_order():
    rest = GrayScott(length=1.0, points=(24, 24))
    start = spots(rest, 1, torch.Generator().manual_seed(0), number=3, radius=0.1)

    def at(h: float) -> Tensor:
        return GrayScott(length=1.0, points=24, time_step=h).advance(start, round(32 / h))

    reference = at(0.25)
    assert math.log2(error(at(2.0), reference) / error(at(1.0), reference)) > 3.8


@pytest.mark.parametrize("points", [32, 64])
def test_taylor_green(points):
    # the vortex decays without changing its shape (Taylor and Green 1937)
    wave, viscosity = 2.0, 1e-3
    stepper = NavierStokes2D(points=points, viscosity=viscosity, time_step=0.01)
    x, y = stepper.grid()
    start = (2 * wave * torch.cos(wave * x) * torch.cos(wave * y))[None, None]
    after = stepper.advance(start, 1000)
    assert float((after - start * math.exp(-2 * viscosity * wave**2 * 10)).abs().max()) < 1e-13


def test_energy_budget_of_forced_flow():
    viscosity, drag, h = 1e-2, 0.1, 0.002
    forcing = kolmogorov_forcing(48, 4, 2.0)
    stepper = NavierStokes2D(
        points=48, viscosity=viscosity, drag=drag, time_step=h, forcing=forcing
    )
    noise = filtered_noise(stepper, 2, torch.Generator().manual_seed(3), waves=3.0, deviation=4.0)
    before = stepper.advance(noise, 50)
    middle, after = stepper.step(before), stepper.advance(before, 2)
    rate = (stepper.energy(after) - stepper.energy(before)) / (2 * h)
    force = 2.0 * torch.sin(4.0 * stepper.grid()[1])
    put_in = (force * stepper.velocity(middle)[:, 0]).mean((1, 2))
    lost = 2 * viscosity * stepper.enstrophy(middle) + 2 * drag * stepper.energy(middle)
    largest = torch.stack([rate.abs(), put_in.abs(), lost]).max()
    # what is left is the differencing in time
    assert float((rate - put_in + lost).abs().max() / largest) < 1e-4


def test_vorticity_is_the_curl_of_the_velocity():
    stepper = NavierStokes2D(length=(2.0, 3.0), points=(24, 32))
    w = filtered_noise(stepper, 2, torch.Generator().manual_seed(0), waves=2.0)
    u, v = torch.fft.fft2(stepper.velocity(w)).unbind(1)
    k_x = 2 * math.pi / 2.0 * torch.fft.fftfreq(24, 1 / 24, dtype=torch.float64)[:, None]
    k_y = 2 * math.pi / 3.0 * torch.fft.fftfreq(32, 1 / 32, dtype=torch.float64)
    resolved = (k_x.abs() < k_x.abs().max()) & (k_y.abs() < k_y.abs().max())  # all but Nyquist
    difference = 1j * k_x * v - 1j * k_y * u - torch.fft.fft2(w[:, 0])
    for zero in (difference, k_x * u + k_y * v):
        assert float((zero * resolved).abs().max()) < ROUNDING * 24 * 32


@pytest.mark.parametrize(
    "stepper",
    [
        KuramotoSivashinsky(22.0, 64),
        KortewegDeVries(20.0, 64, 0.01),
        Burgers(1.0, 64, 0.01),
        NavierStokes2D(points=24, time_step=0.05),
    ],
    ids=lambda stepper: type(stepper).__name__,
)
def test_mean_is_conserved(stepper):
    assert stepper.conserves_mean
    u = filtered_noise(stepper, 2, torch.Generator().manual_seed(0), waves=2.0, deviation=0.3)
    u = u + torch.tensor([0.3, -1.2], dtype=torch.float64).view(-1, 1, *[1] * stepper.dimension)
    axes = tuple(range(1, u.ndim))
    drift = (stepper.advance(u, 40).mean(axes) - u.mean(axes)).abs()
    assert float(drift.max()) < 1e-15 * 40


def test_galilean_invariance():
    # u(x - c t, t) + c solves the equation where u does, for u u_x and linear terms that do not
    # act on c; time steps commute with it only as far as they are accurate
    length, speed, time = 22.0, 0.5, 4.0
    stepper = KuramotoSivashinsky(length, 64, 0.01)
    u = random_waves(stepper, 2, torch.Generator().manual_seed(0))
    moved = stepper.advance(u + speed, 400)
    k = 2 * math.pi / length * torch.arange(33, dtype=torch.float64)
    shift = torch.exp(-1j * k * speed * time)
    expected = torch.fft.irfft(torch.fft.rfft(stepper.advance(u, 400)) * shift, n=64) + speed
    assert error(moved, expected) < 1e-6


def test_steps_commute_with_shifts():
    for stepper in (
        KuramotoSivashinsky(22.0, 64),
        Burgers(1.0, (16, 24), 0.01, dimension=2),
        GrayScott(points=(8, 12, 16), dimension=3),
        NavierStokes2D(points=(24, 16)),
    ):
        u = filtered_noise(stepper, 2, torch.Generator().manual_seed(0), deviation=0.3)
        axes = tuple(range(2, u.ndim))
        by = tuple(range(3, 3 + len(axes)))
        rolled = stepper.advance(u.roll(by, axes), 5)
        assert float((rolled - stepper.advance(u, 5).roll(by, axes)).abs().max()) < ROUNDING
