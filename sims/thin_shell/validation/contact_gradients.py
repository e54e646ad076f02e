"""Derivatives of rollouts through contact, friction and yield against central differences.

A fingertip presses a strip that overhangs a table down onto it, bends it beyond yield and drags it
along; and two fingertips hold a strip by friction alone, sticking all the time, and move it. The
loss feels all positions at the end, creases and the forces of all steps. A derivative along a
random direction is compared with the best difference of a few lengths: long ones see curvature, and
the places where contacts come and go; short ones what Newton's method leaves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sims.thin_shell.bodies import Body
from sims.thin_shell.contact.settings import Contact
from sims.thin_shell.gripper import gripper_pair, pair_poses
from sims.thin_shell.material import Material
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.soft_body import SoftBody
from sims.thin_shell.state import Control, Trajectory
from sims.thin_shell.validation.loading import mesh_name
from sims.thin_shell.validation.rows import Case, Findings, Row, Scale, joined

MEDIAN, WORST, STICKING = 1e-4, 1e-2, 1e-5  # allowed errors over the size of the derivative
LENGTHS = (1e-5, 1e-6, 1e-4)  # of differences, in ranges of what is moved
GOOD = 1e-6  # error below which no other length is tried
TOLERANCE = 1e-12  # m/s, of Newton's method
MOTION = (1e-3, 1e-3, 1e-3, 0.1, 0.1, 0.1)  # ranges of poses [m, rad]
REST = 1e-5  # m
CELLS = (10, 3)

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Grasp:
    """A rollout of `steps`: `simulate` takes inputs to it; `motion` (steps, n) is what its gripper
    does, and `spread` (n,) how far each of its numbers is moved."""

    name: str
    steps: int
    motion: Tensor
    spread: Tensor
    simulate: Callable[[Inputs], Trajectory]

    @property
    def inputs(self) -> Inputs:
        """motion; log young and log friction, beside their values; rest (V, 3), likewise."""
        zero = torch.zeros((), dtype=torch.float64)
        rest = torch.zeros_like(_flat().vertices)
        return {"motion": self.motion, "log E": zero, "log mu": zero, "rest": rest}

    def direction(self, name: str, source: torch.Generator) -> Tensor:
        """A random direction of one input."""
        value = self.inputs[name]
        drawn = torch.randn(value.shape, generator=source, dtype=torch.float64)
        return drawn * {"motion": self.spread, "rest": REST}.get(name, 1.0)


def _flat() -> Sheet:
    return Sheet.rectangle(0.05, 0.015, CELLS, Material(1e9, 0.3, 2e-4, 800.0))


def _vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _strip(inputs: Inputs, height: float, yield_curvature: float) -> Sheet:
    flat = _flat()
    material = Material(
        young=1e9 * inputs["log E"].exp(),
        poisson=0.3,
        thickness=2e-4,
        density=800.0,
        yield_curvature=yield_curvature,
        hardening=0.2,
        softness=0.1,
    )
    start = flat.vertices + _vector(0.0, 0.0, height)
    return Sheet(start, flat.faces, material, rest_vertices=flat.vertices + inputs["rest"])


def pressing(steps: int) -> Grasp:
    """A fingertip presses a clamped strip onto a table, bends it for good and drags it."""
    share = torch.arange(1, steps + 1, dtype=torch.float64)[:, None] / 50
    drag = (share - 0.5).clamp(min=0)
    down = _vector(0.0, 0.0, -5.6e-3, 0.0, 0.0, 0.0) * (2 * share).clamp(max=1)
    motion = down + share * _vector(0, 0, 0, 0.2, 0.3, 0.3)
    motion = motion + drag * _vector(-12e-3, 3.6e-3, 0.0, 0.0, 0.0, 0.0)

    def simulate(inputs: Inputs) -> Trajectory:
        sheet = _strip(inputs, 5e-3, 4.0)
        # off the lines of the mesh
        pose = _vector(0.0381, 0.0077, 9.3e-3, 0.0, 0.0, 0.0)
        tip = SoftBody.fingertip(0.008, 0.004, 3e5, 0.3, 1000.0, cells=3, pose=pose)
        table = Body.plane()
        more = inputs["log mu"].exp()
        friction = {(sheet, tip): 0.6 * more, (sheet, table): 0.4 * more}
        contact = Contact(range=3e-4, friction=friction)
        clamped = _flat().vertices[:, 0] < 1e-9
        scene = Scene([sheet], clamped, gravity=(0, 0, -9.81), bodies=[table, tip], contact=contact)
        simulator = Simulator(scene, tolerance=TOLERANCE)
        poses = torch.stack([scene.poses[0].expand(steps, 6), pose + inputs["motion"]], 1)
        return simulator.rollout(simulator.initial_state(), Control(poses=poses))

    return Grasp("pressed, dragged, creased", steps, motion, _vector(*MOTION), simulate)


def holding(steps: int) -> Grasp:
    """Two fingertips close on a clamped strip, which sticks to them, lift and turn its end."""
    share = torch.arange(1, steps + 1, dtype=torch.float64)[:, None] / 50
    pull = (share - 0.25).clamp(min=0)
    motion = (4 * share).clamp(max=1) * _vector(0, 0, 0, 0, 0, 0, -9e-4)
    motion = motion + pull * _vector(-4e-3, 1e-3, 6e-3, 0.0, 0.5, 0.3, 0.0)

    def simulate(inputs: Inputs) -> Trajectory:
        sheet = _strip(inputs, 0.0, float("inf"))
        pose = _vector(0.0453, 0.0077, 0.0, 0.0, 0.0, 0.0, 8e-4)
        tips = gripper_pair(pose, width=0.008, height=0.004, cells=3)
        friction = {(sheet, tip): 3.0 * inputs["log mu"].exp() for tip in tips}
        clamped = _flat().vertices[:, 0] < 1e-9
        contact = Contact(friction=friction)
        scene = Scene([sheet], clamped, gravity=(0, 0, -9.81), bodies=tips, contact=contact)
        simulator = Simulator(scene, tolerance=TOLERANCE)
        poses = pair_poses(pose + inputs["motion"])
        return simulator.rollout(simulator.initial_state(), Control(poses=poses))

    spread = _vector(*MOTION, 1e-4)
    return Grasp("held by sticking", steps, motion, spread, simulate)


def loss(way: Trajectory) -> Tensor:
    """Of positions and forces, and of creases where there are any, of order one each."""
    parts = [10 * way.positions[-1], way.velocities[-1], way.wrenches]
    if way.plastic_angles is not None:
        parts.append(way.plastic_angles[-1])
    sums = [part.flatten() @ torch.arange(part.numel()).double().sin() for part in parts]
    return torch.stack(sums).sum()


def errors(grasp: Grasp, directions: int) -> tuple[dict[str, list[float]], list[int]]:
    """Relative errors of derivatives by input, `directions` of tensors and one of numbers; and the
    iterations of each step."""
    leaves = {name: value.clone().requires_grad_() for name, value in grasp.inputs.items()}
    way = grasp.simulate(leaves)
    slopes = torch.autograd.grad(loss(way), list(leaves.values()))
    source = torch.Generator().manual_seed(0)
    found: dict[str, list[float]] = {}
    for (name, value), slope in zip(grasp.inputs.items(), slopes, strict=True):
        for _ in range(directions if value.ndim else 1):
            move = grasp.direction(name, source)
            found.setdefault(name, []).append(_error(grasp, name, value, move, slope))
    return found, [solution.iterations for solution in way.solutions]


@torch.no_grad()
def _error(grasp: Grasp, name: str, value: Tensor, move: Tensor, slope: Tensor) -> float:
    ours, best = float((slope * move).sum()), torch.inf
    for length in LENGTHS:
        ends = [
            float(loss(grasp.simulate(grasp.inputs | {name: value + side * length * move})))
            for side in (1, -1)
        ]
        difference = (ends[0] - ends[1]) / (2 * length)
        best = min(best, abs(difference - ours) / max(abs(difference), abs(ours), 1e-300))
        if best < GOOD:
            break
    return best


def compared(grasp: Grasp, directions: int, median: float, worst: float) -> Findings:
    """The middle and the largest error over all inputs, and the largest of each."""
    began = time.perf_counter()
    found, iterations = errors(grasp, directions)
    effort = sum(iterations) / len(iterations), time.perf_counter() - began
    together = torch.tensor([error for several in found.values() for error in several])
    numbers = {
        "median error": (float(together.median()), median),
        "worst error": (float(together.max()), worst),
        **{f"worst error, {name}": (max(several), None) for name, several in found.items()},
    }
    case = f"{grasp.name}, {grasp.steps} steps"
    return Findings(
        [
            Row.of(case, quantity, 0.0, ours, tolerance, mesh_name(CELLS), *effort, size=1.0)
            for quantity, (ours, tolerance) in numbers.items()
        ]
    )


def _case(scale: Scale) -> Findings:
    steps, directions = (20, 1) if scale == "quick" else (50, 20)
    return joined(
        [
            compared(pressing(steps), directions, MEDIAN, WORST),
            compared(holding(steps), directions, STICKING, WORST),
        ]
    )


CASES: dict[str, Case] = {"contact-gradients": _case}
