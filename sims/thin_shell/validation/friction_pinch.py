"""A sheet that hangs between two pads: it stays where 2 mu N > W, and falls with what is missing.

    held:     no motion,        slipping:     a = g (1 - 2 mu N / W)

N, the normal force of each pad, is what the pads feel at the moment when the sheet is let go; mu is
then a little more, or less, than W / (2 N). The pads are rigid plates that are brought together, or
the soft fingertips of a gripper. Where edges of two meshes cross, contacts count twice, so that
between pads that do not move N changes a little as the sheet slides; coarse meshes keep that small.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sims.thin_shell.bodies import Body
from sims.thin_shell.contact.settings import Contact
from sims.thin_shell.contact.surfaces import surface_of
from sims.thin_shell.gripper import gripper_pair, pair_poses
from sims.thin_shell.material import Material
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.state import Control, State, Trajectory
from sims.thin_shell.validation.loading import mesh_name
from sims.thin_shell.validation.rows import Case, Findings, Row, Scale, Shape, joined

GRAVITY = 9.81
STEEL = Material(young=2e10, poisson=0.3, thickness=1e-3, density=7800.0)  # but softer
SIZE = (0.04, 0.06)  # m, across and down
PAD = (0.06, 0.005, 0.08)  # m, of a rigid pad, larger than the sheet
RANGE, STIFFNESS = 1e-4, 300.0  # m, N/m: of contact
SQUEEZE = {"pads": 6e-5, "fingertips": -2e-4}  # m: gap that is left, or how far tips go beyond
STEP, CLOSING, RESTING = 0.02, 20, 20  # s; steps
FINE, FALLING = 2e-3, 0.3  # s: steps of the fall, and how long it is watched
MARGIN = 0.02  # of the threshold
DRIFT, SLIDE = 1e-4, 0.01  # allowed: drift over the length of the sheet; error of accelerations

Grip = Literal["pads", "fingertips"]


@dataclass(frozen=True)
class Pinch:
    """A hanging sheet and what takes hold of it with the coefficient mu."""

    grip: Grip
    cells: tuple[int, int]
    mu: float
    fingers: int = 4

    def scene(self) -> Scene:
        """The sheet in the plane y = 0, its middle in the origin, just free of the pads."""
        flat = Sheet.rectangle(*SIZE, self.cells, STEEL)
        x, z, y = (flat.vertices - flat.vertices.mean(0)).unbind(1)
        drop = 0.0 if self.grip == "pads" else -SIZE[1] / 3
        sheet = Sheet(torch.stack([x, y, z + drop], dim=1), flat.faces, STEEL)
        if self.grip == "pads":
            bodies = [Body.box(PAD, tuple(pose.tolist())) for pose in self.poses(0.9 * RANGE)]
        else:
            gap = float(STEEL.thickness) + 1.8 * RANGE
            bodies = list(gripper_pair(self._seven(gap), cells=self.fingers))
        friction = {(sheet, body): self.mu for body in bodies}
        contact = Contact(range=RANGE, stiffness=STIFFNESS, friction=friction)
        return Scene([sheet], gravity=(0.0, 0.0, -GRAVITY), bodies=bodies, contact=contact)

    def poses(self, gap: float) -> Tensor:
        """(2, 6) with so much room [m] between either pad and the sheet."""
        if self.grip == "fingertips":
            return pair_poses(self._seven(float(STEEL.thickness) + 2 * gap))
        away = PAD[1] / 2 + float(STEEL.thickness) / 2 + gap
        poses = torch.zeros(2, 6, dtype=torch.float64)
        poses[:, 1] = torch.tensor([away, -away])
        return poses

    def _seven(self, spacing: float) -> Tensor:
        """A gripper around the origin that closes along y."""
        quarter = math.pi / 2
        return torch.tensor([0.0, 0.0, 0.0, quarter, 0.0, 0.0, spacing], dtype=torch.float64)

    def closed(self, simulator: Simulator) -> State:
        """The sheet held up by forces until the pads bear on it and all is at rest."""
        scene = simulator.scene
        part = scene.vertex_parts[0]
        lift = torch.zeros_like(scene.vertices)
        lift[part] = -simulator.weight[part]
        start, end = 0.9 * RANGE, SQUEEZE[self.grip]
        shares = [min(1.0, step / CLOSING) for step in range(1, CLOSING + RESTING + 1)]
        controls = [
            Control(forces=lift, poses=self.poses(start + share * (end - start)))
            for share in shares
        ]
        return simulator.rollout(simulator.initial_state(), controls).final


def pinch(grip: Grip, cells: tuple[int, int], seconds: float, fingers: int = 4) -> Findings:
    """Let go of a sheet at a little more and a little less friction than it takes to hold it."""
    began = time.perf_counter()
    first = Pinch(grip, cells, 0.5, fingers)
    simulator = Simulator(first.scene(), STEP)
    state = first.closed(simulator)
    part = simulator.scene.vertex_parts[0]
    weight = float(simulator.model.mass[part].sum()) * GRAVITY
    pressed = float(state.wrenches[:, 1].abs().mean())
    rows, shapes = [], []
    for share in (1 + MARGIN, 1 - MARGIN):
        trial = Pinch(grip, cells, share * weight / (2 * pressed), fingers)
        simulator = Simulator(trial.scene(), STEP)
        state = trial.closed(simulator)
        if share > 1:
            track = simulator.rollout(state, round(seconds / STEP))
        else:
            track = Simulator(simulator.scene, FINE).rollout(state, round(FALLING / FINE))
        name = f"pinch by {grip}, 2 mu N = {share:g} W"
        measured = (mesh_name(cells), _iterations(track), time.perf_counter() - began)
        fall = track.positions[0, part, 2] - track.positions[:, part, 2]
        if share > 1:
            drift = float((fall[-1] - fall[len(fall) // 10]).abs().amax()) / SIZE[1]
            what = f"drift in {0.9 * seconds:g} s over the length"
            rows.append(Row.of(name, what, 0.0, drift, DRIFT, *measured, 1.0))
        else:
            rows += _falling(name, fall.mean(1), track, weight, trial.mu, measured)
        if grip == "fingertips":
            faces = surface_of(simulator.scene).faces
            shapes.append(Shape(name, track.positions[-1], faces))
        began = time.perf_counter()
    return Findings(rows, shapes=shapes)


def _falling(
    name: str,
    fall: Tensor,
    track: Trajectory,
    weight: float,
    mu: float,
    measured: tuple[str, float, float],
) -> list[Row]:
    """Acceleration over the first millimetres beside that of the force that is missing."""
    last = int((fall < SIZE[1] / 40).sum()) - 2
    first = last // 3
    speeds = (fall[1:] - fall[:-1]) / FINE
    gained = float(speeds[last - 1] - speeds[first]) / (FINE * (last - 1 - first))
    pressed = float(track.wrenches[first:last, :, 1].abs().mean())
    law = GRAVITY * (1 - 2 * mu * pressed / weight)
    what = "acceleration of the fall [m/s^2]"
    # relative to the gravity that is left at the margin
    return [
        Row.of(name, what, law, gained, SLIDE, *measured, size=GRAVITY),
        Row.of(name, "lets go", 1.0, float(fall[-1] > DRIFT * SIZE[1]), 0.0, *measured),
    ]


def _iterations(track: Trajectory) -> float:
    return sum(solution.iterations for solution in track.solutions) / len(track.solutions)


def _case(scale: Scale) -> Findings:
    if scale == "quick":
        return pinch("pads", (2, 3), 1.0)
    return joined([pinch("pads", (2, 3), 10.0), pinch("fingertips", (3, 5), 10.0)])


CASES: dict[str, Case] = {"pinch": _case}
