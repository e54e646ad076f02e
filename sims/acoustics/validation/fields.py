"""Runs of a solver from any initial field, heard at points or as projections on shapes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.room import Room
from sims.acoustics.solver import Solver
from sims.acoustics.stepping.marching import Stencils, march
from sims.acoustics.walls.wall import Wall


def projections(
    solver: Solver,
    initial: Tensor,
    weights: Tensor,
    duration: float,
    walls: Mapping[str, Wall] | Wall | None = None,
) -> Tensor:
    """Sums (n, T) float64 of weights (n, N) over the field that rings from `initial` (N,)."""
    dtype, device = solver.dtype, solver.device
    nodes = torch.arange(weights.shape[1], dtype=torch.int32, device=device)
    stencils = Stencils(nodes.expand(len(weights), -1).contiguous(), weights.to(dtype).contiguous())
    sums = march(
        solver.space,
        solver.walls(walls),
        initial.to(dtype),
        stencils,
        solver.steps(duration),
        solver.time_step,
    )
    return sums.T.double()


def tube(
    wall: Wall, length: float, fmax: float, safe: bool = False, time_step: float | None = None
) -> Solver:
    """A tube along x, one element wide and rigid, that `wall` closes at its right end, in float64.

    Its elements are as long and as wide as those of a room of order 4 are at this fmax, 6 nodes to
    the wavelength, so that the time step is that of rooms too.
    """
    width = 4.0 * SPEED_OF_SOUND / (6.0 * fmax) * 0.999
    sides = dict.fromkeys(("left", "front", "back", "floor", "ceiling"), Wall.rigid())
    room = Room.box(length, width, width, walls={**sides, "right": wall})
    return Solver(room, fmax, safe=safe, time_step=time_step, dtype=torch.float64)


def setting(solver: Solver) -> str:
    """Order, number of nodes and time step in words."""
    safe = ", safe" if solver.safe else ""
    bits = {torch.float32: 32, torch.float64: 64}[solver.dtype]
    step = f"{1e6 * solver.time_step:.3g} us"
    return f"P={solver.order}{safe}, {len(solver.space.points)} nodes, {step}, float{bits}"
