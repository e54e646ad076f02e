"""Orders of convergence: in the size of the elements, and in the time step.

In h: the frequency of a smooth rigid mode, whose error falls as h^(2P) (G. C. Cohen, Higher-Order
Numerical Methods for Transient Wave Equations, 2002, chapter 11); the step is small and what it
adds is known. In dt: the same mode on fine elements, of order 4; and the reflection factor of a
matched wall, whose error is far smaller than in the safe mode, which is of order 2, and comes to
order 3 with small steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from sims.acoustics.air import CHARACTERISTIC_IMPEDANCE, SPEED_OF_SOUND
from sims.acoustics.room import Room
from sims.acoustics.solver import Solver
from sims.acoustics.validation.fields import projections, setting, tube
from sims.acoustics.validation.reflection import FMAX, LENGTH, in_tube
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

SIZE = (1.0, 0.9, 0.8)  # [m]
MODE = (2, 1, 1)
SLACK = 0.35  # of an order; the first elements are not yet where it holds
PERIODS = 3.0
FINEST = 3e-12  # relative, of a frequency; below is rounding
WALL_FREQUENCY = 300.0  # [Hz]
WALL_SHARE = 83.0  # of (w dt)³ is what resistances leave: 2 (√12)³
FINE = 1000.0  # [Hz], twice the mode's: of elements whose error does not count


def exact_frequency() -> float:
    """Of the mode [rad/s]."""
    squared = sum((number / length) ** 2 for number, length in zip(MODE, SIZE, strict=True))
    return SPEED_OF_SOUND * math.pi * math.sqrt(squared)


def measured_frequency(solver: Solver) -> float:
    """Of the mode [rad/s], from its projection over a few periods."""
    shape = torch.ones(len(solver.space.points), dtype=torch.float64)
    for axis, (number, length) in enumerate(zip(MODE, SIZE, strict=True)):
        shape *= torch.cos(math.pi * number * solver.space.points[:, axis] / length)
    weights = (solver.space.mass * shape)[None]
    duration = PERIODS * 2.0 * math.pi / exact_frequency()
    heard = projections(solver, shape, weights, duration)[0]
    # p(t+dt) + p(t-dt) = 2 cos(w dt) p(t), by least squares
    middle, around = heard[1:-1], heard[2:] + heard[:-2]
    half = float((2.0 * middle - around) @ middle / (4.0 * middle @ middle))
    return 2.0 * math.asin(math.sqrt(half)) / solver.time_step


def of_the_step(frequency: float, step: float) -> float:
    """What ME4 makes of a frequency [rad/s]: 2 - 2 cos(w' dt) = (w dt)² - (w dt)⁴ / 12."""
    square = (frequency * step) ** 2
    return 2.0 * math.asin(math.sqrt((square - square**2 / 12.0) / 4.0)) / step


def in_elements(order: int, counts: Sequence[int]) -> Findings:
    """Errors of the frequency on ever more elements along each axis, at one small time step."""
    room = Room.box(*SIZE, walls=Wall.rigid())
    exact = exact_frequency()
    errors, sizes, step, solver = [], [], None, None
    for count in sorted(counts, reverse=True):
        # elements of at most this length: `count` along the longest side
        edge = SIZE[0] / count * 1.0001
        solver = Solver(
            room, order * SPEED_OF_SOUND / (8.0 * edge), order, 8.0,
            time_step=step, dtype=torch.float64,
        )  # fmt: skip
        step = solver.time_step
        found = measured_frequency(solver)
        errors.append(abs(found / of_the_step(exact, step) - 1.0))
        sizes.append(edge)
    assert solver is not None
    label = f"P={order}"
    # a single element across the room is too coarse to tell an order by: shown, not judged
    return _order(
        f"in h, {label}",
        label,
        sizes,
        errors,
        2.0 * order,
        setting(solver),
        "element [m]",
        judged=min(counts) > 1,
    )


def in_time(shares: Sequence[float]) -> Findings:
    """Errors of the frequency on fine elements at shares of the stability limit."""
    room = Room.box(*SIZE, walls=Wall.rigid())
    exact = exact_frequency()
    usual = Solver(room, FINE, 6, dtype=torch.float64)
    errors, steps = [], []
    for share in shares:
        step = share * usual.time_step
        solver = Solver(room, usual.fmax, 6, time_step=step, dtype=torch.float64)
        errors.append(abs(measured_frequency(solver) / exact - 1.0))
        steps.append(step)
    return _order("in dt, rigid", "rigid", steps, errors, 4.0, setting(usual), "time step [s]")


def at_a_wall(shares: Sequence[float], safe: bool) -> Findings:
    """Errors of the reflection factor of a matched wall at shares of the usual step, 1 first."""
    wall = Wall.impedance(CHARACTERISTIC_IMPEDANCE)
    frequency = torch.tensor([WALL_FREQUENCY], dtype=torch.float64)
    usual = tube(wall, LENGTH, FMAX)
    errors, steps = [], []
    for share in shares:
        step = share * usual.time_step
        found, _ = in_tube(wall, frequency, safe, step)
        errors.append(float(found.abs()[0]))
        steps.append(step)
    label = "safe mode" if safe else "default"
    case, words = f"in dt, matched wall, {label}", setting(usual)
    found = _order(case, label, steps, errors, 2.0, words, "time step [s]")
    allowed = None if safe else (2.0 * math.pi * WALL_FREQUENCY * usual.time_step) ** 3 / WALL_SHARE
    quantity = f"|R| at {WALL_FREQUENCY:g} Hz, usual step"
    at_first = Row(case, quantity, 0.0, errors[0], errors[0], allowed, words, "closed form")
    return Findings([found.rows[0], at_first], found.pictures)


def _order(
    case: str,
    label: str,
    sizes: Sequence[float],
    errors: Sequence[float],
    expected: float,
    words: str,
    axis: str,
    judged: bool = True,
) -> Findings:
    """The order over the last two sizes whose error is above rounding, at least the expected."""
    above = [pair for pair in sorted(zip(sizes, errors, strict=True)) if pair[1] > FINEST]
    (small, fine), (large, coarse) = above[0], above[1]
    order = math.log(coarse / fine) / math.log(large / small)
    rows = [
        Row(
            case,
            "order",
            expected,
            order,
            max(expected - order, 0.0),
            SLACK if judged else None,
            words,
            "at least",
        ),
        Row(case, f"error at {large:.3g}", 0.0, coarse, coarse, None, words, "exact"),
    ]  # fmt: skip
    line = Line(f"{label}, order {order:.2f}", np.array(sizes), np.array(errors))
    return Findings(rows, [Picture(case, [Panel((axis, "error"), [line], (True, True))])])


def _together(parts: Sequence[Findings], title: str) -> Findings:
    lines = [
        line for part in parts for picture in part.pictures for line in picture.panels[0].lines
    ]
    axes = parts[0].pictures[0].panels[0].axes
    rows = [row for part in parts for row in part.rows]
    return Findings(rows, [Picture(title, [Panel(axes, lines, (True, True))])])


def _case(scale: Scale) -> Findings:
    counts = {1: (8, 12, 16), 2: (4, 6, 8), 3: (3, 4, 6), 4: (2, 3, 4)}
    if scale == "full":
        counts |= {1: (8, 12, 16, 24), 5: (2, 3, 4), 6: (1, 2, 3)}
    elements = [timed(lambda o=order, n=n: in_elements(o, n)) for order, n in counts.items()]
    rigid = timed(lambda: in_time((1.0, 0.7, 0.5)))
    walls = [timed(lambda safe=safe: at_a_wall((1.0, 0.5, 0.35), safe)) for safe in (False, True)]
    return joined(
        [
            _together(elements, "order in the size of elements, rigid mode"),
            _together([rigid], "order in the time step, rigid mode"),
            _together(walls, "order in the time step, matched wall"),
        ]
    )


CASES: dict[str, Case] = {"orders": _case}
