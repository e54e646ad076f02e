"""A DeepONet taken to another room: what stays, what moves, that it is quicker, refusals."""

from dataclasses import replace

import pytest
import torch

from geomopt.errors import InputError
from sims.acoustics import Room, Solver, Wall
from sims.acoustics.surrogates import (
    DeepONet,
    Domain,
    Schedule,
    train_deeponet,
    transfer_deeponet,
    transferred,
)

DURATION = 0.015
LOW, HIGH = (0.3, 0.3, 0.3), (0.7, 0.9, 0.6)
SIZES = {"branch_width": 32, "trunk_width": 48, "rank": 16}
QUICK = Schedule(
    seconds=1e9, steps=6, runs=16, receivers=80, sources=8, points=128, rate=5e-3, published=True
)
FROZEN = {
    "mlp": ("branch.hidden.0.", "branch.hidden.1.", "branch.blends.", "trunk.hidden.0.",
            "trunk.blends."),
    "resnet": ("branch.blocks.0.", "branch.blocks.1.", "trunk.hidden.0.", "trunk.blends."),
}  # fmt: skip


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def room(*size, walls=None, fmax=200.0):
    solver = Solver(Room.box(*size, walls=walls or Wall.rigid()), fmax=fmax)
    return solver, Domain.of(solver, LOW, HIGH, DURATION)


def net(domain, **settings):
    return DeepONet(domain, generator=generator(), **{**SIZES, **settings})


@pytest.fixture(scope="module")
def first():
    return room(1.0, 1.2, 0.9)


@pytest.fixture(scope="module")
def other():
    return room(1.05, 1.2, 0.95, walls=Wall.impedance(20000.0))


@pytest.mark.parametrize("branch", ["mlp", "resnet"])
def test_the_layers_next_to_the_inputs_stay_and_all_others_move(first, other, branch):
    trained = net(first[1], branch=branch, channels=(4, 8), blocks=(1, 1))
    held = {name: weight.clone() for name, weight in trained.named_parameters()}
    model = transfer_deeponet(other[0], trained, other[1], QUICK, generator=generator(1))
    assert model.domain is other[1]
    assert model.error is not None
    for name, weight in model.named_parameters():
        assert torch.equal(weight, held[name]) == name.startswith(FROZEN[branch]), name
        assert torch.equal(dict(trained.named_parameters())[name], held[name])


def test_it_starts_from_the_trained_answers(first):
    """The same room, so that nothing but the copy is seen."""
    trained = net(first[1])
    trained.scale = 0.2
    question = ((0.4, 0.7, 0.5), [(0.8, 0.2, 0.7)], DURATION)
    again = transferred(trained, first[1]).simulate(*question)
    assert torch.equal(again, trained.simulate(*question))


def test_it_learns_another_room_quicker_than_afresh(first, other):
    long = replace(QUICK, steps=250, fresh=1000)
    trained = train_deeponet(first[0], net(first[1]), long, generator=generator(1))
    short = replace(long, steps=20)
    heard = []
    for model in (net(other[1]), transferred(trained, other[1])):
        train_deeponet(
            other[0], model, short, generator=generator(2), look_every=10,
            listen=lambda *said: heard.append(said),
        )  # fmt: skip
    afresh, taken = heard[:2], heard[2:]
    for (step, loss, error), (same_step, less, lower) in zip(afresh, taken, strict=True):
        assert step == same_step
        assert less < 0.7 * loss
        assert lower < 0.8 * error


def test_it_resumes_and_tells_frozen_weights_from_others(first, other, tmp_path):
    trained, kept = net(first[1]), tmp_path / "training.pt"
    whole = transfer_deeponet(other[0], trained, other[1], QUICK, generator=generator(1))
    for schedule in (replace(QUICK, steps=3), QUICK):
        model = transfer_deeponet(
            other[0], trained, other[1], schedule, generator=generator(1), checkpoint=kept,
            save_every=3,
        )  # fmt: skip
    for found, expected in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.equal(found, expected)
    model.save(tmp_path / "net.pt")
    again = DeepONet.load(tmp_path / "net.pt")
    question = ((0.4, 0.7, 0.5), [(0.8, 0.2, 0.7)], DURATION)
    assert torch.equal(again.simulate(*question), model.simulate(*question))
    with pytest.raises(InputError, match="with frozen weights"):
        train_deeponet(other[0], net(other[1]), QUICK, generator=generator(1), checkpoint=kept)
    with pytest.raises(InputError, match="must have weights that require gradients"):
        train_deeponet(other[0], model, QUICK, generator=generator(1))


def test_a_resnet_answers_from_its_file_as_it_was_trained(first, tmp_path):
    model = net(first[1], branch="resnet", channels=(4, 8), blocks=(1, 1))
    train_deeponet(first[0], model, QUICK, generator=generator(1))
    model.save(tmp_path / "net.pt")
    question = ((0.4, 0.7, 0.5), [(0.8, 0.2, 0.7)], DURATION)
    answer = DeepONet.load(tmp_path / "net.pt").simulate(*question)
    assert torch.equal(answer, model.simulate(*question))


def test_rooms_that_are_too_large_are_refused(first):
    _, large = room(4.0, 1.2, 0.9)
    with pytest.raises(InputError, match=r"samples per wavelength at fmax, got .* along x"):
        transferred(net(first[1]), large)
    assert transferred(net(first[1], samples=(7, 3, 3)), large).grid.shape == (63, 3)
    with pytest.raises(InputError, match="samples must be three numbers"):
        net(first[1], samples=(7, 1, 3))
    with pytest.raises(InputError, match="trained must be a DeepONet, got Solver"):
        transferred(first[0], large)
