"""Directions in which the potential falls."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.linear import Factor, IterativeFactor, SingularMatrix
from sims.thin_shell.system import Assembled, System

TURN = 0.5  # rad, largest turn of an edge in a capped or guarded step
PATIENCE = 4  # projected directions of little turn in a row before mass is tried
LEAST, FASTER, TIGHT = 1e-9, 100.0, 4.0  # added mass: least share, growth, how well it is found


def direction(
    system: System, found: Assembled, values: Tensor, shift: Tensor
) -> tuple[Tensor, Factor | IterativeFactor]:
    """The move of all unknowns, held ones by `shift`, and the factor of the matrix `values`."""
    force = -found.gradient
    if bool(shift.any()):
        force = force - system.pattern.full_product(found.matrices, shift)
    factor = system.solver.factorise(values)
    return solved(system, factor, force, shift), factor


def solved(
    system: System, factor: Factor | IterativeFactor, force: Tensor, shift: Tensor
) -> Tensor:
    """The move of all unknowns under a force on the free ones, held ones by `shift`."""
    free = system.pattern.unknowns
    increment = shift.clone()
    increment[free] = factor.solve(force[free])
    return increment


@dataclass
class Descent:
    """Directions of descent where the Hessian is not definite.

    First the elements are made positive semi-definite. Where that only creeps, as along a mode that
    has just become unstable, a multiple of the mass is added instead, little more than it takes to
    make the Hessian definite: the step is then long along the unstable mode.
    """

    timid: int = 0
    added: float = 0.0

    def __call__(
        self,
        system: System,
        unknowns: Tensor,
        found: Assembled,
        values: Tensor,
        shift: Tensor,
        ahead: dict[int, Tensor],
    ) -> Tensor | None:
        """A direction, or None where none was found."""
        if self.timid < PATIENCE:
            for roughly in (True, False):
                projected = system.assemble(unknowns, 2, True, ahead, roughly)
                matrix = system.pattern.assemble(projected.matrices, system.inertia)
                try:
                    increment, factor = direction(system, projected, matrix, shift)
                except SingularMatrix:
                    continue
                if factor.negative_pivots == 0 or not roughly:
                    short = system.model.largest_turn(increment) < TURN / 10
                    self.timid = self.timid + 1 if short else 0
                    return increment
            self.timid = PATIENCE
        return self._with_mass(system, found, values, shift)

    def _with_mass(
        self, system: System, found: Assembled, values: Tensor, shift: Tensor
    ) -> Tensor | None:
        model, pattern = system.model, system.pattern
        mass = torch.zeros_like(values)
        coordinates = pattern.unknowns < 3 * len(model.mass)
        heavy = pattern.diagonal[coordinates]
        mass[heavy] = model.mass.detach()[pattern.unknowns[coordinates] // 3]
        most = float((values[heavy].abs() / mass[heavy]).amax()) if len(heavy) else 0.0

        def tried(added: float) -> Tensor | None:
            try:
                increment, factor = direction(system, found, values + added * mass, shift)
            except SingularMatrix:
                return None
            return increment if factor.negative_pivots == 0 else None

        low, high = 0.0, self.added or LEAST * most
        increment = tried(high)
        while increment is None:
            low, high = high, FASTER * high
            if high > FASTER * most:
                return None
            increment = tried(high)
        low = low or high / FASTER
        while high > TIGHT * low:
            middle = math.sqrt(low * high)
            better = tried(middle)
            if better is None:
                low = middle
            else:
                high, increment = middle, better
        self.added = high
        if model.largest_turn(increment) > TURN:
            self.timid = 0
        return increment
