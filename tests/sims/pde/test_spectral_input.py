"""What steppers and initial laws refuse, and what the laws draw."""

import math

import pytest
import torch

from geomopt.errors import InputError
from sims.pde.spectral.advection_diffusion import AdvectionDiffusion
from sims.pde.spectral.burgers import Burgers
from sims.pde.spectral.gray_scott import GrayScott
from sims.pde.spectral.initial import filtered_noise, random_waves, spots
from sims.pde.spectral.kuramoto_sivashinsky import KuramotoSivashinsky
from sims.pde.spectral.navier_stokes import NavierStokes2D, kolmogorov_forcing

NAN = float("nan")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KuramotoSivashinsky(points=127), "even"),
        (lambda: KuramotoSivashinsky(points=2), "at least 4"),
        (lambda: KuramotoSivashinsky(points=64.0), "whole number"),
        (lambda: KuramotoSivashinsky(points=(64, 64)), "points must be one number or 1"),
        (lambda: KuramotoSivashinsky(length=0.0), "length must be"),
        (lambda: KuramotoSivashinsky(length=-1.0), "got -1"),
        (lambda: KuramotoSivashinsky(length=torch.tensor([22.0, NAN])), "length must be"),
        (lambda: KuramotoSivashinsky(length=torch.ones(2, 2)), r"shape \(2, 2\)"),
        (lambda: KuramotoSivashinsky(time_step=0.0), "time_step must be"),
        (lambda: KuramotoSivashinsky(time_step=math.inf), "time_step must be"),
        (lambda: KuramotoSivashinsky(viscosity=0.0), "viscosity must be"),
        (lambda: KuramotoSivashinsky(viscosity="big"), "viscosity must be"),
        (lambda: Burgers(dimension=4), "dimension must be 1, 2 or 3"),
        (lambda: Burgers(dimension=2.0), "dimension must be a whole number"),
        (lambda: Burgers((1.0, 2.0), 32, 0.1, dimension=3), "3 of them"),
        (lambda: Burgers(viscosity=-0.1), "viscosity must be"),
        (lambda: AdvectionDiffusion(velocity=(1.0, 2.0)), "velocity must be one number or 1"),
        (lambda: AdvectionDiffusion(diffusivity=-1.0), "diffusivity must be"),
        (lambda: GrayScott(diffusivities=(1.0,)), "diffusivities must be two"),
        (lambda: GrayScott(feed=-1.0), "feed must be"),
        (lambda: NavierStokes2D(drag=-1.0), "drag must be"),
        (lambda: NavierStokes2D(points=32, forcing=torch.ones(16, 16)), r"\(16, 16\)"),
        (lambda: NavierStokes2D(points=4, forcing=torch.full((4, 4), NAN)), "forcing must be"),
        (lambda: kolmogorov_forcing(12, 4), "below a third"),
        (lambda: kolmogorov_forcing(12, 0), "wavenumber must be"),
        (lambda: kolmogorov_forcing(12, 2, length=(1.0, 2.0)), "length must be one number"),
    ],
)
def test_bad_steppers(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("u", "message"),
    [
        (torch.zeros(4, 1, 64), r"got \(4, 1, 64\), the stepper has points=\(128,\)"),
        (torch.zeros(4, 128), "points"),
        (torch.zeros(1, 128, 128), "channel"),
        (torch.zeros(4, 1, 1, 128), "points"),
        (torch.zeros(4, 2, 128), "1 channel"),
        (torch.zeros(0, 1, 128), "none|empty|at least one"),
        (torch.zeros(4, 1, 128, dtype=torch.float16), "float32 or float64"),
        (torch.zeros(4, 1, 128, dtype=torch.int64), "floating"),
        (torch.zeros(4, 1, 128).numpy(), "torch tensor"),
        (torch.full((4, 1, 128), NAN), "finite"),
        (torch.zeros(4, 1, 128).index_fill(2, torch.tensor([3]), math.inf), "finite"),
    ],
)
def test_bad_fields(u, message):
    stepper = KuramotoSivashinsky(points=128)
    with pytest.raises(InputError, match=message):
        stepper.step(u)


