"""The public classes together: what a user writes, what holds, what is refused."""

import math
from dataclasses import replace

import pytest
import torch

from geomopt.errors import InputError
from sims.thin_shell import MATERIALS, Control, Material, NotConverged, Scene, Sheet, Simulator

FILM = Material(young=1e7, poisson=0.3, thickness=1e-3, density=1000.0)
BENDINGS = ("mid-edge", "hinge")
INTEGRATORS = ("implicit-euler", "bdf2", "newmark")


def strip(material: Material = FILM, cells: tuple[int, int] = (8, 2), **scene) -> Simulator:
    sheet = Sheet.rectangle(0.1, 0.02, cells=cells, material=material)
    keep = {key: scene.pop(key) for key in ("bending", "integrator", "time_step") if key in scene}
    scene = {"clamped": sheet.vertices[:, 0] <= 0.0, "gravity": (0.0, 0.0, -9.81)} | scene
    return Simulator(Scene([sheet], **scene), **keep)


def rotation(axis: tuple[float, float, float], angle: float) -> torch.Tensor:
    x, y, z = torch.tensor(axis, dtype=torch.float64) * angle
    skew = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return torch.linalg.matrix_exp(skew)


@pytest.mark.parametrize("bending", BENDINGS)
@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_a_strip_falls_below_its_clamp(bending, integrator):
    simulator = strip(bending=bending, integrator=integrator)
    trajectory = simulator.rollout(simulator.initial_state(), 10)
    vertices = simulator.scene.vertices
    assert trajectory.positions.shape == (11, len(vertices), 3)
    assert trajectory.velocities.shape == trajectory.positions.shape
    torch.testing.assert_close(trajectory.times, 5e-3 * torch.arange(11, dtype=torch.float64))
    held = vertices[:, 0] <= 0.0
    assert torch.equal(trajectory.positions[:, held], vertices[held].expand(11, -1, -1))
    tips = trajectory.positions[1:, vertices[:, 0] > 0.099, 2].mean(dim=1)
    assert (tips < 0).all()
    assert all(s.stable and s.step <= 1e-8 * 5e-3 * 100 for s in trajectory.solutions)


@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_free_fall_is_exact_to_the_order_of_the_integrator(integrator):
    # x = -g t^2/2 in continuous time; implicit Euler falls by g h t / 2 more, the others are exact
    # from a start that knows its past (newmark) or after the first Euler step (bdf2)
    simulator = strip(clamped=None, integrator=integrator)
    steps, h, g = 20, 5e-3, 9.81
    fall = simulator.rollout(simulator.initial_state(), steps).positions[-1, :, 2]
    time = steps * h
    exact = -g * time**2 / 2
    if integrator == "implicit-euler":
        exact -= g * h * time / 2
        torch.testing.assert_close(fall, torch.full_like(fall, exact), rtol=1e-9, atol=0)
    elif integrator == "newmark":
        torch.testing.assert_close(fall, torch.full_like(fall, exact), rtol=1e-9, atol=0)
    else:
        assert abs(float(fall.mean()) / exact - 1) < 0.02


@pytest.mark.parametrize("bending", BENDINGS)
def test_equilibrium_does_not_depend_on_the_frame(bending):
    turn, shift = rotation((0.3, -0.5, 0.8), 1.1), torch.tensor([0.2, -0.1, 0.3]).double()
    simulator = strip(bending=bending)
    sheet = simulator.scene.sheets[0]
    loads = torch.zeros_like(sheet.vertices)
    loads[-1] = torch.tensor([0.0, 2e-4, 1e-3])
    here = simulator.equilibrium(loads=loads).positions
    turned = Sheet(sheet.vertices @ turn.T + shift, sheet.faces, sheet.material)
    scene = Scene(
        [turned], clamped=sheet.vertices[:, 0] <= 0, gravity=simulator.scene.gravity @ turn.T
    )
    there = Simulator(scene, bending=bending).equilibrium(loads=loads @ turn.T).positions
    torch.testing.assert_close(there, here @ turn.T + shift, rtol=0, atol=1e-9)


@pytest.mark.parametrize("bending", BENDINGS)
def test_a_clamp_keeps_the_slope_and_a_pin_does_not(bending):
    # end load on a narrow strip: w = P L^3 / (3 B) from a clamp; a pinned row is a free hinge
    material = Material(young=1e7, poisson=0.0, thickness=1e-3, density=1.0)
    sheet = Sheet.rectangle(0.1, 0.005, cells=(40, 2), material=material, pattern="crossed")
    tip = sheet.vertices[:, 0] > 0.0999
    loads = torch.zeros_like(sheet.vertices)
    loads[tip, 2] = 1e-7 / int(tip.sum())
    clamped = Simulator(Scene([sheet], clamped=sheet.vertices[:, 0] <= 0), bending=bending)
    sag = float(clamped.equilibrium(loads=loads).positions[tip, 2].mean())
    exact = 1e-7 * 0.1**3 / (3 * 1e7 * 0.005 * 1e-3**3 / 12)
    # the hinge is 3 % stiff on crossed squares, see energies.hinge
    assert abs(sag / exact - 1) < (0.005 if bending == "mid-edge" else 0.05)
    pinned = Scene([sheet], pinned=sheet.vertices[:, 0] <= 0)
    with pytest.raises(InputError, match="move freely"):
        Simulator(pinned, bending=bending).equilibrium(loads=loads)


