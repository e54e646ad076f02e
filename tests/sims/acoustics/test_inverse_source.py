"""Sources that are found from what receivers hear."""

import math

import pytest
import torch

from geomopt.errors import InputError
from optimizers import Budget, minimize
from sims.acoustics import Pulse, Room, Solver, Wall
from sims.acoustics.inverse.locate_source import (
    compare,
    locate_source,
    recordings_of,
    scan,
    source_problem,
)
from sims.acoustics.source import default_width
from sims.acoustics.take import read_take, write_take
from sims.acoustics.wav import resample

SIZE = (2.4, 1.9, 1.6)
RECEIVERS = [(2.0, 1.4, 0.4), (0.3, 1.6, 1.3), (2.1, 0.4, 1.2), (1.0, 0.3, 0.5)]
SOURCE = (0.7, 1.1, 0.6)
FMAX, RATE = 300.0, 3000
WALLS = {
    "left": Wall.impedance(7400.0),
    "right": Wall.impedance(3000.0),
    "front": Wall.impedance(15000.0),
    "back": Wall.impedance(9000.0),
    "floor": Wall.rigid(),
    "ceiling": Wall(torch.tensor([[2e-3, 8.0, 1600.0], [0.0, 25.0, 0.0]])),
}
ROOM = Room.box(*SIZE, walls=WALLS)


def recorded(source=SOURCE, amplitude=0.3, noise=0.01) -> torch.Tensor:
    """What a finer mesh hears for a tenth of a second, with noise of a share of its peak."""
    solver = Solver(ROOM, FMAX, nodes_per_wavelength=8.0)
    width = default_width(FMAX)
    pressure = solver.simulate(Pulse(source, amplitude, width), RECEIVERS, 0.1).double()
    heard = resample(pressure, 1 / solver.time_step, RATE)
    drawn = torch.randn(heard.shape, generator=torch.Generator().manual_seed(0)).double()
    return heard + noise * heard.abs().max() * drawn


@pytest.fixture(scope="module")
def located():
    return locate_source(recorded(), ROOM, fmax=FMAX, rate=RATE, receivers=RECEIVERS)


@pytest.mark.parametrize("source", [SOURCE, (2.2, 1.7, 0.2)])
def test_a_source_of_unknown_loudness_is_found_within_a_twentieth_of_a_wavelength(source, located):
    found = located
    if source != SOURCE:
        found = locate_source(recorded(source), ROOM, fmax=FMAX, rate=RATE, receivers=RECEIVERS)
    error = float((found.position - torch.tensor(source, dtype=torch.float64)).norm())
    assert error < found.wavelength / 20
    assert found.amplitude == pytest.approx(0.3, rel=0.05)
    # a finer mesh says the same, of the misfit and of the place
    assert found.finer_misfit == pytest.approx(found.misfit, rel=0.5, abs=1e-4)
    assert found.finer_shift < found.wavelength / 20
    assert found.runs < 50
    assert "wavelength/20" in found.report()


def test_fifty_guesses_are_further_off(located):
    """CMA-ES with 50 evaluations of the same misfit, which cost as many runs or more."""
    recordings = recordings_of(recorded(), RATE, RECEIVERS)
    comparison = compare(Solver(ROOM, FMAX), recordings, default_width(FMAX))
    guessed = minimize(source_problem(comparison), "cma", budget=Budget(evaluations=50))
    source = torch.tensor(SOURCE, dtype=torch.float64)
    assert located.misfit < guessed.value
    assert (located.position - source).norm() < (guessed.x - source).norm()


def test_the_scan_by_reciprocity_ends_near_the_source():
    """On a grid of a sixth of a wavelength: within half of its diagonal, and as much for nodes
    that are not in the middle of their cell.
    """
    recordings = recordings_of(recorded(noise=0.0), RATE, RECEIVERS)
    first = scan(compare(Solver(ROOM, FMAX), recordings, default_width(FMAX)))[0]
    error = float((first - torch.tensor(SOURCE, dtype=torch.float64)).norm())
    assert error < math.sqrt(3) / 6 * 343.0 / FMAX


def test_the_gradient_of_the_misfit_agrees_with_differences():
    """Central differences in float64."""
    recordings = recordings_of(recorded(), RATE, RECEIVERS)
    solver = Solver(ROOM, 150.0, dtype=torch.float64)
    problem = source_problem(compare(solver, recordings, default_width(FMAX)))
    x = torch.tensor([[0.9, 0.8, 0.7]], dtype=torch.float64)
    gradient = problem.evaluate(x, order=1).gradient
    step = 1e-4 * torch.eye(3, dtype=torch.float64)
    apart = problem.evaluate(x + step).value - problem.evaluate(x - step).value
    assert gradient is not None
    torch.testing.assert_close(gradient[0], apart / 2e-4, rtol=1e-5, atol=1e-7)


def test_places_without_air_are_failed_rows():
    """A search may step into furniture; it is told so, and goes on."""
    room = Room.bricks([((0, 0, 0), SIZE)], Wall.impedance(7400.0), [((1, 0, 0), (1.4, 1, 0.8))])
    recordings = recordings_of(recorded(), RATE, RECEIVERS)
    problem = source_problem(compare(Solver(room, 150.0), recordings, default_width(FMAX)))
    places = torch.tensor([[1.2, 0.5, 0.4], [0.5, 0.5, 0.5]], dtype=torch.float64)
    assert problem.evaluate(places, order=1).ok.tolist() == [False, True]


def test_what_does_not_tell_a_place_is_refused(tmp_path):
    responses = torch.ones(4, 400, dtype=torch.float64)
    given = {"rate": RATE, "receivers": RECEIVERS, "fmax": FMAX}
    with pytest.raises(InputError, match="at least two receivers"):
        locate_source(responses[:1], ROOM, **{**given, "receivers": RECEIVERS[:1]})
    with pytest.raises(InputError, match="silent"):
        locate_source(0 * responses, ROOM, **given)
    with pytest.raises(InputError, match="rate must be above"):
        locate_source(responses, ROOM, **{**given, "fmax": 1500.0})
    with pytest.raises(InputError, match="width must be above"):
        locate_source(responses, ROOM, **given, width=0.0)
    with pytest.raises(InputError, match="come with rate"):
        locate_source(responses, ROOM, fmax=FMAX)
    with pytest.raises(InputError, match="shape"):
        locate_source(responses, ROOM, **{**given, "receivers": RECEIVERS[:3]})
    take = read_take(write_take(tmp_path, responses / 9, RATE, SOURCE, RECEIVERS, "CC0-1.0"))
    assert recordings_of(take, None, None).responses.shape == (4, 301)
