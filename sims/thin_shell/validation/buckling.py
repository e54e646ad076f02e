"""Loads at which straight sheets buckle: columns, and a deep strip that tips over sideways.

Below the threshold the straight state is stable and its slowest vibration has a w^2 that falls to
zero, nearly in proportion, as the load grows. So the threshold is where the secant through two
loads below it meets zero, taken closer and closer: sharp, without a seed, and no state on the way
is unstable. For the deep strip the way of the laboratory stands beside it: a sheet with a small
sideways bow is loaded until it goes far, and bisection finds where.

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
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sims.thin_shell.material import Material
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.state import State
from sims.thin_shell.validation.loading import mesh_name
from sims.thin_shell.validation.rows import Case, Curve, Findings, Row, Scale, Shape, joined

Column = Literal["clamped-free", "clamped-pinned", "heavy"]

LENGTH = 0.1
CARD = Material(young=2.5e9, poisson=0.0, thickness=2e-4, density=800.0)
COLUMN_WIDTH = 0.01
NARROW = 0.05  # w / L of the deep strip
SLIM = 50.0  # its w / t: it must not sag in its plane
LOADS = {"clamped-free": math.pi**2 / 4, "clamped-pinned": 20.1907, "heavy": 7.8373}
TIPPING, TIPPED = 12.854, "q L^3 / sqrt(B_w C)"
WIDTHS = (0.1, 0.05, 0.025, 0.0125)  # w / L
COLUMN_ERROR, STRIP_ERROR = 0.01, 0.03
FIRST = (0.5, 0.8)  # of the exact load: the first secant
CLOSER = 0.6  # of the way to where a secant meets zero, which may lie beyond the threshold
SETTLED = 1e-4  # change of the threshold at the end
SEED = 1e-4  # bow over the length
PATH, GROWTH, BISECTIONS = (0.8, 1.2), 0.01, 5  # of the beam's load
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
    return scene, scene.line_load(top, (-load, 0.0, 0.0))


def deep_strip(
    cells: tuple[int, int], slender: float = NARROW, poisson: float = 0.0, bow: float = 0.0
) -> tuple[Scene, Tensor]:
    """A strip along x with its width upright, clamped at x = 0, and the weights that tip it over.

    slender: w / L. bow [m]: how far it is curved sideways at the free end, at rest.
    """
    width = slender * LENGTH
    material = replace(CARD, poisson=poisson, thickness=width / SLIM)
    flat = Sheet.rectangle(LENGTH, width, cells, material)
    x, z, _ = flat.vertices.unbind(1)
    upright = torch.stack([x, bow * (x / LENGTH) ** 2, z], dim=1)
    scene = Scene([Sheet(upright, flat.faces, material)], clamped=x == 0)
    # B_w and C share E w t^3 / 12: sqrt(B_w C) = E w t^3 / 12 sqrt(2 / (1 + nu))
    bending = float(CARD.young) * width * (width / SLIM) ** 3 / 12
    load = TIPPING * bending * math.sqrt(2 / (1 + poisson)) / LENGTH**2
    shares = scene.masses() / scene.masses().sum()
    return scene, shares[:, None] * scene.vertices.new_tensor([0.0, 0.0, -load])


def threshold(simulator: Simulator, loads: Tensor, power: int) -> tuple[float, Tensor, int]:
    """The share of loads (V, 3) [N] at which the slowest vibration stops, its shape (V, 3), and
    how many shares it took.

    power: of the load in which w^2 is nearly linear, 1, or 2 where the opposite load buckles alike.
    """

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
        fall = (height - now) / (share**power - before**power)
        meets = (share**power + now / fall) ** (1 / power)
        if abs(meets - found) < SETTLED:
            return meets, shape, tries
        found, before, height = meets, share, now
        share += CLOSER * (meets - share)


def column_load(kind: Column, cells: tuple[int, int], judged: bool = True) -> Findings:
    """The buckling load of a column, from its vibrations."""
    scene, loads = column(kind, cells)
    simulator = Simulator(scene)
    began = time.perf_counter()
    share, shape, tries = threshold(simulator, loads, power=1)
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


def tipping_load(
    cells: tuple[int, int], slender: float = NARROW, poisson: float = 0.0, judged: bool = True
) -> Findings:
    """The weight at which a deep strip tips over sideways, from its vibrations.

    The wall keeps a strip of some width from warping, so that it tips over later than a beam, by
    about 0.6 w / L; see `wide_strips`.
    """
    scene, loads = deep_strip(cells, slender, poisson)
    began = time.perf_counter()
    share, shape, tries = threshold(Simulator(scene), loads, power=2)
    seconds = time.perf_counter() - began
    name = f"deep strip, w / L {slender:g}, nu {poisson:g}"
    row = Row.of(
        name,
        TIPPED,
        TIPPING,
        TIPPING * share,
        STRIP_ERROR if judged else None,
        mesh_name(cells),
        tries,
        seconds,
    )
    return Findings([row], shapes=[_mode(f"{name}, as it tips", scene, shape)])


def wide_strips(cells: tuple[int, int], slenders: Sequence[float] = WIDTHS) -> Findings:
    """How the weight that tips a strip over comes down to that of a beam as it becomes narrow."""
    rows = []
    for slender in slenders:
        columns = round(cells[0] * (slenders[0] / slender) ** 0.5)
        rows += tipping_load((columns, cells[1]), slender, judged=False).rows
    ours = np.array([(slender, row.ours) for slender, row in zip(slenders, rows, strict=True)])
    beam = np.array([(0.0, TIPPING), (max(slenders), TIPPING)])
    curve = Curve("deep strip", ("w / L", TIPPED), ours, beam, "narrow beam")
    return Findings(rows, [curve])


def seeded_tipping(cells: tuple[int, int]) -> Findings:
    """The same from a strip with a sideways bow of `SEED` lengths.

    The load grows by a hundredth at a time, so that each state is next to the one before; where
    the tip has gone far, bisection narrows the last hundredth.
    """
    scene, loads = deep_strip(cells, bow=SEED * LENGTH)
    simulator = Simulator(scene)
    tip = scene.vertices[:, 0] == LENGTH
    shares = np.arange(PATH[0], PATH[1] + GROWTH / 2, GROWTH).tolist()
    began, solved = time.perf_counter(), []

    def loaded(share: float, start: State | None) -> State:
        state = simulator.equilibrium(loads=share * loads, start=start)
        solved.extend(solution.iterations for solution in state.solutions)
        return state

    def sideways(state: State) -> float:
        return float(state.positions[tip, 1].mean().abs()) / LENGTH

    states = [loaded(shares[0], None)]
    for share in shares[1:]:
        states.append(loaded(share, states[-1]))
    moved = np.array([sideways(state) for state in states])
    first = max(1, int(np.argmax(moved > FAR)))
    low, high, start = shares[first - 1], shares[first], states[first - 1]
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        state = loaded(middle, start)
        if sideways(state) > FAR:
            high = middle
        else:
            low, start = middle, state
    name = f"deep strip, w / L {NARROW:g}, nu 0, bowed"
    row = Row.of(
        name,
        TIPPED,
        TIPPING,
        TIPPING * (low + high) / 2,
        STRIP_ERROR,
        mesh_name(cells),
        sum(solved) / len(solved),
        time.perf_counter() - began,
    )
    curve = Curve(
        "deep strip with a bow",
        (TIPPED, "sideways move of the tip / L"),
        np.stack([TIPPING * np.array(shares), moved], axis=1),
        np.stack([np.full(101, TIPPING), np.linspace(0.0, moved.max(), 101)], axis=1),
        "narrow straight beam",
    )
    shape = Shape(f"{name}, tipped over", states[-1].positions, scene.faces)
    return Findings([row], [curve], [shape])


def _mode(name: str, scene: Scene, shape: Tensor) -> Shape:
    size = LENGTH / 8 / float(shape.norm(dim=1).amax())
    return Shape(name, scene.vertices + size * shape, scene.faces)


def _case(scale: Scale) -> Findings:
    kinds: tuple[Column, ...] = ("clamped-free", "clamped-pinned", "heavy")
    if scale == "quick":
        parts = [column_load(kind, (32, 2)) for kind in kinds]
        return joined([*parts, tipping_load((48, 4)), seeded_tipping((48, 4))])
    coarse = [column_load(kind, (cells, 2), judged=False) for kind in kinds for cells in (16, 32)]
    coarse += [tipping_load(cells, judged=False) for cells in ((32, 2), (48, 4), (160, 8))]
    fine = [column_load(kind, (64, 4)) for kind in kinds]
    fine += [tipping_load((80, 4)), tipping_load((80, 4), NARROW / 2, poisson=0.3)]
    parts = [*fine, seeded_tipping((80, 4)), wide_strips((80, 4))]
    return joined([*(Findings(part.rows) for part in coarse), *parts])


CASES: dict[str, Case] = {"buckling": _case}
