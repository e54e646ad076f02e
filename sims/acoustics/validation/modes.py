"""Damped modes of the 2 m cube: frequency and reverberation time of each.

The field is started in the shape of a mode, which it leaves with time, and its projection on that
shape is a sum of a few damped exponentials, found by the matrix pencil of Y. Hua and T. K. Sarkar,
IEEE Transactions on Acoustics, Speech, and Signal Processing 38(5), 814 (1990).

Exact: `box_modes`, P. M. Morse and K. U. Ingard, Theoretical Acoustics, section 9.4, for the walls'
branches, and for the Miki layer also by its closed form at complex s.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from sims.acoustics.air import CHARACTERISTIC_IMPEDANCE
from sims.acoustics.exact.box_modes import BoxModes, box_modes
from sims.acoustics.room import Room
from sims.acoustics.solver import Solver
from sims.acoustics.validation.fields import projections, setting
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

EDGE = 2.0  # of the cube [m]
# ten modes below 345 Hz: axial, tangential and oblique
MODES = (
    (1, 0, 0), (1, 1, 0), (1, 1, 1), (2, 0, 0), (2, 1, 0),
    (2, 1, 1), (2, 2, 0), (3, 0, 0), (3, 2, 1), (4, 0, 0),
)  # fmt: skip
FREQUENCY_TOLERANCE, DECAY_TOLERANCE = 5e-4, 0.01
PERIODS = 14  # of a mode that are looked at
SAMPLES = 240  # about, that the pencil is given
SMALLEST = 1e-7  # singular value over the largest that counts as sound
MIKI = (1e4, 0.03)


def damped_exponentials(signal: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Exponents s (n,) [rad/s] and amplitudes (n,) of a signal (T,) float64, loudest first.

    step: between the samples [s].
    """
    count = len(signal)
    rows = signal.unfold(0, count // 2 + 1, 1)
    _, sizes, right = torch.linalg.svd(rows, full_matrices=False)
    kept = int((sizes > SMALLEST * sizes[0]).sum())
    space = right[:kept].T
    shift = torch.linalg.lstsq(space[:-1], space[1:]).solution
    ratios = torch.linalg.eigvals(shift)
    # sound dies out; what would grow stands for rounding
    ratios = ratios[(ratios.abs() > 1e-3) & (ratios.abs() <= 1)]
    powers = ratios[None, :] ** torch.arange(count)[:, None]
    amplitudes = torch.linalg.lstsq(powers, signal.to(ratios.dtype)[:, None]).solution[:, 0]
    # by what is heard of each over the whole signal: short ones may be large and cancel
    order = (powers * amplitudes).norm(dim=0).argsort(descending=True)
    return torch.log(ratios[order]) / step, amplitudes[order]


def measured_mode(solver: Solver, shape: Tensor, frequency: float) -> tuple[complex, Tensor]:
    """s of what a field that starts as `shape` (N,) mostly consists of, and its projection (T,)."""
    weights = (solver.space.mass * shape)[None]
    duration = PERIODS / frequency
    heard = projections(solver, shape, weights, duration)[0]
    heard = heard / heard[0]
    apart = max(1, len(heard) // SAMPLES)
    exponents, _ = damped_exponentials(heard[::apart], apart * solver.time_step)
    oscillating = exponents[exponents.imag > 0]
    return complex(oscillating[0]), heard


def layer(s: Tensor) -> Tensor:
    """y of the Miki layer at complex s (...) by its closed form, continued from s = iw."""
    frequencies = (s / (2j * math.pi)).numpy()
    return torch.from_numpy(CHARACTERISTIC_IMPEDANCE / surface_impedance(frequencies, *MIKI))


def modes_of_cube(name: str, wall: Wall, count: int, fmax: float) -> Findings:
    """Frequency and T60 of the first modes beside those of the wall's branches."""
    room = Room.box(EDGE, EDGE, EDGE, walls=wall)
    solver = Solver(room, fmax, dtype=torch.float64)
    indices = torch.tensor(MODES[:count])
    exact = box_modes((EDGE,) * 3, wall.admittance_at, indices)
    shapes = exact.shapes(solver.space.points).real
    rows, lines = [], []
    for place, mode in enumerate(MODES[:count]):
        frequency = float(exact.frequencies[place])
        s, heard = measured_mode(solver, shapes[place], frequency)
        rows += _rows(name, mode, exact, place, s, solver, f"branches, fmax {fmax:g} Hz")
        if place in (0, 2, count - 1):
            lines += _decay(mode, solver, heard, exact, place)
    title = f"modes of the cube, {name}"
    axes = ("time [ms]", "projection")
    panels = [Panel(axes, lines[start : start + 2]) for start in range(0, len(lines), 2)]
    return Findings(rows, [Picture(title, panels)])


def closed_form(count: int) -> Findings:
    """How far the modes of the fitted Miki wall are from those of the layer, without a solver."""
    indices = torch.tensor(MODES[:count])
    fitted = box_modes((EDGE,) * 3, Wall.miki(*MIKI).admittance_at, indices)
    exact = box_modes((EDGE,) * 3, layer, indices)
    rows = []
    for place, mode in enumerate(MODES[:count]):
        rows += _rows("Miki 30 mm, fit", mode, exact, place, complex(fitted.s[place]), None, "Miki")
    return Findings(rows)


def _rows(
    name: str,
    mode: tuple[int, ...],
    exact: BoxModes,
    place: int,
    s: complex,
    solver: Solver | None,
    source: str,
) -> list[Row]:
    number = "".join(map(str, mode))
    words = "no mesh" if solver is None else setting(solver)
    pairs = (
        ("f [Hz]", exact.frequencies, s.imag / (2.0 * math.pi), FREQUENCY_TOLERANCE),
        ("T60 [s]", exact.reverberation_times, 3.0 * math.log(10.0) / -s.real, DECAY_TOLERANCE),
    )
    rows = []
    for quantity, values, ours, allowed in pairs:
        value = float(values[place])
        error = abs(ours / value - 1)
        rows.append(Row(f"{name}, {number}", quantity, value, ours, error, allowed, words, source))
    return rows


def _decay(
    mode: tuple[int, ...], solver: Solver, heard: Tensor, exact: BoxModes, place: int
) -> list[Line]:
    """A projection and the envelope of the exact mode."""
    times = (solver.time_step * torch.arange(len(heard), dtype=torch.float64)).numpy()
    envelope = np.exp(float(exact.s[place].real) * times)
    number = "".join(map(str, mode))
    return [
        Line(f"{number}, geomopt", 1e3 * times, heard.numpy()),
        Line(f"{number}, exact decay", 1e3 * times, envelope, "exact"),
    ]


def _case(scale: Scale) -> Findings:
    count, fmax = (4, 400.0) if scale == "quick" else (len(MODES), 500.0)
    hard, soft = Wall.impedance(7400.0), Wall.miki(*MIKI)
    parts = [
        lambda: modes_of_cube("xi = 17.98", hard, count, fmax),
        lambda: modes_of_cube("Miki 30 mm", soft, count, fmax),
        lambda: closed_form(len(MODES)),
    ]
    return joined([timed(part) for part in parts])


CASES: dict[str, Case] = {"modes": _case}
