"""Plane waves in a tube and in a duct, sent back by the wall at its end.

A pulse runs down a long rigid tube, once against the wall and once against a rigid end. With the
pressures at the end P and Q of these, R = 2 P / Q - 1 at each frequency: what elements and steps
make of the way to the wall cancels. Over a way of 3.5 m it is part of the error instead: incident
and reflected wave are then told apart by when they pass a point 1.75 m before the wall. In a duct
a mode that has half a wave across meets the wall as a plane wave at an angle.

Walls that have masses are of second order in the step, off by (w dt)²/6 of them: those with random
branches are shown and not judged.

Exact: R = (cos - y) / (cos + y), H. Kuttruff, Room Acoustics, chapter 2, with y of the layer by Y.
Miki, Journal of the Acoustical Society of Japan (E) 11(1), 19 (1990), or of the wall's branches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from sims.acoustics.air import CHARACTERISTIC_IMPEDANCE, SPEED_OF_SOUND
from sims.acoustics.exact.reflection import reflection
from sims.acoustics.room import Room
from sims.acoustics.solver import Solver
from sims.acoustics.source import default_width
from sims.acoustics.validation.fields import projections, setting, tube
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
from sims.acoustics.walls.miki import surface_impedance
from sims.acoustics.walls.wall import Wall

FMAX = 1000.0
LENGTH = 12.0  # [m], so long that what comes back from the far end comes too late
HEARD = 2.6  # lengths that sound has gone by the end of a run; it needs three for the far end
FADE = 0.25  # of a run, at its end
BEFORE = 1.75  # [m] from the wall, where the incident and the reflected pulse are apart
TABLE = (125.0, 250.0, 500.0, 707.0, 1000.0)
JUDGED = 707.0  # [Hz], up to which the tolerance stands
TOLERANCE = 5e-3
DAMPING = 150.0  # [1/s], of the transform in the duct, whose slowest waves have not come by the end
ANGLE, AT = math.radians(60.0), 500.0  # [Hz]
FLOW_RESISTIVITY, THICKNESS = 1e4, 0.03


def layer_admittance(frequencies: Tensor) -> Tensor:
    """y of the Miki layer by its closed form, at frequencies (...) [Hz]."""
    impedance = surface_impedance(frequencies.numpy(), FLOW_RESISTIVITY, THICKNESS)
    return torch.from_numpy(CHARACTERISTIC_IMPEDANCE / impedance)


def random_wall(seed: int) -> Wall:
    """Three branches with masses, dampings and springs that count around 1 kHz."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(3, 3, generator=generator, dtype=torch.float64).exp()
    scale = 2.0 * math.pi * FMAX
    branches = numbers * torch.tensor([1.0 / scale, 1.0, scale], dtype=torch.float64)
    return Wall(branches, name=f"random branches {seed}")


def ends(solver: Solver, initial: Tensor, across: Tensor, s: Tensor, fade: float) -> Tensor:
    """R at each s (...) of the wall at the right end: 2 P / Q - 1.

    initial, across: (N,), the field to start from and what the field at the end is weighted by.
    fade: the last part of the run, over which what still rings is faded out.
    """
    x = solver.space.points[:, 0]
    length = float(x.max())
    at_end = (x > length * (1 - 1e-9)) * across
    duration = HEARD * length / SPEED_OF_SOUND
    times = solver.times(duration)
    fading = ((times[-1] - times) / (fade * duration + solver.time_step)).clamp(0.0, 1.0)
    kernel = torch.exp(-s[:, None] * times) * torch.sin(0.5 * math.pi * fading) ** 2
    pressures = [
        (kernel * projections(solver, initial, at_end[None], duration, walls)[0]).sum(1)
        for walls in (None, {"right": Wall.rigid()})
    ]
    return 2.0 * pressures[0] / pressures[1] - 1.0


