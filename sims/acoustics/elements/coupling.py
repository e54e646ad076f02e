"""How the operator couples the nodes of walls with one another and with the air beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.elements.spectral import element

AT_ONCE = 4_000_000  # entries of element matrices that are held at a time


@dataclass(frozen=True, eq=False)
class Coupling:
    """The columns of A = c² M⁻¹ K at W nodes, as compressed rows.

    rows: (n,) int64 nodes, the W nodes first, then all others that a column reaches. starts:
    (n + 1,) int32. columns: int32 in [0, W). values: float64 [1/s²].
    """

    rows: Tensor
    starts: Tensor
    columns: Tensor
    values: Tensor

    def among(self, count: int) -> sparse.csr_array:
        """The rows of the first `count` nodes, those of the columns, as a sparse matrix."""
        starts = self.starts[: count + 1].cpu().numpy()
        columns = self.columns.cpu().numpy()[: starts[-1]]
        values = self.values.cpu().numpy()[: starts[-1]]
        return sparse.csr_array((values, columns, starts), shape=(count, count))


def element_matrices(order: int, metric: Tensor) -> Tensor:
    """K (n, Q, Q) [m] of elements, D_aᵀ G_ab D_b summed over the axes, from G (n, Q, 6) at their
    nodes, whose entries are xx, xy, xz, yy, yz, zz.
    """
    slope = element(order).derivative.to(metric.device)
    one = torch.eye(order + 1, dtype=slope.dtype, device=slope.device)
    along = [
        torch.kron(torch.kron(x, y), z)
        for x, y, z in ((slope, one, one), (one, slope, one), (one, one, slope))
    ]
    total = metric.new_zeros(len(metric), len(one) ** 3, len(one) ** 3)
    for place, (a, b) in enumerate(combinations_with_replacement(range(3), 2)):
        if not metric[:, :, place].any():  # bricks have no mixed entries
            continue
        part = along[a].T @ (metric[:, :, place, None] * along[b])
        total = total + (part if a == b else part + part.mT)
    return total


def couple(
    nodes: Tensor,
    mass: Tensor,
    element_nodes: Tensor,
    order: int,
    metric: Callable[[Tensor], Tensor],
) -> Coupling:
    """The columns of A at nodes (W,), ascending.

    mass: (N,). element_nodes: (E, Q). metric: gives G (n, Q, 6) [m] of elements (n,).
    """
    device = nodes.device
    count = len(mass)
    place = torch.full((count,), -1, dtype=torch.int64, device=device)
    place[nodes.long()] = torch.arange(len(nodes), device=device)
    column_of = place[element_nodes]
    near = (column_of >= 0).any(1).nonzero().flatten()
    matrix = sparse.csr_array((count, len(nodes)))
    for part in near.split(max(1, AT_ONCE // element_nodes.shape[1] ** 2)):
        entries = element_matrices(order, metric(part).detach())
        columns = column_of[part][:, None, :].expand(entries.shape)
        rows = element_nodes[part][:, :, None].expand(entries.shape)
        kept = (columns >= 0) & (entries != 0)
        found = [tensor[kept].cpu().numpy() for tensor in (entries, rows, columns)]
        matrix = matrix + sparse.coo_array(
            (found[0], (found[1], found[2])), shape=(count, len(nodes))
        )
    matrix = sparse.csr_array(matrix)
    reached = np.flatnonzero(np.diff(matrix.indptr))
    wall = nodes.long().cpu().numpy()
    rows = np.concatenate([wall, np.setdiff1d(reached, wall)])
    matrix = sparse.csr_array(matrix[rows])
    scale = SPEED_OF_SOUND**2 / mass.detach().cpu().numpy()[rows]
    values = matrix.data * np.repeat(scale, np.diff(matrix.indptr))
    return Coupling(
        torch.from_numpy(rows).to(device),
        torch.from_numpy(matrix.indptr).int().to(device),
        torch.from_numpy(matrix.indices).int().to(device),
        torch.from_numpy(values).to(device),
    )