def test_infinite_values_that_cancel_are_found():
    u = torch.zeros(2, 1, 32)
    u[0, 0, 3], u[0, 0, 5] = math.inf, -math.inf
    for each in (u, u.clone().requires_grad_()):
        with pytest.raises(InputError, match="2 NaN or infinite"):
            KuramotoSivashinsky(points=32).step(each)


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, "2"])
def test_bad_steps(steps):
    stepper = KuramotoSivashinsky(points=16)
    with pytest.raises(InputError, match="steps must be a whole number"):
        stepper.advance(torch.zeros(1, 1, 16), steps)


def test_numbers_of_another_count_of_trajectories():
    u = torch.zeros(4, 1, 16)
    for options in (
        {"length": torch.tensor([20.0, 22.0, 24.0])},
        {"viscosity": torch.ones(3)},
        {"time_step": torch.ones(3)},
    ):
        with pytest.raises(InputError, match="has values for 3 trajectories, u has 4"):
            KuramotoSivashinsky(points=16, **options).step(u)
    flow = NavierStokes2D(points=8, forcing=torch.ones(3, 1, 8, 8))
    with pytest.raises(InputError, match="forcing has values for 3 trajectories"):
        flow.step(torch.zeros(4, 1, 8, 8))


def test_grid():
    stepper = Burgers((1.0, 2.0), (4, 8), 0.1, dimension=2)
    x, y = stepper.grid()
    assert x[:, 0].tolist() == [0.0, 0.25, 0.5, 0.75]
    assert y[0].tolist() == [0.25 * i for i in range(8)]
    lengths = KuramotoSivashinsky(torch.tensor([20.0, 24.0]), 4).grid(dtype=torch.float32)
    assert lengths.tolist() == [[[0.0, 5.0, 10.0, 15.0]], [[0.0, 6.0, 12.0, 18.0]]]


def test_initial_laws_repeat_and_are_scaled():
    line, plane = KuramotoSivashinsky(points=64), NavierStokes2D(points=32)
    reaction = GrayScott(points=32)

    def draw(seed: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return [
            random_waves(line, 200, generator),
            filtered_noise(plane, 3, generator, deviation=2.5),
            spots(reaction, 3, generator),
        ]

    for one, same, other in zip(draw(0), draw(0), draw(1), strict=True):
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
    waves, noise, seeds = draw(0)
    # ten terms of variance E[A^2] E[sin^2] = 1/12 * 1/2
    assert float(waves.square().mean()) == pytest.approx(10 / 24, rel=0.1)
    energies = torch.fft.rfft(waves).abs().square().mean((0, 1))
    assert float(energies[3:].max() / energies[1:3].max()) < 1e-25  # l is 1 or 2
    assert energies[2] > 0.5 * energies[1]
    assert float(noise.mean((1, 2, 3)).abs().max()) < 1e-14
    assert torch.allclose(noise.square().mean((1, 2, 3)).sqrt(), torch.tensor(2.5).double())
    assert float(seeds[:, 0].min()) >= 0.5
    assert float(seeds[:, 1].min()) >= 0.0
    assert float(seeds[:, 1].max()) == pytest.approx(0.25, abs=0.02)
    assert random_waves(line, 1, torch.Generator(), dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda g: random_waves(NavierStokes2D(points=8), 1, g), "one dimension"),
        (lambda g: random_waves(KuramotoSivashinsky(points=8), 0, g), "count must be"),
        (lambda g: filtered_noise(NavierStokes2D(points=8), 1, g, waves=0.0), "waves must be"),
        (lambda g: filtered_noise(NavierStokes2D(points=8), 1, g, deviation=NAN), "deviation"),
        (lambda g: spots(NavierStokes2D(points=8), 1, g), "two channels"),
        (lambda g: spots(GrayScott(points=8), 1, g, radius=-1.0), "radius must be"),
        (lambda g: random_waves(g, 1, g), "stepper must be"),
        (lambda g: random_waves(KuramotoSivashinsky(points=8), 1, 0), "generator must be"),
    ],
)
def test_bad_laws(make, message):
    with pytest.raises(InputError, match=message):
        make(torch.Generator())
