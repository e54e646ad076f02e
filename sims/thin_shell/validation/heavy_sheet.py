"""A strip clamped level at one end that hangs under its own weight.

All strips collapse to one curve in Gamma = q L^3 / (E I), q weight a length: a solver is judged
over five decades of stiffness in one picture. Romero et al. (2021), "Physical validation of
simulators in computer graphics", ACM Transactions on Graphics 40(4); the reference curve is the
elastica of `elastica.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sims.thin_shell.material import Material
from sims.thin_shell.patterns import Pattern
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.validation.elastica import own_weight
from sims.thin_shell.validation.loading import follow, mesh_name
from sims.thin_shell.validation.rows import Case, Curve, Findings, Row, Scale, Shape, joined

LENGTH, WIDTH, GRAVITY = 0.1, 0.01, 9.81
YOUNG, THICKNESS, DENSITY = 2.5e9, 1e-4, 800.0  # paper
RIGIDITY = YOUNG * WIDTH * THICKNESS**3 / 12  # E I
WEIGHT = DENSITY * THICKNESS * WIDTH * GRAVITY  # q
# Poisson's ratio is zero, so that a plate of any width bends as a beam
MATERIAL = Material(young=YOUNG, poisson=0.0, thickness=THICKNESS, density=DENSITY)
GAMMAS = (0.1, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 10000)
LIGHT = 200  # above, a strip bends within four even cells of 64 and needs a graded mesh
TOLERANCE, HEAVY_TOLERANCE = 1e-2, 5e-2
GRADING, NARROW = 2.0, 0.25
GROWTH = 1.5  # of the weight from one increment to the next, at most


def heavy_sheet(
    cells: tuple[int, int],
    gammas: Sequence[float] = GAMMAS,
    pattern: Pattern = "alternating",
    tolerance: float | None = TOLERANCE,
    graded: bool = False,
) -> Findings:
    """Drop of the free end over its horizontal reach, H / W, as the weight grows.

    graded: columns gather at the clamp as x ~ s^2, on a strip of a quarter of the width: a heavy
    strip bends within a length of L / sqrt(Gamma) there, and cells must be shorter than that both
    along and across.
    """
    scene = strip(cells, pattern, graded=graded)
    simulator = Simulator(scene)
    path_of, picked = _ramp(gammas)
    unit = RIGIDITY / (LENGTH**3 * WEIGHT)  # share of the strip's own weight for Gamma = 1
    loads = scene.masses()[:, None] * scene.vertices.new_tensor([0.0, 0.0, -GRAVITY])
    path = follow(simulator, [gamma * unit for gamma in path_of], loads)
    tip = scene.vertices[:, 0] == LENGTH
    ends = np.array([state.positions[tip].mean(dim=0).tolist() for state in path.states])
    ours = -ends[:, 2] / ends[:, 0]

    mesh, rows = mesh_name(cells) + (" graded" if graded else ""), []
    for gamma, place in zip(gammas, picked, strict=True):
        x, w = own_weight(gamma)
        measured = (w / x, ours[place], tolerance, mesh, path.iterations, path.seconds)
        rows.append(Row.of(f"own weight, Gamma {gamma:g}", "H/W", *measured))
    fine = np.geomspace(min(gammas), max(gammas), 31)
    exact = np.array([w / x for x, w in map(own_weight, fine)])
    curve = Curve(
        "strip under its own weight" + (", graded mesh" if graded else ""),
        ("Gamma", "H / W"),
        np.stack([gammas, ours[picked]], axis=1),
        np.stack([fine, exact], axis=1),
        "elastica",
        "H/W",
        logarithmic=True,
    )
    shown = [(g, p) for g, p in zip(gammas, picked, strict=True) if g in (5, 200)]
    shapes = [
        Shape(f"own weight, Gamma {gamma:g}", path.states[place].positions, scene.faces)
        for gamma, place in shown
    ]
    return Findings(rows, [curve], shapes)


def strip(
    cells: tuple[int, int],
    pattern: Pattern = "alternating",
    material: Material = MATERIAL,
    graded: bool = False,
) -> Scene:
    """The strip along x, clamped at x = 0; graded: see `heavy_sheet`."""
    sheet = Sheet.rectangle(LENGTH, WIDTH, cells, material, pattern)
    if graded:
        x = sheet.vertices.clone()
        x[:, 0] = LENGTH * (x[:, 0] / LENGTH) ** GRADING
        x[:, 1] *= NARROW
        sheet = Sheet(x, sheet.faces, material)
    return Scene([sheet], clamped=sheet.vertices[:, 0] == 0)


def _ramp(gammas: Sequence[float]) -> tuple[list[float], list[int]]:
    """Weights that grow gently through `gammas`, and where those stand among them."""
    ramp, picked = [], []
    before = gammas[0] / 2
    for gamma in gammas:
        count = max(1, math.ceil(math.log(gamma / before) / math.log(GROWTH)))
        ramp += [before * (gamma / before) ** ((i + 1) / count) for i in range(count)]
        picked.append(len(ramp) - 1)
        before = gamma
    return ramp, picked


def _case(scale: Scale) -> Findings:
    light = tuple(gamma for gamma in GAMMAS if gamma <= LIGHT)
    if scale == "quick":
        return heavy_sheet((32, 3), light, tolerance=2 * TOLERANCE)
    coarse = [
        Findings([row for row in found.rows if row.case.endswith((" 20", " 200"))])
        for found in (heavy_sheet(cells, light, tolerance=None) for cells in ((16, 2), (32, 3)))
    ]
    even = heavy_sheet((64, 6), tolerance=None)
    judged = [replace(row, tolerance=TOLERANCE) for row in even.rows[: len(light)]]
    even = Findings([*judged, *even.rows[len(light) :]], even.curves, even.shapes)
    graded = heavy_sheet((64, 6), tolerance=HEAVY_TOLERANCE, graded=True)
    heavy = Findings(graded.rows[len(light) :], graded.curves)
    return joined([*coarse, even, heavy])


CASES: dict[str, Case] = {"heavy-sheet": _case}
