"""Vibrations: natural frequencies and time histories beside closed and tabulated ones.

    cantilever strip       w_n = (b_n / L)^2 sqrt(E I / m'),  cos b cosh b = -1
    plate on supports      w_mn = pi^2 (m^2 / a^2 + n^2 / b^2) sqrt(D / (rho t))
    clamped, free square   w = c sqrt(D / (rho t)) / a^2, c by Ritz's method with 256 products of
                           Legendre polynomials, converged in all digits; Leissa (1973), "The free
                           vibration of rectangular plates", has the same to 1 percent

Masses are lumped. A mesh of the mid-edge model is a little too soft, so that frequencies come from
below at second order of the cell.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from sims.thin_shell.material import Material
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.validation.loading import mesh_name
from sims.thin_shell.validation.rows import Case, Curve, Findings, Row, Scale, Shape, joined

ROOTS = (1.8751040687, 4.6940911330, 7.8547574382, 10.9955407349)  # cos b cosh b = -1
LENGTH, WIDTH = 0.1, 0.004  # narrow: its torsion is faster than the fourth bending mode
STRIP = Material(young=2.5e9, poisson=0.0, thickness=2e-4, density=800.0)
SIDES = (0.1, 0.07)
PLATE = Material(young=2.5e9, poisson=0.3, thickness=2e-4, density=800.0)
SQUARES = {
    "clamped": (35.9852, 73.3938, 73.3938, 108.2165),
    "free": (13.4682, 19.5961, 24.2702, 34.8009),  # nu = 0.3
}
FIRST, PLATES = 0.01, 0.02  # errors that are allowed in the first mode of a strip, and of plates
STEP = 0.05  # angular frequency times time step
SMALL = 1e-2  # amplitude over the thickness: a supported plate stiffens when it stretches


def rigidity(material: Material) -> float:
    """D [N m] of an isotropic material in numbers."""
    thickness = float(material.thickness)
    return float(material.young) * thickness**3 / 12 / (1 - float(material.poisson) ** 2)


def speed(material: Material) -> float:
    """sqrt(D / (rho t)) [m^2/s], which frequencies of bending are proportional to."""
    return math.sqrt(rigidity(material) / float(material.density) / float(material.thickness))


def strip(cells: tuple[int, int]) -> Scene:
    """A strip along x, clamped at x = 0, that cannot move sideways."""
    sheet = Sheet.rectangle(LENGTH, WIDTH, cells, STRIP)
    sideways = torch.tensor([False, True, False]).expand(len(sheet.vertices), 3)
    return Scene([sheet], clamped=sheet.vertices[:, 0] == 0, fixed=sideways)


def plate(
    cells: tuple[int, int],
    support: Literal["supported", "clamped", "free"],
    sides: tuple[float, float] = SIDES,
) -> Scene:
    """A rectangular plate, supported or clamped along all of its rim, or free."""
    sheet = Sheet.rectangle(*sides, cells, PLATE)
    scene = Scene([sheet])
    rim = torch.zeros(len(sheet.vertices), dtype=torch.bool)
    rim[scene.edges[scene.boundary_edges].long().flatten()] = True
    if support == "free":
        return scene
    return Scene([sheet], clamped=rim) if support == "clamped" else Scene([sheet], pinned=rim)


def supported_frequencies(sides: tuple[float, float], count: int) -> list[float]:
    """The lowest w_mn [rad/s] of a plate on supports, ascending."""
    a, b = sides
    orders = range(1, count + 1)
    found = sorted(math.pi**2 * ((m / a) ** 2 + (n / b) ** 2) for m in orders for n in orders)
    return [speed(PLATE) * value for value in found[:count]]


def frequencies(
    scene: Scene,
    name: str,
    exact: Sequence[float],
    tolerances: Sequence[float | None],
    mesh: str,
    rigid: int = 0,
) -> Findings:
    """The slowest modes beside their exact w [rad/s]; the first `rigid` ones must stand still."""
    simulator = Simulator(scene)
    simulator.modes(1)  # what is compiled once is not in the seconds
    began = time.perf_counter()
    modes = simulator.modes(rigid + len(exact))
    seconds = time.perf_counter() - began
    rows = [
        Row.of(name, f"w {n} [rad/s]", w, float(ours), tolerance, mesh, 1, seconds)
        for n, (w, ours, tolerance) in enumerate(
            zip(exact, modes.angular_frequencies[rigid:], tolerances, strict=True), 1
        )
    ]
    if rigid:
        largest = float(modes.angular_frequencies[:rigid].abs().amax())
        still = "largest rigid w over the first elastic one"
        rows.append(Row.of(name, still, 0.0, largest / exact[0], 1e-3, mesh, 1, seconds, 1.0))
    peak = float(modes.shapes[rigid].norm(dim=1).amax())
    bent = scene.vertices + simulator.model.size / 8 / peak * modes.shapes[rigid]
    return Findings(rows, shapes=[Shape(f"{name}, first mode", bent, scene.faces)])


def history(
    scene: Scene, name: str, exact: float, tolerance: float | None, mesh: str, periods: float = 2.0
) -> Findings:
    """The frequency of the first mode from its motion in time, BDF2 at w h = `STEP`.

    The sheet starts at rest in its first mode. w follows from the time between the first and the
    last passage through zero.
    """
    simulator = Simulator(scene, time_step=STEP / exact, integrator="bdf2")
    shape = simulator.modes(1).shapes[0]
    peak = shape.norm(dim=1).argmax()
    amplitude = SMALL * float(scene.sheets[0].material.thickness)
    start = scene.vertices + amplitude / shape[peak].norm() * shape
    state = simulator.initial_state(start)
    began = time.perf_counter()
    track = simulator.rollout(state, math.ceil(2 * math.pi * periods / STEP))
    seconds = time.perf_counter() - began
    direction = shape[peak] / shape[peak].norm()
    moved = ((track.positions[:, peak] - scene.vertices[peak]) @ direction).numpy() / amplitude
    times = track.times.numpy()
    before = np.flatnonzero(moved[:-1] * moved[1:] < 0)
    share = moved[before] / (moved[before] - moved[before + 1])
    zeros = times[before] + share * simulator.time_step
    found = math.pi * (len(zeros) - 1) / (zeros[-1] - zeros[0])
    iterations = float(np.mean([solution.iterations for solution in track.solutions]))
    row = Row.of(
        f"{name}, in time", "w 1 [rad/s]", exact, found, tolerance, mesh, iterations, seconds
    )
    phase = exact * times
    curve = Curve(
        f"{name}, in time",
        ("w t", "displacement / start"),
        np.stack([phase, moved], axis=1),
        np.stack([phase, np.cos(phase)], axis=1)[::6],
        "exact frequency, no damping",
    )
    return Findings([row], [curve])


def strips(cells: tuple[int, int], judged: bool = True) -> Findings:
    """The first four bending modes of a cantilever strip."""
    exact = [(root / LENGTH) ** 2 * speed(STRIP) for root in ROOTS]
    allowed = (FIRST if judged else None, None, None, None)
    return frequencies(strip(cells), "cantilever strip", exact, allowed, mesh_name(cells))


def plates(
    cells: int, support: Literal["supported", "clamped", "free"], judged: bool = True
) -> Findings:
    """The first four modes of a plate: a rectangle on supports, a clamped or a free square."""
    if support == "supported":
        sides, mesh = SIDES, (cells, round(cells * SIDES[1] / SIDES[0]))
        exact: Sequence[float] = supported_frequencies(SIDES, 4)
    else:
        sides, mesh = (SIDES[0], SIDES[0]), (cells, cells)
        exact = [c * speed(PLATE) / SIDES[0] ** 2 for c in SQUARES[support]]
    scene = plate(mesh, support, sides)
    allowed = [PLATES if judged else None] * 4
    name = {"supported": "plate on supports"}.get(support, f"{support} square plate")
    rigid = 6 if support == "free" else 0
    return frequencies(scene, name, exact, allowed, mesh_name(mesh), rigid)


def histories(cells: int) -> Findings:
    """First modes in time, of the cantilever strip and of the plate on supports."""
    mesh = (cells, round(cells * SIDES[1] / SIDES[0]))
    bar = (cells, 2)
    root = (ROOTS[0] / LENGTH) ** 2 * speed(STRIP)
    (lowest,) = supported_frequencies(SIDES, 1)
    return joined(
        [
            history(strip(bar), "cantilever strip", root, FIRST, mesh_name(bar)),
            history(plate(mesh, "supported"), "plate on supports", lowest, PLATES, mesh_name(mesh)),
        ]
    )


def _case(scale: Scale) -> Findings:
    if scale == "quick":
        parts = [strips((32, 2)), plates(32, "supported"), plates(32, "free"), histories(24)]
        return joined(parts)
    coarse = [strips((cells, 2), judged=False) for cells in (16, 32)]
    coarse += [plates(cells, "supported", judged=False) for cells in (16, 32)]
    coarse = [Findings(part.rows) for part in coarse]
    fine = [strips((64, 4)), plates(48, "supported"), plates(64, "clamped"), plates(48, "free")]
    return joined([*coarse, *fine, histories(32)])


CASES: dict[str, Case] = {"vibrations": _case}
