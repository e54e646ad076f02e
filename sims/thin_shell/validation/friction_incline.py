"""Sheets and blocks on inclines: they slide where tan(theta) > mu, and stay for ever below.

    slope above mu:    a = g (sin(theta) - mu cos(theta))
    slope below mu:    no motion with anchored friction; with the creeping one the constant speed
                       v = eps_v (1 - sqrt(1 - r)),  r = tan(theta) / mu

Each sheet has an incline of its own, a half space that the others pass through, with its own
coefficient. Until its contacts bear it a sheet is held back along its slope.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sims.thin_shell.bodies import Body
from sims.thin_shell.contact.settings import Contact, Law
from sims.thin_shell.material import Material
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.soft_body import SoftBody
from sims.thin_shell.state import Control, Trajectory
from sims.thin_shell.validation.loading import mesh_name
from sims.thin_shell.validation.rows import Case, Curve, Findings, Row, Scale, Shape, joined

COEFFICIENTS = (0.1, 0.3, 0.6, 1.0)
GRAVITY = 9.81
SIDE, GAP = 0.1, 5e-5  # m: of a sheet, and what is left between it and its slope at the start
PLATE = Material(young=1e8, poisson=0.3, thickness=2e-3, density=1000.0)
BLOCK = (0.06, 0.06, 0.02)  # m
SPACING = 1.5  # sides
STEP, SETTLING = 0.02, 25  # s; steps
NEAR = 0.02  # distance of a slope from its threshold, over it
DRIFT, SLIDE, CREEP = 1e-4, 0.01, 0.01  # allowed: drift over the side; errors of the others
CREEP_SPEED = 1e-3  # m/s


@dataclass(frozen=True)
class Slope:
    """A slope of angle theta [rad] under a body with the coefficient mu."""

    mu: float
    theta: float

    @property
    def down(self) -> Tensor:
        """(3,) the direction in which it falls."""
        return _vector(math.cos(self.theta), 0.0, -math.sin(self.theta))

    @property
    def normal(self) -> Tensor:
        """(3,) outward."""
        return _vector(math.sin(self.theta), 0.0, math.cos(self.theta))

    @property
    def acceleration(self) -> float:
        """Of what slides on it [m/s^2]."""
        return GRAVITY * (math.sin(self.theta) - self.mu * math.cos(self.theta))

    @property
    def name(self) -> str:
        """In the words of a table."""
        return f"mu {self.mu:g}, tan {math.tan(self.theta):.4g}"


def slopes(shares: Sequence[float], coefficients: Sequence[float] = COEFFICIENTS) -> list[Slope]:
    """Slopes with tan(theta) = share mu, for every coefficient and share."""
    return [Slope(mu, math.atan(share * mu)) for mu in coefficients for share in shares]


def plates(on: Sequence[Slope], cells: tuple[int, int], law: Law = "anchored") -> Scene:
    """A plate on each of the slopes, all in one scene."""
    flat = Sheet.rectangle(SIDE, SIDE, cells, PLATE)
    local = flat.vertices - flat.vertices.mean(0)
    height = float(PLATE.thickness) / 2 + GAP
    sheets = [
        Sheet(_placed(local, slope, SPACING * SIDE * place, height), flat.faces, PLATE)
        for place, slope in enumerate(on)
    ]
    planes = [Body.plane(normal=slope.normal) for slope in on]
    apart = [(a, b) for a in sheets for b in planes if sheets.index(a) != planes.index(b)]
    friction = {
        (sheet, plane): slope.mu for sheet, plane, slope in zip(sheets, planes, on, strict=True)
    }
    contact = Contact(friction=friction, law=law, creep_speed=CREEP_SPEED, passing=apart)
    return Scene(sheets, gravity=(0.0, 0.0, -GRAVITY), bodies=planes, contact=contact)


def block(slope: Slope, cells: tuple[int, int, int]) -> Scene:
    """A soft block on a level plane under gravity that is tilted."""
    pose = [0.0, 0.0, BLOCK[2] / 2 + GAP, 0.0, 0.0, 0.0]
    body = SoftBody.block(BLOCK, cells, 1e6, 0.3, 1000.0, pose=torch.tensor(pose))
    pull = GRAVITY * _vector(math.sin(slope.theta), 0.0, -math.cos(slope.theta))
    ground = Body.plane()
    contact = Contact(friction={(body, ground): slope.mu})
    return Scene([], gravity=pull, bodies=[body, ground], contact=contact)


def released(
    scene: Scene, down: Tensor, seconds: float, step: float = STEP
) -> tuple[Simulator, Trajectory]:
    """What a scene does once nothing holds its vertices back along `down` (V, 3) any more."""
    simulator = Simulator(scene, step)
    weight = simulator.weight
    back = -(weight * down).sum(1, keepdim=True) * down
    state = simulator.initial_state()
    state = simulator.rollout(state, [Control(forces=back)] * SETTLING).final
    return simulator, simulator.rollout(state, round(seconds / step))


def travelled(track: Trajectory, part: slice, down: Tensor) -> Tensor:
    """How far (T + 1,) [m] the mean of some vertices has gone along `down` (3,)."""
    middle = track.positions[:, part].mean(1) @ down
    return middle - middle[0]


def thresholds(
    on: Sequence[Slope], cells: tuple[int, int], seconds: float, step: float = STEP
) -> Findings:
    """Plates on slopes, some of which hold them: drift, or acceleration beside the closed ones."""
    scene = plates(on, cells)
    began = time.perf_counter()
    _, track = released(scene, _directions(scene, on), seconds, step)
    spent, iterations = time.perf_counter() - began, _iterations(track)
    rows, curves = [], []
    for slope, part in zip(on, scene.vertex_parts, strict=False):
        path = travelled(track, part, slope.down)
        measured = (mesh_name(cells), iterations, spent)
        if slope.acceleration <= 0:
            drift = float((track.positions[:, part] - track.positions[0, part]).abs().amax())
            what = f"drift in {seconds:g} s over the side"
            rows.append(
                Row.of(f"incline, {slope.name}", what, 0.0, drift / SIDE, DRIFT, *measured, 1.0)
            )
            continue
        rows.append(_slid(f"incline, {slope.name}", slope, path, track.times, measured))
        times = (track.times - track.times[0]).numpy()
        line = np.stack([times, slope.acceleration * times**2 / 2], axis=1)
        ours = np.stack([times, path.numpy()], axis=1)[:: max(1, len(times) // 20)]
        axes, law = ("time [s]", "way down the slope [m]"), "g (sin - mu cos) t^2 / 2"
        curves.append(Curve("sliding down inclines", axes, ours, line, law, f"mu {slope.mu:g}"))
    plates_then = track.positions[len(track.times) // 10, : scene.body_parts[0].start]
    return Findings(rows, curves, [Shape("plates on inclines", plates_then, scene.faces)])


def soft_thresholds(
    on: Sequence[Slope], cells: tuple[int, int, int], seconds: float, step: float = STEP
) -> Findings:
    """The same for soft blocks, one by one, under tilted gravity."""
    rows = []
    for slope in on:
        scene = block(slope, cells)
        along = _vector(1.0, 0.0, 0.0)
        began = time.perf_counter()
        _, track = released(scene, along.expand_as(scene.vertices), seconds, step)
        measured = ("x".join(map(str, cells)), _iterations(track), time.perf_counter() - began)
        path = travelled(track, scene.body_parts[0], along)
        name = f"soft block on an incline, {slope.name}"
        if slope.acceleration > 0:
            rows.append(_slid(name, slope, path, track.times, measured))
        else:
            # what it bends as it is let go is no drift
            late = path[len(path) // 10 :]
            drift = float(late.amax() - late.amin()) / BLOCK[0]
            what = f"drift in {0.9 * seconds:g} s over the side"
            rows.append(Row.of(name, what, 0.0, drift, DRIFT, *measured, 1.0))
    return Findings(rows)


def creeping(shares: Sequence[float], cells: tuple[int, int], seconds: float) -> Findings:
    """Speed of plates below the threshold that friction regularised in the velocity holds."""
    on = slopes(shares, (0.3,))
    scene = plates(on, cells, "creeping")
    began = time.perf_counter()
    _, track = released(scene, _directions(scene, on), seconds)
    measured = (mesh_name(cells), _iterations(track), time.perf_counter() - began)
    rows = []
    for slope, share, part in zip(on, shares, scene.vertex_parts, strict=False):
        path = travelled(track, part, slope.down)
        half = len(path) // 2
        speed = float(path[-1] - path[half]) / float(track.times[-1] - track.times[half])
        law = CREEP_SPEED * (1 - math.sqrt(1 - share))
        name = f"creep on an incline, {share:g} of the threshold"
        rows.append(Row.of(name, "speed [m/s]", law, speed, CREEP, *measured))
    return Findings(rows)


def _slid(
    name: str, slope: Slope, path: Tensor, times: Tensor, measured: tuple[str, float, float]
) -> Row:
    """Acceleration from the speed that is gained between the first tenth and the end."""
    first = max(1, len(path) // 10)
    speeds = (path[1:] - path[:-1]) / (times[1:] - times[:-1])
    gained = float(speeds[-1] - speeds[first]) / float(times[-1] - times[first + 1])
    return Row.of(name, "acceleration [m/s^2]", slope.acceleration, gained, SLIDE, *measured)


def _placed(local: Tensor, slope: Slope, aside: float, height: float) -> Tensor:
    across = _vector(0.0, 1.0, 0.0)
    axes = torch.stack([slope.down, across, slope.normal])
    return local @ axes + aside * across + height * slope.normal


def _directions(scene: Scene, on: Sequence[Slope]) -> Tensor:
    """(V, 3): down the slope that each vertex of a sheet lies on."""
    down = torch.zeros_like(scene.vertices)
    for slope, part in zip(on, scene.vertex_parts, strict=False):
        down[part] = slope.down
    return down


def _iterations(track: Trajectory) -> float:
    return sum(solution.iterations for solution in track.solutions) / len(track.solutions)


def _vector(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def _case(scale: Scale) -> Findings:
    sides = (1 - NEAR, 1 + NEAR)
    quick = scale == "quick"
    seconds, cells = (1.0, (1, 1)) if quick else (10.0, (2, 2))
    steep = slopes(sides, (0.3,)) if quick else slopes(sides, (0.1, 1.0))
    return joined(
        [
            thresholds(slopes(sides), cells, seconds),
            soft_thresholds(steep, (1, 1, 1) if quick else (2, 2, 1), seconds),
            creeping((0.5, 0.9), (1, 1), 1.0),
        ]
    )


CASES: dict[str, Case] = {"incline": _case}
