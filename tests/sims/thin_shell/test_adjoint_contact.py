"""Derivatives through contact and friction against central differences of the whole."""

import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.thin_shell import (
    Body,
    Contact,
    Control,
    Material,
    Scene,
    Sheet,
    Simulator,
    Softness,
    Trajectory,
    gripper_pair,
    pair_poses,
    sensitivities,
)
from sims.thin_shell.contact import near

TIGHT = 1e-11  # m/s, so that what Newton leaves is hard to see in a difference
DIFFERENCE = 1e-5  # relative, of the best central difference; most agree to 1e-7
STEPS = (1e-3, 1e-4, 1e-5, 1e-2)  # shares of an input's range
EXACT = 1e-10  # forward against reverse mode: solves with one matrix, and sums that cancel

Inputs = dict[str, Tensor]
Ranged = dict[str, tuple[Tensor, float]]


def number(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).squeeze()


def uneven(vertices: Tensor) -> Tensor:
    """Off the grid: where closest points change sides, and edges are parallel, are kinks."""
    source = torch.Generator().manual_seed(3)
    moves = torch.randn(vertices.shape, generator=source, dtype=torch.float64)
    return vertices + 3e-5 * moves


def strip(given: Inputs, flat: Tensor, faces: Tensor, shift: Tensor | float = 0.0, **more) -> Sheet:
    """A sheet that starts at `flat` and a shift; its rest is near `flat`."""
    material = Material(
        1e8 * given["young"].exp(),
        0.3,
        2e-4 * given["thickness"].exp(),
        800.0 * given["density"].exp(),
        friction=0.5 * given["friction"].exp(),
        **more,
    )
    return Sheet(flat + shift, faces, material, rest_vertices=flat + given["rest"])


def shared_inputs(vertices: Tensor) -> Ranged:
    """Inputs that all scenes have, and how far each is moved in differences."""
    zero = number(0.0)
    names = dict.fromkeys(("young", "thickness", "density", "friction"), (zero, 1.0))
    return names | {"rest": (torch.zeros_like(vertices), 1e-5)}


# ---- a ball presses a strip onto a table and drags it, turning; then it stands still


def ball_inputs() -> Ranged:
    flat = Sheet.rectangle(0.03, 0.01, (6, 2), Material(1e8, 0.3, 2e-4, 800.0))
    part = torch.arange(1, 6, dtype=torch.float64)[:, None] / 5
    path = part * number(-3e-4, 1e-4, -2e-4, 0.03, 0.05, 0.02)
    return shared_inputs(flat.vertices) | {
        "path": (path, 1e-3),
        "start": (torch.zeros_like(flat.vertices), 1e-6),
        "position": (number(0.022, 0.0053, 0.0047), 1e-4),
        "velocities": (torch.zeros_like(flat.vertices), 1e-2),
        "offset": (number(1e-4), 1e-5),
        "radius": (number(0.004), 1e-4),
        "range": (number(3e-4), 1e-4),
        "stiffness": (number(50.0), 10.0),
        "corner": (number(0.3), 0.1),
        "yield": (number(1.0), 0.1),
    }


def pressed_by_a_ball(
    given: Inputs, law: Any = "anchored", integrator: Any = "implicit-euler"
) -> Trajectory:
    flat = Sheet.rectangle(0.03, 0.01, (6, 2), Material(1e8, 0.3, 2e-4, 800.0))
    clamped = flat.vertices[:, 0] < 1e-9
    start = flat.vertices + number(0.0, 0.0, 3e-4) + given["start"]
    sheet = strip(
        given, start, flat.faces, yield_curvature=given["yield"], softness=0.3, damping=2e-3
    )
    ball = Body.sphere(given["radius"], given["position"], friction=0.8)
    table = Body.plane(friction=0.3)
    contact = Contact(
        range=given["range"],
        stiffness=given["stiffness"],
        offset=torch.stack([given["offset"], given["radius"], number(0.0)]),
        law=law,
        softness=given["corner"],
        friction={(sheet.material, ball): 0.6 * given["friction"].exp()},
    )
    scene = Scene([sheet], clamped, gravity=(0, 0, -9.81), bodies=[ball, table], contact=contact)
    simulator = Simulator(scene, 2e-3, integrator=integrator, tolerance=TIGHT)
    moving = torch.where(clamped[:, None], 0.0, given["velocities"])
    state = simulator.initial_state(velocities=torch.cat([moving, torch.zeros(4, 3)]))
    moved = scene.poses + torch.stack([given["path"], torch.zeros(5, 6)], 1)
    return simulator.rollout(state, [*(Control(poses=poses) for poses in moved), None, None])


