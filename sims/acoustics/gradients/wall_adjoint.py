"""The walls in the reverse sweep, and the gradients in what they are made of; see `adjoint`."""

from __future__ import annotations

import torch
from torch import Tensor

from geomopt.launch import launch
from sims.acoustics.gradients.adjoint_kernels import kernels
from sims.acoustics.stepping.boundary_kernels import kernels as forward_kernels
from sims.acoustics.stepping.marching import Walls, span_of, swept


def nodes_of_entries(walls: Walls) -> Tensor:
    """The node (K,) int64 of each entry."""
    return torch.repeat_interleave(walls.nodes.long(), walls.starts.diff().long())


class WallSweep:
    """Walls that answer backwards in time, over the mass of each node."""

    def __init__(self, walls: Walls, time_step: float, summed: bool) -> None:
        """summed: whether gradients are wanted, for which `close` reads rates."""
        self.walls, self.time_step, self.summed = walls, time_step, summed
        zeros = walls.strength.new_zeros
        places, count = len(walls.strength) * walls.most, len(walls.nodes)
        self.filters, self.sums = zeros(places, 6), zeros(places, 4)
        self.latest = zeros(2, count)
        self.right, self.change = zeros(count), zeros(count)
        self.rho, self.updated, self.rates = zeros(count), zeros(count), zeros(count)

    def turn(self) -> None:
        """What `close` does to the names of its tensors, after its launches were made again."""
        if len(self.walls.sweeps) % 2:
            self.rho, self.updated = self.updated, self.rho

    def close(self, field: Tensor, previous: Tensor, acceleration: Tensor) -> None:
        """Add the walls' part to the adjoint field, with -A of it in `acceleration`.

        `rates` (W,) are to hold those of the pressure in this step, where sums are wanted.
        """
        walls = self.walls
        count, span = len(walls.nodes), span_of(field)
        if not count:
            return
        tools = kernels(field.dtype)
        *_, spread = forward_kernels(field.dtype)
        given = [
            span, count, walls.most, walls.nodes, walls.starts, walls.surface,
            walls.branch_starts, walls.steps, self.time_step, walls.fraction,
        ]  # fmt: skip
        seen = [walls.strength, walls.gain, field, acceleration, self.filters, self.latest]
        made = [previous, self.right, self.rho, self.change]
        launch(tools.drive, -(-count // span), [*given, *seen], made)
        self.rho, self.updated = swept(
            walls, walls.gain, self.right, self.rho, self.change, self.updated
        )
        rows, coupled = len(walls.rows), [walls.row_starts, walls.columns, walls.values]
        spreading = [span, 0, rows, walls.rows, *coupled, -0.5 / self.time_step, self.rho]
        launch(spread, -(-rows // span), spreading, [acceleration])
        seen = [acceleration, self.rho, int(self.summed), self.rates]
        made = [field, self.filters, self.latest, self.sums]
        launch(tools.close, -(-count // span), [*given, *seen], made)

    def gradients(self, mass: Tensor) -> tuple[Tensor, Tensor]:
        """In strength (K,) and table (B, 4), for the mass (N,) of the nodes."""
        walls, step = self.walls, self.time_step
        first = walls.branch_starts[walls.surface.long()].long()
        last = walls.branch_starts[walls.surface.long() + 1].long()
        branch = first[:, None] + torch.arange(walls.most, device=first.device)
        there = branch < last[:, None]
        branch = torch.where(there, branch, 0)
        over_mass = self.sums.double().view(*branch.shape, 4)
        sums = over_mass * (there * mass[nodes_of_entries(walls)][:, None])[..., None]
        weight = walls.table[:, 0].double()[branch]
        moved = walls.strength.double()[:, None] * weight
        columns = [
            walls.strength.double()[:, None] * sums[..., 0],
            -moved * sums[..., 1] / step,
            -moved * sums[..., 2] / 2,
            -moved * sums[..., 3] / 2,
        ]
        table = torch.zeros_like(walls.table, dtype=torch.float64)
        table.index_add_(0, branch.flatten(), torch.stack(columns, 2).flatten(0, 1))
        strength = (weight * sums[..., 0]).sum(1)
        return strength.to(walls.strength.dtype), table.to(walls.table.dtype)
