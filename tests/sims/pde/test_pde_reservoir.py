"""The laws of a reservoir, and the live solvers that fill it."""

import copy
from dataclasses import replace

import pytest
import torch

from geomopt.errors import InputError
from sims.pde.data import Campaign, Reservoir, Stream
from sims.pde.objectives import Batch
from sims.pde.spectral.initial import random_waves
from sims.pde.spectral.kuramoto_sivashinsky import KuramotoSivashinsky

CAMPAIGN = Campaign(
    KuramotoSivashinsky(22.0, 16, 0.2), random_waves, 0.4, warm_up=2.0, dtype=torch.float32
)


def windows(first, count):
    """Windows that carry their numbers."""
    number = torch.arange(first, first + count, dtype=torch.float32)
    return Batch(number.view(-1, 1, 1, 1).expand(-1, 2, 1, 4).clone(), {"number": number})


def drawn(reservoir, count, generator):
    batch = reservoir.draw(count, generator)
    assert torch.equal(batch.states[:, 1, 0, 2], batch.condition["number"])
    return batch.condition["number"].long().tolist()


def test_every_window_is_used_before_it_is_overwritten():
    generator = torch.Generator().manual_seed(0)
    reservoir = Reservoir(20, 5)
    used, last = set(), 0
    for _ in range(300):
        before = set(reservoir.held_conditions.get("number", torch.zeros(0)).long().tolist())
        last += reservoir.put(windows(last, 3), generator)
        after = set(reservoir.held_conditions["number"].long().tolist())
        assert before - after <= used  # what went was used
        if reservoir.ready:
            used |= set(drawn(reservoir, 4, generator))
    assert last > 300
    assert set(range(last)) - set(reservoir.held_conditions["number"].long().tolist()) <= used
    assert reservoir.received == last
    assert reservoir.overwritten == last - 20


def test_a_reservoir_full_of_unused_windows_takes_nothing():
    generator = torch.Generator().manual_seed(0)
    reservoir = Reservoir(6)
    assert reservoir.put(windows(0, 4), generator) == 4
    assert reservoir.put(windows(4, 4), generator) == 2
    assert reservoir.put(windows(6, 2), generator) == 0
    kept = drawn(reservoir, 1, generator)
    assert reservoir.put(windows(6, 2), generator) == 1
    held = reservoir.held_conditions["number"].tolist()
    assert 6 in held
    assert kept[0] not in held
    assert reservoir.put(windows(7, 1), generator) == 0  # what came last was not used yet


def test_draws_are_uniform_with_replacement():
    generator = torch.Generator().manual_seed(1)
    reservoir = Reservoir(30, 10)
    reservoir.put(windows(0, 30), generator)
    counts = torch.bincount(torch.tensor(drawn(reservoir, 6000, generator)), minlength=30)
    assert torch.equal(counts, reservoir.uses)
    # chi-square with 29 degrees of freedom: 58.3 is exceeded once in a thousand times
    assert float(((counts - 200.0) ** 2 / 200).sum()) < 58.3


def test_what_is_overwritten_is_uniform_over_what_was_used():
    full = Reservoir(10)
    generator = torch.Generator().manual_seed(2)
    full.put(windows(0, 10), generator)
    full.uses[:6] = 1
    counts = torch.zeros(10)
    for _ in range(3000):
        trial = copy.deepcopy(full)
        assert trial.put(windows(10, 2), generator) == 2
        counts[trial.held_conditions["number"] >= 10] += 1
    assert not counts[6:].any()
    # 2 of 6 each time: the counts of a place have variance n p (1 - p), with 5 degrees of freedom
    # after their sum is fixed; 20.5 at 1e-3
    assert float(((counts[:6] - 1000.0) ** 2).sum() / (3000 / 3 * 2 / 3) * 5 / 6) < 20.5


def test_draws_wait_for_the_watermark():
    generator = torch.Generator().manual_seed(0)
    reservoir = Reservoir(8, 3)
    reservoir.put(windows(0, 2), generator)
    with pytest.raises(InputError, match="holds 2 windows, draws begin at 3"):
        reservoir.draw(1, generator)
    reservoir.put(windows(2, 1), generator)
    assert len(drawn(reservoir, 5, generator)) == 5


def test_a_reservoir_goes_on_from_its_state():
    generator = torch.Generator().manual_seed(0)
    one, other = Reservoir(12, 2), Reservoir(12, 2)
    one.put(windows(0, 9), generator)
    one.draw(5, generator)
    other.restore(one.state())
    states = generator.get_state()
    results = []
    for reservoir in (one, other):
        generator.set_state(states)
        reservoir.put(windows(9, 5), generator)
        results.append(drawn(reservoir, 20, generator))
    assert results[0] == results[1]
    assert torch.equal(one.uses, other.uses)
    with pytest.raises(
        InputError, match=r"capacity and watermark \[12, 2\], this one has \[9, 2\]"
    ):
        Reservoir(9, 2).restore(one.state())