def in_tube(
    wall: Wall, frequencies: Tensor, safe: bool = False, time_step: float | None = None
) -> tuple[Tensor, Solver]:
    """R (n,) that the wall shows at normal incidence, and the solver that it was found with."""
    solver = tube(wall, LENGTH, FMAX, safe, time_step)
    x = solver.space.points[:, 0]
    initial = torch.exp(-((x / default_width(FMAX)) ** 2))
    return ends(solver, initial, torch.ones_like(x), 2j * math.pi * frequencies, FADE), solver


def over_a_way(wall: Wall, frequencies: Tensor) -> tuple[Tensor, Solver]:
    """R (n,) with what the way of twice 1.75 m to the wall and back adds to it."""
    solver = tube(wall, LENGTH, FMAX)
    x = solver.space.points[:, 0]
    middle = solver.space.points.amax(0) / 2
    point = torch.stack([middle.new_tensor(LENGTH - BEFORE), middle[1], middle[2]])
    nodes, weights = solver.space.interpolation("receivers", point[None])
    listener = torch.zeros_like(x).index_add(0, nodes[0], weights[0])
    initial = torch.exp(-((x / default_width(FMAX)) ** 2))
    duration = HEARD * LENGTH / SPEED_OF_SOUND
    heard = projections(solver, initial, listener[None], duration)[0]
    times = solver.times(duration)
    kernel = torch.exp(-2j * math.pi * frequencies[:, None] * times) * heard
    first = times < LENGTH / SPEED_OF_SOUND
    delay = torch.exp(2j * math.pi * frequencies * 2.0 * BEFORE / SPEED_OF_SOUND)
    return (kernel * ~first).sum(1) / (kernel * first).sum(1) * delay, solver


def in_duct(wall: Wall, frequencies: Tensor) -> tuple[Tensor, Tensor, Solver]:
    """R (n,) of a mode across a duct, the exact one, and the solver."""
    width = 0.5 * SPEED_OF_SOUND / (AT * math.sin(ANGLE))
    sides = dict.fromkeys(("left", "front", "back", "floor", "ceiling"), Wall.rigid())
    room = Room.box(LENGTH, width, 0.2, walls={**sides, "right": wall})
    solver = Solver(room, FMAX, dtype=torch.float64)
    x, y, _ = solver.space.points.unbind(1)
    shape = torch.cos(math.pi * y / width)
    initial = torch.exp(-((x / default_width(FMAX)) ** 2)) * shape
    # the weights of the wall's quadrature, up to a factor: the mode alone is heard
    s = torch.complex(torch.full_like(frequencies, DAMPING), 2.0 * math.pi * frequencies)
    found = ends(solver, initial, solver.space.mass * shape, s, 0.0)
    cosine = torch.sqrt(1.0 + (SPEED_OF_SOUND * math.pi / width / s) ** 2)
    y_wall = wall.admittance_at(s)
    return found, (cosine - y_wall) / (cosine + y_wall), solver


def normal_incidence(
    name: str, wall: Wall, admittance: Callable[[Tensor], Tensor], source: str, judged: bool = True
) -> Findings:
    """Rows at the frequencies of the table, and curves of R and of its error."""
    dense = torch.linspace(50.0, FMAX, 191, dtype=torch.float64)
    frequencies = torch.cat([torch.tensor(TABLE, dtype=torch.float64), dense])
    found, solver = in_tube(wall, frequencies)
    exact = reflection(admittance(frequencies))
    error = (found - exact).abs()
    count = len(TABLE)
    rows = []
    for place, frequency in enumerate(TABLE):
        allowed = TOLERANCE if judged and frequency <= JUDGED else None
        measured = (float(exact[place].abs()), float(found[place].abs()), float(error[place]))
        quantity = f"|R - exact| at {frequency:g} Hz"
        rows.append(Row(name, quantity, *measured, allowed, setting(solver), source))
    f, ours, should = dense.numpy(), found[count:], exact[count:]
    limit = torch.full((2,), TOLERANCE).numpy()
    panels = [
        Panel(
            ("frequency [Hz]", "reflection factor"),
            [
                Line("|R|, geomopt", f, ours.abs().numpy()),
                Line("Re R, geomopt", f, ours.real.numpy()),
                Line("Im R, geomopt", f, ours.imag.numpy()),
                *(
                    Line(f"{part}, exact", f[::8], values[::8].numpy(), "points")
                    for part, values in (
                        ("|R|", should.abs()),
                        ("Re R", should.real),
                        ("Im R", should.imag),
                    )
                ),
            ],
        ),
        Panel(
            ("frequency [Hz]", "|R - exact|"),
            [
                Line("geomopt", f, error[count:].numpy()),
                Line("allowed", torch.tensor([50.0, JUDGED]).numpy(), limit, "limit"),
            ],
            (False, True),
        ),
    ]
    return Findings(rows, [Picture(f"reflection, {name}", panels)])


