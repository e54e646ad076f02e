"""Room shapes: volumes that stay, slopes through vertices, designs that a finer mesh confirms."""

import math
from dataclasses import replace

import pytest
import torch

from geomopt.errors import InputError
from optimizers import Budget, minimize
from sims.acoustics import Room, Solver, Wall
from sims.acoustics.elements.spaces import as_hexahedra
from sims.acoustics.inverse.bending import Bending, volume
from sims.acoustics.inverse.room_shape import RoomShape, ShapeProblem, reduction, shape_room
from sims.acoustics.room import Hexahedra

SIZE = (2.0, 1.6, 1.4)
SMALL = RoomShape(
    size=SIZE,
    sides=("ceiling", "left"),
    waves=2,
    fmax=130.0,
    source=(0.4, 0.4, 0.4),
    receivers=((1.4, 1.1, 0.9), (1.0, 0.5, 0.6)),
    frequencies=(85.75, 107.2),
    duration=0.12,
    depth=0.1,
)
# float32 runs, and central differences of a hundredth of the largest change
DIFFERENCES = 2e-3


@pytest.fixture(scope="module")
def problem() -> ShapeProblem:
    return SMALL.start(torch.device("cpu"), seed=0)


def test_volume_is_that_of_the_elements() -> None:
    room = as_hexahedra(Room.box(*SIZE, Wall.rigid()), 0.5)
    shape = room.shape
    assert isinstance(shape, Hexahedra)
    generator = torch.Generator().manual_seed(0)
    moved = shape.vertices + 0.05 * torch.randn(
        shape.vertices.shape, generator=generator, dtype=torch.float64
    )
    # the mass of order 4 integrates the trilinear map's Jacobian exactly
    mass = Solver(Room.hexahedra(moved, shape.hexahedra, Wall.rigid()), 200.0).space.mass
    assert float(volume(moved, shape.hexahedra)) == pytest.approx(float(mass.sum()), rel=1e-12)


def test_shapes_keep_their_volume_and_sides_move_as_said(problem: ShapeProblem) -> None:
    generator = torch.Generator().manual_seed(1)
    hexahedra = problem.space.hexahedra
    for point in problem.sample(5, generator):
        vertices = problem.vertices(problem.parameters_of(point))
        assert float(volume(vertices, hexahedra)) == pytest.approx(math.prod(SIZE), rel=1e-12)
    bending = Bending(SIZE, ("ceiling",), 2)
    corner = torch.tensor([[0.0, 0.0, 1.4], [0.0, 0.0, 0.0], [2.0, 0.0, 1.4]], dtype=torch.float64)
    bends = torch.tensor([[0.0, 0.1, 0.0]], dtype=torch.float64)  # along x
    moved = bending.points(corner, bends, torch.zeros(2, dtype=torch.float64)) - corner
    assert moved[:, 2].tolist() == pytest.approx([0.1, 0.0, -0.1])


def test_a_stretched_box_is_the_box_of_those_sides(problem: ShapeProblem) -> None:
    stretch = torch.tensor([0.04, -0.02], dtype=torch.float64)
    named = {**problem.parameters_of(problem.start), "stretch": stretch}
    vertices = problem.vertices(named)
    sides = vertices.amax(0) - vertices.amin(0)
    expected = (
        torch.tensor(SIZE, dtype=torch.float64)
        * torch.tensor([0.04, -0.02, -0.02], dtype=torch.float64).exp()
    )
    assert torch.allclose(sides, expected, rtol=1e-12)


def test_slopes_agree_with_differences(problem: ShapeProblem) -> None:
    generator = torch.Generator().manual_seed(2)
    size = problem.dimension
    at = 0.4 * problem.scale * (torch.rand(size, generator=generator, dtype=torch.float64) - 0.5)
    way = problem.scale * torch.randn(size, generator=generator, dtype=torch.float64)
    gradient = problem.evaluate(at[None], order=1).gradient
    assert gradient is not None
    with torch.no_grad():
        ahead, behind = problem.value(at + 1e-2 * way), problem.value(at - 1e-2 * way)
    assert float(gradient[0] @ way) == pytest.approx(float(ahead - behind) / 2e-2, rel=DIFFERENCES)


def test_a_shape_takes_energy_away_and_is_certified(problem: ShapeProblem) -> None:
    found = shape_room(problem, evaluations=30)
    assert found.evaluations <= 30
    assert found.certificate.holds
    searched, confirmed = found.reductions
    # of resonances as sharp as these, in the box between them
    assert searched > 0.1
    assert confirmed > 0.1
    assert found.least_jacobian > 0.3
    room = Room.hexahedra(found.vertices, found.hexahedra, Wall.rigid())
    assert Solver(room, SMALL.fmax, 3).stability_limit > problem.solver.time_step


def test_shapes_that_fold_or_leave_a_receiver_outside_are_failed_rows(
    problem: ShapeProblem,
) -> None:
    folded = torch.full((1, problem.dimension), 30.0, dtype=torch.float64)
    assert not bool(problem.evaluate(folded).ok)
    near = ShapeProblem(
        Bending(SIZE, ("ceiling",), 2), Wall.rigid(), 130.0, (0.4, 0.4, 0.4),
        [(1.0, 0.8, 1.39)], [90.0], depth=0.3, duration=0.05, stretch=0.1,
    )  # fmt: skip
    lower = near.flatten({"bends": torch.zeros(1, 3), "stretch": torch.full((2,), 0.1)})
    assert not bool(near.evaluate(lower[None]).ok)


def test_a_run_of_the_task_shows_its_walls(problem: ShapeProblem, tmp_path) -> None:
    result = minimize(problem, SMALL.method(), budget=Budget(gradients=2))
    found = problem.metrics(result.parameters)
    assert found["reduction"] == pytest.approx(reduction(found["objective"]))
    assert 0.3 < found["least_scaled_jacobian"] <= 1
    mesh = problem.scene(result.parameters).meshes["walls"]
    edges = torch.cat([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    _, count = torch.unique(edges.sort(dim=1).values, dim=0, return_counts=True)
    assert set(count.tolist()) == {2}  # closed
    one, two, three = mesh.vertices[mesh.faces].unbind(1)
    enclosed = (one * torch.linalg.cross(two, three)).sum() / 6
    assert float(enclosed) == pytest.approx(math.prod(SIZE), rel=0.02)  # and outwards; flat quads
    problem.write_artifacts(result.parameters, tmp_path)
    assert (tmp_path / "walls.ply").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frequencies": ()}, "frequencies must lie above 0"),
        ({"frequencies": (200.0,)}, "frequencies must lie above 0 and at or below fmax"),
        ({"depth": 0.0}, "depth must be above 0"),
        ({"sides": (), "stretch": 0.0}, "stretch must be above 0"),
        ({"stretch": 1.5}, "stretch must lie in"),
        ({"sides": ("roof",)}, "sides must be among"),
        ({"sides": ("floor", "floor")}, "sides must be named once"),
        ({"waves": 1}, "waves must be at least 2"),
        ({"source": (5.0, 0.4, 0.4)}, "source"),
    ],
)
def test_what_cannot_be_used_is_named(change, message) -> None:
    with pytest.raises(InputError, match=message):
        replace(SMALL, **change).start(torch.device("cpu"), 0)
