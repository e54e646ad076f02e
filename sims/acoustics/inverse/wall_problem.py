"""Wall identification as a problem for any method of `optimizers`, and as a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import optimizers
from optimizers import Box, Budget, Problem
from sims.acoustics.inverse.identify_walls import LOWEST, proposed
from sims.acoustics.inverse.wall_check import wall_check
from sims.acoustics.inverse.wall_level import Level
from sims.acoustics.inverse.wall_unknowns import Unknowns
from sims.acoustics.room import Room
from sims.acoustics.solver import Solver
from sims.acoustics.take import read_take
from sims.acoustics.walls.wall import Wall

REACH = 4.0  # of the prior's spread, to the bounds
GRADIENT_COST = 3.0


class WallProblem(Problem):
    """Half the mean square of a level's residuals by the solver, with the prior's part.

    Its parameters are "unknowns", those of `wall_unknowns`. start: (P + 6,) of them.
    """

    def __init__(self, level: Level, start: Tensor) -> None:
        self.level = level
        self.prior = level.unknowns.prior()
        reach = REACH * self.prior.spread
        box = Box(
            (len(start),), self.prior.mean - reach, self.prior.mean + reach, start, 0.1 * reach
        )
        super().__init__(
            {"unknowns": box}, self._value, differentiable=True, gradient_cost=GRADIENT_COST
        )

    def _value(self, parameters: dict[str, Tensor]) -> Tensor:
        x = parameters["unknowns"]
        residuals = self.level.solved(x)
        return (0.5 * residuals.square().sum() + self.prior.cost(x)) / len(residuals)

    def metrics(self, parameters: dict[str, Tensor]) -> dict[str, Any]:
        """How far T30 and C50 are from those measured, and what the walls absorb."""
        unknowns: Unknowns = self.level.unknowns
        x = parameters["unknowns"].detach()
        walls = unknowns.walls(x)
        solver = self.level.solver
        found = Solver(solver.room.with_walls(walls), solver.fmax)
        check = wall_check(found, self.level.measurement, unknowns.nuisance(x, self.level.sign))
        absorbed = {
            f"absorption_of_{name}_at_125_hz": float(wall.absorption([125.0], "normal")[0])
            for name, wall in walls.items()
        }
        return {
            "t30_noticeable_differences": check.largest("t30"),
            "c50_noticeable_differences": check.largest("c50"),
            **absorbed,
        }


@dataclass(frozen=True)
class WallIdentification:
    """Walls of a box from a take (`sims.acoustics.take`), refined by the solver's gradient.

    take: its folder. size: length, width, height of the room [m]. fmax: up to where responses are
    compared [Hz]. branches: of each wall.
    """

    take: str
    size: tuple[float, float, float]
    fmax: float = 250.0
    branches: int = 2

    def start(self, device: torch.device, seed: int) -> WallProblem:
        """The problem, which begins where the modes of the room end. Raises InputError."""
        del device, seed  # small dense systems on the host; nothing is drawn at random
        room = Room.box(*self.size, walls=Wall.rigid())
        level, fit, _ = proposed(read_take(self.take), room, self.fmax, None, self.branches, LOWEST)
        return WallProblem(level, fit.parameters)

    def method(self) -> optimizers.Lbfgs:
        """L-BFGS."""
        return optimizers.Lbfgs()

    def budget(self) -> Budget:
        """Ten gradients."""
        return Budget(gradients=10)