def test_a_driven_clamp_carries_the_sheet_along():
    simulator = strip(gravity=(0.0, 0.0, 0.0))
    scene = simulator.scene
    turn, shift = rotation((0.0, 1.0, 0.0), 0.4), torch.tensor([0.01, 0.02, -0.03]).double()
    moved = scene.vertices @ turn.T + shift
    normals = torch.tensor([0.0, 0.0, 1.0]).double().expand(len(scene.edges), 3) @ turn.T
    rest = simulator.equilibrium(positions=moved, directors=normals, increments=2)
    torch.testing.assert_close(rest.positions, moved, rtol=0, atol=1e-9)


def test_two_sheets_move_as_each_does_alone():
    one = Sheet.rectangle(0.1, 0.02, cells=(6, 2), material=FILM)
    soft = replace(FILM, young=1e6, membrane="neo-hookean")
    shifted = one.vertices + torch.tensor([0.0, 0.1, 0.0])
    two = Sheet(shifted, one.faces, soft)
    both = Scene([one, two], clamped=torch.cat([one.vertices, shifted])[:, 0] <= 0,
                 gravity=(0.0, 0.0, -9.81))  # fmt: skip
    together = Simulator(both).rollout(Simulator(both).initial_state(), 5).positions[-1]
    for sheet, part in ((one, together[: len(shifted)]), (two, together[len(shifted) :])):
        alone = Simulator(
            Scene([sheet], clamped=sheet.vertices[:, 0] <= 0, gravity=(0.0, 0.0, -9.81))
        )
        expected = alone.rollout(alone.initial_state(), 5).positions[-1]
        torch.testing.assert_close(part, expected, rtol=0, atol=1e-10)


def test_loads_go_on_from_those_of_the_start():
    simulator = strip()
    loads = torch.zeros_like(simulator.scene.vertices)
    loads[-1, 2] = 5e-3
    half = simulator.equilibrium(loads=0.5 * loads)
    onward = simulator.equilibrium(loads=loads, start=half)
    at_once = simulator.equilibrium(loads=loads, increments=4)
    torch.testing.assert_close(onward.positions, at_once.positions, rtol=0, atol=1e-8)


def test_an_edge_moment_bends_a_strip_to_a_circle():
    # M = B kappa with nu = 0, B = E t^3 / 12 a width: uniform curvature, tip angle M L / B
    material = Material(young=1e7, poisson=0.0, thickness=1e-3, density=1.0)
    sheet = Sheet.rectangle(0.1, 0.02, cells=(16, 2), material=material)
    sideways = torch.zeros_like(sheet.vertices, dtype=torch.bool)
    sideways[:, 1] = True
    scene = Scene([sheet], clamped=sheet.vertices[:, 0] <= 0, fixed=sideways)
    bending = 1e7 * 1e-3**3 / 12 * 0.02
    angle = math.pi / 2
    end = sheet.vertices[:, 0] > 0.0999
    # a moment about -y lifts the free end
    moments = scene.edge_moments(end, (0.0, -bending * angle / 0.1, 0.0))
    bent = Simulator(scene).equilibrium(moments=moments, increments=4).positions[end].mean(dim=0)
    radius = 0.1 / angle
    assert abs(float(bent[0]) - radius * math.sin(angle)) < 2e-3 * 0.1
    assert abs(float(bent[2]) - radius * (1 - math.cos(angle))) < 2e-3 * 0.1


def test_the_same_run_gives_the_same_bits():
    runs = []
    for _ in range(2):
        simulator = strip()
        runs.append(simulator.rollout(simulator.initial_state(), 5).positions)
    assert torch.equal(*runs)


def test_a_step_that_fails_leaves_the_state(monkeypatch):
    simulator = strip()
    state = simulator.initial_state()
    before = state.positions.clone()
    forces = torch.full_like(before, torch.finfo(torch.float64).max / 1e3)
    with pytest.raises(NotConverged, match="smaller time step or load increment"):
        simulator.step(state, Control(forces=forces))
    assert torch.equal(state.positions, before)
    assert simulator.step(state).positions.isfinite().all()