# ---- two soft fingers close on a strip, and turn and pull it while it sticks or slips


def grip_inputs() -> Ranged:
    flat = Sheet.rectangle(0.02, 0.008, (5, 2), Material(1e8, 0.3, 2e-4, 800.0))
    part = torch.arange(1, 9, dtype=torch.float64)[:, None] / 8
    closing = number(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -6e-4) * (2 * part).clamp(max=1)
    pull = number(2e-4, 1e-4, 3e-4, 0.02, 0.05, 0.03, 0.0) * (part - 0.3).clamp(min=0)
    return shared_inputs(flat.vertices) | {
        "path": (closing + pull, 1e-3),
        "finger young": (number(0.0), 1.0),
        "finger poisson": (number(0.2), 0.1),
        "finger density": (number(0.0), 1.0),
    }


def gripped(given: Inputs, friction: float) -> Trajectory:
    flat = Sheet.rectangle(0.02, 0.008, (5, 2), Material(1e8, 0.3, 2e-4, 800.0))
    sheet = strip(given, uneven(flat.vertices), flat.faces)
    pose = number(0.016, 0.004, 0.0, 0.0, 0.0, 0.0, 4e-4)
    fingers = gripper_pair(
        pose,
        width=0.006,
        height=0.003,
        cells=2,
        core=0.2,
        young=2e5 * given["finger young"].exp(),
        poisson=given["finger poisson"],
        density=1000.0 * given["finger density"].exp(),
        friction=1.0,
    )
    named = {(sheet, finger): friction * given["friction"].exp() for finger in fingers}
    contact = Contact(friction=named, range=2e-4)
    clamped = flat.vertices[:, 0] < 1e-9
    scene = Scene([sheet], clamped, gravity=(0, 0, -9.81), bodies=fingers, contact=contact)
    simulator = Simulator(scene, tolerance=TIGHT)
    poses = pair_poses(pose + given["path"])
    return simulator.rollout(simulator.initial_state(), Control(poses=poses))


# ---- a cylinder presses one layer of a folded strip onto the other


def fold_inputs() -> Ranged:
    _, bent = folded_strip()
    part = torch.arange(1, 7, dtype=torch.float64)[:, None] / 6
    path = part * number(-5e-4, 1e-4, -8e-4, 0.05, 0.1, 0.05)
    return shared_inputs(bent) | {
        "path": (path, 1e-3),
        "start": (torch.zeros_like(bent), 1e-6),
        "radius": (number(0.002), 1e-4),
    }


def folded_strip() -> tuple[Tensor, Tensor]:
    """Faces and vertices of two layers, 1 mm apart, that go into each other."""
    flat = Sheet.rectangle(0.02, 0.006, (10, 2), Material(1e8, 0.3, 2e-4, 800.0))
    x, y, _ = flat.vertices.unbind(1)
    radius, even = 5e-4, 0.009
    turn = ((x - even) / radius).clamp(0, math.pi)
    along = torch.where(turn < math.pi, x.clamp(max=even), 2 * even + math.pi * radius - x)
    bent = [along + radius * turn.sin(), y + 1e-4 * turn, radius * (1 - turn.cos())]
    return flat.faces, uneven(torch.stack(bent, 1))


def folded(given: Inputs) -> Trajectory:
    faces, bent = folded_strip()
    sheet = strip(given, bent, faces, given["start"], damping=1e-3)
    pose = number(0.006, 0.003, 0.0035, math.pi / 2, 0.0, 0.0)
    roller = Body.cylinder(given["radius"], 0.01, pose, friction=0.4)
    lower = bent[:, 2] < 2e-4
    scene = Scene([sheet], lower, bodies=[roller], contact=Contact(range=4e-4))
    simulator = Simulator(scene, tolerance=TIGHT)
    poses = (pose + given["path"])[:, None]
    return simulator.rollout(simulator.initial_state(), Control(poses=poses))


