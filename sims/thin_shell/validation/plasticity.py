"""Creases: bend beyond the yield curvature, let go, and see what stays.

A sheet is rolled tightly onto mandrels, all of its vertices on a cylinder of growing curvature k,
and released. In pure bending the elastic curvature that is left at the end is the yield curvature,
grown by hardening, and releases; the flow p stays:

    k = kappa_y + H p + p,    residual curvature p = (k - kappa_y) / (1 + H).

nu is 0 here. With nu > 0 a wide sheet on a mandrel holds a moment nu M across as well, and releases
into a saddle.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from geomopt.geometry.mesh import area_vectors
from sims.thin_shell.material import Material
from sims.thin_shell.patterns import Pattern
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.state import State
from sims.thin_shell.validation.loading import follow, mesh_name
from sims.thin_shell.validation.rows import Case, Curve, Findings, Row, Scale, Shape, joined

CARD = Material(young=2e9, poisson=0.0, thickness=2e-4, density=800.0, yield_curvature=8.0)
LENGTH, WIDTH = 0.06, 0.02
ROLLS = 12  # mandrels, from the largest to the one that is asked for
TIGHT = 3.0  # curvature of the last mandrel over the yield curvature
PATTERNS = ("alternating", "diagonal", "delaunay")
RESIDUAL = 0.02  # error that is allowed in what stays, on the finest mesh
ALIKE = 0.10  # spread that is allowed over meshes and directions
FOLD = 2.0  # rad


def mandrel(positions: Tensor, curvature: float, turn: float) -> Tensor:
    """A flat sheet (V, 3) wound onto a cylinder, bending along the direction at `turn` [rad]."""
    cosine, sine = math.cos(turn), math.sin(turn)
    along = positions[:, 0] * cosine + positions[:, 1] * sine
    across = positions[:, 1] * cosine - positions[:, 0] * sine
    wound, height = (curvature * along).sin(), 1 - (curvature * along).cos()
    wound, height = wound / curvature, height / curvature
    x, y = wound * cosine - across * sine, wound * sine + across * cosine
    return torch.stack([x, y, height], dim=1)


def cylinder_curvature(positions: Tensor, faces: Tensor) -> float:
    """Mean curvature [1/m] of a bent sheet (V, 3) by the best cylinder.

    Its axis is the direction that the normals have least of; then a circle is fitted through the
    vertices as seen along the axis (least squares in the squared radius).
    """
    normals = area_vectors(positions, faces)
    axis = torch.linalg.eigh(normals.T @ normals).eigenvectors[:, 0]
    basis = torch.linalg.svd(axis[None]).Vh[1:]
    x, y = ((positions - positions.mean(dim=0)) @ basis.T).unbind(1)
    columns = torch.stack([x, y, torch.ones_like(x)], dim=1)
    fit = torch.linalg.lstsq(columns, (x * x + y * y)[:, None]).solution[:, 0]
    return float((fit[2] + (fit[0] ** 2 + fit[1] ** 2) / 4).rsqrt())


def lying(sheet: Sheet) -> Tensor:
    """The six coordinates (V, 3) bool that keep a flat sheet in place and strain nothing."""
    flat = sheet.vertices - sheet.vertices.mean(dim=0)
    middle = int(flat.norm(dim=1).argmin())
    right = int((flat[:, 0] - flat[:, 1].abs()).argmax())
    top = int((flat[:, 1] - flat[:, 0].abs()).argmax())
    held = torch.zeros_like(flat, dtype=torch.bool)
    held[middle], held[right, 1:], held[top, 2] = True, True, True
    return held


def rolled(sheet: Sheet, curvature: float, turn: float = 0.0) -> tuple[State, State]:
    """The sheet on the last mandrel, and released."""
    everywhere = torch.ones(len(sheet.vertices), dtype=torch.bool)
    simulator = Simulator(Scene([sheet], pinned=everywhere))
    state = simulator.initial_state()
    flat = sheet.vertices - sheet.vertices.mean(dim=0)
    for roll in range(1, ROLLS + 1):
        wound = mandrel(flat, curvature * roll / ROLLS, turn)
        state = simulator.equilibrium(start=state, positions=wound)
    released = Simulator(Scene([sheet], fixed=lying(sheet))).equilibrium(start=state)
    return state, released


def release(
    cells: tuple[int, int],
    pattern: Pattern,
    hardening: float = 0.0,
    turn: float = 0.0,
    poisson: float = 0.0,
) -> Findings:
    """What stays of the curvature of a mandrel, beside (k - kappa_y) / (1 + H).

    turn [rad]: of the bending direction against the mesh lines along the strip.
    """
    sheet = _sheet(cells, pattern, hardening=hardening, poisson=poisson)
    limit = float(CARD.yield_curvature)
    began = time.perf_counter()
    _, released = rolled(sheet, TIGHT * limit, turn)
    row = Row.of(
        f"rolled at {math.degrees(turn):.0f} degrees and released, H {hardening:g}, nu {poisson:g}",
        "residual curvature [1/m]",
        (TIGHT - 1) * limit / (1 + hardening),
        cylinder_curvature(released.positions, sheet.faces),
        RESIDUAL,
        f"{mesh_name(cells)} {pattern}",
        _iterations(released),
        time.perf_counter() - began,
    )
    return Findings([row], shapes=[Shape(row.case, released.positions, sheet.faces)])


def moment_curve(cells: tuple[int, int], hardening: float = 0.5, peak: float = 1.5) -> Findings:
    """Couples on both ends grow to `peak` times the moment of yield and fall to nothing.

    Loading follows k = M / D up to yield and then M / D + (M / D - kappa_y) / H, unloading is
    elastic.
    """
    sheet = _sheet(cells, "alternating", hardening=hardening)
    limit, rigidity = float(CARD.yield_curvature), _rigidity()
    scene = Scene([sheet], fixed=lying(sheet))
    shares = [i / 12 for i in range(1, 13)]
    shares += [1 - i / 6 for i in range(1, 7)]
    couple = peak * limit * rigidity * WIDTH
    path = follow(Simulator(scene), shares, moments=_end_couples(scene, couple))
    ours = [cylinder_curvature(state.positions, sheet.faces) for state in path.states]
    elastic = np.array(shares) * peak * limit
    flowed = np.maximum.accumulate(np.maximum(elastic - limit, 0) / hardening)
    measured = (RESIDUAL, mesh_name(cells), path.iterations, path.seconds)
    rows = [
        Row.of(
            f"end moments {peak:g} of yield, H {hardening:g}, {when}",
            "curvature [1/m]",
            float((elastic + flowed)[place]),
            ours[place],
            *measured,
        )
        for when, place in (("at the peak", 11), ("released", -1))
    ]
    curve = Curve(
        "plastic bending",
        ("curvature [1/m]", "moment a width [N]"),
        np.stack([ours, rigidity * elastic], axis=1),
        np.stack([elastic + flowed, rigidity * elastic], axis=1),
        "linear hardening, elastic unloading",
    )
    return Findings(rows, [curve])


def softening(cells: tuple[int, int], damage: float = 0.5) -> Findings:
    """A strip that was rolled bends by 1 / (1 - damage (1 - exp(-p / kappa_y))) as much as new."""
    sheet = _sheet(cells, "alternating", hardening=0.1, damage=damage)
    limit = float(CARD.yield_curvature)
    began = time.perf_counter()
    _, released = rolled(sheet, TIGHT * limit)
    scene = Scene([sheet], fixed=lying(sheet))
    couple = limit / 10 * _rigidity() * WIDTH
    bent = Simulator(scene).equilibrium(start=released, moments=_end_couples(scene, couple))
    before, after = (cylinder_curvature(s.positions, sheet.faces) for s in (released, bent))
    flowed = (TIGHT - 1) * limit / 1.1
    row = Row.of(
        f"rolled, released and bent by a moment, damage {damage:g}",
        "compliance over that of new sheet",
        1 / (1 - damage * (1 - math.exp(-flowed / limit))),
        (after - before) / (limit / 10),
        RESIDUAL,
        mesh_name(cells),
        _iterations(bent),
        time.perf_counter() - began,
    )
    return Findings([row])


def crease(cells: tuple[int, int], pattern: Pattern = "alternating") -> Findings:
    """A strip folded sharply across its middle and let go keeps its angle but for springback.

    A row of faces on either side holds the fold; elastically they open by kappa_y over their
    width h = (A1 + A2) / edge, as in a hinge.
    """
    sheet = _sheet(cells, pattern)
    rest, limit = sheet.vertices, float(CARD.yield_curvature)
    began = time.perf_counter()
    everywhere = torch.ones(len(rest), dtype=torch.bool)
    folding = Simulator(Scene([sheet], pinned=everywhere))
    state = folding.initial_state()
    beyond = (rest[:, 0] - LENGTH / 2).clamp(min=0)
    for part in range(1, ROLLS + 1):
        angle = FOLD * part / ROLLS
        folded = rest.clone()
        folded[:, 0] = rest[:, 0] - beyond * (1 - math.cos(angle))
        folded[:, 2] = -beyond * math.sin(angle)  # away from the normals
        state = folding.equilibrium(start=state, positions=folded)
    scene = Scene([sheet], clamped=rest[:, 0] <= LENGTH / cells[0] * (1 + 1e-9))
    simulator = Simulator(scene)
    released = simulator.equilibrium(start=state)
    line = (rest[:, 0] - LENGTH / 2).abs()[scene.edges.long()].amax(dim=1) < 1e-9
    kept = simulator.model.bending.dihedral(released.plastic_angles)[line]
    normals = area_vectors(released.positions, sheet.faces)
    inward, outward = normals[0], normals[-1]
    turn = math.atan2(float(torch.linalg.cross(inward, outward)[1]), float(inward @ outward))
    name, kept_angle = f"folded by {FOLD:g} rad and released", FOLD - limit * LENGTH / cells[0]
    measured = (
        RESIDUAL,
        f"{mesh_name(cells)} {pattern}",
        _iterations(released),
        time.perf_counter() - began,
    )
    rows = [
        Row.of(name, "angle between the halves [rad]", kept_angle, turn, *measured),
        Row.of(name, "rest angle of the crease [rad]", kept_angle, float(kept.mean()), *measured),
    ]
    return Findings(rows, shapes=[Shape(name, released.positions, sheet.faces)])


def across_meshes(columns: Sequence[int], turns: Sequence[float]) -> Findings:
    """`release` on meshes of all patterns and sizes, in directions [degrees] against their lines,
    with the spread of all: (largest - smallest) / reference."""
    found = [
        release((count, count // 3), pattern, turn=math.radians(turn))
        for count in columns
        for pattern in PATTERNS
        for turn in turns
    ]
    rows = [row for part in found for row in part.rows]
    coarse = len(found) // len(columns) * (len(columns) - 1)
    rows = [replace(row, tolerance=None) for row in rows[:coarse]] + rows[coarse:]
    values, seconds = [row.ours for row in rows], sum(row.seconds for row in rows)
    spread = Row.of(
        "rolled and released, all meshes and directions",
        "spread of the residual curvature, over it",
        0.0,
        (max(values) - min(values)) / rows[0].reference,
        ALIKE,
        f"{len(rows)} meshes",
        sum(row.iterations for row in rows) / len(rows),
        seconds,
        size=1.0,
    )
    return Findings([*rows, spread], shapes=[found[-1].shapes[0]])


def poisson_effect(cells: tuple[int, int], poisson: float = 0.3) -> Findings:
    """What nu does to the residual curvature; reported beside the law for nu = 0."""
    found = release(cells, "alternating", poisson=poisson)
    return Findings([replace(row, tolerance=None) for row in found.rows])


def _sheet(cells: tuple[int, int], pattern: Pattern, **changes: float) -> Sheet:
    return Sheet.rectangle(LENGTH, WIDTH, cells, replace(CARD, **changes), pattern)


def _rigidity() -> float:
    """D [N m]; nu is 0."""
    return float(CARD.young) * float(CARD.thickness) ** 3 / 12


def _end_couples(scene: Scene, couple: float) -> Tensor:
    """Opposite moments (E,) [N m] on both ends that bend a strip along x up, towards +z."""
    x = scene.rest_vertices[:, 0]
    left = scene.edge_moments(x <= 0, (0.0, couple, 0.0))
    return left + scene.edge_moments(x >= LENGTH, (0.0, -couple, 0.0))


def _iterations(state: State) -> float:
    return sum(solution.iterations for solution in state.solutions) / len(state.solutions)


def _case(scale: Scale) -> Findings:
    quick = scale == "quick"
    columns, turns = ((24,), (0.0, -45.0)) if quick else ((12, 24, 36), (0.0, 30.0, -45.0))
    cells = (columns[-1], columns[-1] // 3)
    parts = [release(cells, "alternating", hardening) for hardening in (0.1, 0.5, 1.0)]
    parts += [poisson_effect(cells), moment_curve(cells), softening(cells), crease(cells)]
    return joined([across_meshes(columns, turns), *parts])


CASES: dict[str, Case] = {"plasticity": _case}
