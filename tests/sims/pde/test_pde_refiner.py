"""The Refiner judged without training: oracles, noise, and its limit of no levels."""

import itertools

import pytest
import torch
from torch.autograd import gradcheck

from geomopt.errors import InputError
from sims.pde.networks import UNet
from sims.pde.objectives import Batch, one_step, refine
from sims.pde.rollout import Diverged, rollout
from sims.pde.surrogates.refiner import Refiner, drawn, load_surrogate
from sims.pde.surrogates.schedule import (
    NoiseLevels,
    candidate,
    noise_of_velocity,
    recovered,
    velocity_of_noise,
)
from sims.pde.surrogates.surrogate import OneStep

DATA = {"time_step": 0.5, "length": 8.0, "points": 16}
FORMS = ["epsilon", "velocity"]
EXACT = 1e-13  # float64 rounding of a few operations on values of size 1


@pytest.fixture(autouse=True)
def _weights_of_every_run_alike():
    torch.manual_seed(0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def waves(trajectories=6, frames=3, seed=0):
    size = (trajectories, frames, 1, 16)
    return torch.randn(size, generator=seeded(seed), dtype=torch.float64)


def net(**options):
    return UNet(1, widths=(6, 8), **options)


def refining_net(**options):
    return net(channels_in=2, leveled=True, **options)


def ready(surrogate, seed=0):
    """With a scale, and weights that are not 0 anywhere."""
    surrogate.fit_scale(waves())
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in surrogate.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator).to(parameter)
    return surrogate


class Oracle(torch.nn.Module):
    """Knows the target, and says so with an error of its own at each level."""

    def __init__(self, y, form, levels, sigma_min, errors=None):
        super().__init__()
        self.y, self.form = y, form
        self.levels, self.sigmas = levels, NoiseLevels(levels, sigma_min).sigmas
        self.errors = errors if errors is not None else [torch.zeros_like(y)] * (levels + 1)
        self.weight = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.calls = []

    def forward(self, fields, condition, share):
        level = round(float(share[0]) * self.levels)
        self.calls.append(level)
        z, error = fields[:, 1:], self.errors[level]
        if not level:
            assert not z.any(), "level 0 sees zeros"
            return self.y + error
        sigma = self.sigmas[level]
        if self.form == "epsilon":
            return (z - self.y) / sigma + error
        a = (1 + sigma**2) ** -0.5
        return (a * z - self.y) / (sigma * a) + error


def with_oracle(form, levels, sigma_min, errors=None):
    y = waves(seed=5)[:, 0]
    oracle = Oracle(y, form, levels, sigma_min, errors)
    refiner = Refiner(oracle, **DATA, levels=levels, sigma_min=sigma_min, form=form)
    refiner.fit_scale(waves())
    return refiner, oracle, y


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("levels", "sigma_min"), [(1, 0.3), (3, 1e-3), (8, 5e-4)])
def test_an_oracle_brings_the_target_back(form, levels, sigma_min):
    refiner, oracle, y = with_oracle(form, levels, sigma_min)
    u = waves()[:, 0]
    torch.testing.assert_close(refiner.increment(u, None, seeded()), y, rtol=0, atol=EXACT)
    assert oracle.calls == list(range(levels + 1))
    torch.testing.assert_close(refiner.step(u), u + refiner.scale * y, rtol=0, atol=EXACT)


@pytest.mark.parametrize("form", FORMS)
def test_only_the_error_of_the_last_level_counts_times_its_noise(form):
    errors = [waves(seed=7 + level)[:, 0] * 10 for level in range(4)]
    refiner, _, y = with_oracle(form, 3, 2e-3, errors)
    found = refiner.increment(waves()[:, 0], None, seeded())
    size = 2e-3 * (1.0 if form == "epsilon" else (1 + 2e-3**2) ** -0.5)
    torch.testing.assert_close(found, y - size * errors[3], rtol=0, atol=1e-11)


def test_forecasting_with_some_levels():
    refiner, oracle, y = with_oracle("epsilon", 3, 1e-3)
    fewer = refiner.with_levels((3,))
    fewer.increment(waves()[:, 0])
    assert oracle.calls == [0, 3]
    assert fewer.network is refiner.network
    assert refiner.forecast == (1, 2, 3)
    none = refiner.with_levels(())
    torch.testing.assert_close(none.increment(waves()[:, 0]), y, rtol=0, atol=0)


class Turned(torch.nn.Module):
    """Gives the velocity for the noise that a network of the other form gives."""

    def __init__(self, network, sigmas):
        super().__init__()
        self.network, self.sigmas = network, sigmas

    def forward(self, fields, condition, share):
        level = round(float(share[0]) * (len(self.sigmas) - 1))
        u, z = fields[:, :1], fields[:, 1:]
        if not level:
            return self.network(fields, condition, share)
        sigma = self.sigmas[level]
        noise = self.network(torch.cat([u, z * (1 + sigma**2) ** 0.5], 1), condition, share)
        velocity = velocity_of_noise(noise, z, sigma)
        torch.testing.assert_close(noise_of_velocity(velocity, z, sigma), noise)
        return velocity