CASES: dict[str, tuple[Callable[[], Ranged], Callable[[Inputs], Trajectory]]] = {
    "ball": (ball_inputs, pressed_by_a_ball),
    "ball-bdf2": (ball_inputs, lambda given: pressed_by_a_ball(given, integrator="bdf2")),
    "ball-newmark": (ball_inputs, lambda given: pressed_by_a_ball(given, integrator="newmark")),
    "ball-creeping": (ball_inputs, lambda given: pressed_by_a_ball(given, law="creeping")),
    "grip-sticks": (grip_inputs, lambda given: gripped(given, 2.0)),
    "grip-slides": (grip_inputs, lambda given: gripped(given, 0.1)),
    "fold": (fold_inputs, folded),
}


class Case:
    """A way to simulate, a loss on all of its outputs, and a direction for each input."""

    def __init__(self, name: str) -> None:
        make, self.simulate = CASES[name]
        ranges = make()
        source = torch.Generator().manual_seed(4)
        self.inputs = {name: value for name, (value, _) in ranges.items()}
        self.ways = {
            name: size * torch.randn(value.shape, generator=source, dtype=torch.float64)
            for name, (value, size) in ranges.items()
        }
        if "path" in self.ways:  # metres, and radians
            self.ways["path"][:, 3:6] *= 10.0

    def loss(self, inputs: Inputs) -> Tensor:
        """Of all positions, forces and creases, each of which weighs about one."""
        way = self.simulate(inputs)
        parts = [1e3 * way.positions, way.velocities[-1], way.wrenches]
        if way.plastic_angles is not None:
            parts.append(10 * way.plastic_angles[-1])
        assert way.final.slip is not None
        assert len(way.final.slip)
        parts.append(1e4 * way.final.slip)
        weights = (torch.arange(part.numel()).double().mul(0.7).cos() for part in parts)
        pairs = zip(parts, weights, strict=True)
        return torch.stack([part.flatten() @ weight for part, weight in pairs]).sum()

    def gradient(self) -> Inputs:
        leaves = {name: value.clone().requires_grad_() for name, value in self.inputs.items()}
        parts = torch.autograd.grad(self.loss(leaves), list(leaves.values()), allow_unused=True)
        return {
            n: torch.zeros_like(leaves[n]) if g is None else g
            for n, g in zip(leaves, parts, strict=True)
        }


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_gradients_are_derivatives(case: Case):
    gradient = case.gradient()
    with torch.no_grad():
        for name, value in case.inputs.items():
            way = case.ways[name]
            found, seen = float((gradient[name] * way).sum()), []
            for step in STEPS:
                sides = [case.loss(case.inputs | {name: value + s * step * way}) for s in (1, -1)]
                seen.append(float(sides[0] - sides[1]) / (2 * step))
                if abs(seen[-1] - found) <= DIFFERENCE * abs(found):
                    break
            else:
                pytest.fail(f"{name}: {found} beside differences of {seen}")


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_forward_mode_agrees_with_reverse_mode(case: Case):
    def along(shares: Tensor) -> Tensor:
        return case.loss({n: v + shares[0] * case.ways[n] for n, v in case.inputs.items()})

    value, derivative = sensitivities(along, torch.zeros(1))
    gradient = case.gradient()
    wanted = sum(float((gradient[name] * way).sum()) for name, way in case.ways.items())
    assert float(value) == pytest.approx(float(case.loss(case.inputs)), rel=1e-12)
    assert float(derivative) == pytest.approx(wanted, rel=EXACT)


# ---- what is kept, and that it repeats


def flat_gradient(case: Case, checkpoint: int | None) -> list[Tensor]:
    """Loss, then gradients of two passes over one graph, through a rollout with checkpoints."""
    with pytest.MonkeyPatch.context() as patch:
        plain = Simulator.rollout
        patch.setattr(Simulator, "rollout", lambda *given: plain(*given, checkpoint=checkpoint))
        leaves = {name: value.clone().requires_grad_() for name, value in case.inputs.items()}
        loss = case.loss(leaves)
    passes = []
    for keep in (checkpoint is None, False):
        if passes and checkpoint is not None:
            break
        passes += torch.autograd.grad(loss, list(leaves.values()), retain_graph=keep)
    return [loss.detach(), *passes]


