"""The DeepONet: its published sizes and start, training that resumes, superposition, refusals."""

import math
from dataclasses import replace

import pytest
import torch

from geomopt.errors import InputError
from sims.acoustics import Emission, Pulse, Room, Solver, Wall
from sims.acoustics.surrogates import DeepONet, Domain, Schedule, train_deeponet
from sims.acoustics.surrogates.deeponet import ModifiedMlp, sharpened

DURATION = 0.02
SMALL = {"branch_width": 24, "branch_depth": 2, "trunk_width": 32, "trunk_depth": 2, "rank": 12}
QUICK = {"steps": 8, "seconds": 1e9, "runs": 18, "receivers": 60, "sources": 8, "points": 64}
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def solver():
    return Solver(Room.box(1.0, 1.2, 0.9, walls=Wall.rigid()), fmax=300.0)


@pytest.fixture(scope="module")
def domain(solver):
    return Domain.of(solver, (0.3, 0.3, 0.3), (0.7, 0.9, 0.6), DURATION)


def net(domain, seed=0, **settings):
    return DeepONet(domain, generator=torch.Generator().manual_seed(seed), **{**SMALL, **settings})


def test_it_has_the_published_number_of_weights():
    """27.6 and 17.2 million for five layers of 2048, 1728 inputs and 28 features, rank 100."""
    counts = [
        sum(p.numel() for p in ModifiedMlp(inputs, 2048, 5, 100).parameters())
        for inputs in (1728, 28)
    ]
    assert counts == [27_613_284, 17_168_484]


def test_the_first_layers_start_wider_than_the_deeper_ones(domain):
    model = net(domain)
    first, deep = model.trunk.hidden
    assert first.weight.abs().max() <= 1 / 28
    assert first.weight.abs().max() > 0.9 / 28
    assert deep.weight.abs().max() <= math.sqrt(6 / 32) / 30
    assert deep.weight.abs().max() > 0.9 * math.sqrt(6 / 32) / 30
    assert model.bias == 0


@pytest.mark.parametrize("branch", ["mlp", "resnet"])
def test_a_few_steps_bring_the_loss_down(solver, domain, branch):
    model = net(domain, branch=branch, channels=(4, 8), blocks=(1, 1))
    losses = []
    train_deeponet(
        solver, model, Schedule(**{**QUICK, "steps": 120, "rate": 5e-3, "fresh": 100}),
        generator=torch.Generator().manual_seed(1), listen=lambda *said: losses.append(said),
        look_every=30,
    )  # fmt: skip
    assert losses[-1][1] < 0.2  # of the mean square pressure
    assert model.error is not None
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_training_that_is_resumed_is_the_same_training(solver, domain, tmp_path):
    schedule = Schedule(**QUICK, published=True, fresh=3)  # rates that do not know the end
    whole = train_deeponet(
        solver, net(domain), schedule, generator=torch.Generator().manual_seed(1)
    )
    kept = tmp_path / "training.pt"
    half = replace(schedule, steps=4)
    for part in (half, schedule):
        model = train_deeponet(
            solver, net(domain), part, generator=torch.Generator().manual_seed(1),
            checkpoint=kept, save_every=4,
        )  # fmt: skip
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), model.parameters(), strict=True)
    )
    with pytest.raises(InputError, match="of another net"):
        train_deeponet(
            solver, net(domain, rank=13), schedule, generator=torch.Generator(), checkpoint=kept
        )


def test_a_file_gives_the_same_answers(domain, tmp_path):
    model = net(domain)
    model.scale = 0.3
    model.save(tmp_path / "net.pt")
    again = DeepONet.load(tmp_path / "net.pt")
    question = ((0.4, 0.7, 0.5), [(0.8, 0.2, 0.7)], DURATION)
    assert torch.equal(again.simulate(*question), model.simulate(*question).detach())


def test_an_emission_is_a_sum_of_pulses(domain):
    """A signal whose every sample is a pulse of its own, against the sum written out."""
    model = net(domain)
    times = model.times(DURATION)
    signal = torch.sin(2 * math.pi * 120 * times) * torch.sin(math.pi * times / times[-1]) ** 2
    path = torch.tensor([0.35, 0.4, 0.35]) + times[:, None] * torch.tensor([5.0, 5.0, 5.0])
    receiver = torch.tensor([[0.8, 0.2, 0.7]])
    with torch.no_grad():
        source = Emission(path, signal, 1 / domain.time_step)
        found = model.simulate(source, receiver, DURATION)[0]
        sharp = sharpened(signal, domain.time_step, domain.width, domain.fmax).float()
        expected = torch.zeros(len(times))
        for number, at in enumerate(path.float()):
            answer = model.pulsed(at, domain.width, receiver, times)[0]
            answer[0] /= 2
            expected[number:] += domain.time_step * sharp[number] * answer[: len(times) - number]
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_other_pulses_are_refused(domain):
    model = net(domain)
    with pytest.raises(InputError, match="width of a pulse must be the"):
        model.simulate(Pulse((0.5, 0.5, 0.5), 1.0, 2 * domain.width), [(0.5, 0.5, 0.5)], 0.01)
    with pytest.raises(InputError, match="outside of the box"):
        model.simulate((0.1, 0.5, 0.5), [(0.5, 0.5, 0.5)], 0.01)
    with pytest.raises(InputError, match="branch must be one of"):
        net(domain, branch="unet")