def test_bad_reservoirs_and_windows_are_named():
    with pytest.raises(InputError, match="watermark must be at most capacity 3"):
        Reservoir(3, 4)
    with pytest.raises(InputError, match="capacity must be an integer"):
        Reservoir(0)
    reservoir = Reservoir(4)
    with pytest.raises(InputError, match="empty"):
        _ = reservoir.held_states
    reservoir.put(windows(0, 1), torch.Generator())
    with pytest.raises(InputError, match="windows must be like the first"):
        reservoir.put(Batch(torch.zeros(1, 2, 1, 4)), torch.Generator())


def stream(**options):
    sizes = {"frames": 3, "capacity": 40, "watermark": 10, "fresh": 2.0, "batch": 8, "windows": 4}
    return Stream(CAMPAIGN, **{**sizes, **options})


def test_the_solver_makes_what_was_agreed_for_each_batch():
    source, generator = stream(), torch.Generator().manual_seed(0)
    for draws in range(1, 41):
        batch = source.draw(16, 2, 2, generator)
        made = source.reservoir.received - 16  # two rounds of 8 for the watermark of 10
        assert 2 * draws - 8 < made <= 2 * draws
    assert batch.states.shape == (16, 2, 1, 16)
    assert batch.states.dtype == torch.float32
    assert torch.equal(batch.condition["time_step"], torch.full((16,), 0.8))
    assert source.waited == 1
    following = CAMPAIGN.stepper.advance(batch.states[:, 0].double(), 4)
    assert float((following - batch.states[:, 1]).abs().max()) < 1e-5  # of float32 fields


def test_the_solver_waits_for_a_full_reservoir_and_does_not_catch_up():
    source, generator = stream(capacity=10, fresh=80.0), torch.Generator().manual_seed(0)
    for _ in range(50):
        source.draw(1, 2, 1, generator)  # uses one window at a time
    assert source.reservoir.received <= 10 + 50
    assert source.owed <= 8


def test_a_stream_is_repeatable_and_goes_on_from_its_state():
    generator = torch.Generator().manual_seed(0)
    one, twin = stream(), stream()
    batches = [s.draw(8, 3, 1, torch.Generator().manual_seed(5)).states for s in (one, twin)]
    assert torch.equal(*batches)
    for _ in range(25):  # into the middle of the trajectories
        one.draw(8, 3, 1, generator)
    other = stream(seed=9)
    other.restore(one.state())
    state = generator.get_state()
    for _ in range(25):
        first = one.draw(8, 2, 1, generator)
        generator, after = torch.Generator(), generator.get_state()
        generator.set_state(state)
        second = other.draw(8, 2, 1, generator)
        assert torch.equal(first.states, second.states)
        assert torch.equal(generator.get_state(), after)
        state = after
    with pytest.raises(InputError, match="workers"):
        one.restore({**one.state(), "workers": {"begun": 1, "lost": 0}})


def test_ranges_of_a_stream_are_those_of_its_law():
    def maker(**drawn):
        return KuramotoSivashinsky(points=16, **drawn)

    law = replace(
        CAMPAIGN, stepper=maker, ranges={"length": (20.0, 24.0)}, frame_time=(0.4, 0.5), substeps=2
    )
    source = Stream(law, frames=2, capacity=8, watermark=8, batch=8)
    assert source.ranges(2) == {
        "viscosity": (1.0, 1.0),
        "time_step": (0.8, 1.0),
        "spacing": (1.25, 1.5),
    }
    assert source.sample(1).shape == (8, 2, 1, 16)


def test_windows_that_are_too_long_are_named():
    with pytest.raises(InputError, match="windows of at least 5 frames, the stream makes 3"):
        stream().draw(1, 3, 2, torch.Generator())
    with pytest.raises(InputError, match="fresh must be positive"):
        stream(fresh=0.0)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"fresh": "many"}, "fresh must be windows for each batch, got 'many'"),
        ({"seed": "one"}, "seed must be an integer of at least 0"),
        ({"workers": -1}, "workers must be an integer of at least 0"),
        ({"device": "abacus"}, "device must be one of this machine, got 'abacus'"),
    ],
)
def test_streams_that_cannot_be(options, what):
    with pytest.raises(InputError, match=what):
        Stream(CAMPAIGN, frames=3, **options)
    with pytest.raises(InputError, match="campaign must be a Campaign, got None"):
        Stream(None, frames=3)
