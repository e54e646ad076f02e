"""What motion and uniform strain must keep: patch tests, free fall, rotation, energy.

A uniform strain imposed on the rim of a plate must be found inside of it on any mesh. A falling
sheet and a spinning one must move as the time integrator moves a single particle, on a free path
and on a rigid circle: elements may add nothing. The particle itself is not exact. In free fall
positions are exact with Newmark, late or early by a fixed law with the others; on a circle implicit
Euler loses about (w h)^2 of the spin a step, BDF2 far less, and Newmark nearly none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sims.thin_shell.bending import potential
from sims.thin_shell.integrators import INTEGRATORS, Integrator, advance, predict
from sims.thin_shell.material import Material, Membrane
from sims.thin_shell.newton import Solution
from sims.thin_shell.patterns import Pattern
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.state import Control, State
from sims.thin_shell.validation.loading import mesh_name
from sims.thin_shell.validation.rows import Case, Curve, Findings, Row, Scale, Shape, joined

SIDE = 0.1
GRAVITY = 9.81
EXACT = 1e-10  # what rounding leaves of displacements over the size of a patch
FALLING = 1e-9  # over the fall: each step is solved to 1e-8 m/s
ALIKE = 1e-5  # of a sheet and a particle: spinning paper stretches by rho w^2 r^2 / E = 4e-6
STRAINS = {
    "uniaxial": ((1.02, 0.0), (0.0, 0.994)),  # nu = 0.3: no stress across
    "shear": ((1.01, 0.02), (0.0, 1.01)),
}
PAPER = Material(young=2.5e9, poisson=0.3, thickness=1e-4, density=800.0)
RUBBER = Material(young=1e6, poisson=0.3, thickness=1e-3, density=1000.0)
STEP, STEPS = 1e-3, 1000
RECORDED = 10  # steps between two looks at the energy
FLAP = 0.3  # largest speed of the flapping sheet at the start [m/s]
SPIN = 0.05  # angle a step [rad]


def jittered(cells: tuple[int, int], pattern: Pattern, material: Material, seed: int = 0) -> Sheet:
    """A square sheet whose inner vertices are moved at random by up to a quarter of a cell."""
    sheet = Sheet.rectangle(SIDE, SIDE, cells, material, pattern)
    rim = Scene([sheet]).boundary_edges
    moved = torch.rand(
        len(sheet.vertices), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    moved = (moved - 0.5) * SIDE / 2 / max(cells)
    moved[:, 2] = 0
    moved[sheet.edges[rim].long().flatten()] = 0
    return Sheet(sheet.vertices + moved, sheet.faces, material)


def patch(
    cells: tuple[int, int], pattern: Pattern, strain: str, membrane: Membrane = "stvk"
) -> Findings:
    """A uniform deformation on the rim of a plate is found inside of it on a random mesh."""
    material = Material(young=1e7, poisson=0.3, thickness=2e-3, density=1e3, membrane=membrane)
    sheet = jittered(cells, pattern, material)
    rim = torch.zeros(len(sheet.vertices), dtype=torch.bool)
    rim[sheet.edges[Scene([sheet]).boundary_edges].long().flatten()] = True
    gradient = torch.eye(3, dtype=torch.float64)
    gradient[:2, :2] = torch.tensor(STRAINS[strain])
    uniform = sheet.vertices @ gradient.T
    simulator = Simulator(Scene([sheet], pinned=rim))
    began = time.perf_counter()
    state = simulator.equilibrium(positions=torch.where(rim[:, None], uniform, sheet.vertices))
    row = Row.of(
        f"patch, {strain}, {membrane}",
        "displacement off uniform, over the side",
        0.0,
        float((state.positions - uniform).abs().amax()) / SIDE,
        EXACT,
        f"{mesh_name(cells)} {pattern}, random",
        sum(solution.iterations for solution in state.solutions) / len(state.solutions),
        time.perf_counter() - began,
        size=1.0,
    )
    return Findings([row])


def particle(
    integrator: Integrator,
    time_step: float,
    steps: int,
    start: State,
    settle: Callable[[Tensor, float], Tensor],
) -> Tensor:
    """Positions (steps + 1, n, 3) of free particles under the same time integrator.

    settle: from the predicted positions and the factor c / h^2 of the inertia to where a step ends.
    """
    state, track = start, [start.positions]
    for _ in range(steps):
        predicted, factor = predict(integrator, state, time_step)
        state = advance(integrator, state, time_step, predicted, settle(predicted, factor))
        track.append(state.positions)
    return torch.stack(track)


def free_fall(integrator: Integrator, steps: int = 100) -> Findings:
    """A thrown sheet of paper falls as one particle does, without strain."""
    sheet = Sheet.rectangle(SIDE, SIDE, (6, 6), PAPER)
    simulator = Simulator(Scene([sheet], gravity=(0.0, 0.0, -GRAVITY)), STEP, integrator)
    velocity = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)
    weight = torch.tensor([0.0, 0.0, -GRAVITY], dtype=torch.float64)
    state = simulator.initial_state(velocities=velocity.expand_as(sheet.vertices))
    began = time.perf_counter()
    track = simulator.rollout(state, steps)
    seconds = time.perf_counter() - began
    law = particle(integrator, STEP, steps, state, lambda x, factor: x + weight / factor)
    elapsed = steps * STEP
    fall = GRAVITY * elapsed**2 / 2
    parabola = sheet.vertices + velocity * elapsed + weight * elapsed**2 / 2
    measured = (mesh_name((6, 6)), _iterations(track.solutions), seconds, 1.0)
    name = f"free fall, {integrator}"
    off = float((track.positions - law).abs().amax()) / fall
    exact = FALLING if integrator == "newmark" else None
    late = float((track.positions[-1] - parabola).abs().amax()) / fall
    rows = [
        Row.of(name, "off a particle, over the fall", 0.0, off, FALLING, *measured),
        Row.of(name, "off the parabola, over the fall", 0.0, late, exact, *measured),
    ]
    return Findings(rows)


def rotation(integrator: Integrator, steps: int = 125) -> Findings:
    """A sheet spinning in its plane turns as a particle on a rigid circle does."""
    sheet = Sheet.rectangle(SIDE, SIDE, (6, 6), PAPER)
    centre = sheet.vertices.mean(dim=0)
    sheet = Sheet(sheet.vertices - centre, sheet.faces, PAPER)
    simulator = Simulator(Scene([sheet]), STEP, integrator)
    axis = torch.tensor([0.0, 0.0, SPIN / STEP], dtype=torch.float64)
    turning = torch.linalg.cross(axis.expand_as(sheet.vertices), sheet.vertices)
    state = simulator.initial_state(velocities=turning)
    if integrator == "newmark":  # what keeps it on its circle, and no elastic force does at rest
        pull = -((SPIN / STEP) ** 2) * sheet.vertices
        state = replace(state, accelerations=pull)
    began = time.perf_counter()
    track = simulator.rollout(state, steps)
    seconds = time.perf_counter() - began
    radius = sheet.vertices.norm(dim=1, keepdim=True)

    def on_circle(predicted: Tensor, factor: float) -> Tensor:
        del factor
        return radius * torch.nn.functional.normalize(predicted, dim=1)

    law = particle(integrator, STEP, steps, state, on_circle)
    corner = int(radius.argmax())
    angles = [_turned(path[:, corner]) for path in (law, track.positions)]
    kinetic = simulator.model.mass @ track.velocities.square().sum(dim=2).T / 2
    measured = (mesh_name((6, 6)), _iterations(track.solutions), seconds)
    name = f"spinning sheet, {integrator}"
    rows = [
        Row.of(name, "angle turned [rad]", angles[0], angles[1], ALIKE, *measured),
        Row.of(
            name, "energy kept after a turn", 1.0, float(kinetic[-1] / kinetic[0]), None, *measured
        ),
    ]
    return Findings(rows)


def energy_drift(
    integrator: Integrator,
    name: str,
    material: Material,
    time_step: float,
    steps: int,
    cells: tuple[int, int] = (8, 8),
) -> Findings:
    """Kinetic and elastic energy of a free sheet that is struck and flaps.

    Newmark keeps the energy of small vibrations. Where membranes are stiff against a time step and
    turn far in it, as with paper at 1 ms here, its energy grows after some hundred steps (Simo and
    Tarnow 1992), so that stiff sheets need a short step; BDF2 always loses energy.
    """
    sheet = Sheet.rectangle(SIDE, SIDE, cells, material)
    velocity = torch.zeros_like(sheet.vertices)
    velocity[:, 2] = FLAP * (2 * math.pi * sheet.vertices[:, 0] / SIDE).cos()
    simulator = Simulator(Scene([sheet]), time_step, integrator)
    state = simulator.initial_state(velocities=velocity)
    energies, solutions = [energy(simulator, state)], []
    began = time.perf_counter()
    for _ in range(steps // RECORDED):
        track = simulator.rollout(state, RECORDED)
        state = track.final
        solutions += track.solutions
        energies.append(energy(simulator, state))
    seconds = time.perf_counter() - began
    kept = np.array(energies) / energies[0]
    measured = (None, mesh_name(cells), _iterations(solutions), seconds)
    name = f"flapping {name}, {steps} steps of {1e3 * time_step:g} ms, {integrator}"
    rows = [
        Row.of(name, "energy at the end over that at the start", 1.0, float(kept[-1]), *measured),
        Row.of(name, "largest energy on the way over it", 1.0, float(kept.max()), *measured),
    ]
    times = time_step * RECORDED * np.arange(len(kept))
    curve = Curve(
        name.removesuffix(f", {integrator}"),
        ("time [s]", "energy / start"),
        np.stack([times, kept], axis=1),
        np.stack([times, np.ones_like(times)], axis=1),
        "no loss",
        integrator,
    )
    return Findings(rows, [curve], [Shape(name, state.positions, sheet.faces)])


def energy(simulator: Simulator, state: State) -> float:
    """Kinetic and elastic energy of a state [J]."""
    model = simulator.model
    turns = model.bending.turns(state.positions, state.angles)
    unknowns = torch.cat([state.positions.flatten(), turns])
    terms = model.terms(simulator.inputs(state, Control()), None)
    elastic = potential(unknowns, terms, model.blocks)
    return float(elastic + (model.mass @ state.velocities.square().sum(dim=1)) / 2)


def _turned(path: Tensor) -> float:
    """Angle [rad] that a point (n, 3) has gone around the z axis."""
    angles = torch.atan2(path[:, 1], path[:, 0]).numpy()
    unwrapped = np.unwrap(angles)
    return float(unwrapped[-1] - unwrapped[0])


def _iterations(solutions: Sequence[Solution]) -> float:
    return sum(solution.iterations for solution in solutions) / len(solutions)


def _case(scale: Scale) -> Findings:
    cells = (6, 6) if scale == "quick" else (16, 16)
    patches = [
        patch(cells, pattern, strain, membrane)
        for pattern in ("alternating", "delaunay")
        for strain in STRAINS
        for membrane in ("stvk", "neo-hookean")
    ]
    moving = [case(name) for name in INTEGRATORS for case in (free_fall, rotation)]
    steps = STEPS // 10 if scale == "quick" else STEPS
    drifts = [
        energy_drift(integrator, name, material, time_step, steps)
        for name, material, time_step in (("rubber", RUBBER, STEP), ("paper", PAPER, STEP / 10))
        for integrator in ("bdf2", "newmark")
    ]
    return joined([*patches, *moving, *drifts])


CASES: dict[str, Case] = {"conservation": _case}
