"""Steps and equilibria with contact: they converge, nothing passes, what is stuck says so."""

import math

import pytest
import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.thin_shell import (
    Body,
    Contact,
    Control,
    Material,
    NotConverged,
    Scene,
    Sheet,
    Simulator,
    SoftBody,
)
from sims.thin_shell.contact.intersections import intersections
from sims.thin_shell.energies.creep_friction import CREEP
from sims.thin_shell.energies.energy import Energy
from sims.thin_shell.energies.friction import FRICTION
from sims.thin_shell.judge import Blocked

ROUNDING = 1e-12
DIFFERENCE = 1e-5  # of a slope: central differences at a step of 1e-6 m
NOISE = 1e-5  # of the largest force, where that is small: rounding of a stiff sheet at rest
FEW = 120  # factorisations of a violent step; one that goes astray takes more
SOON = 30  # factorisations that tell a blocked drive

PAPER = Material(young=2e9, poisson=0.3, thickness=1e-4, density=800.0)
CLOTH = Material(young=1e6, poisson=0.3, thickness=3e-4, density=500.0, bending=2e-7)
DOWN = (0.0, 0.0, -9.81)


def placed(sheet: Sheet, turn: Tensor, shift: Tensor) -> Sheet:
    """A sheet turned about its middle by a rotation vector, then shifted."""
    skew = torch.zeros(3, 3, dtype=torch.float64)
    skew[0, 1], skew[0, 2], skew[1, 2] = -turn[2], turn[1], -turn[0]
    rotation = torch.linalg.matrix_exp(skew - skew.T)
    centred = sheet.vertices - sheet.vertices.mean(0)
    return Sheet(centred @ rotation.T + shift, sheet.faces, sheet.material)


def thrown(seed: int) -> tuple[Simulator, Tensor]:
    """Two sheets thrown at each other above a table with a sphere, and their velocities."""
    source = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=source, dtype=torch.float64) - 1

    flat = Sheet.rectangle(0.06, 0.06, (7, 7), CLOTH if seed % 2 else PAPER)
    heights = torch.tensor([[0.0, 0.0, 0.05], [0.0, 0.0, 0.1]], dtype=torch.float64)
    sheets = [placed(flat, 0.25 * drawn(3), height) for height in heights]
    bodies = [
        Body.plane((0.0, 0.0, 0.0)),
        Body.sphere(0.01, (0.005, 0.0, 0.015)),
        Body.box((0.01, 0.02, 0.01), (-0.02, 0.0, 0.007, 0.0, 0.0, 0.4)),
    ]
    simulator = Simulator(Scene(sheets, bodies=bodies, gravity=DOWN), bending="hinge")
    speeds = torch.tensor([[0.3, 0.0, -1.0], [0.0, 0.2, -2.5]], dtype=torch.float64)
    count = len(flat.vertices)
    velocities = torch.zeros_like(simulator.scene.vertices)
    velocities[: 2 * count] = speeds.repeat_interleave(count, 0) + 0.3 * drawn(2 * count, 3)
    return simulator, velocities


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nothing_passes_through_in_violent_scenes(seed: int):
    simulator, velocities = thrown(seed)
    scene = simulator.scene
    way = simulator.rollout(simulator.initial_state(velocities=velocities), 14)
    box = scene.body_parts[2]
    faces = torch.cat([scene.faces.long(), scene.bodies[2].faces.long() + box.start])
    free = slice(0, scene.body_parts[0].start)
    touched = False
    for positions in way.positions:
        assert not len(intersections(positions, faces))
        assert (positions[free, 2] > 0).all()
        assert ((positions[free] - scene.bodies[1].pose[:3]).norm(dim=1) > 0.01).all()
    for solution in way.solutions:
        touched |= solution.iterations > 5
        assert solution.iterations <= FEW
        assert solution.residual < NOISE
        assert solution.stable
    assert touched
    assert way.wrenches.abs().amax() > 0


