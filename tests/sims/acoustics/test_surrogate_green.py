"""Laws of the Green operator: what it learns of a small room, reciprocity, refusals, gradients."""

import math

import pytest
import torch

from geomopt.errors import InputError
from sims.acoustics import Emission, Pulse, Room, Solver, Wall
from sims.acoustics.exact.images import rigid_modes
from sims.acoustics.surrogates import DeepONet, GreenOperator, train_green
from sims.acoustics.surrogates.records import places_in_air, record, sources_in

SIZE = (1.0, 1.2, 0.9)
FMAX = 450.0
DURATION = 0.03
LOW, HIGH = (0.3, 0.3, 0.3), (0.7, 0.9, 0.6)
LEARNED = 0.02  # relative L2: modes above 1.3 fmax are left out, and the basis ends there too
# walls that absorb answer the first moment of a pulse that touches them with all frequencies
ABSORBED = 0.05
RATE = 8000.0
ROUNDING = 2e-5  # of the largest pressure, in float32


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def trained(walls, fmax=FMAX, **settings):
    solver = Solver(Room.box(*SIZE, walls=walls), fmax=fmax)
    return solver, train_green(solver, LOW, HIGH, DURATION, generator=generator(), **settings)


@pytest.fixture(scope="module")
def rigid():
    return trained(Wall.rigid())


@pytest.fixture(scope="module")
def hard():
    return trained(Wall.impedance(7400.0))


def test_a_rigid_box_is_learned_to_the_exact_field(rigid):
    _, model = rigid
    source, receivers = (0.4, 0.7, 0.5), [(0.8, 0.2, 0.7), (0.1, 1.1, 0.05)]
    found = model.simulate(source, receivers, DURATION).double()
    exact = rigid_modes(SIZE, source, receivers, model.times(DURATION), model.domain.width)
    assert (found - exact).norm() < LEARNED * exact.norm()


@pytest.mark.parametrize(("room", "bound"), [("rigid", LEARNED), ("hard", ABSORBED)])
def test_it_answers_unseen_sources_as_the_solver_does(room, bound, request):
    solver, model = request.getfixturevalue(room)
    sources = sources_in(model.domain, 3, generator(5))
    held = record(solver, sources, places_in_air(model.domain, 40, generator(6)), DURATION)
    kept = model.error
    error = model.measure(held)
    assert error.relative < bound
    assert error.relative < 2 * kept.relative + 1e-3  # the error that it carries is honest
    assert torch.equal(model.times(DURATION), solver.times(DURATION))


def test_frequencies_of_a_rigid_box_are_found(rigid):
    _, model = rigid
    numbers = torch.cartesian_prod(*[torch.arange(4)] * 3)
    lengths = torch.tensor(SIZE, dtype=torch.float64)
    exact = 343.0 / 2 * (numbers / lengths).square().sum(1).sqrt().sort().values[:12]
    found = model.frequency.double().sort().values[:12] / (2 * math.pi)
    # the constant mode comes from an arc cosine at 1, where rounding is amplified to its root
    assert torch.allclose(found[1:], exact[1:], atol=0.3)
    assert found[0] < 1.0


@pytest.mark.parametrize("room", ["rigid", "hard"])
def test_source_and_receiver_may_be_swapped(room, request):
    _, model = request.getfixturevalue(room)
    here, there = (0.35, 0.4, 0.5), (0.65, 0.8, 0.35)
    one = model.simulate(here, [there], DURATION)
    other = model.simulate(there, [here], DURATION)
    assert (one - other).abs().max() < ROUNDING * one.abs().max()


def hum(path):
    """A sound of 200 Hz that swells and falls, along a path (3,) or (T, 3)."""
    times = torch.arange(int(DURATION * RATE), dtype=torch.float64) / RATE
    signal = torch.sin(2 * math.pi * 200 * times) * torch.sin(math.pi * times / DURATION) ** 2
    return Emission(path(times), signal, RATE)


