"""A second opinion on a design: the same objective from a finer mesh that the search never saw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.acoustics.room import Hexahedra
from sims.acoustics.solver import ORDERS, Solver


@dataclass(frozen=True)
class Certificate:
    """What a search believed of its design, and what a finer mesh says.

    found, confirmed: the objective by the solver of the search and by the finer one. before: the
    finer solver's for the design that the search began with, in the same measure. nodes: of both
    meshes.
    """

    found: float
    confirmed: float
    before: float
    nodes: tuple[int, int]

    @property
    def difference(self) -> float:
        """How far the two solvers are apart, in units of the objective."""
        return abs(self.found - self.confirmed)

    @property
    def holds(self) -> bool:
        """Whether the finer solver too finds the design better than the one before it, by more
        than the solvers differ.
        """
        return self.before - self.confirmed > self.difference

    def metrics(self) -> dict[str, Any]:
        """Entries of a report."""
        return {
            "objective": self.found,
            "objective_on_finer_mesh": self.confirmed,
            "objective_before_on_finer_mesh": self.before,
            "nodes": self.nodes[0],
            "nodes_of_finer_mesh": self.nodes[1],
            "certified": "yes" if self.holds else "no",
        }


class Certifiable(Protocol):
    """What can be solved again: an objective of designs by some solver."""

    @property
    def nodes(self) -> int:
        """Of the solver's mesh."""
        ...

    def on_finer_mesh(self, refinement: float) -> Certifiable:
        """The same objective from `refinement` times as many nodes along each axis."""
        ...

    def value(self, design: Tensor, /) -> Tensor:
        """The objective () of a design (n,)."""
        ...


def certified(
    problem: Certifiable, design: Tensor, before: Tensor, refinement: float = 1.5
) -> Certificate:
    """The objective of a design (n,) and of the one before it, (n,), on a finer mesh."""
    other = problem.on_finer_mesh(refinement)
    with torch.no_grad():
        return Certificate(
            float(problem.value(design)),
            float(other.value(design)),
            float(other.value(before)),
            (problem.nodes, other.nodes),
        )


def finer(solver: Solver, refinement: float = 1.5) -> Solver:
    """The solver of the same room and band with `refinement` times the nodes per wavelength.

    Hexahedra that came as they are keep their edges and are given polynomials of higher order.
    Raises InputError for a refinement of at most 1, and for hexahedra of order 6.
    """
    if not 1 < refinement < math.inf:
        raise InputError(f"refinement must be above 1 and finite, got {refinement}")
    order = solver.order
    if isinstance(solver.room.shape, Hexahedra):
        order = math.ceil(refinement * order)
        if order not in ORDERS:
            raise InputError(
                f"refinement must lead to at most order {ORDERS[-1]} where hexahedra are given, "
                f"got {refinement} times order {solver.order}: design at a lower order"
            )
    return Solver(
        solver.room,
        solver.fmax,
        order,
        refinement * solver.nodes_per_wavelength,
        safe=solver.safe,
        dtype=solver.dtype,
        device=solver.device,
    )
