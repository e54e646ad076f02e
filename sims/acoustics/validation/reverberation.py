"""The reverberation time of the 2 m cube with hard walls, by waves and by diffuse fields.

Sabine's and Eyring's formulas hold where many modes overlap; here they do not, and modes that graze
a wall meet it twice as hard as these formulas say. Nothing here is judged.
"""

from __future__ import annotations

import torch

from sims.acoustics.exact.box_modes import box_modes
from sims.acoustics.exact.reflection import random_absorption
from sims.acoustics.exact.statistics import eyring, sabine
from sims.acoustics.metrics import T20, reverberation_time, schroeder_curve
from sims.acoustics.room import Room
from sims.acoustics.solver import Solver
from sims.acoustics.validation.fields import setting
from sims.acoustics.validation.rigid_cube import CUBE, RECEIVERS, SOURCE
from sims.acoustics.validation.rows import (
    Case,
    Findings,
    Line,
    Panel,
    Picture,
    Row,
    Scale,
    timed,
)
from sims.acoustics.walls.wall import Wall

FMAX, DURATION = 500.0, 0.14
IMPEDANCE = 7400.0  # [Pa s/m]


def decays() -> Findings:
    """T20 at the receivers beside the formulas and beside single modes."""
    wall = Wall.impedance(IMPEDANCE)
    solver = Solver(Room.box(*CUBE, walls=wall), FMAX)
    heard = solver.simulate(SOURCE, RECEIVERS, DURATION).double()
    measured = float(reverberation_time(heard, 1.0 / solver.time_step, T20).mean())
    alpha = float(random_absorption(wall.admittance(FMAX)))
    volume, area = CUBE[0] ** 3, 6.0 * CUBE[0] ** 2
    modes = box_modes(CUBE, wall.admittance_at, torch.tensor([[1, 0, 0], [1, 1, 1]]))
    axial, oblique = modes.reverberation_times.tolist()
    formulas = {
        "Sabine, alpha of random incidence": sabine(volume, area, alpha),
        "Eyring, alpha of random incidence": eyring(volume, area, alpha),
        "axial mode 100": axial,
        "oblique mode 111": oblique,
    }
    words = setting(solver)
    rows = []
    for name, value in formulas.items():
        numbers = (value, measured, abs(measured / value - 1.0), None)
        rows.append(Row("hard cube, T60 [s]", name, *numbers, words, "formula"))
    times = 1e3 * solver.times(DURATION)  # [ms]
    levels = schroeder_curve(heard)
    shown = levels[0] > -60.0
    lines = [
        Line(f"receiver {place + 1}", times[shown].numpy(), level[shown].numpy())
        for place, level in enumerate(levels)
    ]
    for name, value in formulas.items():
        line = (-60e-3 * times[shown] / value).numpy()
        lines.append(Line(f"{name}: {value:.3f} s", times[shown].numpy(), line, "limit"))
    panel = Panel(("time [ms]", "level of what is left [dB]"), lines)
    return Findings(rows, [Picture("decay in the hard cube", [panel])])


def _case(scale: Scale) -> Findings:
    return timed(decays)


CASES: dict[str, Case] = {"reverberation": _case}
