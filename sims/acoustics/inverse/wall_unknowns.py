"""The unknowns of a wall identification as one vector, and what is expected of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sims.acoustics.inverse.gauss_newton import Prior
from sims.acoustics.inverse.misfit import PITCH_SPREAD, SOURCE_SPREAD, TERMS, Nuisance
from sims.acoustics.walls.wall import Wall, from_parameters

# D, E and F over rho c at 1 kHz: a resistance, a stiff layer as porous ones are, a heavy panel.
# They differ, since equal branches would stay equal.
TYPICAL = ((0.05, 15.0, 0.1), (0.5, 5.0, 4.0), (8.0, 30.0, 2.0))
WALL_SPREAD = 2.0  # of the logarithms, a factor of 7


@dataclass(frozen=True, eq=False)
class Unknowns:
    """Vectors (P + 6,): logarithms of D, E, F of each branch of each surface, then the source's
    terms and the pitch. fmax: up to where responses are compared [Hz].
    """

    surfaces: tuple[str, ...]
    branches: int
    fmax: float

    @property
    def count(self) -> int:
        """How many there are of walls, P."""
        return 3 * self.branches * len(self.surfaces)

    def logarithms(self, x: Tensor) -> Tensor:
        """(W, M, 3)."""
        return x[: self.count].reshape(len(self.surfaces), self.branches, 3)

    def nuisance(self, x: Tensor, sign: float) -> Nuisance:
        """The source and the pitch."""
        terms = x[self.count : self.count + TERMS]
        return Nuisance(terms, x[-1], 2 * math.pi * self.fmax, sign)

    def walls(self, x: Tensor) -> dict[str, Wall]:
        """The walls by name, differentiable."""
        return {
            name: Wall(from_parameters(part).branches, name=f"identified {name}")
            for name, part in zip(self.surfaces, self.logarithms(x), strict=True)
        }

    def prior(self) -> Prior:
        """What walls and sources are like."""
        typical = torch.tensor(TYPICAL, dtype=torch.float64).log()
        chosen = typical[torch.arange(self.branches) % len(TYPICAL)]
        # branches beyond the third are shifted, so that none equals another
        turn = (torch.arange(self.branches) // len(TYPICAL)).double()
        chosen = chosen + turn[:, None] * torch.tensor([-1.0, 0.5, 1.0], dtype=torch.float64)
        mean = torch.cat([chosen.flatten().repeat(len(self.surfaces)), torch.zeros(TERMS + 1)])
        spread = torch.full_like(mean, WALL_SPREAD)
        spread[self.count :] = torch.tensor([*SOURCE_SPREAD, PITCH_SPREAD], dtype=torch.float64)
        return Prior(mean, spread)

    def start(self, terms: Tensor, harder: float) -> Tensor:
        """Typical walls, harder by a factor, each surface a little different from the others."""
        x = self.prior().mean.clone()
        logarithms = self.logarithms(x)
        apart = torch.linspace(-0.1, 0.1, len(self.surfaces), dtype=torch.float64)
        logarithms += torch.log(torch.tensor(harder)) + apart[:, None, None]
        x[self.count : self.count + TERMS] = terms
        return x

    def names(self) -> list[str]:
        """Of all unknowns, in words."""
        parts = ("mass", "damping", "spring")
        walls = [
            f"{part} of branch {branch + 1} of {surface}"
            for surface in self.surfaces
            for branch in range(self.branches)
            for part in parts
        ]
        return [*walls, "gain", "tilt", "delay", "width", "high-pass", "speed of sound"]
