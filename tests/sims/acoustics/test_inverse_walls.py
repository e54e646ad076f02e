"""Walls that are found from what is heard between them."""

import math

import pytest
import torch

from geomopt.errors import InputError
from sims.acoustics import Pulse, Room, Solver, Wall
from sims.acoustics.inverse.identify_walls import identify_walls, levels_up_to
from sims.acoustics.inverse.measurement import Measurement, measurement_of
from sims.acoustics.inverse.modal_spectra import branch_admittance, modal_room, modal_spectra
from sims.acoustics.inverse.spectra import damped_spectrum, frequencies_of
from sims.acoustics.inverse.wall_check import wall_check
from sims.acoustics.inverse.wall_level import level_of
from sims.acoustics.inverse.wall_problem import WallProblem
from sims.acoustics.inverse.wall_unknowns import Unknowns
from sims.acoustics.take import read_take, write_take
from sims.acoustics.wav import resample

SIZE = (2.2, 1.8, 1.5)
SOURCE = (0.4, 0.3, 0.4)
RECEIVERS = [(1.8, 1.2, 0.5), (0.3, 1.5, 1.2), (1.9, 0.4, 1.1), (1.0, 1.4, 0.8)]
HELD_OUT = [(1.6, 0.7, 0.6), (0.7, 1.5, 0.3), (1.2, 1.6, 1.2)]
FMAX, RATE, DURATION = 200.0, 2000, 0.4
WALLS = {
    "left": Wall.impedance(6000.0),
    "right": Wall.miki(1e4, 0.06, band=(60.0, 1000.0)),
    "front": Wall.impedance(15000.0),
    "back": Wall.impedance(9000.0),
    "floor": Wall.rigid(),
    "ceiling": Wall(torch.tensor([[2e-3, 8.0, 1600.0], [0.0, 25.0, 0.0]])),
}
UNKNOWN = ("left", "right", "front", "back", "ceiling")


def recorded(receivers) -> torch.Tensor:
    """What a finer mesh hears, as files have it: with another gain and sign, and noise."""
    solver = Solver(Room.box(*SIZE, walls=WALLS), FMAX, nodes_per_wavelength=8.0)
    pressure = solver.simulate(SOURCE, receivers, DURATION)
    heard = -2.5 * resample(pressure.double(), 1 / solver.time_step, RATE)
    noise = torch.randn(heard.shape, generator=torch.Generator().manual_seed(0)).double()
    return heard + 1e-3 * heard.abs().max() * noise


def test_the_damped_spectrum_of_an_exponential_is_its_laplace_transform():
    """exp(-a t) cos(b t); the trapezoidal rule is out by the curvature at the ends, (h b)²/12."""
    time_step, a, b = 1e-5, 30.0, 500.0
    times = time_step * torch.arange(50001, dtype=torch.float64)
    s = frequencies_of(50.0, 200.0, 0.5).s
    found = damped_spectrum((torch.exp(-a * times) * torch.cos(b * times))[None], time_step, s)[0]
    exact = (s + a) / ((s + a) ** 2 + b**2)
    assert float(((found - exact).abs() / exact.abs()).max()) < 1e-3


def test_spectra_on_the_modes_are_those_of_the_solver():
    """Within the error of the reduced model, 4 % of pressure between absorbing walls, at the end of
    the band; twice that at a frequency between resonances.
    """
    solver = Solver(Room.box(*SIZE, walls=WALLS), FMAX)
    s = frequencies_of(50.0, FMAX, DURATION).s
    receivers = torch.tensor(RECEIVERS, dtype=torch.float64)
    exact = damped_spectrum(solver.simulate(SOURCE, receivers, DURATION), solver.time_step, s)
    room = modal_room(solver, Pulse(SOURCE), receivers, FMAX)
    y = torch.stack([WALLS[name].admittance_at(s) for name in room.surfaces])
    found = modal_spectra(room, s, y, torch.zeros_like(y)).pressure
    assert float((found - exact).norm() / exact.norm()) < 0.01
    assert float(((found - exact).norm(dim=0) / exact.norm(dim=0)).max()) < 0.08


def test_derivatives_of_branches_agree_with_differences():
    generator = torch.Generator().manual_seed(1)
    logarithms = torch.randn(2, 2, 3, generator=generator, dtype=torch.float64)
    s = torch.tensor([30 + 400j, 100 + 1000j], dtype=torch.complex128)
    _, slopes, pitch = branch_admittance(logarithms, s)
    step = 1e-6

    def at(values, where):
        return branch_admittance(values, where)[0]

    for entry in range(6):
        change = torch.zeros(2, 6, dtype=torch.float64)
        change[:, entry] = step
        change = change.reshape(2, 2, 3)
        apart = (at(logarithms + change, s) - at(logarithms - change, s)) / (2 * step)
        torch.testing.assert_close(slopes[..., entry], apart, rtol=1e-7, atol=1e-9)
    apart = (at(logarithms, s * math.exp(step)) - at(logarithms, s * math.exp(-step))) / (2 * step)
    torch.testing.assert_close(pitch, apart, rtol=1e-7, atol=1e-9)


@pytest.fixture(scope="module", params=[False, True], ids=["pulse", "impulse"])
def level(request):
    responses = recorded(RECEIVERS)
    places = {"source": SOURCE, "receivers": RECEIVERS}
    measurement = measurement_of(responses, 50.0, rate=RATE, duration=0.2, **places)
    unknowns = Unknowns(UNKNOWN, 2, 150.0)
    solver = Solver(Room.box(*SIZE, walls=WALLS), 150.0)
    return level_of(measurement, solver, unknowns, 50.0, 150.0, impulse=request.param)