def test_both_forms_forecast_alike():
    plain = ready(Refiner(refining_net().double(), **DATA, sigma_min=1e-2))
    turned = Refiner(
        Turned(plain.network, plain.noise.sigmas), **DATA, sigma_min=1e-2, form="velocity"
    )
    turned.fit_scale(waves())
    u = waves()[:, 0]
    expected = plain.step(u, None, seeded(1))
    assert not torch.equal(expected, plain.step(u, None, seeded(2)))
    torch.testing.assert_close(turned.step(u, None, seeded(1)), expected, rtol=0, atol=EXACT)


def trained(kind, objective, steps=4, **options):
    torch.manual_seed(3)
    model = kind(net(), **DATA, **options)
    model.fit_scale(waves())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses, generator = [], seeded(1)
    for number in range(steps):
        optimizer.zero_grad()
        loss = objective(model, Batch(waves(seed=number).float()), generator)
        loss.backward()
        gradients = [weight.grad.clone() for weight in model.parameters()]
        optimizer.step()
        losses.append(loss.detach())
    return model, losses, gradients, generator


def test_without_levels_it_is_the_one_step_model_bit_for_bit():
    plain, losses, gradients, _ = trained(OneStep, one_step)
    other, same_losses, same_gradients, generator = trained(Refiner, refine, levels=0)
    assert torch.equal(torch.stack(losses), torch.stack(same_losses))
    assert losses[-1] != losses[0]
    for one, two in itertools.chain(
        zip(gradients, same_gradients, strict=True),
        zip(plain.state_dict().items(), other.state_dict().items(), strict=True),
    ):
        if isinstance(one, tuple):
            assert one[0] == two[0]
            one, two = one[1], two[1]
        assert torch.equal(one, two)
    assert torch.equal(generator.get_state(), seeded(1).get_state())  # nothing was drawn
    u, generator = waves()[:, 0], seeded(1)
    assert torch.equal(plain.step(u), other.step(u, None, generator))
    assert torch.equal(plain.advance(u.float(), 5), other.advance(u.float(), 5, None, generator))
    assert torch.equal(generator.get_state(), seeded(1).get_state())


def test_a_generator_fixes_the_noise_and_goes_on():
    refiner = ready(Refiner(refining_net(), **DATA))
    u = waves()[:, 0]
    generator = seeded(4)
    first, second = refiner.step(u, None, generator), refiner.step(u, None, generator)
    assert torch.equal(first, refiner.step(u, None, seeded(4)))
    assert not torch.equal(first, second)


def test_samples_are_forecasts_of_their_own():
    refiner = ready(Refiner(refining_net(), **DATA, sigma_min=0.1))
    u = waves()[:, 0]
    samples = refiner.samples(u, 64, seeded())
    assert samples.shape == (64, *u.shape)
    assert samples.std(0).min() > 0
    # level 0 is one and the same, so that means of many meet: 8 = sqrt(64) standard errors apart
    other = refiner.samples(u, 64, seeded(1)).mean(0)
    assert ((samples.mean(0) - other).abs() < 8 * samples.std(0) / 8).all()


def test_a_network_of_its_own_for_the_fine_levels():
    trained_first = ready(OneStep(net(), **DATA))
    refiner = Refiner(trained_first.network, fine=refining_net(), **DATA, forecast=(3,))
    refiner.fit_scale(waves())
    u = waves()[:, 0]
    expected = trained_first.increment(u)
    assert torch.equal(refiner.first(refiner.seen(u), None), expected)
    assert torch.equal(refiner.with_levels(()).step(u), trained_first.step(u))
    # an untrained fine network leaves the noise of its level
    apart = refiner.increment(u, None, seeded()) - expected
    assert float(apart.detach().std()) == pytest.approx(refiner.noise.smallest, rel=0.2)


def conditioned(form):
    network = refining_net(conditions=1)
    refiner = ready(Refiner(network, **DATA, conditions={"drag": (0.0, 1.0)}, form=form))
    return refiner.double().requires_grad_(False)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_through_a_step_of_fixed_noise(form):
    refiner = conditioned(form)
    u = waves()[:1, 0].requires_grad_()
    drag = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda u, drag: refiner.step(u, {"drag": drag}, seeded()), (u, drag))


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_the_last_call_hold_its_candidate_fixed(form):
    refiner = conditioned(form)
    refiner.last_call_only = True
    u = waves()[:, 0].requires_grad_()
    found = refiner.increment(u, {"drag": 0.3}, seeded())

    noise = seeded()
    before = refiner.with_levels((1, 2)).increment(u.detach(), {"drag": 0.3}, noise)
    sigma, seen = refiner.noise.smallest, refiner.seen(u)
    z = candidate(before, drawn(before, noise), sigma, form)
    told = refiner.told(u, {"drag": 0.3})
    expected = recovered(z, refiner.output(seen, z, seen.new_ones(len(u)), told), sigma, form)

    assert torch.equal(found, expected)
    goal = waves(seed=4)[:, 0]
    gradients = [torch.autograd.grad((y * goal).sum(), u)[0] for y in (found, expected)]
    assert torch.equal(*gradients)
    refiner.last_call_only = False
    full = refiner.increment(u, {"drag": 0.3}, seeded())
    assert torch.equal(full, found)
    assert not torch.equal(torch.autograd.grad((full * goal).sum(), u)[0], gradients[0])


