"""The reverse sweep against differences, linearity and itself with less memory."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from geomopt.errors import InputError
from sims.acoustics import Emission, Pulse, Room, Solver, Wall
from sims.acoustics.elements.spaces import as_hexahedra
from sims.acoustics.gradients.adjoint import heard
from sims.acoustics.gradients.checkpoints import segments
from sims.acoustics.room import Hexahedra as HexahedralShape

STEPS = 40
EXACT = 1e-7  # of a derivative in float64; differences of sixth order err by less than 1e-9
SAME = 1e-13  # of gradients that only the order of additions tells apart
SINGLE = 1e-3  # of a gradient in float32
PLACE = 1e-3  # m, a step along positions that stays within elements
SIDES = ("left", "right", "front", "back", "floor", "ceiling")


def random_wall(branches: int, seed: int) -> Wall:
    """Branches whose resonances and decays lie around the band."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(branches, 3, generator=generator, dtype=torch.float64)
    scale = torch.tensor([2e-3, 3.0, 2e3], dtype=torch.float64)
    weights = 0.3 + torch.rand(branches, generator=generator, dtype=torch.float64)
    return Wall(values * scale + 0.05 * scale, weights)


WALLS = {
    "left": random_wall(3, 1),
    "right": random_wall(1, 2),
    "front": Wall.rigid(),
    "back": Wall.impedance(1500.0),
    "floor": random_wall(2, 3),
    "ceiling": Wall.miki(1e4, 0.03),
    "panel": random_wall(2, 4),
}
ROOM = Room.box(1.2, 1.0, 0.9, {side: WALLS[side] for side in SIDES}).with_patch(
    "panel", (0.2, 0.3, 0.0), (0.7, 0.8, 0.0), WALLS["panel"]
)
LOSSY = [name for name in WALLS if name != "front"]


def solver_of(room: Room = ROOM, **settings) -> Solver:
    options = {"fmax": 450.0, "order": 3, "nodes_per_wavelength": 5.0, "dtype": torch.float64}
    return Solver(room, **{**options, **settings})


@pytest.fixture(scope="module", params=[False, True], ids=["implicit", "safe"])
def solver(request) -> Solver:
    return solver_of(safe=request.param)


