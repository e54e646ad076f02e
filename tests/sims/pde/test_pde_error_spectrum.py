"""Noise with the spectrum of a model's own error, and the Refiner that is trained on it."""

import math

import pytest
import torch

from geomopt.errors import InputError
from sims.pde.metrics.uncertainty import forecast_horizons
from sims.pde.networks import LocalNet, UNet
from sims.pde.objectives import Batch, refine
from sims.pde.surrogates.error_spectrum import FLOOR, MEMORY, ErrorSpectrum
from sims.pde.surrogates.refiner import Refiner, load_surrogate
from sims.pde.surrogates.surrogate import OneStep
from sims.pde.training import TrainingSettings
from sims.pde.training.optimizer import optimizer, set_rate

DATA = {"time_step": 0.5, "length": 8.0, "points": 16}
EXACT = 1e-12  # float64 rounding of transforms of values of size 1
MANY = 4000  # draws


@pytest.fixture(autouse=True)
def _weights_of_every_run_alike():
    torch.manual_seed(0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def states(trajectories=6, frames=3, seed=0):
    return normal(trajectories, frames, 1, 16, seed=seed)


def power(x):
    axes = tuple(range(2, x.dim()))
    return torch.fft.rfftn(x, dim=axes, norm="ortho").abs().square().mean(0)


def refiner(levels=1, fine=None, **options):
    fine = fine or LocalNet(1, 4, 1, width=6, blocks=1, kernel=3, leveled=levels > 1)
    first = UNet(1, widths=(6, 8))
    made = Refiner(first, fine=fine, **DATA, levels=levels, spectrum="error", **options).double()
    made.fit_scale(states())
    return made


@pytest.mark.parametrize("points", [(32,), (8, 12), (4, 6, 8)])
def test_noise_gets_the_spectrum_that_was_observed(points):
    spectrum = ErrorSpectrum(2, points)
    wanted = 1 + power(normal(1, 2, *points, seed=3))
    spectrum.error.copy_(wanted)
    shaped = power(spectrum.shaped(normal(MANY, 2, *points)))
    # a mean of so many squares, which for modes that are real by symmetry scatter by sqrt(2) more
    assert (shaped / wanted - 1).abs().max() < 5 * (2 / MANY) ** 0.5


def test_the_running_mean_goes_to_what_is_observed():
    spectrum = ErrorSpectrum(1, (16,))
    spectrum.begin([(states(4)[:, 0], 3 * states(4)[:, 1])])
    start = spectrum.error.clone()
    torch.testing.assert_close(start, 9 * power(states(4)[:, 1]))
    error = 1e-3 * normal(8, 1, 16, seed=3)
    for _ in range(10):
        spectrum.observe(error)
    expected = start * MEMORY**10 + power(error) * (1 - MEMORY**10)
    torch.testing.assert_close(spectrum.error, expected)


def test_whitened_modes_are_of_one_size_and_absent_ones_stay_absent():
    size = 10.0 ** -torch.arange(17, dtype=torch.float64)
    size[6:] = 0
    fields = torch.fft.irfft(torch.fft.rfft(normal(MANY, 1, 32)) * size)
    spectrum = ErrorSpectrum(1, (32,))
    spectrum.begin([(fields, 1e-2 * fields)])  # an error of 1 % at each mode
    flat = spectrum.whitened(fields, torch.ones(1, dtype=torch.float64))
    found = power(flat)[0]
    # gain W / (W² + 1e-4 W²) of fields of size W, less where W nears the rounding of fields
    torch.testing.assert_close(found[:6], torch.full((6,), 1.0001**-2).double(), rtol=1e-4, atol=0)
    assert found[6:].max() < 1e-6
    silent = ErrorSpectrum(1, (32,))
    silent.begin([(torch.zeros(1, 1, 32), torch.zeros(1, 1, 32))])
    assert torch.isfinite(silent.whitened(fields, torch.ones(1))).all()


def test_modes_at_which_noise_can_be_told_keep_their_weight():
    spectrum = ErrorSpectrum(1, (16,))
    error = normal(64, 1, 16).requires_grad_()
    plain = spectrum.loss(error, learning=False)  # all modes alike before anything is learned
    assert float(plain.detach()) == pytest.approx(float(power(error.detach()).mean()), rel=1e-12)
    spectrum.left.copy_(10.0 ** -torch.arange(9))
    weight = (spectrum.left + FLOOR).rsqrt()
    expected = (weight * power(error)).sum() / weight.sum()
    torch.testing.assert_close(spectrum.loss(error, learning=False), expected)
    left = spectrum.left.clone()
    spectrum.loss(error, learning=True)
    found = MEMORY * left + (1 - MEMORY) * power(error.detach())
    torch.testing.assert_close(spectrum.left, found)


class Knowing(torch.nn.Module):
    """Tells the noise of level 1 of a target that it knows."""

    def __init__(self, y):
        super().__init__()
        self.y, self.refiner = y, None

    def forward(self, fields, condition, share):
        made = self.refiner[0]
        u, following = fields[:, :1], fields[:, 1:2]
        z = (following - u) * (made.spread / made.scale).view(-1, 1)
        error = torch.fft.rfft(z - self.y) / made.errors.error.sqrt()
        return torch.fft.irfft(error, n=16)


@pytest.mark.parametrize("amplitude", [0.0, 1.0, 3.0])
def test_an_oracle_brings_the_target_back(amplitude):
    y = states(seed=5)[:, 0]
    oracle = Knowing(y)
    made = refiner(fine=oracle, amplitude=amplitude)
    oracle.refiner = [made]
    found = made.increment(states()[:, 0], None, seeded())
    torch.testing.assert_close(found, y, rtol=0, atol=EXACT)


def test_the_forecast_is_deterministic_until_it_is_given_noise():
    made = refiner()
    u, generator = states()[:, 0], seeded()
    first = OneStep(made.network, **DATA)
    first.load_state_dict({n: made.state_dict()[n] for n in first.state_dict()})
    # an untrained fine network takes nothing off, and no noise is drawn
    assert torch.equal(made.step(u, None, generator), first.step(u))
    assert torch.equal(generator.get_state(), seeded().get_state())
    noisy = made.with_amplitude(0.5)
    apart = noisy.increment(u, None, seeded()) - first.increment(u)
    expected = made.errors.shaped(normal(6, 1, 16))
    torch.testing.assert_close(apart, 0.5 * expected, rtol=0, atol=EXACT)
    assert made.amplitude == 0
    assert noisy.network is made.network


def test_samples_need_noise():
    made, u = refiner(), states()[:, 0]
    assert made.with_amplitude(1.0).samples(u, 3, seeded()).std(0).min() > 0
    with pytest.raises(InputError, match=r"samples need noise, this Refiner has amplitude=0"):
        made.samples(u, 3)
    with pytest.raises(InputError, match=r"forecast=\(\); take those of with_amplitude"):
        made.with_amplitude(1.0).with_levels(()).samples(u, 3)
    with pytest.raises(InputError, match="samples need noise"):
        forecast_horizons(made, u, states()[:, 1:], 3, seeded())
    found = forecast_horizons(made.with_amplitude(1.0), u, states()[:, 1:], 3, seeded())
    assert found.agreement.shape == (6, 3, 2)
    again = forecast_horizons(made, u, states()[:, 1:], 3, seeded(), perturbation=0.1)
    assert again.agreement.max() < 1


def test_training_measures_the_error_of_level_0():
    made = refiner()
    batch = Batch(states(seed=9)[:, :2])
    start = made.errors.error.clone()
    loss = refine(made, batch, seeded())
    told = float(loss.detach())
    error = -made.target(batch.states[:, 0], batch.states[:, 1])  # level 0 is 0 at the start
    torch.testing.assert_close(
        made.errors.error, MEMORY * start + (1 - MEMORY) * power(error), rtol=1e-12, atol=0
    )
    # the noise has unit size and is not told yet
    assert told == pytest.approx(float(error.square().mean()) + 1, rel=0.3)
    loss.backward()
    assert all(weight.grad is not None for weight in made.parameters())
    after = made.errors.error.clone()
    refine(made.eval(), batch, seeded())
    assert torch.equal(made.errors.error, after)
    made.train().network.requires_grad_(False)
    with torch.no_grad():
        assert float(refine(made, batch, seeded())) == pytest.approx(1, rel=0.3)
    assert not torch.equal(made.errors.error, after)  # of a frozen level 0 too


def test_levels_go_from_the_error_to_a_share_of_it():
    assert refiner().sigmas == (1.0, 1.0)
    assert refiner(levels=3, sigma_min=0.04).sigmas == pytest.approx((1.0, 1.0, 0.2, 0.04))


def test_it_learns_what_level_0_leaves_out():
    """Level 0 is frozen and blind; small modes are a square of large ones, at the new time."""
    x = torch.arange(16, dtype=torch.float64) / 16 * 2 * math.pi
    shift = torch.rand(64, 3, 1, 1, generator=seeded()).double() * 2 * math.pi
    large = torch.sin(x + shift)
    data = large + 1e-3 * large**2
    made = refiner(fine=LocalNet(1, 4, 1, width=4, blocks=1, kernel=3))
    made.fit_scale(data)
    made.network.requires_grad_(False)
    rule = torch.optim.Adam(made.fine.parameters(), lr=1e-2)
    generator, losses = seeded(), []
    for _ in range(200):
        rows = torch.randint(64, (16,), generator=generator)
        loss = refine(made, Batch(data[rows, :2]), generator)
        rule.zero_grad()
        loss.backward()
        rule.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])


