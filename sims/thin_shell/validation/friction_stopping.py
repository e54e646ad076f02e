"""Plates that are pushed along a table, or slide down an incline, and derivatives of how far.

    stopping distance    d = v^2 / (2 mu g),                          dd/dmu = -v^2 / (2 g mu^2)
    slide in a time T    s = g (sin(theta) - mu cos(theta)) T^2 / 2,  ds/dtheta = (g cos(theta)
                                                                        + mu g sin(theta)) T^2 / 2

Implicit Euler with steps h stops short by v h / 2 and slides farther by a T h / 2, half a percent
of both with 200 steps.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sims.thin_shell.bodies import Body
from sims.thin_shell.contact.settings import Contact
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.state import Control, Trajectory
from sims.thin_shell.validation.friction_incline import (
    COEFFICIENTS,
    GAP,
    GRAVITY,
    PLATE,
    SETTLING,
    SIDE,
    Slope,
    plates,
    travelled,
)
from sims.thin_shell.validation.loading import mesh_name
from sims.thin_shell.validation.rows import Case, Curve, Findings, Row, Scale, joined

SECONDS = (
    0.5  # until all of them stop, but for half a step: speeds at the start are mu g times this
)
REST = 1.1  # times this, until they are looked at
ALLOWED = 0.01
FRICTION, TURN = 0.4, 0.5  # of the derivatives: mu, theta [rad]


def stopping(steps: int, cells: tuple[int, int]) -> Findings:
    """Plates with speeds of mu g T on a table stop together after a time T."""
    seconds = SECONDS * (1 - 0.5 / steps)
    on = [Slope(mu, 0.0) for mu in COEFFICIENTS]
    scene = plates(on, cells)
    simulator = Simulator(scene, SECONDS / steps)
    state = simulator.rollout(simulator.initial_state(), SETTLING).final
    velocities = state.velocities.clone()
    for slope, part in zip(on, scene.vertex_parts, strict=False):
        velocities[part, 0] = slope.mu * GRAVITY * seconds
    began = time.perf_counter()
    track = simulator.rollout(replace(state, velocities=velocities), round(REST * steps))
    measured = (mesh_name(cells), _iterations(track), time.perf_counter() - began)
    rows, curves = [], []
    times = track.times.numpy() - float(track.times[0])
    for slope, part in zip(on, scene.vertex_parts, strict=False):
        path = travelled(track, part, slope.down)
        speed = slope.mu * GRAVITY * seconds
        name, distance = f"stopping, mu {slope.mu:g}", speed**2 / (2 * slope.mu * GRAVITY)
        rows += [
            Row.of(name, "distance [m]", distance, float(path[-1]), ALLOWED, *measured),
            Row.of(
                name, "speed at the end over the first", 0.0,
                float(track.velocities[-1, part].abs().amax()) / speed, 1e-6, *measured, 1.0,
            ),
        ]  # fmt: skip
        left = np.clip(seconds - times, 0, None)
        law = distance * (1 - (left / seconds) ** 2)
        ours = np.stack([times, path.numpy()], axis=1)[:: max(1, len(times) // 20)]
        axes, source = ("time [s]", "way [m]"), "v t - mu g t^2 / 2"
        line = np.stack([times, law], axis=1)
        curves.append(Curve("stopping on a table", axes, ours, line, source, f"mu {slope.mu:g}"))
    return Findings(rows, curves)


def sensitivities(steps: int) -> Findings:
    """Derivatives of the stopping distance and of a slide by reverse mode through all steps."""
    mu = torch.tensor(FRICTION, dtype=torch.float64, requires_grad=True)
    theta = torch.tensor(TURN, dtype=torch.float64, requires_grad=True)
    # where the last force is just the limit there is a derivative on either side
    speed = FRICTION * GRAVITY * SECONDS * (1 - 0.5 / steps)
    began = time.perf_counter()
    distance, track = _way(mu, torch.zeros_like(mu), speed, round(REST * steps), SECONDS / steps)
    (by_friction,) = torch.autograd.grad(distance, mu)
    measured = (mesh_name((1, 1)), _iterations(track), time.perf_counter() - began)
    exact = -(speed**2) / (2 * GRAVITY * FRICTION**2)
    name = "stopping distance"
    rows = [Row.of(name, "d / d mu [m]", exact, float(by_friction), ALLOWED, *measured)]
    began = time.perf_counter()
    slid, track = _way(mu, theta, 0.0, steps, SECONDS / steps)
    by_turn, by_friction = torch.autograd.grad(slid, (theta, mu))
    measured = (mesh_name((1, 1)), _iterations(track), time.perf_counter() - began)
    fall = GRAVITY * SECONDS**2 / 2
    exact = fall * (math.cos(TURN) + FRICTION * math.sin(TURN))
    name = f"slide in {SECONDS:g} s down an incline"
    rows += [
        Row.of(name, "d / d theta [m]", exact, float(by_turn), ALLOWED, *measured),
        Row.of(
            name, "d / d mu [m]", -fall * math.cos(TURN), float(by_friction), ALLOWED, *measured
        ),
    ]
    return Findings(rows)


def _way(
    mu: Tensor, theta: Tensor, speed: float, steps: int, step: float
) -> tuple[Tensor, Trajectory]:
    """How far [m] a plate goes on a plane under gravity that is tilted by theta [rad]."""
    flat = Sheet.rectangle(SIDE, SIDE, (1, 1), PLATE)
    sheet = replace(flat, vertices=flat.vertices + _up(float(PLATE.thickness) / 2 + GAP))
    ground = Body.plane()
    pull = torch.stack([theta.sin(), torch.zeros_like(theta), -theta.cos()]) * GRAVITY
    contact = Contact(friction={(sheet, ground): mu})
    simulator = Simulator(Scene([sheet], gravity=pull, bodies=[ground], contact=contact), step)
    along = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    state = simulator.initial_state()
    held = Control(forces=-simulator.weight * along)
    state = simulator.rollout(state, [held] * SETTLING).final
    pushed = state.velocities + torch.where(simulator.model.mass[:, None] > 0, speed * along, 0.0)
    track = simulator.rollout(replace(state, velocities=pushed), steps)
    return travelled(track, slice(0, len(sheet.vertices)), along)[-1], track


def _up(height: float) -> Tensor:
    return torch.tensor([0.0, 0.0, height], dtype=torch.float64)


def _iterations(track: Trajectory) -> float:
    return sum(solution.iterations for solution in track.solutions) / len(track.solutions)


def _case(scale: Scale) -> Findings:
    quick = scale == "quick"
    return joined(
        [
            stopping(120 if quick else 250, (1, 1) if quick else (2, 2)),
            sensitivities(120 if quick else 250),
        ]
    )


CASES: dict[str, Case] = {"stopping": _case}
