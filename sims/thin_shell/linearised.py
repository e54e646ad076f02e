"""The Hessian at a solution as it is, factorised: what derivatives of a solution are made of."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.linear import Factor, IterativeFactor, Solver
from sims.thin_shell.system import System

NEAR = 0.05  # of the pivot of stable elements: about half a percent from the critical load
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
    solver: Solver

    @classmethod
    def at(
        cls, system: System, unknowns: Tensor, inertia: Tensor | None, solver: Solver
    ) -> Linearised:
        """Assemble and factorise."""
        found = system.assemble(unknowns, 2)
        values = system.model.pattern.assemble(found.matrices, inertia)
        factor = solver.factorise(values)
        return cls(system, unknowns, found.gradient, found.matrices, inertia, factor, solver)

    def solve(self, force: Tensor, held: Tensor | None = None) -> Tensor:
        """The move (size,) of all unknowns under a force on the free ones, held ones by `held`."""
        free = self.system.model.pattern.unknowns
        moved = torch.zeros_like(force) if held is None else held.clone()
        if held is not None:
            force = force - self.product(held)
        moved[free] = self.factor.solve(force[free])
        return moved

    def product(self, moved: Tensor) -> Tensor:
        """Hessian times a move (size,), held rows too."""
        total = self.system.model.pattern.full_product(self.matrices, moved)
        return total if self.inertia is None else total + self.inertia * moved

    def flag(self) -> None:
        """Warn with NearBuckling where the Hessian is indefinite or nearly singular.

        Small pivots alone tell little, as thin sheets bend easily: they are compared with those of
        the same elements made positive semi-definite, which carry the compression no more.
        """
        pivot = self.factor.smallest_pivot
        if self.factor.negative_pivots:
            what = f"{self.factor.negative_pivots} negative pivots"
        elif math.isnan(pivot) or pivot > (NEAR if self.inertia is None else SUSPECT):
            return
        else:
            model = self.system.model
            stable = self.system.assemble(self.unknowns, 2, project=True).matrices
            factor = self.solver.factorise(model.pattern.assemble(stable, self.inertia))
            if pivot > NEAR * factor.smallest_pivot:
                return
            what = f"{pivot / factor.smallest_pivot:.1e} of that of stable elements"
        warnings.warn(
            f"a derivative is taken next to a buckling point: the smallest pivot of the Hessian is "
            f"{pivot:.2e}, {what}",
            NearBuckling,
            stacklevel=2,
        )