class Denoiser(torch.nn.Module):
    """Near an ideal one: y = tanh of neighbours, whatever the candidate, up to a small leak."""

    def __init__(self, levels, sigma_min, leak):
        super().__init__()
        self.levels, self.sigmas = levels, NoiseLevels(levels, sigma_min).sigmas
        self.leak = leak
        self.weight = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, fields, condition, share):
        u, z = fields[:, :1], fields[:, 1:]
        y = self.weight * torch.tanh(u.roll(1, 2) * u + u.roll(-1, 2))
        level = round(float(share[0]) * self.levels)
        return y if not level else (1 - self.leak) * (z - y) / self.sigmas[level]


@pytest.mark.parametrize(("leak", "least"), [(0.0, 1 - 1e-12), (0.05, 0.999), (0.3, 0.95)])
def test_the_last_call_holds_nearly_all_of_the_gradient(leak, least):
    refiner = Refiner(Denoiser(3, 1e-2, leak), **DATA, sigma_min=1e-2)
    refiner.fit_scale(waves())

    def gradient(last_call_only):
        refiner.last_call_only = last_call_only
        u = waves()[:, 0].requires_grad_()
        goal = waves(seed=9)[:, 0]
        y = u
        for _ in range(3):
            y = refiner.step(y, None, seeded())
        return torch.autograd.grad((y - goal).square().sum(), u)[0].flatten()

    cosine = torch.cosine_similarity(gradient(True), gradient(False), dim=0)
    assert cosine >= least


def test_a_rollout_that_grows_between_two_frames_is_stopped_and_counted():
    class Growing(torch.nn.Module):
        def forward(self, fields, condition, share):
            u = fields[:, :1]
            return torch.where(u.abs() > 100, u**9, 0.0)

    refiner = Refiner(Growing(), **DATA)
    refiner.fit_scale(waves())
    u = torch.cat([torch.zeros(1, 1, 16), 1e9 * torch.ones(2, 1, 16)])
    with pytest.warns(Diverged, match="2 of 3 trajectories"):
        frames = rollout(refiner, u, 64, 32, generator=seeded())
    assert frames[0].isfinite().all()
    assert frames[1:].isnan().all()


def test_a_rollout_is_advancing_with_the_same_noise():
    refiner = ready(Refiner(refining_net(conditions=1), **DATA, conditions={"drag": (0.0, 1.0)}))
    u, told = waves()[:, 0], {"drag": 0.4}
    frames = rollout(refiner, u, 4, 2, condition=told, generator=seeded(1))
    assert torch.equal(frames[:, 1], refiner.advance(u, 4, told, seeded(1)))
    step, noise = u, seeded(1)
    for _ in range(4):
        step = refiner.step(step, told, noise)
    assert torch.equal(frames[:, 1], step)


def test_levels_are_part_of_a_file(tmp_path):
    refiner = ready(Refiner(refining_net(), **DATA, levels=2, sigma_min=1e-2))
    refiner.with_levels((2,)).save(tmp_path / "one.pt")
    assert load_surrogate(tmp_path / "one.pt").forecast == (2,)
    other = ready(Refiner(refining_net(), **DATA, levels=2, sigma_min=1e-2))
    other.load(tmp_path / "one.pt")
    assert other.forecast == (2,)
    with pytest.raises(InputError, match=r"sigma_min is 0.01 in the file and 0.02 here"):
        Refiner(refining_net(), **DATA, levels=2, sigma_min=2e-2).load(tmp_path / "one.pt")


def test_arguments_that_cannot_be():
    for network, options, said in (
        (refining_net(), {"form": "score"}, "form must be one of epsilon, velocity, got 'score'"),
        (refining_net(), {"sigma_min": 4e-7}, "standard deviation"),
        (refining_net(), {"levels": -1}, "levels must be"),
        (refining_net(), {"forecast": (2, 1)}, "forecast must be rising levels from 1 to 3"),
        (refining_net(), {"forecast": (4,)}, "forecast must be rising levels from 1 to 3"),
        (refining_net(), {"levels": 0}, "network must have channels_in=1"),
        (net(), {}, "network must have channels_in=2"),
        (net(channels_in=2), {}, "network must have leveled=True"),
        (net(), {"fine": net()}, "fine must have channels_in=2"),
        (net(), {"fine": refining_net(), "levels": 0}, "fine must be None without levels"),
    ):
        with pytest.raises(InputError, match=said):
            Refiner(network, **{**DATA, **options})
    with pytest.raises(InputError, match="count must be"):
        ready(Refiner(refining_net(), **DATA)).samples(waves()[:, 0], 0)