def test_an_emission_agrees_with_the_solver(rigid):
    solver, model = rigid
    source = hum(lambda times: (0.3, 0.3, 0.3))
    receivers = [(0.8, 0.2, 0.7), (0.2, 1.1, 0.4)]
    exact = solver.simulate(source, receivers, DURATION)
    found = model.simulate(source, receivers, DURATION)
    assert (found - exact).norm() < LEARNED * exact.norm()


def test_a_moving_emission_is_the_sum_of_what_it_gives_out_where_it_is(hard):
    """The integral over emission times by the trapezium rule on the steps of the solver."""
    model = hard[1].double()
    velocity = torch.tensor([10.0, 15.0, 8.0], dtype=torch.float64)
    source = hum(lambda times: torch.tensor([0.3, 0.3, 0.3]) + times[:, None] * velocity)
    receivers = torch.tensor([[0.8, 0.2, 0.7]], dtype=torch.float64)
    found = model.simulate(source, receivers, DURATION)[0]
    times = model.times(DURATION)
    positions, signal = source.at(times)
    there, here = (torch.complex(*model.shapes_at(at)) for at in (positions, receivers))
    rates = torch.complex(-model.decay, model.frequency)
    ages = (times[:, None] - times).clamp(min=0)
    answers = (torch.exp(rates * ages[..., None]) * (there * here)).sum(2).real
    heard = torch.tril(answers) - torch.diag(answers.diagonal() / 2)
    expected = heard @ signal * model.domain.time_step
    model.float()
    # the rule's own error, (ω dt)²/12 at the highest frequencies
    assert (found - expected).norm() < 0.02 * expected.norm()


def test_wider_pulses_are_answered_and_narrower_ones_refused(rigid):
    solver, model = rigid
    width = 1.4 * model.domain.width
    pulse = Pulse((0.4, 0.7, 0.5), 2.0, width)
    exact = solver.simulate(pulse, [(0.8, 0.2, 0.7)], DURATION)
    found = model.simulate(pulse, [(0.8, 0.2, 0.7)], DURATION)
    assert (found - exact).norm() < LEARNED * exact.norm()
    with pytest.raises(InputError, match="width of a pulse must be at least"):
        model.simulate(Pulse((0.4, 0.7, 0.5), 1.0, 0.9 * model.domain.width), [(0.5,) * 3], 0.01)


@pytest.mark.parametrize(
    ("source", "receiver", "duration", "message"),
    [
        ((0.1, 0.5, 0.5), (0.5, 0.5, 0.5), 0.01, "source at .* outside of the box"),
        ((0.5, 0.5, 0.5), (1.1, 0.5, 0.5), 0.01, "receivers.0. at .* outside of the air"),
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 0.05, "duration must be above 0 and at most"),
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), -1.0, "duration must be above 0 and at most"),
        ((0.5, 0.5, math.nan), (0.5, 0.5, 0.5), 0.01, "source must be finite"),
    ],
)
def test_what_it_was_not_trained_on_is_refused(rigid, source, receiver, duration, message):
    with pytest.raises(InputError, match=message):
        rigid[1].simulate(source, [receiver], duration)


def test_gradients_reach_source_and_receiver(hard):
    model = GreenOperator.of_settings(hard[1].domain, hard[1].settings()).double()
    model.load_state_dict(hard[1].state_dict())
    model.requires_grad_(False)
    source = torch.tensor([0.5, 0.6, 0.45], dtype=torch.float64, requires_grad=True)
    receivers = torch.tensor([[0.2, 0.9, 0.3]], dtype=torch.float64, requires_grad=True)

    def response(source, receivers):
        return model.simulate(source, receivers, 0.004)

    assert torch.autograd.gradcheck(response, (source, receivers), rtol=1e-6)


def test_gradients_reach_strength_and_width_of_a_pulse(rigid):
    model = rigid[1].double()
    amplitude = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    width = torch.tensor(1.2 * model.domain.width, dtype=torch.float64, requires_grad=True)

    def response(amplitude, width):
        return model.simulate(Pulse((0.5, 0.6, 0.45), amplitude, width), [(0.2, 0.9, 0.3)], 0.004)

    assert torch.autograd.gradcheck(response, (amplitude, width), rtol=1e-6)
    model.float()