def test_the_jacobian_of_all_residuals_agrees_with_differences(level):
    """Central differences in steps of 3e-5 are good to some 1e-7 of the largest."""
    unknowns = level.unknowns
    x = unknowns.start(torch.tensor([0.2, -0.3, -2.0, 0.4, 0.01], dtype=torch.float64), 1.5)
    x[-1] = 0.003
    _, rows = level.residuals(x)
    for entry in [*range(0, unknowns.count, 7), *range(unknowns.count, len(x))]:
        step = torch.zeros_like(x)
        step[entry] = 3e-5
        apart = (level.residuals(x + step)[0] - level.residuals(x - step)[0]) / 6e-5
        error = (rows[:, entry] - apart).abs().max() / apart.abs().max()
        assert float(error) < 1e-6, unknowns.names()[entry]


def test_the_gradient_of_the_problem_is_that_of_its_value(level):
    """The solver's reverse sweep, through walls, source and pitch, along one direction; float32
    leaves three digits of a difference.
    """
    unknowns = level.unknowns
    x = unknowns.start(torch.tensor([0.8, 0.0, -0.1, 0.0, 0.0], dtype=torch.float64), 1.5)
    problem = WallProblem(level, x)
    gradient = problem.evaluate(x[None], order=1).gradient
    assert gradient is not None
    along = gradient[0] / gradient[0].norm()
    near = problem.evaluate(torch.stack([x + 1e-3 * along, x - 1e-3 * along])).value
    assert float((near[0] - near[1]) / 2e-3) == pytest.approx(float(gradient.norm()), rel=1e-2)
    assert "t30_noticeable_differences" in problem.metrics({"unknowns": x})


def test_walls_are_found_from_four_receivers(tmp_path):
    """T30 and C50 at places that were not measured within a just noticeable difference of ISO
    3382-1, from a take with another gain and sign, made on another mesh, by other branches.
    """
    write_take(tmp_path, recorded(RECEIVERS), RATE, SOURCE, RECEIVERS, "CC0-1.0")
    room = Room.box(*SIZE, walls=Wall.rigid())
    found = identify_walls(read_take(tmp_path), room, fmax=FMAX, surfaces=UNKNOWN, branches=2)
    assert found.nuisance.sign == -1
    assert abs(found.speed_of_sound - 343.0) < 0.01 * 343.0
    place = torch.tensor(SOURCE).double(), torch.tensor(HELD_OUT).double()
    unheard = Measurement(recorded(HELD_OUT), RATE, *place)
    check = wall_check(Solver(found.room, FMAX), unheard, found.nuisance)
    assert bool((check.differences["t30"] <= 1).all())
    assert bool((check.differences["c50"] <= 1).all())
    assert found.checks[1].nodes > found.checks[0].nodes
    assert max(check.largest("t30") for check in found.checks) <= 1
    known = found.identifiability
    assert 0 < known.determined < len(known.spectrum)
    assert "poorly determined" in found.report()
    # the hard wall is told with its uncertainty
    for name in ("left", "front", "back"):
        alpha, error = known.absorption[name, 125.0]
        exact = float(WALLS[name].absorption([125.0], "normal")[0])
        assert abs(alpha - exact) < 0.02 + 2 * error


def test_the_band_is_raised_by_octaves():
    assert levels_up_to(500.0, 50.0) == pytest.approx([177.8, 354.8, 500.0], abs=0.1)
    assert levels_up_to(180.0, 50.0) == [180.0]
    assert levels_up_to(1000.0, 50.0)[-2:] == pytest.approx([707.9, 1000.0], abs=0.1)


def test_what_does_not_determine_walls_is_refused(tmp_path):
    room = Room.box(*SIZE, walls=Wall.rigid())
    noise = torch.randn(4, 800, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given = {"rate": RATE, "source": SOURCE, "receivers": RECEIVERS, "fmax": FMAX}
    with pytest.raises(InputError, match="at least 4 receivers, got 3"):
        identify_walls(noise[:3], room, **{**given, "receivers": RECEIVERS[:3]})
    with pytest.raises(InputError, match="rate must be above"):
        identify_walls(noise, room, **{**given, "fmax": 900.0})
    with pytest.raises(InputError, match="surfaces must be names from"):
        identify_walls(noise, room, **given, surfaces=["roof"])
    with pytest.raises(InputError, match=r"at least 0\.16 s"):
        identify_walls(noise[:, :200], room, **given)
    with pytest.raises(InputError, match="fmax must be above"):
        identify_walls(noise, room, **{**given, "fmax": 60.0})
    with pytest.raises(InputError, match="branches must be"):
        identify_walls(noise, room, **given, branches=0)
    with pytest.raises(InputError, match="come with rate"):
        identify_walls(noise, room, fmax=FMAX)
    with pytest.raises(InputError, match="silent"):
        identify_walls(0 * noise, room, **given)
    take = read_take(write_take(tmp_path, noise / 9, RATE, SOURCE, RECEIVERS, "CC0-1.0"))
    with pytest.raises(InputError, match="left out for a take"):
        identify_walls(take, room, fmax=FMAX, rate=RATE)
