"""What the signs of the field decide: which cells the surface crosses, and how its vertices are
joined.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.geometry.flexicubes import connectivity_kernels as kernels
from geomopt.geometry.flexicubes.layout import Layout
from geomopt.geometry.flexicubes.sign_kernels import sign_kernels
from geomopt.geometry.flexicubes.tables import tables
from geomopt.launch import Vectors, launch, warp_scalar


@dataclass(frozen=True)
class Connectivity:
    """What the signs of the field decide; S surface cells, D dual vertices, Q quads.

    cells (S,) int32: surface cells in ascending order. loop_cases (S,) uint8: the case whose loops
    each of them uses.
    counts, ends (2, S) int32: vertices and quads of each, and their running sums. quads, quad_slots
    (Q, 4) int32: dual vertices of a quad, and the places of their cells in `cells`.
    """

    cells: Tensor
    loop_cases: Tensor
    counts: Tensor
    ends: Tensor
    quads: Tensor
    quad_slots: Tensor
    duals: int


def connect(sdf: Tensor, layout: Layout) -> Connectivity:
    """Find surface cells, loops and quads of a contiguous field (N,)."""
    device = sdf.device
    table = tables(device)
    size_x, size_y, size_z = layout.cells

    def integers(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.int32, device=device)

    # one bit for each point; the windows of 64 bits of the kernels reach beyond the last one
    full_words = len(sdf) // 64
    inside = torch.empty(full_words + 3, dtype=torch.int64, device=device)
    fours = Vectors(sdf[: 64 * full_words].view(-1, 4))
    pack_signs = sign_kernels(warp_scalar(sdf.dtype)).pack_signs
    launch(pack_signs, len(inside), [fours, sdf, len(sdf)], [inside], split=True)
    row_counts = integers(size_x * size_y)
    crossed = torch.empty((len(row_counts), -(-size_z // 64)), dtype=torch.int64, device=device)
    rows = len(row_counts)
    inputs, outputs = [inside, size_y, size_z], [crossed, row_counts]
    launch(kernels.mark_surface_cells, rows, inputs, outputs, split=True)
    starts = row_counts.new_zeros(len(row_counts) + 1)
    torch.cumsum(row_counts, 0, dtype=torch.int32, out=starts[1:])
    count = int(starts[-1])

    cells, counts = integers(count), integers(2, count)
    cases, loop_cases = cells.new_empty((2, count), dtype=torch.uint8)
    launch(
        kernels.list_surface_cells,
        rows if count else 0,
        [inside, crossed, starts, layout.cells, table.problem_face, table.loop_count],
        [cells, cases, loop_cases, counts],
        split=True,
    )
    ends = counts.cumsum(1, dtype=torch.int32)
    duals, quad_count = ends[:, -1].tolist() if count else (0, 0)
    quads, quad_slots = integers(quad_count, 4), integers(quad_count, 4)
    launch(
        kernels.list_quads,
        count if quad_count else 0,
        [
            cells,
            cases,
            loop_cases,
            crossed,
            starts,
            layout.cells,
            table.loop_of_edge,
            table.ring_edges,
            ends,
            counts,
        ],
        [Vectors(quads), Vectors(quad_slots)],
        split=True,
    )
    return Connectivity(cells, loop_cases, counts, ends, quads, quad_slots, duals)