def with_a_way() -> Findings:
    """The Miki layer and a rigid end over a way of 3.5 m, which both have about the same error.

    It is largest near c / (2 h), 757 Hz for these elements of length h: as in any periodic medium
    waves do not pass there, if only in a band of a hertz or two.
    """
    frequencies = torch.tensor(TABLE, dtype=torch.float64)
    layer = Wall.miki(FLOW_RESISTIVITY, THICKNESS)
    rows = []
    for name, wall, exact in (
        ("Miki 30 mm", layer, reflection(layer_admittance(frequencies))),
        ("rigid end", Wall.rigid(), torch.ones(len(TABLE), dtype=torch.complex128)),
    ):
        found, solver = over_a_way(wall, frequencies)
        for frequency, ours, should in zip(TABLE, found, exact, strict=True):
            measured = (float(should.abs()), float(ours.abs()), float((ours - should).abs()))
            quantity = f"|R - exact| at {frequency:g} Hz"
            case, words = f"{name}, 3.5 m of way", setting(solver)
            rows.append(Row(case, quantity, *measured, None, words, "closed form"))
    return Findings(rows)


def oblique() -> Findings:
    """A mode across a duct at the Miki wall, compared with its branches."""
    frequencies = torch.tensor([500.0, 600.0, 707.0, 1000.0], dtype=torch.float64)
    found, exact, solver = in_duct(Wall.miki(FLOW_RESISTIVITY, THICKNESS), frequencies)
    cutoff = AT * math.sin(ANGLE)
    rows = []
    for frequency, ours, should in zip(frequencies.tolist(), found, exact, strict=True):
        allowed = TOLERANCE if frequency <= JUDGED else None
        measured = (float(should.abs()), float(ours.abs()), float((ours - should).abs()))
        angle = math.degrees(math.asin(cutoff / frequency))
        quantity = f"|R - exact| at {frequency:g} Hz, {angle:.0f} degrees"
        rows.append(
            Row("Miki 30 mm, oblique", quantity, *measured, allowed, setting(solver), "branches")
        )
    return Findings(rows)


def _case(scale: Scale) -> Findings:
    layer = Wall.miki(FLOW_RESISTIVITY, THICKNESS)
    hard, matched = Wall.impedance(7400.0), Wall.impedance(CHARACTERISTIC_IMPEDANCE)
    parts = [
        partial(normal_incidence, "Miki 30 mm", layer, layer_admittance, "Miki 1990"),
        partial(normal_incidence, "xi = 17.98", hard, hard.admittance, "closed form"),
        partial(normal_incidence, "xi = 1", matched, matched.admittance, "closed form"),
        with_a_way,
        oblique,
    ]
    if scale == "full":
        for seed in range(2):
            wall = random_wall(seed)
            name = f"random branches {seed}"
            parts.append(partial(normal_incidence, name, wall, wall.admittance, "branches", False))
    return joined([timed(part) for part in parts])


CASES: dict[str, Case] = {"reflection": _case}
