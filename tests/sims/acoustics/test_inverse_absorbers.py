"""Absorber placement: the area, the slopes, and designs that a finer mesh confirms."""

import pytest
import torch

from geomopt.errors import InputError
from geomopt.runs.settings import build
from optimizers import Budget, minimize
from sims.acoustics import Room, Solver, Wall
from sims.acoustics.inverse.absorbers import AbsorberPlacement, AbsorberProblem, place_absorbers
from sims.acoustics.inverse.certify import finer
from sims.acoustics.inverse.coverage import SwitchValues, exchanges, fill, within_budget
from sims.acoustics.inverse.late_sound import Listening
from sims.acoustics.inverse.panels import panels_of, with_panels

HARD = Wall.impedance(4e4)
SMALL = AbsorberPlacement(
    size=(2.4, 1.9, 1.7),
    sides=("ceiling", "right"),
    panels=(2, 2),
    share=0.4,
    fmax=130.0,
    sources=((0.3, 0.4, 0.3),),
    seats=((1.6, 1.2, 1.1), (1.1, 0.5, 0.9)),
    duration=0.12,
    late=0.04,
    bands=(63.0,),
)
# central differences of 1e-4 in float64: their own error is the third derivative times 1e-9
DIFFERENCES = 1e-6


@pytest.fixture(scope="module")
def problem() -> AbsorberProblem:
    return SMALL.start(torch.device("cpu"), seed=0)


def test_projection_is_the_nearest_coverage_of_the_area() -> None:
    generator = torch.Generator().manual_seed(0)
    areas = torch.rand(7, generator=generator, dtype=torch.float64) + 0.2
    wanted = 2 * torch.rand(7, generator=generator, dtype=torch.float64) - 0.3
    found = within_budget(wanted, areas, 1.0)
    assert float(areas @ found) == pytest.approx(1.0, abs=1e-12)
    assert bool(((found >= 0) & (found <= 1)).all())
    for _ in range(300):
        other = torch.rand(7, generator=generator, dtype=torch.float64)
        other = other * min(1.0, 1.0 / float(areas @ other))
        # the nearest point of a convex set sees all others at an obtuse angle
        assert float((wanted - found) @ (other - found)) <= 1e-9
    small = torch.full_like(areas, 0.01)
    assert torch.equal(within_budget(small, areas, 1.0), small)


