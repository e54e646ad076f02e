"""Reciprocity: a point that emits at a and is heard at b is one at b that is heard at a."""

from __future__ import annotations

import torch

from sims.acoustics.room import Room
from sims.acoustics.solver import Solver
from sims.acoustics.source import Emission
from sims.acoustics.validation.energy_balance import random_walls
from sims.acoustics.validation.fields import setting
from sims.acoustics.validation.rows import Case, Findings, Row, Scale, timed

ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5}  # over the largest pressure
PLACES = ((0.3, 0.4, 0.35), (2.1, 0.7, 1.3))
RATE, DURATION = 4000.0, 0.04


def swapped(dtype: torch.dtype) -> Findings:
    """An L-shaped room with a cupboard and another passive wall on each side."""
    walls = random_walls(3, ("left", "right", "front", "back", "floor", "ceiling"))
    room = Room.bricks(
        [((0.0, 0.0, 0.0), (1.2, 2.0, 1.5)), ((1.2, 0.0, 0.0), (2.4, 1.0, 1.5))],
        walls,
        furniture=[((0.0, 1.5, 0.0), (0.5, 2.0, 0.8))],
    )
    solver = Solver(room, 400.0, dtype=dtype)
    times = torch.arange(100, dtype=torch.float64) / RATE
    signal = torch.exp(-(((times - 0.012) * 500.0) ** 2))
    first, second = PLACES
    there = solver.simulate(Emission(first, signal, RATE), [second], DURATION)
    back = solver.simulate(Emission(second, signal, RATE), [first], DURATION)
    error = float((there - back).abs().max() / there.abs().max())
    quantity = "largest difference / largest pressure"
    words = setting(solver)
    return Findings(
        [Row("L-shaped room", quantity, 0.0, error, error, ROUNDING[dtype], words, "reciprocity")]
    )


def _case(scale: Scale) -> Findings:
    parts = [timed(lambda dtype=dtype: swapped(dtype)) for dtype in ROUNDING]
    return Findings([row for part in parts for row in part.rows])


CASES: dict[str, Case] = {"reciprocity": _case}