def test_a_file_keeps_spectra_and_amplitude(tmp_path):
    made = refiner(amplitude=0.7)
    refine(made, Batch(states(seed=9)[:, :2]), seeded())
    made.save(tmp_path / "refiner.pt")
    again = load_surrogate(tmp_path / "refiner.pt")
    assert again.amplitude == 0.7
    assert torch.equal(again.errors.error, made.errors.error)
    u = states()[:, 0]
    assert torch.equal(again.step(u, None, seeded()), made.eval().step(u, None, seeded()))
    other = refiner()
    other.load(tmp_path / "refiner.pt")
    assert other.amplitude == 0.7


def test_arguments_that_cannot_be():
    with pytest.raises(InputError, match="spectrum must be one of white, error, got 'pink'"):
        Refiner(UNet(1), **DATA, spectrum="pink")
    with pytest.raises(InputError, match="must come with a fine network"):
        Refiner(UNet(1, channels_in=2, leveled=True), **DATA, spectrum="error")
    with pytest.raises(InputError, match="amplitude must be a number of at least 0, got -1"):
        refiner().with_amplitude(-1)
    with pytest.raises(InputError, match="channels_in=4"):
        refiner(fine=UNet(1, channels_in=2, leveled=True))
    free = Refiner(
        UNet(1, widths=(6, 8), conditions=1),
        fine=LocalNet(1, 4, 1, width=4, conditions=1),
        **DATA,
        conditions={"spacing": (0.2, 1.0)},
        levels=1,
        spectrum="error",
    )
    free.fit_scale(states())
    with pytest.raises(InputError, match=r"u must have \(16,\) points"):
        free.step(torch.zeros(1, 1, 32), {"spacing": 0.25})


def test_the_fine_network_can_have_a_rate_of_its_own():
    made = refiner()
    one = optimizer(made, TrainingSettings())
    assert [group["lr"] for group in one.param_groups] == [3e-3, 3e-3]
    other = optimizer(made, TrainingSettings(fine_rate=1e-2))
    set_rate(other, 0.5)
    assert [group["lr"] for group in other.param_groups] == [1.5e-3, 5e-3]
    with pytest.raises(InputError, match="fine_rate must be"):
        TrainingSettings(fine_rate=-1.0)
