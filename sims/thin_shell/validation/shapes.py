"""Shapes of cloth at rest: a hanging strip, and a disc draped over a smaller support.

A strip whose ends are pinned hangs in a catenary y = a cosh(x / a) when it neither bends nor
stretches; here the strain stays below 1e-3 and D / (weight x length^3) below 1e-6. Cusick (1968),
"The measurement of fabric drape", Journal of the Textile Institute 59(6), lays a disc of 30 cm over
a support of 18 cm and measures the shadow: drape coefficient = (shadow - support) / (disc -
support). Cloth of larger D / (weight x length^3) drapes less; there is no closed value.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.optimize import root_scalar
from torch import Tensor

from sims.thin_shell.energies.membrane import green_strain
from sims.thin_shell.material import Material
from sims.thin_shell.model import Model
from sims.thin_shell.patterns import rectangle_mesh
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.validation.loading import mesh_name
from sims.thin_shell.validation.rows import Case, Curve, Findings, Row, Scale, Shape, joined

GRAVITY = (0.0, 0.0, -9.81)
LENGTHS = (1.1, 1.2, 1.5, 2.0, 3.0)  # of strips over a span of 1 m
STRIP_WIDTH = 0.05
RIBBON = Material(young=1e8, poisson=0.0, thickness=1e-4, density=1000.0, bending=1e-7)
SAG, STRAIN = 0.005, 1e-3
DISC, SUPPORT = 0.15, 0.09  # radii [m]
AREAL = 0.16  # mass an area [kg/m^2], of light cotton
STIFFNESSES = (4e-6, 1.2e-5, 3.6e-5, 1.1e-4, 3.3e-4)  # D [N m]
# thick enough to fold across triangles of 1 cm, h^2 / (4 R) at R = 2 cm, and to stretch little
THICKNESS, POISSON = 1e-3, 0.3
BUMP = 1e-4  # seed of folds over the radius of the disc
SETTLING, STEP = 120, 0.02  # steps and their length [s]; implicit Euler takes the energy away


def catenary(length: float) -> tuple[float, float]:
    """a and sag [m] of a catenary of this length over a span of 1: 2 a sinh(1 / (2 a)) = length."""
    a = _root(lambda a: 2 * a * math.sinh(0.5 / a) - length, 0.05, 10.0)
    return a, a * (math.cosh(0.5 / a) - 1)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(root_scalar(function, bracket=(low, high), xtol=1e-14).root)


def hanging(length: float, cells: tuple[int, int]) -> Findings:
    """A strip of this length [m] pinned along both ends, 1 m apart; it starts as an arc."""
    flat, faces = rectangle_mesh(length, STRIP_WIDTH, cells, "alternating")
    half = _root(lambda angle: math.sin(angle) / angle - 1 / length, 1e-3, math.pi)
    radius, angle = length / (2 * half), half * (2 * flat[:, 0] / length - 1)
    x = 0.5 + radius * angle.sin()
    arc = torch.stack([x, flat[:, 1], radius * (math.cos(half) - angle.cos())], dim=1)
    sheet = Sheet(arc, faces, RIBBON, rest_vertices=flat)
    ends = (flat[:, 0] == 0) | (flat[:, 0] == length)
    simulator = Simulator(Scene([sheet], pinned=ends, gravity=GRAVITY))
    began = time.perf_counter()
    state = simulator.equilibrium()
    seconds = time.perf_counter() - began
    a, sag = catenary(length)
    iterations = sum(solution.iterations for solution in state.solutions)
    measured = (mesh_name(cells), iterations, seconds)
    name = f"hanging strip, length {length:g} of the span"
    strain = largest_strain(simulator.model, state.positions)
    rows = [
        Row.of(name, "sag [m]", sag, float(-state.positions[:, 2].min()), SAG, *measured),
        Row.of(name, "largest strain", 0.0, strain, STRAIN, *measured, 1.0),
    ]
    line = state.positions[flat[:, 1] == 0][:, [0, 2]].numpy()
    at = np.linspace(0, 1, 101)
    exact = a * np.cosh((at - 0.5) / a) - a * math.cosh(0.5 / a)
    curve = Curve(
        "hanging strips",
        ("x [m]", "z [m]"),
        line[:: max(1, len(line) // 32)],
        np.stack([at, exact], axis=1),
        "catenary",
        f"length {length:g}",
    )
    return Findings(rows, [curve], [Shape(name, state.positions, sheet.faces)])


def largest_strain(model: Model, positions: Tensor) -> float:
    """Largest entry of Green's strain in any face."""
    local = positions[model.scene.faces.long()].flatten(1)
    return float(green_strain(local, model.values["inverse_rest"]).abs().amax())