def test_nothing_holds_a_free_sheet_in_equilibrium():
    with pytest.raises(InputError, match="can move freely"):
        strip(clamped=None).equilibrium()
    one = Sheet.rectangle(0.1, 0.02, cells=(4, 2), material=FILM)
    two = Sheet(one.vertices + 0.1, one.faces, FILM)
    with pytest.raises(InputError, match=f"vertex {len(one.vertices)}"):
        Simulator(Scene([one, two], clamped=range(3))).equilibrium()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.equilibrium(loads=torch.zeros(3, 3)), r"control.forces must have shape"),
        (lambda s: s.equilibrium(moments=torch.zeros(2)), r"control.moments must have shape"),
        (lambda s: s.equilibrium(increments=0), "increments must be a positive whole number"),
        (lambda s: s.step(s.initial_state(), torch.zeros(3)), "control must be a Control"),
        (lambda s: s.initial_state(positions=torch.zeros(4, 3)), "positions must have shape"),
        (
            lambda s: s.step(s.initial_state(), Control(forces=torch.full((27, 3), math.nan))),
            "control.forces must be finite",
        ),
        (lambda s: s.rollout(s.initial_state(), Control()), "controls must have tensors"),
    ],
)
def test_bad_calls_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call(strip())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time_step": 0.0}, "time_step must be a positive number, got 0.0"),
        ({"tolerance": math.nan}, "tolerance must be a positive number"),
        ({"integrator": "rk4"}, "integrator must be one of"),
        ({"bending": "kirchhoff"}, "bending must be one of"),
        ({"linear": "umfpack"}, "umfpack"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        Simulator(strip().scene, **changes)


@pytest.mark.parametrize(("warp", "young"), [((1.0, 0.0, 0.0), 2e6), ((0.0, 1.0, 0.0), 5e5)])
def test_an_orthotropic_strip_stretches_by_the_modulus_along_the_pull(warp, young):
    cloth = Material(
        young=2e6, poisson=0.2, thickness=1e-3, density=1.0, young_weft=5e5, shear_modulus=3e5
    )
    flat = Sheet.rectangle(0.1, 0.02, cells=(8, 4), material=cloth)
    sheet = replace(flat, warp=warp)
    fixed = torch.zeros_like(sheet.vertices, dtype=torch.bool)
    fixed[:, 2] = True
    fixed[sheet.vertices[:, 0] <= 0, 0] = True
    fixed[0] = True
    end = torch.nonzero(sheet.vertices[:, 0] > 0.0999).flatten()
    strain = 1e-4
    share = torch.ones(len(end), dtype=torch.float64)
    share[0] = share[-1] = 0.5  # corners carry half a cell
    loads = torch.zeros_like(sheet.vertices)
    loads[end, 0] = young * 1e-3 * 0.02 * strain * share / share.sum()
    pulled = Simulator(Scene([sheet], fixed=fixed)).equilibrium(loads=loads).positions
    # St. Venant-Kirchhoff stretches by 3/2 strain^2 less than Hooke's law
    stretch = pulled[end, 0] / 0.1 - 1
    torch.testing.assert_close(stretch, torch.full_like(stretch, strain), rtol=5e-4, atol=0)


def test_second_derivatives_are_refused():
    young = torch.tensor(1e7, dtype=torch.float64, requires_grad=True)
    rest = strip(replace(FILM, young=young)).equilibrium()
    with pytest.raises(NotImplementedError, match="no second derivative"):
        torch.autograd.grad(rest.positions[:, 2].sum(), young, create_graph=True)


@pytest.mark.parametrize("name", ["paper", "rubber"])
def test_a_limp_strip_let_go_hangs_straight_down(name):
    # far too soft to stand out: the end comes to rest nearly its whole length below the clamp
    sheet = Sheet.rectangle(0.3, 0.03, cells=(24, 3), material=MATERIALS[name])
    scene = Scene([sheet], clamped=sheet.vertices[:, 0] <= 0, gravity=(0.0, 0.0, -9.81))
    rest = Simulator(scene).equilibrium()
    assert all(solution.stable for solution in rest.solutions)
    end = rest.positions[sheet.vertices[:, 0] > 0.2999]
    assert (end[:, 2] < -0.27).all()
    assert (end[:, 0] > 0).all()


def test_a_sheet_flies_on_far_from_where_it_began():
    # coordinates of kilometres leave forces of a stiff sheet less exact than those of centimetres
    steel = Material(young=2e10, poisson=0.3, thickness=1e-3, density=7800.0)
    sheet = Sheet.rectangle(0.04, 0.06, cells=(4, 6), material=steel)
    simulator = Simulator(Scene([sheet], gravity=(0.0, 0.0, -9.81)), time_step=0.02)
    far = sheet.vertices + torch.tensor([0.0, 0.0, 3e3])
    generator = torch.Generator().manual_seed(0)
    shaken = 1e-2 * torch.randn(far.shape, generator=generator, dtype=torch.float64)
    steps, state = 20, simulator.initial_state(far, shaken)
    track = simulator.rollout(state, steps)
    mean = (track.velocities[-1] - track.velocities[0])[:, 2] @ simulator.model.mass
    speed = -9.81 * 0.02 * steps
    assert float(mean / simulator.model.mass.sum()) == pytest.approx(speed, rel=1e-5)
