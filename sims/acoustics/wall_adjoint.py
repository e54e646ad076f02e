"""The walls in the reverse sweep, and the gradients in what they are made of; see `adjoint`."""

from __future__ import annotations

import torch
from torch import Tensor

from geomopt.launch import launch
from sims.acoustics.adjoint_kernels import kernels
from sims.acoustics.boundary_kernels import kernels as forward_kernels
from sims.acoustics.marching import Walls, span_of, swept


def nodes_of_entries(walls: Walls) -> Tensor:
    """The node (K,) int64 of each entry."""
    return torch.repeat_interleave(walls.nodes.long(), walls.starts.diff().long())


class WallSweep:
    """Walls that answer backwards in time, over the mass of each node."""

    def __init__(self, walls: Walls, time_step: float, summed: bool) -> None:
        """summed: whether gradients are wanted, for which `close` reads rates."""
        self.walls, self.time_step, self.summed = walls, time_step, summed
        weight, inertia, resistance, spring = walls.table.double().unbind(1)
        inertia, resistance, stiffness = inertia / time_step, resistance / 2, spring * time_step / 4
        whole = inertia + resistance + stiffness
        keep = (inertia - resistance - stiffness) / whole
        branches = torch.stack([weight, keep, spring / whole, 1 / whole], 1)
        self.branches = branches.to(walls.table.dtype).contiguous()
        zeros = walls.strength.new_zeros
        places, count = len(walls.strength) * walls.most, len(walls.nodes)
        self.filters, self.sums = zeros(places, 4), zeros(places, 4)
        self.latest = zeros(2, count)
        self.gain, self.right, self.change = zeros(count), zeros(count), zeros(count)
        self.rho, self.updated = zeros(count), zeros(count)

    def close(
        self, field: Tensor, previous: Tensor, acceleration: Tensor, rates: Tensor, row: int
    ) -> None:
        """Add the walls' part to the adjoint field, with -A of it in `acceleration`.

        rates: (n, W), of which `row` is this step's.
        """
        walls, dtype = self.walls, field.dtype
        count = len(walls.nodes)
        if not count:
            return
        tools = kernels(dtype)
        *_, spread = forward_kernels(dtype)
        entries = [walls.nodes, walls.starts, walls.surface]
        branches = [walls.branch_starts, self.branches, walls.most, self.time_step, walls.fraction]
        launch(
            tools.drive,
            count,
            [
                *entries, walls.strength, *branches, field, acceleration, self.filters,
                self.latest,
            ],
            [previous, self.gain, self.right, self.rho, self.change],
        )  # fmt: skip
        coupled = [walls.row_starts, walls.columns, walls.values]
        self.rho, self.updated = swept(
            walls, self.gain, self.right, self.rho, self.change, self.updated
        )
        span, rows = span_of(field), len(walls.rows)
        given = [span, 0, rows, walls.rows, *coupled, -0.5 / self.time_step, self.rho]
        launch(spread, -(-rows // span), given, [acceleration])
        sums = [int(self.summed), row, rates]
        given = [*entries, *branches, acceleration, self.rho, *sums]
        launch(tools.close, count, given, [field, self.filters, self.latest, self.sums])

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