def test_a_file_gives_the_same_answers_and_refuses_other_kinds(rigid, tmp_path):
    model = rigid[1]
    model.save(tmp_path / "green.pt")
    again = GreenOperator.load(tmp_path / "green.pt")
    question = ((0.4, 0.7, 0.5), [(0.8, 0.2, 0.7)], DURATION)
    assert torch.equal(again.simulate(*question), model.simulate(*question))
    assert again.error == model.error
    with pytest.raises(InputError, match=r"'deeponet'.* holds a 'green operator'"):
        DeepONet.load(tmp_path / "green.pt")
    (tmp_path / "noise.pt").write_bytes(b"no file of ours")
    with pytest.raises(InputError, match="file of a surrogate"):
        GreenOperator.load(tmp_path / "noise.pt")


def test_training_goes_on_from_a_file_and_ends_the_same(tmp_path):
    kept = tmp_path / "training.pt"
    settings = {"runs": 12, "fmax": 200.0}
    _, whole = trained(Wall.rigid(), checkpoint=kept, **settings)  # saved after ten runs
    _, resumed = trained(Wall.rigid(), checkpoint=kept, **settings)
    assert torch.equal(whole.shapes, resumed.shapes)
    assert torch.equal(whole.frequency, resumed.frequency)
    with pytest.raises(InputError, match="of another training"):
        trained(Wall.rigid(), checkpoint=kept, runs=13, fmax=200.0)


def test_a_room_with_a_corner_that_sticks_in_is_learned():
    walls = Wall.impedance(7400.0)
    shape = [((0, 0, 0), (1.4, 0.7, 0.8)), ((0, 0, 0), (0.7, 1.4, 0.8))]
    solver = Solver(Room.bricks(shape, walls=walls), fmax=300.0)
    model = train_green(solver, (0.2, 0.2, 0.2), (1.2, 1.2, 0.6), DURATION, generator=generator())
    assert model.error.relative < 2 * ABSORBED
    with pytest.raises(InputError, match="outside of the air"):
        model.simulate((0.3, 0.3, 0.3), [(1.0, 1.0, 0.4)], DURATION)
    with pytest.raises(InputError, match=r"source.0. at .* outside of the air"):
        model.simulate((1.0, 1.0, 0.4), [(0.3, 0.3, 0.3)], DURATION)


def test_a_room_with_oblique_walls_is_learned(tmp_path):
    """Eight hexahedra between a floor and a ceiling that are turned against each other."""
    lines = torch.linspace(0, 1.2, 3, dtype=torch.float64)
    points = torch.cartesian_prod(lines, lines, lines)
    points[:, 0] += 0.2 * points[:, 2] * (points[:, 1] - 0.4)
    x, y, z = torch.cartesian_prod(*[torch.arange(2)] * 3).T
    first = 9 * x + 3 * y + z
    steps = torch.tensor([0, 1, 3, 4, 9, 10, 12, 13])
    room = Room.hexahedra(points, first[:, None] + steps, Wall.rigid())
    solver = Solver(room, fmax=300.0)
    model = train_green(
        solver, (0.4, 0.4, 0.4), (0.8, 0.8, 0.8), DURATION, generator=generator()
    )  # fmt: skip
    assert model.error.relative < ABSORBED
    model.save(tmp_path / "green.pt")
    again = GreenOperator.load(tmp_path / "green.pt")
    # the wall at the lowest x leans outwards for y below 0.4 m and inwards beyond
    beside = [(-0.05, 0.1, 1.15)]
    expected = solver.simulate((0.5, 0.5, 0.5), beside, DURATION)
    found = again.simulate((0.5, 0.5, 0.5), beside, DURATION)
    assert (found - expected).norm() < 2 * ABSORBED * expected.norm()
    with pytest.raises(InputError, match="outside of the air"):
        again.simulate((0.5, 0.5, 0.5), [(0.05, 1.15, 1.15)], DURATION)
