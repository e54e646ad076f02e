"""Derivatives of steps: of the field, the parameters, the length, the time step, the forcing."""

import pickle

import pytest
import torch
from torch import Tensor

from sims.pde.spectral.advection_diffusion import AdvectionDiffusion
from sims.pde.spectral.burgers import Burgers
from sims.pde.spectral.gray_scott import GrayScott
from sims.pde.spectral.initial import filtered_noise, random_waves, spots
from sims.pde.spectral.korteweg_de_vries import KortewegDeVries
from sims.pde.spectral.kuramoto_sivashinsky import KuramotoSivashinsky
from sims.pde.spectral.navier_stokes import NavierStokes2D

CASES = {
    # (B,) and () numbers; every parameter of every equation
    "kuramoto-sivashinsky": (
        lambda **given: KuramotoSivashinsky(points=12, **given),
        {"length": [20.0, 22.0], "time_step": 0.1, "viscosity": [1.0, 1.2]},
    ),
    "korteweg-de-vries": (
        lambda **given: KortewegDeVries(points=12, **given),
        {"length": 10.0, "time_step": [0.1, 0.08], "advection": 6.0, "dispersion": 1.0},
    ),
    "burgers": (
        lambda **given: Burgers(points=12, **given),
        {"length": 3.0, "time_step": 0.1, "viscosity": 0.1},
    ),
    "burgers-2d": (
        lambda **given: Burgers(points=6, time_step=0.1, dimension=2, **given),
        {"length": [3.0, 2.0], "viscosity": 0.1},
    ),
    "advection-diffusion": (
        lambda velocity_y, **given: AdvectionDiffusion(
            points=6, dimension=2, velocity=(0.3, velocity_y), **given
        ),
        {"length": 1.0, "time_step": 0.1, "velocity_y": 0.4, "diffusivity": [0.06, 0.01]},
    ),
    "gray-scott": (
        lambda u, v, **given: GrayScott(
            length=3.0, points=8, dimension=1, diffusivities=(u, v), **given
        ),
        {"time_step": 1.0, "feed": 0.04, "kill": [0.06, 0.05], "u": 0.02, "v": 0.01},
    ),
    "navier-stokes": (
        lambda **given: NavierStokes2D(points=8, **given),
        {
            "length": 5.0,
            "time_step": 0.1,
            "viscosity": 0.04,
            "drag": [0.06, 0.01],
            "forcing": torch.linspace(-1.0, 1.0, 64).reshape(8, 8).cos().tolist(),
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_gradients(case):
    make, numbers = CASES[case]
    values = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in numbers.values()]

    def advanced(u: Tensor, *values: Tensor) -> Tensor:
        return make(**dict(zip(numbers, values, strict=True))).advance(u, 2)

    stepper = make(**dict(zip(numbers, values, strict=True)))
    generator = torch.Generator().manual_seed(0)
    if stepper.channels == 2 and stepper.dimension == 1:
        u = spots(stepper, 2, generator, number=2, radius=0.1)
    else:
        u = filtered_noise(stepper, 2, generator, waves=2.0)
    assert torch.autograd.gradcheck(advanced, (u.requires_grad_(), *values))


def test_paths_with_and_without_a_gradient_agree():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.linspace(18.0, 24.0, 3, dtype=torch.float64)
    for stepper in (
        KuramotoSivashinsky(lengths, 32),
        KortewegDeVries(20.0, 32),
        Burgers(1.0, 16, 0.01, dimension=2),
        GrayScott(points=(8, 12, 10), dimension=3),
        NavierStokes2D(points=16, forcing=torch.ones(16, 16, dtype=torch.float64).tril()),
        AdvectionDiffusion(points=16),
    ):
        u = filtered_noise(stepper, 3, generator, deviation=0.3)
        in_place = stepper.advance(u, 3)
        assert not in_place.requires_grad
        kept = u.clone()
        tracked = stepper.advance(u.clone().requires_grad_(), 3).detach()
        assert float((tracked - in_place).abs().max()) < 1e-14
        assert torch.equal(u, kept)  # what is overwritten is not the caller's
        one_by_one = stepper.step(stepper.step(stepper.step(u)))
        assert float((one_by_one - in_place).abs().max()) < 1e-14


# torch's own forward mode loads its decompositions by the scripting it has deprecated
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_forward_and_transformed_derivatives():
    stepper = KuramotoSivashinsky(22.0, 16)
    generator = torch.Generator().manual_seed(0)
    u, along = random_waves(stepper, 2, generator), random_waves(stepper, 2, generator)
    differences = (stepper.step(u + 1e-5 * along) - stepper.step(u - 1e-5 * along)) / 2e-5
    _, tangent = torch.func.jvp(stepper.step, (u,), (along,))
    assert torch.allclose(tangent, differences, atol=1e-8)
    batched = torch.func.vmap(stepper.step)(torch.stack([u, along]))
    assert torch.allclose(batched[1], stepper.step(along), atol=1e-14)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(u, along)
        tangent = torch.autograd.forward_ad.unpack_dual(stepper.advance(dual, 1)).tangent
        assert torch.allclose(tangent, differences, atol=1e-8)


def test_second_derivatives():
    stepper = Burgers(1.0, 8, 0.05)
    u = filtered_noise(stepper, 1, torch.Generator().manual_seed(0), waves=2.0).requires_grad_()
    assert torch.autograd.gradgradcheck(stepper.step, (u,))


def test_coefficients_follow_parameters_that_change():
    viscosity = torch.tensor(1.0, dtype=torch.float64)
    stepper = KuramotoSivashinsky(22.0, 32, viscosity=viscosity)
    u = random_waves(stepper, 1, torch.Generator().manual_seed(0))
    before = stepper.step(u)
    viscosity.fill_(2.0)
    expected = KuramotoSivashinsky(22.0, 32, viscosity=2.0).step(u)
    assert torch.equal(stepper.step(u), expected)
    assert not torch.equal(before, expected)
    stepper.parameters["viscosity"] = 1.0
    assert torch.equal(stepper.step(u), before)


def test_field_after_inference_mode():
    stepper = KuramotoSivashinsky(22.0, 16)
    u = random_waves(stepper, 1, torch.Generator().manual_seed(0))
    with torch.inference_mode():
        inside = stepper.step(u)
    assert torch.equal(stepper.step(u), inside)
    stepper.step(u.requires_grad_()).sum().backward()
    assert u.grad is not None


def test_numbers_of_each_trajectory(device):
    lengths = torch.tensor([20.0, 25.0, 31.0])
    steps = torch.tensor([0.1, 0.07, 0.12], dtype=torch.float64, device=device)
    together = KuramotoSivashinsky(lengths, 32, steps, torch.tensor([1.0, 1.1, 0.9]))
    u = random_waves(together, 3, torch.Generator().manual_seed(0)).to(device)
    after = together.advance(u, 4)
    for row, (length, h, viscosity) in enumerate(
        zip(lengths.tolist(), steps.tolist(), (1.0, 1.1, 0.9), strict=True)
    ):
        alone = KuramotoSivashinsky(length, 32, h, viscosity).advance(u[row : row + 1], 4)
        # 1.1 and 0.9 are float32 here
        assert torch.allclose(after[row : row + 1], alone, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_is_that_of_the_field(device, dtype):
    stepper = NavierStokes2D(points=16, forcing=torch.eye(16), time_step=0.01)
    noise = filtered_noise(stepper, 40, torch.Generator().manual_seed(0), deviation=2.0)
    u = noise.to(device, dtype)
    after = stepper.advance(u, 10)
    assert after.dtype == dtype
    assert after.device.type == device.type
    assert torch.allclose(after.cpu().double(), stepper.advance(noise, 10), atol=2e-5)


def test_portions_are_the_whole(monkeypatch):
    lengths = torch.linspace(20.0, 30.0, 7, dtype=torch.float64)
    stepper = KuramotoSivashinsky(lengths, 32)
    u = random_waves(stepper, 7, torch.Generator().manual_seed(0))
    whole = stepper.advance(u, 3)
    monkeypatch.setattr("sims.pde.spectral.stepper.CHUNK_BYTES", 3 * 32 * 8)
    assert torch.allclose(stepper.advance(u, 3), whole, rtol=0.0, atol=1e-14)


def test_steppers_go_to_other_processes():
    stepper = KuramotoSivashinsky(22.0, 16)
    u = random_waves(stepper, 2, torch.Generator().manual_seed(0))
    after = stepper.step(u)
    written = pickle.dumps(stepper)
    assert len(written) < 2000  # without coefficients and buffers
    assert torch.equal(pickle.loads(written).step(u), after)
