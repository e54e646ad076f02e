"""The Hessian at a solution as it is, factorised: what derivatives of a solution are made of."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.linear import Factor, IterativeFactor
from sims.thin_shell.system import System

NEAR = 0.01  # stiffness left of the softest mode: about one percent from the critical load
THIN = 0.05  # relative pivot of an equilibrium below which it is looked at
INVERSES = 5  # each makes a mode near buckling grow by its stiffness left over that of the others
SUSPECT = 1e-6  # relative pivot of a step below which it is looked at; inertia keeps it away


class NearBuckling(UserWarning):
    """A derivative was taken where a scene is about to buckle, or where it is not stable.

    It is exact, but large, and says little about the solution a finite step away.
    """


@dataclass(frozen=True, eq=False)
class Linearised:
    """A system without inertia at `unknowns`, its element matrices, and the factor of these and
    the inertia (size,) together."""

    system: System
    unknowns: Tensor
    gradient: Tensor
    matrices: list[Tensor]
    inertia: Tensor | None
    factor: Factor | IterativeFactor

    @classmethod
    def at(cls, system: System, unknowns: Tensor, inertia: Tensor | None) -> Linearised:
        """Assemble and factorise."""
        found = system.assemble(unknowns, 2)
        factor = system.solver.factorise(system.pattern.assemble(found.matrices, inertia))
        return cls(system, unknowns, found.gradient, found.matrices, inertia, factor)

    def solve(self, force: Tensor, held: Tensor | None = None) -> Tensor:
        """The move (size,) of all unknowns under a force on the free ones, held ones by `held`."""
        free = self.system.pattern.unknowns
        moved = torch.zeros_like(force) if held is None else held.clone()
        if held is not None:
            force = force - self.product(held)
        moved[free] = self.factor.solve(force[free])
        return moved

    def product(self, moved: Tensor) -> Tensor:
        """Hessian times a move (size,), held rows too."""
        total = self.system.pattern.full_product(self.matrices, moved)
        return total if self.inertia is None else total + self.inertia * moved

    def flag(self) -> None:
        """Warn with NearBuckling where the Hessian is indefinite or nearly singular.

        Small pivots alone tell little, as thin sheets bend easily. What tells is the softest mode v
        of H v = r K v, where K is the stiffness as if the membranes had no stress: r is one where
        stress does nothing and 1 - P / P_critical near buckling. Products and inverses of H find it
        when it is small, and only then.
        """
        pivot = self.factor.smallest_pivot
        if self.factor.negative_pivots:
            what = f"{self.factor.negative_pivots} negative pivots"
        elif math.isnan(pivot) or pivot > (THIN if self.inertia is None else SUSPECT):
            return
        else:
            remaining = self._softest()
            if remaining > NEAR:
                return
            what = f"its softest mode has {remaining:.1e} of the stiffness without stress"
        warnings.warn(
            f"a derivative is taken next to a buckling point: the smallest pivot of the Hessian is "
            f"{pivot:.2e}, {what}",
            NearBuckling,
            stacklevel=2,
        )

    def _softest(self) -> float:
        """The smallest r of H v = r K v, or a larger one where it is not near zero."""
        strains = self.system.strains(self.unknowns, torch.zeros_like(self.unknowns))
        unstressed = {place: torch.zeros_like(strain) for place, strain in strains.items()}
        matrices = self.system.assemble(self.unknowns, 2, extrapolated=unstressed).matrices
        # any force that has a part along the mode will do, the same one every time
        force = torch.sin(torch.arange(1, len(self.unknowns) + 1).to(self.unknowns))
        remaining = math.inf
        for _ in range(INVERSES):
            mode = self.solve(force)
            force = self.system.pattern.full_product(matrices, mode)
            if self.inertia is not None:
                force = force + self.inertia * mode
            remaining = min(remaining, float(mode @ self.product(mode)) / float(mode @ force))
            force = force / mode.norm()
        return remaining