def test_the_same_run_twice_is_the_same_to_the_bit():
    found = []
    for _ in range(2):
        simulator, velocities = thrown(1)
        way = simulator.rollout(simulator.initial_state(velocities=velocities), 6)
        found.append((way.positions, way.wrenches))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_blocked_drive_stops_early_and_says_where():
    flat = Sheet.rectangle(0.03, 0.03, (5, 5), PAPER)
    sheet = placed(flat, torch.zeros(3), torch.tensor([0.0, 0.0, 3e-4]))
    bodies = [Body.plane((0.0, 0.0, 0.0)), Body.box((0.02, 0.02, 0.004), (0, 0, 2.9e-3, 0, 0, 0))]
    simulator = Simulator(Scene([sheet], bodies=bodies, gravity=DOWN))
    state = simulator.initial_state()
    down = torch.zeros_like(simulator.scene.poses)
    down[1, 2] = -1.3e-4
    poses = simulator.scene.poses
    for _ in range(6):  # which leaves 20 um
        poses = poses + down
        state = simulator.step(state, Control(poses=poses))
    with pytest.raises(Blocked, match=r"bodies\[\d\]") as caught:
        simulator.step(state, Control(poses=poses + down))
    assert isinstance(caught.value, NotConverged)
    assert caught.value.iterations <= SOON
    words = str(caught.value)
    assert "sheets[0] (vert" in words
    assert " m of room is left" in words
    assert state.time > 0
    assert simulator.step(state).positions.isfinite().all()


def pressed(body: Body | SoftBody) -> tuple[Simulator, Tensor]:
    """A clamped strip under a body, and poses that press it down by 4 mm."""
    strip = Sheet.rectangle(0.06, 0.02, (12, 4), PAPER)
    scene = Scene([strip], clamped=strip.vertices[:, 0] < 1e-9, bodies=[body], contact=Contact())
    poses = scene.poses.clone()
    poses[0, 2] -= 4e-3
    return Simulator(scene), poses


@pytest.mark.parametrize(
    "body",
    [
        Body.sphere(0.005, (0.05, 0.01, 0.0053)),
        SoftBody.fingertip(pose=(0.05, 0.01, 0.0076, 0.0, 0.0, 0.0), cells=4),
    ],
    ids=["sphere", "fingertip"],
)
def test_equilibrium_under_a_body_and_its_derivative(body):
    simulator, poses = pressed(body)
    leaf = poses.clone().requires_grad_()
    state = simulator.equilibrium(poses=leaf, increments=2)
    force = state.wrenches[0, 2]
    assert force < -1e-5
    (slope,) = torch.autograd.grad(force, leaf)
    sides = []
    for sign in (1, -1):
        moved = poses.clone()
        moved[0, 2] += sign * 1e-6
        sides.append(simulator.equilibrium(poses=moved, increments=2).wrenches[0, 2])
    wanted = float(sides[0] - sides[1]) / 2e-6
    assert float(slope[0, 2]) == pytest.approx(wanted, rel=DIFFERENCE)
    count = len(simulator.scene.sheets[0].vertices)
    assert state.positions[:count, 2].amin() < -3e-3


def test_a_soft_body_that_nothing_drives_has_no_equilibrium():
    free = SoftBody.fingertip(cells=3)
    loose = SoftBody(free.local, free.tetrahedra, 3e5, 0.2, 1000.0)
    with pytest.raises(InputError, match="a driven part every soft body"):
        Simulator(Scene([], bodies=[loose])).equilibrium()
    state = Simulator(Scene([], bodies=[free], gravity=DOWN)).equilibrium()
    assert state.solutions[-1].stable


@pytest.mark.parametrize("energy", [FRICTION, CREEP], ids=lambda energy: energy.name)
def test_forces_in_the_hessian_of_friction(energy: Energy):
    """At their own value they are the Hessian; whatever they are, it is positive semi-definite."""
    assert energy.foresee is not None
    local, constants = energy.sample(torch.Generator().manual_seed(3), 60)
    found = energy.evaluate(local, constants, 2)
    assert found.hessian is not None
    still = torch.zeros_like(local)
    forces = energy.foresee(local, still, constants, None)
    same = energy.evaluate(local, constants, 2, extrapolated=forces).hessian
    torch.testing.assert_close(same, found.hessian, rtol=0, atol=ROUNDING)
    step = 0.3 * torch.randn(local.shape, dtype=torch.float64, generator=torch.Generator())
    for _ in range(3):
        forces = energy.foresee(local, step, constants, forces)
        limit = constants[3]
        assert (forces.norm(dim=1) <= limit * (1 + ROUNDING)).all()
        other = energy.evaluate(local, constants, 2, extrapolated=forces).hessian
        assert other is not None
        assert torch.linalg.eigvalsh(other).amin() > -math.sqrt(ROUNDING) * limit.amax()
