"""What the time loop sees of a discretised room, be it a lattice of bricks or mapped hexahedra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from sims.acoustics.elements.coupling import Coupling


@dataclass(frozen=True)
class WallFaces:
    """The faces of elements that lie on walls.

    nodes: (F, n) int64, the nodes of each face. areas: (F, n) float64, the share of the face's area
    that each of its nodes stands for [m²] (two-dimensional Gauss-Lobatto weights times the area
    Jacobian). surface: (F,) int64, an index into the names of the room's surfaces. low, high:
    (F, 3) float64, the corners of the box around each face [m].
    """

    nodes: Tensor
    areas: Tensor
    surface: Tensor
    low: Tensor
    high: Tensor


class Space(Protocol):
    """Nodes, mass and stiffness of a room in spectral elements.

    points: (N, 3) float64 [m]. mass: (N,) float64, the volume that each node stands for [m³]; zero
    at nodes outside of the room, whose pressure stays zero. A = c² M⁻¹ K below.
    """

    points: Tensor
    mass: Tensor
    faces: WallFaces

    def interpolation(self, name: str, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes (R, Q) int64 and weights (R, Q) float64 of the field at positions (R, 3),
        differentiable in these. Raises InputError that says `name` for one outside of the air.
        """
        ...

    def accelerate(self, pressure: Tensor, out: Tensor) -> None:
        """out = -A pressure, both (N,)."""
        ...

    def advance(
        self, pressure: Tensor, previous: Tensor, acceleration: Tensor, time_step: float
    ) -> None:
        """previous <- 2 p - previous + dt² a - (dt⁴/12) A a, with a = acceleration, all (N,)."""
        ...

    def coupling(self, nodes: Tensor) -> Coupling:
        """The columns of A at nodes (W,), ascending."""
        ...

    def element_of_node(self, node: int) -> str:
        """An element at this node in words, with its place and size, for messages."""
        ...
