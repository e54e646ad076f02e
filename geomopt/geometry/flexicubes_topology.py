"""What the signs of the field decide: which cells the surface crosses, and how its vertices are
joined.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.geometry import flexicubes_topology_kernels as kernels
from geomopt.geometry.flexicubes_layout import Layout
from geomopt.geometry.flexicubes_tables import tables
from geomopt.launch import Vectors, launch


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

    # one byte for each point, rows along z filled up to whole words: the kernels look at eight at
    # once
    levels = layout.points[2]
    inside = torch.zeros((len(sdf) // levels, -(-levels // 8) * 8), dtype=torch.bool, device=device)
    torch.lt(sdf.reshape(-1, levels), 0, out=inside[:, :levels])
    signs = inside.view(torch.int64)
    rows = integers(size_x * size_y)
    launch(kernels.count_surface_cells, len(rows), [signs, size_y, size_z], [rows], split=True)
    ends = rows.cumsum(0, dtype=torch.int32)
    count = int(ends[-1])
    cells, slots = integers(count), integers(layout.cell_count)
    cases, loop_cases = cells.new_empty((2, count), dtype=torch.uint8)
    inputs, outputs = [signs, size_y, size_z, ends], [cells, cases, slots]
    launch(kernels.list_surface_cells, len(rows), inputs, outputs, split=True)

    counts = integers(2, count)
    launch(
        kernels.resolve_loops,
        count,
        [cells, cases, slots, size_x, size_y, size_z, table.problem_face, table.loop_count],
        [loop_cases, counts],
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
            slots,
            size_y,
            size_z,
            table.loop_of_edge,
            table.ring_edges,
            ends,
            counts,
        ],
        [Vectors(quads), Vectors(quad_slots)],
        split=True,
    )
    return Connectivity(cells, loop_cases, counts, ends, quads, quad_slots, duals)