def tensor(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def seen_through(size, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator, dtype=torch.float64)


def pulse() -> dict[str, torch.Tensor]:
    return {"source": tensor([0.5, 0.4, 0.3]), "amplitude": tensor(1.3), "width": tensor(0.35)}


def emission() -> dict[str, torch.Tensor]:
    """A path through several elements."""
    way = torch.linspace(0, 1, 30, dtype=torch.float64)[:, None]
    path = tensor([0.3, 0.3, 0.2]) + way * tensor([0.52, 0.31, 0.48])
    signal = torch.exp(-(((torch.arange(30, dtype=torch.float64) - 8) / 4) ** 2))
    return {"path": path, "signal": signal}


def parameters(source: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All that gradients are asked of."""
    found = {**source, "receivers": tensor([[0.9, 0.7, 0.6], [0.21, 0.32, 0.83]])}
    for name in LOSSY:
        found[name], found[f"{name} weights"] = WALLS[name].branches, WALLS[name].weights
    return found


def response(solver: Solver, values: dict[str, torch.Tensor], **options) -> torch.Tensor:
    """The pressure at receivers, seen through random numbers, as one number."""
    if "signal" in values:
        source = Emission(values["path"], values["signal"], 2000.0)
    else:
        source = Pulse(values["source"], values["amplitude"], values["width"])
    walls = {name: Wall(values[name], values[f"{name} weights"]) for name in LOSSY}
    duration = STEPS * solver.time_step
    found = solver.simulate(source, values["receivers"], duration, walls=walls, **options)
    return (found * seen_through(found.shape).to(found)).sum()


def gradients(solver: Solver, values: dict[str, torch.Tensor], **options):
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    total = response(solver, leaves, **options)
    return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))


def difference(function, step: float) -> float:
    """The slope of a function at 0, of sixth order in the step."""

    def central(h: float) -> float:
        with torch.no_grad():
            return float(function(h) - function(-h)) / (2 * h)

    return (64 * central(step / 4) - 20 * central(step / 2) + central(step)) / 45


def direction(name: str, value: torch.Tensor) -> torch.Tensor:
    """A random one: by shares of values that may not be negative, positions by little."""
    way = seen_through(value.shape, len(name))
    if name.split()[0] in WALLS:
        return way * value.abs()
    return PLACE / 2e-3 * way if name in ("source", "path", "receivers") else way


@pytest.mark.parametrize("source", [pulse, emission])
def test_each_gradient_agrees_with_differences(solver, source):
    """Walls of one, two and three branches, a resistance and a rigid wall, which meet at edges and
    corners, and a panel on one of them.
    """
    values = parameters(source())
    found = gradients(solver, values)
    walls = ("left", "left weights", "right", "back", "panel weights")
    for name in (*source(), "receivers", *walls):
        value = values[name]
        way = direction(name, value)

        def moved(h: float, name=name, value=value, way=way) -> torch.Tensor:
            return response(solver, {**values, name: value + h * way})

        # no moment of the path comes to another element within such a step
        expected = difference(moved, 2e-5 if name == "path" else 2e-3)
        assert float((found[name] * way).sum()) == pytest.approx(expected, rel=EXACT), name


def test_all_gradients_together_agree_with_differences(solver):
    values = parameters(pulse())
    found = gradients(solver, values)
    ways = {name: direction(name, value) for name, value in values.items()}

    def moved(h: float) -> torch.Tensor:
        return response(solver, {name: values[name] + h * ways[name] for name in values})

    sloped = sum(float((found[name] * ways[name]).sum()) for name in values)
    assert sloped == pytest.approx(difference(moved, 2e-3), rel=EXACT)


def test_a_rigid_room_has_gradients_in_positions_that_keep_nothing():
    solver = solver_of(Room.box(1.2, 1.0, 0.9, Wall.rigid()))
    source = tensor([0.5, 0.4, 0.3]).requires_grad_()

    def total(source: torch.Tensor) -> torch.Tensor:
        found = solver.simulate(source, (0.9, 0.7, 0.6), STEPS * solver.time_step)
        return (found * seen_through(found.shape)).sum()

    (found,) = torch.autograd.grad(total(source), source)
    assert solver.gradient_memory is not None
    assert solver.gradient_memory.bytes == 0
    way = PLACE * seen_through(3)
    expected = difference(lambda h: total(source + h * way), 1.0)
    assert float(found @ way) == pytest.approx(expected, rel=EXACT)


def test_a_resistance_has_one_sided_gradients_in_the_mass_and_spring_it_lacks():
    solver = solver_of()
    values = parameters(pulse())
    found = gradients(solver, values)["back"][0]
    for column, size in ((0, 1e-6), (2, 1.0)):

        def moved(h: float, column=column, size=size) -> float:
            branch = values["back"].clone()
            branch[0, column] += h * size
            with torch.no_grad():
                return float(response(solver, {**values, "back": branch}))

        start, one, two, four = (moved(h) for h in (0.0, 1e-3, 2e-3, 4e-3))
        slope = ((32 * one - 12 * two + four) - 21 * start) / 12 * 1e3
        assert float(found[column]) * size == pytest.approx(slope, rel=1e-5)


def bent_room(**settings) -> Solver:
    """Hexahedra without right angles, and a time step below their limit for moved vertices too."""
    shape = as_hexahedra(ROOM, 0.5).shape
    assert isinstance(shape, HexahedralShape)
    vertices = shape.vertices + 0.02 * seen_through(shape.vertices.shape)
    room = Room.hexahedra(vertices, shape.hexahedra, {side: WALLS[side] for side in SIDES})
    return solver_of(room, time_step=1.1e-4, **settings)


def shape_response(solver: Solver, vertices: torch.Tensor, source=(0.5, 0.4, 0.3), memory=None):
    """The response where walls, source and receiver stay where they are."""
    options = {"vertices": vertices, "memory": memory}
    found = solver.simulate(source, (0.72, 0.7, 0.61), STEPS * solver.time_step, **options)
    return (found * seen_through(found.shape).to(found)).sum()


def shape_gradient(solver: Solver, *arguments) -> torch.Tensor:
    vertices = solver.space.vertices.clone().requires_grad_()
    return torch.autograd.grad(shape_response(solver, vertices, *arguments), vertices)[0]


@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize("source", ["pulse", "emission"])
def test_the_shape_gradient_agrees_with_differences(source, safe):
    solver = bent_room(safe=safe)
    sounds = {
        "pulse": (0.5, 0.4, 0.3),
        "emission": Emission((0.5, 0.4, 0.3), emission()["signal"], 2000.0),
    }
    found = shape_gradient(solver, sounds[source])
    start = solver.space.vertices
    way = seen_through(start.shape, 7)
    expected = difference(lambda h: shape_response(solver, start + h * way, sounds[source]), 4e-4)
    assert float((found * way).sum()) == pytest.approx(expected, rel=EXACT)


def test_a_shape_gradient_can_be_had_with_less_memory():
    solver = bent_room()
    whole, most = shape_gradient(solver), solver.gradient_memory
    for memory in (0.9, 0.1):
        found = shape_gradient(solver, (0.5, 0.4, 0.3), memory)
        assert float((found - whole).abs().max()) < SAME * float(whole.abs().max())
        assert solver.gradient_memory.bytes < most.bytes
        assert solver.gradient_memory.repeated > 0 == most.repeated


def test_vertices_that_the_time_step_is_too_long_for_are_refused():
    solver = bent_room()
    with pytest.raises(InputError, match="vertices must leave elements"):
        solver.moved(0.2 * solver.space.vertices)
    with pytest.raises(InputError, match="room of hexahedra only"):
        solver_of().moved(solver.space.vertices)


@pytest.mark.parametrize("source", [pulse, emission])
def test_segments_of_time_give_the_gradients_of_the_full_history(source):
    solver = solver_of()
    values = parameters(source())
    whole = gradients(solver, values, memory=10.0)
    report = solver.gradient_memory
    assert report is not None
    assert report.repeated == 0
    for memory in (0.45, 0.0):
        found = gradients(solver, values, memory=memory)
        less = solver.gradient_memory
        assert less is not None
        assert less.repeated > 0
        assert less.bytes < report.bytes
        for name, gradient in whole.items():
            error = float((found[name] - gradient).abs().max())
            assert error <= SAME * float(gradient.abs().max()), name


def test_a_graph_that_is_kept_gives_its_gradients_again():
    """The second sweep finds the memory of the last segment taken by another."""
    solver = solver_of()
    wall = WALLS["left"].branches.clone().requires_grad_()
    walls = {"left": Wall(wall)}
    found = solver.simulate(
        (0.5, 0.4, 0.3), (0.9, 0.7, 0.6), STEPS * solver.time_step, walls=walls, memory=0.0
    )
    first, second = (torch.autograd.grad(found.sum(), wall, retain_graph=True) for _ in range(2))
    assert torch.equal(first[0], second[0])


def test_segments_stay_below_a_limit():
    for steps, of_step, of_state, fixed, again, limit in (
        (533, 7778, 150_000, 0, 150_000, 4_000_000),
        (533, 7778, 150_000, 100_000, 150_000, 1_800_000),
        (7, 10, 3, 5, 2, 32),
        (5, 1, 1, 0, 9, 1e9),
    ):
        bounds, longest = segments(steps, of_step, of_state, fixed, again, limit)
        lengths = [stop - start for start, stop in pairwise(bounds)]
        assert sum(lengths) == steps
        assert min(lengths) > 0
        assert max(lengths) <= longest
        fixed += again if len(lengths) > 1 else 0
        assert fixed + longest * of_step + max(len(lengths) - 2, 0) * of_state <= limit


def test_wall_gradients_of_a_long_run_take_at_most_15_percent_of_the_history():
    """The walls' nodes alone are more than a third of all, so that parts are run twice."""
    solver = solver_of(Room.box(1.2, 1.0, 0.9, WALLS["left"]))
    wall = WALLS["left"].branches.clone().requires_grad_()
    found = solver.simulate(
        (0.5, 0.4, 0.3), (0.9, 0.7, 0.6), 800 * solver.time_step, walls=Wall(wall)
    )
    report = solver.gradient_memory
    assert report is not None
    nodes = len(solver.space.mass)
    assert report.full_history == 801 * nodes * 8
    assert len(solver.walls().nodes) > nodes / 3
    assert report.share <= 0.15
    (gradient,) = torch.autograd.grad(found.sum(), wall)
    assert gradient.isfinite().all()


def test_the_sweep_is_the_transpose_of_the_run(solver):
    """<J u, v> = <u, Jᵀ v> for random fields u and random weights v of what is heard."""
    walls, space = solver.walls(), solver.space
    stencils = solver._stencils("receivers", parameters(pulse())["receivers"])
    field = seen_through(space.mass.shape).requires_grad_()
    out, report = heard(space, walls, field, stencils, STEPS, solver.time_step)
    seen = seen_through(out.shape, 3)
    (back,) = torch.autograd.grad(out, field, seen)
    other = seen_through(space.mass.shape, 5)
    there, _ = heard(space, walls, other, stencils, STEPS, solver.time_step)
    assert report is not None
    size = float(there.norm() * seen.norm())
    assert abs(float((there * seen).sum() - (other * back).sum())) < 1e-13 * size


def test_float32_agrees_with_float64():
    values = parameters(pulse())
    exact = gradients(solver_of(), values)
    for memory in (None, 0.0):
        found = gradients(solver_of(dtype=torch.float32), values, memory=memory)
        for name, gradient in exact.items():
            error = float((found[name] - gradient).norm() / gradient.norm())
            assert error < SINGLE, name


def test_gradients_are_the_same_on_each_device(device):
    values = parameters(emission())
    exact = gradients(solver_of(), values, memory=0.0)
    found = gradients(solver_of(device=device), values, memory=0.0)
    for name, gradient in exact.items():
        error = float((found[name] - gradient).norm() / gradient.norm())
        assert error < 1e-9, name


def test_the_shape_gradient_in_float32_agrees_with_float64():
    exact, found = (shape_gradient(bent_room(dtype=d)) for d in (torch.float64, torch.float32))
    assert float((found - exact).norm() / exact.norm()) < SINGLE


def test_second_derivatives_are_refused():
    solver = solver_of()
    wall = WALLS["left"].branches.clone().requires_grad_()
    walls = {"left": replace(WALLS["left"], branches=wall)}
    found = solver.simulate((0.5, 0.4, 0.3), (0.9, 0.7, 0.6), 5 * solver.time_step, walls=walls)
    with pytest.raises(NotImplementedError, match="no second derivative"):
        torch.autograd.grad(found.square().sum(), wall, create_graph=True)


def test_a_share_of_memory_below_zero_is_refused():
    solver = solver_of()
    with pytest.raises(InputError, match="memory must be a share"):
        solver.simulate((0.5, 0.4, 0.3), (0.9, 0.7, 0.6), solver.time_step, memory=-0.1)


def test_a_run_without_gradients_keeps_nothing():
    solver = solver_of()
    solver.simulate((0.5, 0.4, 0.3), (0.9, 0.7, 0.6), 5 * solver.time_step)
    assert solver.gradient_memory is None