def test_runs_and_passes_repeat_bit_for_bit():
    case = Case("fold")
    count = len(case.inputs)
    once, again = flat_gradient(case, None), flat_gradient(case, None)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    first, second = once[1 : 1 + count], once[1 + count :]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    for checkpoint in (1, 4):
        parts = [flat_gradient(case, checkpoint) for _ in range(2)]
        assert all(torch.equal(a, b) for a, b in zip(*parts, strict=True))
        for found, wanted in zip(parts[0], once, strict=False):
            size = float(wanted.abs().max())
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-8 * size)


def test_backward_makes_patterns_again_that_are_not_kept(monkeypatch: pytest.MonkeyPatch):
    case = Case("fold")
    wanted = case.gradient()
    monkeypatch.setattr(near, "KEPT", 0)
    for name, found in case.gradient().items():
        assert torch.equal(found, wanted[name])


# ---- annealing


def lifted_ball() -> tuple[Simulator, Tensor]:
    """A sheet with a ball 1.5 ranges above it, and how much higher it is lifted."""
    sheet = Sheet.rectangle(
        0.02, 0.02, (4, 4), Material(1e7, 0.3, 2e-4, 800.0, yield_curvature=9.0)
    )
    clamped = sheet.vertices[:, 0] < 1e-9
    ball = Body.sphere(0.004, (0.015, 0.01, 0.004 + 1e-4 + 6e-4))
    scene = Scene([sheet], clamped, bodies=[ball], contact=Contact(range=4e-4))
    return Simulator(scene), torch.zeros((), dtype=torch.float64, requires_grad=True)


def test_a_wide_range_feels_what_is_not_touched_yet():
    simulator, height = lifted_ball()
    slopes = {}
    for progress in (0.0, 0.5, 1.0):
        soft = simulator.softened(Softness(), progress)
        lift = height * number(0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
        state = soft.step(soft.initial_state(), Control(poses=simulator.scene.poses + lift))
        (slope,) = torch.autograd.grad(state.positions[:-1, 2].sum(), height)
        slopes[progress] = float(slope)
    assert slopes[1.0] == 0.0
    assert slopes[0.0] > slopes[0.5] > 0


def test_in_the_end_it_is_the_plain_simulator():
    simulator, _ = lifted_ball()
    softness = Softness(range=(3, 1), friction=(8, 1), yielding=(0.3, 0.03))
    half = simulator.softened(softness, 0.5)
    assert half.softened(softness, 1.0) is simulator
    assert half.model.pattern is simulator.model.pattern
    assert softness.at(0) == (3, 8, 0.3)
    assert softness.at(0.5) == pytest.approx((math.sqrt(3), math.sqrt(8), math.sqrt(0.009)))
    assert softness.at(1) == pytest.approx((1, 1, 0.03))
    values, plain = half.model.values, simulator.model.values
    torch.testing.assert_close(values["contact_range"], math.sqrt(3) * plain["contact_range"])
    assert values["softness"].unique().tolist() == pytest.approx([math.sqrt(0.009)])
    assert plain["softness"].unique().tolist() == [0.0]
    # a copy in another process is as soft
    other = pickle.loads(pickle.dumps(half))
    assert torch.equal(other.model.values["contact_range"], values["contact_range"])
    grips = [s.contact.grip for s in (other, half, simulator) if s.contact is not None]
    assert grips[0] == grips[1] < grips[2]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("range", (0.5, 1)),
        ("range", 4.0),
        ("friction", (10, 1, 1)),
        ("friction", (math.inf, 1)),
        ("yielding", (1.0, 0.1)),
        ("yielding", (0.2, 0.0)),
        ("yielding", ("soft", 0.1)),
    ],
)
def test_bad_softness_is_refused(name, value):
    with pytest.raises(InputError, match=name):
        Softness(**{name: value})


@pytest.mark.parametrize("progress", [-0.1, 1.5, math.nan, "half"])
def test_progress_is_a_share(progress):
    with pytest.raises(InputError, match="progress"):
        Softness().at(progress)


def test_softness_is_a_softness():
    simulator, _ = lifted_ball()
    with pytest.raises(InputError, match="softness"):
        simulator.softened(0.5, 0.5)  # pyright: ignore[reportArgumentType]
