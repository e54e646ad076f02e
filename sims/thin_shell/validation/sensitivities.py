"""Derivatives of the shape of a bent strip, against those of the elastica.

By the adjoint of an equilibrium, in one solve each. Of an end force k = P L^2 / (E I) the stiffness
is the parameter, of its own weight Gamma = q L^3 / (E I) the density.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.validation import cantilever, heavy_sheet
from sims.thin_shell.validation.elastica import end_force, own_weight, sensitivity
from sims.thin_shell.validation.loading import mesh_name
from sims.thin_shell.validation.rows import Case, Findings, Row, Scale, joined

TOLERANCE = 1e-2
FORCES, GAMMAS = (1.0, 2.0, 4.0), (1.0, 5.0, 20.0, 100.0)


def of_stiffness(cells: tuple[int, int], k: float, tolerance: float | None = TOLERANCE) -> Findings:
    """du / dlnE and dw / dlnE of the free end over the length, under an end force."""
    logarithm = torch.zeros((), dtype=torch.float64, requires_grad=True)
    material = replace(cantilever.MATERIAL, young=cantilever.YOUNG * logarithm.exp())
    length = cantilever.SHEAR_LENGTH
    sheet = Sheet.rectangle(length, cantilever.WIDTH, cells, material)
    x = sheet.vertices
    scene = Scene([sheet], clamped=x[:, 0] == 0)
    tip = x[:, 0] == length
    force = k * cantilever.RIGIDITY / length**2
    began = time.perf_counter()
    loads = scene.line_load(tip, (0, 0, force))
    state = Simulator(scene).equilibrium(loads=loads, increments=5)
    moved = (state.positions - x)[tip].mean(dim=0) / length
    names, found = ("du/dlnE", "dw/dlnE"), []
    for component in (-moved[0], moved[2]):
        (slope,) = torch.autograd.grad(component, logarithm, retain_graph=True)
        found.append(float(slope))
    # u = 1 - x, and more stiffness is less of k
    du, dw = sensitivity(end_force, k) * (1, -1)
    effort = (tolerance, mesh_name(cells), _iterations(state), time.perf_counter() - began)
    return Findings(
        [
            Row.of(f"elastica, k {k:g}", name, float(exact), ours, *effort)
            for name, exact, ours in zip(names, (du, dw), found, strict=True)
        ]
    )


def of_weight(
    cells: tuple[int, int], gamma: float, tolerance: float | None = TOLERANCE
) -> Findings:
    """dw / dlnGamma of the free end over the length, under the strip's own weight."""
    logarithm = torch.zeros((), dtype=torch.float64, requires_grad=True)
    share = gamma * heavy_sheet.RIGIDITY / (heavy_sheet.LENGTH**3 * heavy_sheet.WEIGHT)
    density = heavy_sheet.DENSITY * share * logarithm.exp()
    base = heavy_sheet.strip(cells, material=replace(heavy_sheet.MATERIAL, density=density))
    scene = replace(base, gravity=(0, 0, -heavy_sheet.GRAVITY))
    tip = scene.vertices[:, 0] == heavy_sheet.LENGTH
    began = time.perf_counter()
    state = Simulator(scene).equilibrium(increments=10)
    drop = -state.positions[tip, 2].mean() / heavy_sheet.LENGTH
    (slope,) = torch.autograd.grad(drop, logarithm)
    exact = float(sensitivity(own_weight, gamma)[1])
    effort = (tolerance, mesh_name(cells), _iterations(state), time.perf_counter() - began)
    case = f"own weight, Gamma {gamma:g}"
    return Findings([Row.of(case, "dw/dlnGamma", exact, float(slope), *effort)])


def _iterations(state) -> float:
    return sum(solution.iterations for solution in state.solutions) / len(state.solutions)


def _case(scale: Scale) -> Findings:
    forced = (32, 2) if scale == "quick" else (64, 4)
    return joined(
        [
            *(of_stiffness(forced, k) for k in FORCES),
            *(of_weight((64, 6), gamma) for gamma in GAMMAS),
        ]
    )


CASES: dict[str, Case] = {"sensitivities": _case}
