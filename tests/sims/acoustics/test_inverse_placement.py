"""Loudspeaker placement: the spread over seats, its slopes, reciprocal proposals, certificates."""

import math

import pytest
import torch

from geomopt.errors import InputError
from optimizers import Budget, minimize
from sims.acoustics import Room, Solver, Wall
from sims.acoustics.inverse.placement import (
    LoudspeakerPlacement,
    LoudspeakerProblem,
    place_loudspeakers,
)
from sims.acoustics.inverse.seat_spread import seat_spread

HARD = Wall.impedance(1e4)
SEATS = ((1.5, 1.6, 1.1), (2.0, 1.3, 1.1), (0.9, 1.4, 1.1))
REGION = ((0.3, 0.3, 0.5), (2.0, 0.9, 0.5))
OPTIONS = {"duration": 0.12, "band": (30.0, 120.0), "frequencies": 16}
# central differences of 1e-4 m in float64: their error is the third derivative times 1e-9
DIFFERENCES = 1e-6


def made(loudspeakers: int = 1, dtype: torch.dtype = torch.float64, **more) -> LoudspeakerProblem:
    solver = Solver(Room.box(2.4, 2.0, 1.8, HARD), 120.0, dtype=dtype)
    return LoudspeakerProblem(solver, REGION, SEATS, loudspeakers, **{**OPTIONS, **more})


@pytest.fixture(scope="module")
def single() -> LoudspeakerProblem:
    return made(dtype=torch.float32)


def test_spread_is_the_deviation_of_levels_and_blind_to_what_seats_share() -> None:
    levels = torch.tensor([[70.0, 64.0], [76.0, 64.0], [73.0, 64.0]], dtype=torch.float64)
    spectrum = torch.polar(10 ** (levels / 20), torch.rand(3, 2, dtype=torch.float64))
    # 3 dB at the first frequency, 0 at the second; the floor of -40 dB changes 1e-4 of it
    assert float(seat_spread(spectrum)) == pytest.approx(1.5, rel=1e-3)
    own = torch.tensor([3.0 + 1j, -0.2j], dtype=torch.complex128)
    assert float(seat_spread(own * spectrum)) == pytest.approx(float(seat_spread(spectrum)))


def test_slopes_agree_with_differences_in_all_that_can_change() -> None:
    problem = made(2, seat_freedom=0.2)
    generator = torch.Generator().manual_seed(3)
    at = problem.lower + (problem.upper - problem.lower) * (
        0.2 + 0.6 * torch.rand(problem.dimension, generator=generator, dtype=torch.float64)
    )
    gradient = problem.evaluate(at[None], order=1).gradient
    assert gradient is not None
    way = torch.randn(problem.dimension, generator=generator, dtype=torch.float64) * problem.scale
    step = 1e-4 * way
    with torch.no_grad():
        difference = (problem.value(at + step) - problem.value(at - step)) / 2e-4
    assert float(gradient[0] @ way) == pytest.approx(float(difference), rel=DIFFERENCES)


def test_reciprocal_maps_are_what_loudspeakers_give(single: LoudspeakerProblem) -> None:
    (design,) = single.proposals(1)
    place = single.positions(single.parameters_of(design))[0]
    assert bool((single.grid == place).all(1).any())
    spreads = [float(seat_spread(single.transfer(at, single.seats))) for at in single.grid[::3]]
    with torch.no_grad():
        best = float(single.value(design))
    # float32 runs: reciprocity holds to rounding, which nulls multiply
    assert best <= min(spreads) + 1e-3


def test_a_placement_beats_its_proposal_and_is_certified(single: LoudspeakerProblem) -> None:
    found = place_loudspeakers(single, evaluations=25, starts=2)
    assert found.evaluations <= 25
    assert found.certificate.found <= found.proposed
    assert found.certificate.holds
    assert bool((found.loudspeakers >= single.low - 1e-9).all())
    assert bool((found.loudspeakers <= single.high + 1e-9).all())
    assert torch.equal(single.start, single.middle)


def test_delays_and_gains_are_tuned_without_runs() -> None:
    problem = made(2, dtype=torch.float32)
    design = problem.proposals(1, seed=1)[0]
    with torch.no_grad():
        tuned = float(problem.value(design))
        named = problem.parameters_of(design)
        alike = {**named, "delays": 0 * named["delays"], "gains": 0 * named["gains"]}
        plain = float(problem.value(problem.flatten(alike)))
    assert tuned <= plain + 1e-3


def test_a_task_starts_at_a_proposal_and_reports(tmp_path) -> None:
    task = LoudspeakerPlacement(
        size=(2.4, 2.0, 1.8), region=REGION, seats=SEATS, wall_impedance=1e4, **OPTIONS
    )
    problem = task.start(torch.device("cpu"), seed=0)
    result = minimize(problem, task.method(), budget=Budget(gradients=3))
    found = problem.metrics(result.parameters)
    assert found["spread_db"] <= found["spread_before_db"]
    assert math.isfinite(found["objective_on_finer_mesh"])
    assert len(problem.scene(result.parameters).points["seats"]) == 3
    problem.write_artifacts(result.parameters, tmp_path)
    assert len((tmp_path / "responses.csv").read_text().splitlines()) == 17


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"band": (30.0, 500.0)}, "band must end at or below fmax"),
        ({"band": (50.0, 30.0)}, "band must rise"),
        ({"loudspeakers": 0}, "loudspeakers must be at least 1"),
        ({"seats": SEATS[:1]}, "seats must be at least 2"),
        ({"seats": (*SEATS, (5.0, 1.0, 1.0))}, "seats"),
        ({"region": ((0.5, 0.5, 0.5), (3.0, 1.0, 1.0))}, "region"),
        ({"region": ((0.5, 0.5, 0.5), (0.4, 1.0, 1.0))}, "region must have low below high"),
        ({"frequencies": 1}, "frequencies must be at least 2"),
        ({"seat_freedom": -1.0}, "seat_freedom must be at least 0"),
    ],
)
def test_what_cannot_be_used_is_named(single: LoudspeakerProblem, change, message) -> None:
    given = {"region": REGION, "seats": SEATS, **OPTIONS, **change}
    with pytest.raises(InputError, match=message):
        LoudspeakerProblem(single.solver, **given)
