"""Energy over ten thousand steps: kept between rigid walls, never more between passive ones.

The tolerances are in the energy at the start. The energy is that of `stepping.energy`, which the
scheme keeps exactly but for rounding; in float32 it is that of the fields in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from sims.acoustics.room import SIDES, Room
from sims.acoustics.solver import Solver
from sims.acoustics.stepping.energy import energy
from sims.acoustics.stepping.marching import KICKS, Motion, Stencils, march
from sims.acoustics.validation.fields import setting
from sims.acoustics.validation.reflection import random_wall
from sims.acoustics.validation.rows import (
    Case,
    Findings,
    Line,
    Panel,
    Picture,
    Row,
    Scale,
    joined,
    timed,
)
from sims.acoustics.walls.wall import Wall

STEPS = 10_000
DRIFT = {torch.float64: 1e-12, torch.float32: 1e-5}
FMAX = 500.0
SAMPLES = 200
FIRST = max(KICKS) + 1  # step, by which all of the initial field has come in
ROOMS = {"tube": (6.0, 0.4, 0.4), "box": (1.3, 1.1, 0.8)}  # [m]; the tube is an element across


def energies(solver: Solver, initial: Tensor, steps: int, every: int) -> tuple[Tensor, Tensor]:
    """Numbers of steps (n,) and the energies (n,) after these, from `FIRST` on."""
    twin = solver
    if solver.dtype != torch.float64:
        twin = Solver(
            solver.room, solver.fmax, solver.order, solver.nodes_per_wavelength, dtype=torch.float64
        )
    walls = solver.walls()
    found: list[tuple[int, float]] = []

    def follow(motion: Motion) -> None:
        if motion.step >= FIRST and (motion.step - FIRST) % every == 0:
            total = energy(twin.space, walls, motion, solver.time_step).total
            found.append((motion.step, total))

    nowhere = Stencils(torch.zeros(0, 1, dtype=torch.int32), torch.zeros(0, 1, dtype=solver.dtype))
    march(
        solver.space,
        walls,
        initial.to(solver.dtype),
        nowhere,
        steps,
        solver.time_step,
        follow=follow,
    )
    numbers, totals = zip(*found, strict=True)
    return torch.tensor(numbers), torch.tensor(totals, dtype=torch.float64)


def rough_field(solver: Solver, seed: int = 0) -> Tensor:
    """A pressure (N,) that is random at each node, so that all modes of the elements ring."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(solver.space.points), generator=generator, dtype=torch.float64)
    return noise * (solver.space.mass > 0)


def rigid(place: str, size: tuple[float, float, float], dtype: torch.dtype, steps: int) -> Findings:
    """The drift of the energy between rigid walls."""
    solver = Solver(Room.box(*size, walls=Wall.rigid()), FMAX, dtype=dtype)
    numbers, found = energies(solver, rough_field(solver), steps, steps // SAMPLES)
    relative = found / found[0] - 1
    drift = float(relative.abs().max())
    row = Row(
        f"rigid {place}",
        f"largest |E/E0 - 1| over {steps} steps",
        0.0,
        drift,
        drift,
        DRIFT[dtype],
        setting(solver),
        "kept exactly",
    )
    bits = 64 if dtype == torch.float64 else 32
    line = Line(f"{place}, float{bits}", numbers.numpy(), relative.abs().clamp(min=1e-17).numpy())
    panel = Panel(("steps", "|E/E0 - 1|"), [line], (False, True))
    return Findings([row], [Picture(f"drift of energy, {place}, float{bits}", [panel])])


def passive(
    place: str,
    size: tuple[float, float, float],
    walls: Mapping[str, Wall],
    steps: int,
    safe: bool,
) -> Findings:
    """The largest rise of the energy between two looks, which random passive walls must not give.

    Each of the first looks is a step after the one before.
    """
    solver = Solver(Room.box(*size, walls=walls), FMAX, safe=safe, dtype=torch.float64)
    rough = rough_field(solver)
    _, close = energies(solver, rough, SAMPLES, 1)
    numbers, wide = energies(solver, rough, steps, steps // SAMPLES)
    start = float(close[0])
    rise = max(float(part.diff().max()) for part in (close, wide)) / start
    mode = ", safe" if safe else ""
    row = Row(
        f"random passive {place}{mode}",
        f"largest rise of E/E0 over {steps} steps",
        0.0,
        rise,
        max(rise, 0.0),
        DRIFT[torch.float64],
        setting(solver),
        "passive branches",
    )
    line = Line(f"{place}{mode}", numbers.numpy(), (wide / start).clamp(min=1e-16).numpy())
    return Findings(
        [row],
        [
            Picture(
                f"decay of energy, {place}{mode}",
                [Panel(("steps", "E / E0"), [line], (False, True))],
            )
        ],
    )


def random_walls(seed: int, sides: Sequence[str]) -> dict[str, Wall]:
    """A random passive wall for each of the sides, the others rigid."""
    found = {name: random_wall(10 * seed + place) for place, name in enumerate(sides)}
    return {**dict.fromkeys(SIDES, Wall.rigid()), **found}


def merged(findings: Findings, title: str) -> Findings:
    """All pictures' lines in one panel."""
    panels = [panel for picture in findings.pictures for panel in picture.panels]
    lines = [line for panel in panels for line in panel.lines]
    panel = Panel(panels[0].axes, lines, panels[0].logarithmic)
    return Findings(findings.rows, [Picture(title, [panel])])


def _case(scale: Scale) -> Findings:
    steps = STEPS if scale == "full" else STEPS // 5
    still = [
        timed(partial(rigid, place, size, dtype, steps))
        for place, size in ROOMS.items()
        for dtype in (torch.float64, torch.float32)
    ]
    damped = [
        timed(partial(passive, place, ROOMS[place], random_walls(seed, sides), steps, safe))
        for place, sides in (("tube", SIDES[:2]), ("box", SIDES))
        for seed in range(1 if scale == "quick" else 2)
        for safe in (False, True)
    ]
    return joined(
        [
            merged(joined(still), "energy between rigid walls"),
            merged(joined(damped), "energy between passive walls"),
        ]
    )


CASES: dict[str, Case] = {"energy": _case}