def test_projection_has_exact_slopes() -> None:
    areas = torch.tensor([0.5, 1.0, 0.7, 0.9], dtype=torch.float64)
    wanted = torch.tensor([0.2, 0.9, 1.4, 0.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: within_budget(x, areas, 1.5), wanted)


def test_filling_and_exchanges_keep_to_the_area() -> None:
    areas = torch.tensor([1.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    ranks = torch.tensor([0.9, 0.8, 0.7, 0.1], dtype=torch.float64)
    chosen = fill(ranks, areas, 2.5)
    assert chosen.tolist() == [1.0, 0.0, 1.0, 1.0]
    changes = torch.tensor([-1.0, -5.0, -0.5, -0.2], dtype=torch.float64)
    for swaps in (1, 2):
        designs = list(exchanges(chosen, changes, areas, 2.5, swaps))
        assert all(float(areas @ design) <= 2.5 + 1e-9 for design in designs)
    chosen = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    near = exchanges(chosen, changes, areas, 2.5, 1)
    assert next(near).tolist() == [0.0, 1.0, 0.0, 0.0]  # -5 in place of -1
    assert next(near).tolist() == [1.0, 0.0, 1.0, 0.0]  # -0.5, for which there still is room


def test_switch_values_are_exact_for_a_quadratic() -> None:
    # f = a·x + x·H x / 2 with a diagonal H: from off to on it changes by a + H / 2
    slope = torch.tensor([-3.0, -2.0, -1.0], dtype=torch.float64)
    bend = torch.tensor([1.0, 1.5, 0.2], dtype=torch.float64)
    learned = SwitchValues(3)
    for chosen in (torch.zeros(3), torch.ones(3)):
        learned.learn(chosen, slope + bend * chosen)
    assert torch.allclose(learned.changes(), slope + bend / 2, rtol=1e-14)


def test_panels_tile_their_side_and_leave_out_what_is_no_wall() -> None:
    room = with_panels(Room.box(3.0, 2.0, 2.5, HARD), {"ceiling": (3, 2), "left": (1, 2)})
    solver = Solver(room, 100.0, dtype=torch.float64)
    panels = panels_of(solver)
    # coarse elements share a face among patches by area, each padded by a millionth
    assert float(panels.areas.sum()) == pytest.approx(3 * 2 + 2 * 2.5, rel=1e-5)
    lower = ((0.0, 0.0, 0.0), (2.0, 1.0, 2.0))
    bricks = [lower, ((0.0, 1.0, 0.0), (1.0, 2.0, 2.0))]
    solver = Solver(with_panels(Room.bricks(bricks, HARD), {"ceiling": (2, 2)}), 100.0)
    assert len(panels_of(solver).names) == 3  # a quarter of the L's bounds is not its ceiling


def test_slopes_agree_with_differences() -> None:
    room = with_panels(Room.box(*SMALL.size, HARD), {"ceiling": (2, 1)})
    solver = Solver(room, SMALL.fmax, dtype=torch.float64)
    absorber = Wall.miki(1e4, 0.1)
    for targets in ((), (0.3,)):
        listening = Listening(SMALL.sources, SMALL.seats, 0.12, 0.04, (63.0,), targets)
        problem = AbsorberProblem(solver, absorber, 3.0, listening)
        at = torch.tensor([0.3, 0.6], dtype=torch.float64)
        _, slopes = problem.value_and_slopes(at)
        step = torch.tensor([1e-4, 0.0], dtype=torch.float64)
        with torch.no_grad():
            difference = (problem.value(at + step) - problem.value(at - step)) / 2e-4
        assert float(slopes[0]) == pytest.approx(float(difference), rel=DIFFERENCES)


def test_a_design_is_on_or_off_within_the_area_and_certified(problem: AbsorberProblem) -> None:
    design = place_absorbers(problem, evaluations=21)
    assert set(design.chosen.tolist()) <= {0.0, 1.0}
    assert design.area <= problem.area * (1 + 1e-9)
    assert design.evaluations <= 21
    assert len(design.names) == int(design.chosen.sum()) > 0
    certificate = design.certificate
    assert certificate.nodes[1] > 1.5 * certificate.nodes[0]
    assert certificate.holds
    with torch.no_grad():
        share = design.area / float(problem.areas.sum())
        alike = problem.value(torch.full_like(design.chosen, share))
    assert certificate.found < float(alike)  # where it hangs matters, not only how much


def test_a_run_of_the_task_shows_panels_and_reports(problem: AbsorberProblem, tmp_path) -> None:
    result = minimize(problem, SMALL.method(), budget=Budget(gradients=2))
    found = problem.metrics(result.parameters)
    assert found["area"] <= found["area_allowed"] * (1 + 1e-9)
    assert found["slowest_mode_decay_time"] < found["slowest_mode_decay_time_before"]
    assert found["objective_on_finer_mesh"] < found["objective_before_on_finer_mesh"] + 1e-12
    scene = problem.scene(result.parameters)
    assert len(scene.meshes["panels"].faces) == 2 * len(problem.areas)
    problem.write_artifacts(result.parameters, tmp_path)
    assert len((tmp_path / "panels.csv").read_text().splitlines()) == 1 + len(problem.areas)


def test_what_cannot_be_used_is_named(problem: AbsorberProblem) -> None:
    with pytest.raises(InputError, match="area must be above 0 and at most"):
        AbsorberProblem(problem.solver, problem.absorber, 99.0, problem.listening)
    with pytest.raises(InputError, match="area must hold at least one panel"):
        AbsorberProblem(problem.solver, problem.absorber, 0.01, problem.listening)
    with pytest.raises(InputError, match="panels must be surfaces"):
        panels_of(problem.solver, ["roof"])
    with pytest.raises(InputError, match="panels must lie on walls"):
        panels_of(Solver(Room.box(2.0, 2.0, 2.0, HARD), 100.0))
    with pytest.raises(InputError, match="grids must name sides"):
        with_panels(problem.solver.room, {"roof": (2, 2)})
    with pytest.raises(InputError, match="bands must end below fmax"):
        build(AbsorberPlacement, {"bands": [250.0]}, "settings").start(torch.device("cpu"), 0)
    with pytest.raises(InputError, match="targets must be one time"):
        build(AbsorberPlacement, {"targets": [0.3]}, "settings")
    with pytest.raises(InputError, match="late must lie before"):
        build(AbsorberPlacement, {"late": 1.0}, "settings")
    with pytest.raises(InputError, match="evaluations must be at least"):
        place_absorbers(problem, evaluations=3)
    with pytest.raises(InputError, match="refinement must be above 1"):
        finer(problem.solver, 1.0)
