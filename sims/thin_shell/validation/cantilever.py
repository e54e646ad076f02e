"""A strip clamped at one end, bent by a force or a moment at the other.

Dead end shear: the force keeps its direction, the strip turns up to 76 degrees; table of Sze, Liu
and Lo (2004), "Popular benchmark problems for geometric nonlinear analysis of shells", Finite
Elements in Analysis and Design 40:1551. Roll-up: the strip becomes a full circle; closed form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from geomopt.linear import SparsePattern, open_solver
from sims.thin_shell.material import Material
from sims.thin_shell.model import BendingName
from sims.thin_shell.patterns import Pattern
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.state import State
from sims.thin_shell.validation.elastica import end_force
from sims.thin_shell.validation.loading import follow, mesh_name
from sims.thin_shell.validation.rows import Case, Curve, Findings, Row, Scale, Shape, joined

YOUNG, THICKNESS, WIDTH = 1.2e6, 0.1, 1.0
RIGIDITY = YOUNG * WIDTH * THICKNESS**3 / 12  # E I, Poisson's ratio is zero
MATERIAL = Material(young=YOUNG, poisson=0.0, thickness=THICKNESS, density=1.0)

SHEAR_LENGTH, SHEAR_FORCE = 10.0, 4.0
# Sze, Liu and Lo 2004, table 1: P / Pmax, -U, W of the tip
SHEAR = np.array(
    [
        [0.05, 0.026, 0.663], [0.10, 0.103, 1.309], [0.15, 0.224, 1.922], [0.20, 0.381, 2.493],
        [0.25, 0.563, 3.015], [0.30, 0.763, 3.488], [0.35, 0.971, 3.912], [0.40, 1.184, 4.292],
        [0.45, 1.396, 4.631], [0.50, 1.604, 4.933], [0.55, 1.807, 5.202], [0.60, 2.002, 5.444],
        [0.65, 2.190, 5.660], [0.70, 2.370, 5.855], [0.75, 2.541, 6.031], [0.80, 2.705, 6.190],
        [0.85, 2.861, 6.335], [0.90, 3.010, 6.467], [0.95, 3.151, 6.588], [1.00, 3.286, 6.698],
    ]
)  # fmt: skip
SHEAR_NAMES = ("-U", "W")
DIGIT = 5e-4  # the table is rounded to three decimals
SHEAR_TOLERANCE = 5e-3

ROLL_LENGTH = 12.0
ROLL_SHARES = (0.25, 0.5, 0.75, 1.0)
ROLL_TOLERANCE, GAP_TOLERANCE = 5e-3, 1e-2


def dead_end_shear(
    cells: tuple[int, int],
    pattern: Pattern = "alternating",
    bending: BendingName = "mid-edge",
    tolerance: float | None = SHEAR_TOLERANCE,
    tied: bool = False,
) -> Findings:
    """The strip of 10 x 1 in twenty increments, each compared with its row of the table.

    tied: each cross-section moves as a rigid line, which is what hinges need here: on their own
    they let the strip twist and cup. tolerance: on top of the rounding of the table.
    """
    sheet = Sheet.rectangle(SHEAR_LENGTH, WIDTH, cells, MATERIAL, pattern)
    x = sheet.vertices
    scene = Scene([sheet], clamped=x[:, 0] == 0)
    simulator = Simulator(scene, bending=bending)
    if tied:
        _tie_sections(simulator)
    tip = x[:, 0] == SHEAR_LENGTH
    loads = scene.line_load(tip, (0, 0, SHEAR_FORCE))
    if tied:
        loads = torch.zeros_like(loads)
        loads[torch.nonzero(tip)[0], 2] = SHEAR_FORCE
    path = follow(simulator, SHEAR[:, 0].tolist(), loads)
    moved = torch.stack([_tip_motion(state, x, tip, tied) for state in path.states]).numpy()
    ours = np.stack([-moved[:, 0], moved[:, 2]], axis=1)

    mesh = mesh_name(cells)
    variant = "" if bending == "mid-edge" else f", {bending}" + (" tied" if tied else "")
    case = f"end shear{variant}"
    rows = []
    for (share, *references), found in zip(SHEAR, ours, strict=True):
        for name, reference, value in zip(SHEAR_NAMES, references, found, strict=True):
            allowed = None if tolerance is None else tolerance + DIGIT / reference
            measured = (reference, value, allowed, mesh, path.iterations, path.seconds)
            rows.append(Row.of(f"{case}, P/Pmax {share:.2f}", name, *measured))
    curves = [
        Curve(
            f"{case}, tip",
            ("displacement [m]", "P / Pmax"),
            np.stack([ours[:, place], SHEAR[:, 0]], axis=1),
            np.stack([SHEAR[:, 1 + place], SHEAR[:, 0]], axis=1),
            "Sze, Liu and Lo 2004",
            name,
        )
        for place, name in enumerate(SHEAR_NAMES)
    ]
    shape = Shape(f"{case}, full load", path.states[-1].positions, scene.faces)
    return Findings(rows, curves, [] if tied else [shape])


def elastica_check() -> Findings:
    """The published table against the elastica of our own integration, on no mesh at all."""
    rows = []
    for share in (0.25, 0.5, 0.75, 1.0):
        x, w = end_force(4 * share)
        published = SHEAR[np.isclose(SHEAR[:, 0], share)][0]
        for name, reference, found in (
            ("-U", published[1], SHEAR_LENGTH * (1 - x)),
            ("W", published[2], SHEAR_LENGTH * w),
        ):
            case = f"elastica, P/Pmax {share:.2f}"
            rows.append(Row.of(case, name, reference, found, SHEAR_TOLERANCE, "none", 0.0, 0.0))
    return Findings(rows)


def roll_up(
    cells: tuple[int, int],
    pattern: Pattern = "alternating",
    increments: int = 20,
    tolerance: float | None = ROLL_TOLERANCE,
    gap: float | None = GAP_TOLERANCE,
) -> Findings:
    """The strip of 12 x 1 wound into a full circle by a moment at its end.

    The displacement across the strip is held at zero: in space the strip with this moment buckles
    sideways between 0.90 and 0.95 of the full moment. With p = M L / (E I): -U / L = 1 - sin p / p,
    W / L = (1 - cos p) / p. gap: tolerance for the distance of the tip from where the circle
    closes, over the length.
    """
    sheet = Sheet.rectangle(ROLL_LENGTH, WIDTH, cells, MATERIAL, pattern)
    x = sheet.vertices
    across = torch.zeros_like(x, dtype=torch.bool)
    across[:, 1] = True
    scene = Scene([sheet], clamped=x[:, 0] == 0, fixed=across)
    simulator = Simulator(scene)
    tip = x[:, 0] == ROLL_LENGTH
    full = 2 * math.pi * RIGIDITY / ROLL_LENGTH
    shares = [(i + 1) / increments for i in range(increments)]
    path = follow(simulator, shares, moments=scene.edge_moments(tip, (0, -full, 0)))
    moved = torch.stack([_tip_motion(state, x, tip, False) for state in path.states]).numpy()
    ours = np.stack([-moved[:, 0], moved[:, 2]], axis=1) / ROLL_LENGTH

    mesh, rows = mesh_name(cells), []
    for share in ROLL_SHARES:
        found = ours[round(share * increments) - 1]
        reference = _circle(share)
        for place, name in enumerate(("-U/L", "W/L")):
            allowed = gap if share == 1.0 else tolerance
            effort = (mesh, path.iterations, path.seconds, 1.0 if share == 1.0 else None)
            case = f"roll-up, M/Mmax {share:g}"
            rows.append(Row.of(case, name, reference[place], found[place], allowed, *effort))
    fine = np.linspace(0.005, 1, 200)
    exact = np.array([_circle(share) for share in fine])
    curves = [
        Curve(
            "roll-up, tip",
            ("displacement / L", "M / Mmax"),
            np.stack([ours[:, place], shares], axis=1),
            np.stack([exact[:, place], fine], axis=1),
            "closed form",
            name,
        )
        for place, name in enumerate(("-U/L", "W/L"))
    ]
    half = path.states[increments // 2 - 1].positions
    shapes = [
        Shape("roll-up, half the moment", half, scene.faces),
        Shape("roll-up, full moment", path.states[-1].positions, scene.faces),
    ]
    return Findings(rows, curves, shapes)


def _circle(share: float) -> tuple[float, float]:
    p = 2 * math.pi * share
    return 1 - math.sin(p) / p, (1 - math.cos(p)) / p


def _tip_motion(state: State, rest: Tensor, tip: Tensor, tied: bool) -> Tensor:
    moved = (state.positions - rest)[tip]
    return moved[0] if tied else moved.mean(dim=0)


def _tie_sections(simulator: Simulator) -> None:
    """Let all vertices of a cross-section share the x and z of its first one; y is held."""
    model, x = simulator.model, simulator.scene.rest_vertices
    _, section = x[:, 0].unique(return_inverse=True)
    count = len(x)
    first = torch.full((int(section.max()) + 1,), count)
    first = first.scatter_reduce(0, section, torch.arange(count), "amin")[section]
    leaders = first == torch.arange(count)
    place = 3 * first[:, None] + torch.arange(3)
    place[:, 1] = 3 * torch.arange(count) + 1
    shared = torch.cat([place.flatten(), torch.arange(3 * count, len(model.free))])
    free = model.free.clone().unflatten(0, (-1, 3))
    free[:, 1] = False
    free[~leaders] = False
    blocks = [shared[block] for block in model.blocks]
    free = free.flatten()
    pattern = SparsePattern.of(blocks, len(free), free)
    simulator.model = replace(model, blocks=blocks, free=free, pattern=pattern)
    simulator.solver = open_solver(pattern, "auto")


MESHES = ((16, 1), (32, 2), (64, 4))


def _shear_case(scale: Scale) -> Findings:
    parts = [dead_end_shear(cells, tolerance=None) for cells in MESHES[:-1]]
    if scale == "quick":
        return joined([_last_load(parts[0]), dead_end_shear(MESHES[1])])
    diagonal = dead_end_shear(MESHES[-1], pattern="diagonal", tolerance=None)
    return joined([*map(_last_load, parts), dead_end_shear(MESHES[-1]), _last_load(diagonal)])


def _some_loads(findings: Findings) -> Sequence[Row]:
    shares = ("0.25", "0.50", "0.75", "1.00")
    return [row for row in findings.rows if row.case.endswith(shares)]


def _last_load(findings: Findings) -> Findings:
    return Findings([row for row in findings.rows if "1.00" in row.case])


def _roll_case(scale: Scale) -> Findings:
    meshes = MESHES[:2] if scale == "quick" else MESHES
    coarse = [Findings(roll_up(cells).rows) for cells in meshes[:-1]]
    return joined([*coarse, roll_up(meshes[-1])])


def _hinge_case(scale: Scale) -> Findings:
    cells = (32, 2) if scale == "quick" else (64, 4)
    solve = partial(dead_end_shear, cells, bending="hinge", tolerance=None)
    return joined([Findings(_some_loads(solve(tied=tied))) for tied in (False, True)])


CASES: dict[str, Case] = {
    "cantilever-shear": _shear_case,
    "cantilever-roll-up": _roll_case,
    "cantilever-hinge": _hinge_case,
    "elastica": lambda scale: elastica_check(),
}
