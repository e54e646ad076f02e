"""Surrogates by region: each answers its receivers, in their order; files, training, refusals."""

import math
from dataclasses import replace

import pytest
import torch

from geomopt.errors import InputError
from sims.acoustics import Emission, Room, Solver, Wall
from sims.acoustics.surrogates import (
    Decomposed,
    DeepONet,
    Domain,
    Schedule,
    record,
    train_decomposed,
)
from sims.acoustics.surrogates.records import places_in_air

DURATION = 0.015
SOURCE = (0.5, 0.7, 0.5)
REGIONS = (((0.0, 0.0, 0.0), (0.8, 1.2, 0.9)), ((0.8, 0.0, 0.0), (1.4, 1.2, 0.9)))
RECEIVERS = torch.tensor([(1.2, 0.3, 0.2), (0.2, 0.4, 0.6), (0.9, 1.0, 0.1), (0.5, 0.1, 0.9)])
REGION = (1, 0, 1, 0)
ROUNDING = 1e-6  # of the largest, since products of other shapes are summed in another order
QUICK = Schedule(seconds=1e9, steps=4, runs=6, receivers=50, sources=6, points=64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def net(domain, seed=0):
    return DeepONet(domain, generator=generator(seed), branch_width=16, trunk_width=16, rank=8)


def same(found, expected):
    return (found - expected).abs().max() <= ROUNDING * expected.abs().max()


@pytest.fixture(scope="module")
def solver():
    return Solver(Room.box(1.4, 1.2, 0.9, walls=Wall.rigid()), fmax=200.0)


@pytest.fixture(scope="module")
def domain(solver):
    return Domain.of(solver, (0.3, 0.3, 0.3), (0.7, 0.9, 0.6), DURATION)


@pytest.fixture(scope="module")
def parts(domain):
    return [net(domain.heard_in(*region), seed) for seed, region in enumerate(REGIONS)]


@pytest.fixture(scope="module")
def model(parts):
    return Decomposed(REGIONS, parts)


def test_each_receiver_is_answered_by_its_region_in_the_order_given(model, parts):
    times = model.times(DURATION)
    moving = torch.tensor([0.35, 0.4, 0.35]) + times[:, None] * torch.tensor([5.0, 5.0, 5.0])
    emission = Emission(moving, torch.sin(2 * math.pi * 120 * times), 1 / model.domain.time_step)
    for source in (SOURCE, emission):
        found = model.simulate(source, RECEIVERS, DURATION)
        assert found.shape == (4, len(times))
        for answer, region, at in zip(found, REGION, RECEIVERS, strict=True):
            assert same(answer, parts[region].simulate(source, at, DURATION)[0])


def test_a_face_and_an_overlap_belong_to_the_first(domain):
    face = torch.tensor([(0.8, 0.5, 0.5), (0.1, 0.1, 0.1), (1.4, 1.2, 0.9)])
    both = [net(domain, seed) for seed in range(2)]
    assert Decomposed(REGIONS, both).region_of(face).tolist() == [0, 0, 1]
    assert Decomposed(REGIONS[::-1], both).region_of(face).tolist() == [0, 1, 0]


def test_it_is_differentiable_in_source_and_receivers(model):
    source = torch.tensor(SOURCE, requires_grad=True)
    receivers = RECEIVERS.clone().requires_grad_()
    model.simulate(source, receivers, DURATION).square().sum().backward()
    assert (receivers.grad != 0).all()
    assert (source.grad != 0).all()


def test_a_file_gives_the_same_answers_and_errors(solver, domain, model, tmp_path):
    places = places_in_air(domain, 40, generator(3))
    error = model.measure(record(solver, torch.tensor([SOURCE]).double(), places, DURATION))
    model.save(tmp_path / "net.pt")
    again = Decomposed.load(tmp_path / "net.pt")
    assert again.error == error
    expected = model.simulate(SOURCE, RECEIVERS, DURATION)
    assert torch.equal(again.simulate(SOURCE, RECEIVERS, DURATION), expected)
    with pytest.raises(InputError, match="holds a 'decomposed'"):
        DeepONet.load(tmp_path / "net.pt")


def test_a_net_is_trained_for_each_region(solver, domain, tmp_path):
    heard = []

    def make(part):
        heard.append(part.heard)
        return net(part)

    kept = tmp_path / "training.pt"
    model = train_decomposed(
        solver,
        domain,
        REGIONS,
        make,
        QUICK,
        generator=generator(1),
        checkpoint=kept,
        save_every=2,
    )
    for (low, high), region in zip(heard, REGIONS, strict=True):
        places = places_in_air(
            replace(domain, receiver_low=low, receiver_high=high), 50, generator()
        )
        assert (low.tolist(), high.tolist()) == tuple(map(list, region))
        assert ((places >= low) & (places <= high)).all()
    assert model.error is not None
    assert model.error.receivers == 120
    assert all(part.error is not None for part in model.parts)
    assert not any(weight.requires_grad for weight in model.parameters())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["training-0.pt", "training-1.pt"]
    again = train_decomposed(
        solver,
        domain,
        REGIONS,
        make,
        QUICK,
        generator=generator(1),
        checkpoint=kept,
        save_every=2,
    )
    assert again.error == model.error  # from the files, with nothing left to train


def test_receivers_and_parts_that_do_not_fit_are_refused(solver, domain, parts):
    gap = Decomposed([REGIONS[0]], parts[:1])
    with pytest.raises(InputError, match=r"receivers\[0\] at .* lies in no region; 2 of 4"):
        gap.simulate(SOURCE, RECEIVERS, DURATION)
    with pytest.raises(InputError, match=r"receivers\[0\] at .* outside of the box"):
        parts[0].simulate(SOURCE, RECEIVERS, DURATION)
    for change in ({"duration": 0.02}, {"time_step": domain.time_step / 2}):
        with pytest.raises(InputError, match=rf"{next(iter(change))} of parts\[1\] differs"):
            Decomposed(REGIONS, [parts[0], net(replace(domain, **change))])
    other = Solver(Room.box(1.4, 1.2, 1.0, walls=Wall.rigid()), fmax=200.0)
    elsewhere = net(Domain.of(other, domain.source_low, domain.source_high, DURATION))
    with pytest.raises(InputError, match=r"of parts\[1\] differs"):
        Decomposed(REGIONS, [parts[0], elsewhere])
    with pytest.raises(InputError, match="receivers must lie from"):
        Decomposed(REGIONS, parts[::-1])
    with pytest.raises(InputError, match="must be as many"):
        Decomposed(REGIONS, parts[:1])
    with pytest.raises(InputError, match=r"parts\[1\] must be a Surrogate, got Solver"):
        Decomposed(REGIONS, [parts[0], solver])
    with pytest.raises(InputError, match="regions must be boxes"):
        Decomposed(parts[:1], parts[:1])
    with pytest.raises(InputError, match="low must be below high"):
        domain.heard_in((0.5, 0.5, 0.5), (0.5, 0.9, 0.9))
