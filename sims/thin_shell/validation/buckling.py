"""Loads at which straight sheets buckle: columns, and a deep strip that tips over sideways.

Below the threshold the straight state is stable and its slowest vibration has a w^2 that falls to
zero, nearly in proportion, as the load grows. So the threshold is where the secant through two
loads below it meets zero, taken closer and closer: sharp, without a seed, and no state on the way
is unstable. For the deep strip the way of the laboratory stands beside it: a sheet with a small
sideways bow is loaded from scratch, and bisection finds the load above which it goes far.

    clamped-free column      P = pi^2 B / (4 L^2)             Euler
    clamped-pinned column    P = 20.19 B / L^2                tan u = u
    heavy column             q L^3 / B = 7.837                Greenhill 1881
    deep strip               q L^3 / sqrt(B_w C) = 12.854     B_w = E w t^3 / 12, C = G w t^3 / 3

after Timoshenko and Gere (1961), "Theory of elastic stability", chapters 2 and 6. nu = 0 for the
columns, so that a column of any width bends as a beam.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from sims.thin_shell.material import Material
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.state import State
from sims.thin_shell.validation.loading import line_load, mesh_name
from sims.thin_shell.validation.rows import Case, Findings, Row, Scale, Shape, joined

Column = Literal["clamped-free", "clamped-pinned", "heavy"]

LENGTH = 0.1
CARD = Material(young=2.5e9, poisson=0.0, thickness=2e-4, density=800.0)
COLUMN_WIDTH = 0.01
STRIP_WIDTH = 0.005  # w / L = 0.05: a wide strip tips over later than the beam
LOADS = {"clamped-free": math.pi**2 / 4, "clamped-pinned": 20.1907, "heavy": 7.8373}
TIPPING = 12.854
COLUMN_ERROR, STRIP_ERROR = 0.01, 0.03
FIRST = (0.5, 0.8)  # of the exact load: the first secant
BELOW = 0.98  # of where a secant meets zero: where the next one starts
SETTLED = 1e-4  # change of the threshold at the end
SEED = 1e-4  # bow over the length
BRACKET, BISECTIONS = (0.8, 1.3), 8
FAR = 0.05  # move of the tip, over the length, that is far


def column(kind: Column, cells: tuple[int, int]) -> tuple[Scene, Tensor]:
    """A column along x, clamped at x = 0, and the loads (V, 3) [N] that should just buckle it."""
    sheet = Sheet.rectangle(LENGTH, COLUMN_WIDTH, cells, CARD)
    bottom, top = sheet.vertices[:, 0] == 0, sheet.vertices[:, 0] == LENGTH
    fixed = torch.zeros_like(sheet.vertices, dtype=torch.bool)
    if kind == "clamped-pinned":
        fixed[top, 2] = True
    scene = Scene([sheet], clamped=bottom, fixed=fixed)
    bending = float(CARD.young) * COLUMN_WIDTH * float(CARD.thickness) ** 3 / 12
    load = LOADS[kind] * bending / LENGTH**2
    if kind == "heavy":
        shares = scene.masses() / scene.masses().sum()
        return scene, shares[:, None] * scene.vertices.new_tensor([-load, 0.0, 0.0])
    return scene, line_load(scene, top, (-load, 0.0, 0.0))


def deep_strip(
    cells: tuple[int, int], poisson: float = 0.0, bow: float = 0.0
) -> tuple[Scene, Tensor]:
    """A strip along x with its width upright, clamped at x = 0, and the weights that tip it over.

    bow [m]: how far it is curved sideways at the free end, at rest.
    """
    material = replace(CARD, poisson=poisson)
    flat = Sheet.rectangle(LENGTH, STRIP_WIDTH, cells, material)
    x, z, _ = flat.vertices.unbind(1)
    upright = torch.stack([x, bow * (x / LENGTH) ** 2, z], dim=1)
    scene = Scene([Sheet(upright, flat.faces, material)], clamped=x == 0)
    # B_w and C share E w t^3 / 12: sqrt(B_w C) = E w t^3 / 12 sqrt(2 / (1 + nu))
    bending = float(CARD.young) * STRIP_WIDTH * float(CARD.thickness) ** 3 / 12
    load = TIPPING * bending * math.sqrt(2 / (1 + poisson)) / LENGTH**2
    shares = scene.masses() / scene.masses().sum()
    return scene, shares[:, None] * scene.vertices.new_tensor([0.0, 0.0, -load])


def threshold(simulator: Simulator, loads: Tensor) -> tuple[float, Tensor, int]:
    """The share of loads (V, 3) [N] at which the slowest vibration stops, its shape (V, 3), and
    how many shares it took."""

    def squared(share: float, start: State | None) -> tuple[float, State, Tensor]:
        state = simulator.equilibrium(loads=share * loads, start=start)
        modes = simulator.modes(1, state)
        return float(modes.squared[0]), state, modes.shapes[0]

    before, share = FIRST
    height, state, _ = squared(before, None)
    found, tries = math.inf, 1
    while True:
        now, state, shape = squared(share, state)
        tries += 1
        meets = share + now * (share - before) / (height - now)
        if abs(meets - found) < SETTLED:
            return meets, shape, tries
        found, before, height = meets, share, now
        share = max(BELOW * meets, (share + meets) / 2)


def column_load(kind: Column, cells: tuple[int, int], judged: bool = True) -> Findings:
    """The buckling load of a column, from its vibrations."""
    scene, loads = column(kind, cells)
    simulator = Simulator(scene)
    began = time.perf_counter()
    share, shape, tries = threshold(simulator, loads)
    seconds = time.perf_counter() - began
    quantity = "q L^3 / B" if kind == "heavy" else "P L^2 / B"
    tolerance = COLUMN_ERROR if judged else None
    name = f"{kind} column"
    row = Row.of(
        name,
        quantity,
        LOADS[kind],
        LOADS[kind] * share,
        tolerance,
        mesh_name(cells),
        tries,
        seconds,
    )
    return Findings([row], shapes=[_mode(f"{name}, as it buckles", scene, shape)])


def tipping_load(cells: tuple[int, int], poisson: float, judged: bool = True) -> Findings:
    """The weight at which a deep strip tips over sideways, from its vibrations."""
    scene, loads = deep_strip(cells, poisson)
    began = time.perf_counter()
    share, shape, tries = threshold(Simulator(scene), loads)
    seconds = time.perf_counter() - began
    name = f"deep strip, nu {poisson:g}"
    row = Row.of(
        name,
        "q L^3 / sqrt(B_w C)",
        TIPPING,
        TIPPING * share,
        STRIP_ERROR if judged else None,
        mesh_name(cells),
        tries,
        seconds,
    )
    return Findings([row], shapes=[_mode(f"{name}, as it tips", scene, shape)])


def seeded_tipping(cells: tuple[int, int], poisson: float = 0.0) -> Findings:
    """The same by bisection with a sideways bow of `SEED` lengths."""
    scene, loads = deep_strip(cells, poisson, SEED * LENGTH)
    simulator = Simulator(scene)
    tip = scene.vertices[:, 0] == LENGTH
    began = time.perf_counter()
    start = simulator.equilibrium(loads=BRACKET[0] * loads, increments=2)
    (low, high), state, solved = BRACKET, start, 2
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        tried = simulator.equilibrium(loads=middle * loads, start=start, increments=2)
        solved += sum(solution.iterations for solution in tried.solutions)
        if float(tried.positions[tip, 1].mean().abs()) > FAR * LENGTH:
            high, state = middle, tried
        else:
            low, start = middle, tried
    row = Row.of(
        f"deep strip, nu {poisson:g}, bowed",
        "q L^3 / sqrt(B_w C)",
        TIPPING,
        TIPPING * (low + high) / 2,
        STRIP_ERROR,
        mesh_name(cells),
        solved / BISECTIONS,
        time.perf_counter() - began,
    )
    return Findings([row], shapes=[Shape("deep strip, tipped over", state.positions, scene.faces)])


def _mode(name: str, scene: Scene, shape: Tensor) -> Shape:
    size = LENGTH / 8 / float(shape.norm(dim=1).amax())
    return Shape(name, scene.vertices + size * shape, scene.faces)


def _case(scale: Scale) -> Findings:
    kinds: tuple[Column, ...] = ("clamped-free", "clamped-pinned", "heavy")
    if scale == "quick":
        parts = [column_load(kind, (32, 2)) for kind in kinds]
        return joined([*parts, tipping_load((48, 4), 0.0), seeded_tipping((48, 4))])
    coarse = [column_load(kind, (cells, 2), judged=False) for kind in kinds for cells in (16, 32)]
    coarse += [tipping_load(cells, 0.0, judged=False) for cells in ((32, 2), (64, 4))]
    fine = [column_load(kind, (64, 4)) for kind in kinds]
    fine += [tipping_load((128, 8), poisson) for poisson in (0.0, 0.3)]
    return joined([*(Findings(part.rows) for part in coarse), *fine, seeded_tipping((64, 4))])


CASES: dict[str, Case] = {"buckling": _case}
