"""The reduced model against exact modes, the sum of images, the solver, and laws."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from geomopt.errors import InputError
from sims.acoustics import Emission, Pulse, Room, Solver, Wall
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.exact.images import image_sum
from sims.acoustics.solver import peak_error
from sims.acoustics.source import default_width
from sims.acoustics.surrogates.reduced import reduced_model
from sims.acoustics.surrogates.reduced_modes import SparseOperator

CUBE = (2.0, 2.0, 2.0)
SOURCE = (0.7, 0.9, 1.1)
MIDDLE = (1.0, 0.9, 1.1)  # two widths from the walls: a pulse that they touch rings above its band
RECEIVERS = [(1.5, 1.3, 0.6), (0.4, 1.6, 1.5), (1.66256893, 1.61655235, 1.64047122)]
HARD = dict.fromkeys(("left", "right", "front", "back", "floor", "ceiling"), Wall.impedance(7400.0))
L_SHAPE = [((0.0, 0.0, 0.0), (2.0, 1.0, 1.0)), ((0.0, 1.0, 0.0), (1.0, 2.0, 1.0))]
DURATION = 0.05


def cube(wall: Wall | dict[str, Wall], fmax: float = 250.0, **settings) -> Solver:
    return Solver(Room.box(*CUBE, walls=wall), fmax=fmax, dtype=torch.float64, **settings)


def exact_frequencies(highest: float) -> list[float]:
    """(c/2) |n / L| of the rigid cube up to a frequency [Hz], rising."""
    numbers = itertools.product(range(12), repeat=3)
    found = sorted(SPEED_OF_SOUND / 2 * math.dist(n, (0, 0, 0)) / CUBE[0] for n in numbers)
    return [frequency for frequency in found if frequency <= highest]


def test_the_modes_of_a_rigid_cube_are_those_of_its_axes():
    """All modes of the band, none missed. The elements are coarsest at the end of the band, where
    five nodes stand on a wavelength: 0.1 % there, and less below as the eighth power.
    """
    model = reduced_model(cube(Wall.rigid(), 500.0))
    exact = torch.tensor(exact_frequencies(600.0), dtype=torch.float64)
    found = model.modes.frequency / (2 * math.pi)
    # one more triplet of the elements' modes lies below the end of the band
    assert len(exact) == 230
    assert len(found) == 233
    found = found[:230]
    assert float((found - exact).abs().max() / 600.0) < 1e-3
    low = exact < 300.0
    assert float((found - exact)[low].abs().max()) < 1e-4 * 300.0


def test_a_rigid_cube_at_500_hz_agrees_with_the_sum_of_images():
    """1.2 fmax leaves 0.7 % of the pulse out (all modes up to there, summed exactly)."""
    model = reduced_model(cube(Wall.rigid(), 500.0))
    found = model.simulate(SOURCE, RECEIVERS, DURATION)
    where = torch.tensor(SOURCE), torch.tensor(RECEIVERS)
    exact = image_sum(CUBE, *where, model.times(DURATION), default_width(500.0))
    assert peak_error(found, exact)[1] < 0.008
    assert model.cost.modes == pytest.approx(230, abs=5)


@pytest.mark.parametrize(
    ("wall", "most"),
    [
        (Wall.impedance(411.6), 0.025),
        ({**HARD, "floor": Wall(torch.tensor([[0.0, 2.0, 4e3]]))}, 0.015),
        ({**HARD, "floor": Wall(torch.tensor([[0.0, 0.0, 2e4]]))}, 0.015),
    ],
    ids=["as soft as air", "hard with foam", "hard with springs"],
)
def test_absorbing_walls_agree_with_the_solver(wall, most):
    """Rigid modes and what walls press into the air; relative L2."""
    solver = cube(wall, 500.0)
    model = reduced_model(solver)
    exact = solver.simulate(MIDDLE, RECEIVERS, DURATION)
    error = peak_error(model.simulate(MIDDLE, RECEIVERS, DURATION), exact)[1]
    assert error < most


def test_other_walls_take_the_same_modes():
    """A side of Miki's layer, the others hard, from a model that was made for hard walls."""
    solver = cube(Wall.impedance(7400.0), 500.0)
    model = reduced_model(solver)
    walls = {"left": Wall.miki(), "ceiling": Wall.rigid()}
    exact = solver.simulate(MIDDLE, RECEIVERS, DURATION, walls=walls)
    found = model.with_walls(walls)
    assert found.modes is model.modes
    error = peak_error(found.simulate(MIDDLE, RECEIVERS, DURATION), exact)[1]
    assert error < 0.02


def test_nothing_grows_and_swapped_points_hear_the_same():
    generator = torch.Generator().manual_seed(1)
    times = torch.arange(40, dtype=torch.float64) / 1000.0
    signal = torch.exp(-(((times - 0.015) * 200) ** 2))
    for _ in range(3):
        branches = 10 ** (3 * torch.rand(3, 3, generator=generator).double() - 1.5)
        branches = branches * torch.tensor([1e-3, 1.0, 1e3])
        model = reduced_model(cube(Wall(branches), 150.0))
        assert float(model.resonances.rates.real.max()) < 1e-9 * model.operator.highest
        there = model.simulate(Emission(SOURCE, signal, 1000.0), RECEIVERS[:1], 0.1)
        back = model.simulate(Emission(RECEIVERS[0], signal, 1000.0), [SOURCE], 0.1)
        assert torch.allclose(there, back, rtol=0, atol=1e-9 * float(there.abs().max()))