def disc(rings: int, radius: float) -> tuple[Tensor, Tensor]:
    """vertices (V, 3) and faces (F, 3) of a disc in the plane z = 0, ring k of 6 k vertices."""
    points, faces = [torch.zeros(1, 3, dtype=torch.float64)], []
    inner = torch.zeros(1, dtype=torch.long)
    for ring in range(1, rings + 1):
        angle = torch.arange(6 * ring, dtype=torch.float64) * (math.pi / 3 / ring)
        circle = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], dim=1)
        points.append(circle * radius * ring / rings)
        outer = 3 * ring * (ring - 1) + 1 + torch.arange(6 * ring)
        sector, place = torch.arange(6 * ring) // ring, torch.arange(6 * ring) % ring
        below = inner[(sector * (ring - 1) + place) % len(inner)]
        faces.append(torch.stack([below, outer, outer.roll(-1)], dim=1))
        between = place > 0
        before = inner[(sector * (ring - 1) + place - 1) % len(inner)]
        faces.append(torch.stack([before, outer, below], dim=1)[between])
        inner = outer
    return torch.cat(points), torch.cat(faces)


def drape(rings: int, stiffness: float) -> tuple[Findings, float]:
    """A disc of D [N m] over the support; its rows and its drape coefficient."""
    flat, faces = disc(rings, DISC)
    young = 12 * stiffness * (1 - POISSON**2) / THICKNESS**3
    cloth = Material(young, POISSON, THICKNESS, density=AREAL / THICKNESS)
    sheet = Sheet(flat, faces, cloth)
    supported = flat.norm(dim=1) <= SUPPORT * (1 + 1e-9)
    simulator = Simulator(Scene([sheet], clamped=supported, gravity=GRAVITY), time_step=STEP)
    bumps = torch.rand(len(flat), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = flat.clone()
    start[~supported, 2] += BUMP * DISC * (bumps[~supported] - 0.5)
    began = time.perf_counter()
    track = simulator.rollout(simulator.initial_state(start), SETTLING)
    seconds = time.perf_counter() - began
    hung = track.positions[-1]
    rim = hung[-6 * rings :]
    shadow = float((rim[:, 0] * rim[:, 1].roll(-1) - rim[:, 1] * rim[:, 0].roll(-1)).sum()) / 2
    coefficient = (shadow / math.pi - SUPPORT**2) / (DISC**2 - SUPPORT**2)
    folds = int(np.abs(np.fft.rfft(rim[:, 2].numpy()))[1:].argmax()) + 1
    group = stiffness / (AREAL * 9.81 * (DISC - SUPPORT) ** 3)
    name = f"drape, D / (w L^3) = {group:.3g}"
    mean = sum(solution.iterations for solution in track.solutions) / len(track.solutions)
    measured = (None, f"{rings} rings", mean, seconds)
    moving = float(track.velocities[-1].norm(dim=1).amax())
    rows = [
        Row.of(name, f"drape coefficient (board 1), {folds} folds", 1.0, coefficient, *measured),
        Row.of(name, "largest speed at the end [m/s]", 0.0, moving, *measured, 1.0),
    ]
    return Findings(rows, shapes=[Shape(name, hung, faces)]), coefficient


def drapes(rings: int, stiffnesses: Sequence[float] = STIFFNESSES) -> Findings:
    """Drape coefficients from limp to stiff cloth, which must grow."""
    found = [drape(rings, stiffness) for stiffness in stiffnesses]
    ours = np.array([coefficient for _, coefficient in found])
    groups = np.array(stiffnesses) / (AREAL * 9.81 * (DISC - SUPPORT) ** 3)
    seconds = sum(part.rows[0].seconds for part, _ in found)
    fall = float(np.maximum(-np.diff(ours), 0).max())
    trend = Row.of(
        "drape from limp to stiff",
        "largest fall of the coefficient",
        0.0,
        fall,
        0.0,
        f"{rings} rings",
        sum(part.rows[0].iterations for part, _ in found) / len(found),
        seconds,
        size=1.0,
    )
    curve = Curve(
        "Cusick drape",
        ("D / (weight x length^3)", "drape coefficient"),
        np.stack([groups, ours], axis=1),
        np.empty((0, 2)),
        "no closed value",
    )
    return joined([*(part for part, _ in found), Findings([trend], [curve])])


def _case(scale: Scale) -> Findings:
    lengths, cells = ((1.2, 2.0), (64, 1)) if scale == "quick" else (LENGTHS, (128, 2))
    return joined([hanging(length, cells) for length in lengths])


def _drape_case(scale: Scale) -> Findings:
    return drapes(5, STIFFNESSES[1::2]) if scale == "quick" else drapes(15)


CASES: dict[str, Case] = {"catenary": _case, "drape": _drape_case}
