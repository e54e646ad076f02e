"""The stiffness of mapped elements in one precision, as the time loop applies it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import warp as wp
from torch import Tensor

from geomopt.launch import Vectors, initialize, launch, warp_scalar
from sims.acoustics.elements.element_numbering import Numbering
from sims.acoustics.elements.hexahedra_kernels import block_kernels, node_kernels
from sims.acoustics.elements.spectral import element

LANES = {torch.float32: 16, torch.float64: 8}  # of a block on CPU: the widest vectors there are
GRAIN = 32  # blocks worth a thread


@dataclass(frozen=True)
class MappedOperator:
    """A = c² M⁻¹ K of E elements in B blocks of W lanes, the last one filled up with idle lanes.

    nodes: (B, Q W) int32. slopes: (P + 1, P + 1). metric: (B, Q, 6, W). offsets, entries: the
    places of each node in the flattened forces, int32. scale: (N,), c²/M. forces: (B, Q, W), room
    for what elements put on their nodes. On CUDA W = 1, a thread works on one node of one element,
    and fluxes are (B, Q, 3).
    """

    order: int
    nodes: Tensor
    slopes: Tensor
    metric: Tensor
    offsets: Tensor
    entries: Tensor
    scale: Tensor
    forces: Tensor
    fluxes: Tensor

    @classmethod
    def of(
        cls,
        order: int,
        numbering: Numbering,
        metric: Tensor,
        scale: Tensor,
        dtype: torch.dtype,
        by_node: bool,
    ) -> MappedOperator:
        """Lay out a metric (E, Q, 6) and c²/M (N,) for the kernels of a precision.

        by_node: a thread for each node of each element, as on CUDA, not for each block.
        """
        device = metric.device
        lanes = 1 if by_node else LANES[dtype]
        count, size = numbering.nodes.shape
        blocks = -(-count // lanes)
        idle = blocks * lanes - count
        nodes = torch.nn.functional.pad(numbering.nodes.int(), (0, 0, 0, idle))
        padded = torch.nn.functional.pad(metric.to(dtype), (0, 0, 0, 0, 0, idle))
        by_lane = padded.view(blocks, lanes, size, 6).permute(0, 2, 3, 1).contiguous()
        entries, place = numbering.entries // size, numbering.entries % size
        entries = (entries // lanes * size + place) * lanes + entries % lanes
        forces = torch.zeros(blocks, size, lanes, dtype=dtype, device=device)
        return cls(
            order=order,
            nodes=nodes.view(blocks, lanes, size).transpose(1, 2).flatten(1).contiguous(),
            slopes=element(order).derivative.to(device, dtype),
            metric=by_lane,
            offsets=numbering.offsets.int(),
            entries=entries.int(),
            scale=scale.to(dtype),
            forces=forces,
            fluxes=forces.new_zeros((blocks, size, 3) if by_node else (0, 0, 3)),
        )

    @property
    def _by_node(self) -> bool:
        return len(self.fluxes) > 0

    @property
    def _kernels(self) -> Any:
        scalar = warp_scalar(self.scale.dtype)
        if self._by_node:
            return node_kernels(scalar)
        return block_kernels(scalar, self.order, self.forces.shape[2])

    def _rows(self, tensor: Tensor) -> Any:
        """An array of rows of lanes."""
        initialize()
        return wp.from_torch(tensor, dtype=self._kernels.row, return_ctype=True)

    def accelerate(self, pressure: Tensor, out: Tensor) -> None:
        """out = -A pressure."""
        self._find_forces(pressure)
        kernel = node_kernels(warp_scalar(pressure.dtype)).accelerate_nodes
        inputs = [self.forces.flatten(), self.offsets, self.entries, self.scale]
        launch(kernel, len(pressure), inputs, [out], split=True)

    def advance(
        self, pressure: Tensor, previous: Tensor, acceleration: Tensor, time_step: float
    ) -> None:
        """previous <- 2 p - previous + dt² a - (dt⁴/12) A a."""
        self._find_forces(acceleration)
        kernel = node_kernels(warp_scalar(pressure.dtype)).advance_nodes
        forces = [self.forces.flatten(), self.offsets, self.entries, self.scale]
        steps = [time_step**2, time_step**4 / 12]
        inputs = [pressure, acceleration, *forces, *steps]
        launch(kernel, len(pressure), inputs, [previous], split=True)

    def _find_forces(self, field: Tensor) -> None:
        inputs: list[Any] = [field, self.nodes, self.slopes]
        if not self._by_node:
            arrays = self._rows(self.metric), self._rows(self.forces)
            launch(
                self._kernels.find_forces,
                len(self.nodes),
                [*inputs, arrays[0]],
                [arrays[1]],
                split=True,
                grain=GRAIN,
            )
            return
        kernels, count = self._kernels, self.forces.numel()
        fluxes = Vectors(self.fluxes)
        launch(kernels.find_fluxes, count, [*inputs, self.metric.flatten(2)], [fluxes])
        launch(kernels.sum_fluxes, count, [fluxes, self.slopes], [self.forces.flatten()])

    def metric_gradient(self, left: Tensor, right: Tensor, sums: Tensor) -> None:
        """Add the derivative of left^T K right in the metric to `sums`, laid out like it."""
        inputs: list[Any] = [left, right, self.nodes, self.slopes]
        kernel = self._kernels.add_metric_gradient
        if self._by_node:
            launch(kernel, self.forces.numel(), inputs, [sums.flatten(2)])
            return
        launch(kernel, len(self.nodes), inputs, [self._rows(sums)], split=True, grain=GRAIN)