def test_a_room_of_two_bricks_agrees_with_the_solver():
    """Its modes come from the sparse operator; the constant one is the first."""
    room = Room.bricks(L_SHAPE, walls=Wall.rigid())
    solver = Solver(room, fmax=400.0, dtype=torch.float64)
    model = reduced_model(solver)
    volume = 3.0
    assert float(model.modes.frequency[0]) == 0.0
    inside = solver.space.mass > 0
    assert torch.allclose(
        model.modes.shapes[inside, 0].abs(), torch.tensor(volume**-0.5, dtype=torch.float64)
    )
    given = (0.4, 0.5, 0.6), [(1.7, 0.6, 0.3), (0.6, 1.6, 0.5)], DURATION
    assert peak_error(model.simulate(*given), solver.simulate(*given))[1] < 0.01


def test_the_sparse_operator_finds_the_modes_of_a_box():
    solver = cube(Wall.rigid(), 200.0)
    highest = 2 * math.pi * 300.0
    found = SparseOperator(solver.space, highest).modes()
    exact = reduced_model(solver, cutoff=1.5).modes
    assert torch.allclose(found.frequency, exact.frequency, rtol=1e-6, atol=1e-6 * highest)


@pytest.mark.parametrize(("wall", "most"), [(Wall.rigid(), 0.02), (Wall.impedance(2000.0), 0.03)])
def test_a_moving_source_agrees_with_the_solver(wall, most):
    """A passing point whose signal stays in the lower half of the band; the air beside it, which
    modes alone leave out by 7 %, is added at rest.
    """
    solver = cube(wall, 400.0)
    model = reduced_model(solver)
    rate = 4000.0
    times = torch.arange(240, dtype=torch.float64) / rate
    signal = torch.sin(2 * math.pi * 120 * times) * torch.sin(math.pi * times / 0.06) ** 2
    path = torch.tensor(SOURCE) + times[:, None] * torch.tensor([1.0, -2.0, 0.5])
    source = Emission(path, signal, rate)
    found = model.simulate(source, RECEIVERS, 0.08)
    assert peak_error(found, solver.simulate(source, RECEIVERS, 0.08))[1] < most


def test_the_error_is_measured_on_other_positions():
    model = reduced_model(cube(Wall.rigid()))
    assert model.error is None
    error = model.measure(DURATION).error
    assert error is not None
    assert error.relative < 0.01
    assert error.receivers >= 50
    assert model.cost.repays_after(2.0, 1.0) == model.cost.build
    assert model.cost.repays_after(1.0, 1.0) == math.inf


def test_what_cannot_be_answered_is_refused():
    solver = cube(Wall.rigid(), 150.0)
    model = reduced_model(solver)
    with pytest.raises(InputError, match="source"):
        model.simulate((2.5, 1.0, 1.0), RECEIVERS, 0.01)
    with pytest.raises(InputError, match="receivers"):
        model.simulate(SOURCE, [(1.0, 1.0, -0.1)], 0.01)
    with pytest.raises(InputError, match="width"):
        model.simulate(Pulse(SOURCE, 1.0, 0.6 * default_width(150.0)), RECEIVERS, 0.01)
    with pytest.raises(InputError, match="duration"):
        model.simulate(SOURCE, RECEIVERS, -1.0)
    with pytest.raises(InputError, match="cutoff"):
        reduced_model(solver, cutoff=0.5)


def test_gradients_of_positions_and_signals_agree_with_differences():
    room = Room.bricks(L_SHAPE, walls=Wall.impedance(2000.0))
    model = reduced_model(Solver(room, fmax=150.0, dtype=torch.float64))
    where = torch.tensor([(0.4, 0.5, 0.6), (1.7, 0.6, 0.3)], dtype=torch.float64)
    signal = torch.sin(torch.linspace(0, 3, 12, dtype=torch.float64)) ** 2

    def pulse(where: torch.Tensor) -> torch.Tensor:
        return model.simulate(where[0], where[1:], 0.02).square().sum()

    def emission(where: torch.Tensor, signal: torch.Tensor) -> torch.Tensor:
        found = model.simulate(Emission(where[0], signal, 1000.0), where[1:], 0.02)
        return 1e4 * found.square().sum()

    given = where.requires_grad_(), signal.requires_grad_()
    assert torch.autograd.gradcheck(pulse, given[:1], eps=1e-6, rtol=1e-5)
    assert torch.autograd.gradcheck(emission, given, eps=1e-6, rtol=1e-5)


def test_a_model_of_float32_answers_alike():
    solver = Solver(Room.box(*CUBE, walls=Wall.impedance(2000.0)), fmax=150.0)
    model = reduced_model(solver)
    found = model.simulate(SOURCE, RECEIVERS, DURATION)
    assert found.dtype == torch.float32
    exact = replace(model, solver=cube(Wall.impedance(2000.0), 150.0))
    assert (
        peak_error(found, exact.simulate(SOURCE, RECEIVERS, DURATION)[:, : found.shape[1]])[1]
        < 1e-4
    )


def test_a_room_smaller_than_half_a_wave_has_its_constant_mode():
    """What is left decays as the walls let air pass."""
    room = Room.box(1.0, 0.8, 0.9, walls=Wall.impedance(7400.0))
    solver = Solver(room, fmax=60.0, order=2, dtype=torch.float64)
    model = reduced_model(solver)
    where = (0.5, 0.4, 0.45), [(0.9, 0.7, 0.8)]
    found, exact = (of.simulate(*where, DURATION) for of in (model, solver))
    assert peak_error(found, exact)[1] < 0.05
