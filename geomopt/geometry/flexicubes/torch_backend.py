"""FlexiCubes in plain torch operations: the oracle of the tests, with the vertices and faces in the
order of the kernels.

Derivatives come from autograd. Only surface cells are gathered, and every index is arithmetic on
the cell number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.geometry.flexicubes.layout import Fields, Layout
from geomopt.geometry.flexicubes.tables import Tables, tables


@dataclass(frozen=True)
class _Cells:
    """Surface cells: their numbers (S,), positions (S, 3), cases (S,) and the cases whose loops
    they use (S,).
    """

    numbers: Tensor
    places: Tensor
    cases: Tensor
    loop_cases: Tensor


def _surface_cells(sdf: Tensor, layout: Layout, table: Tables) -> tuple[_Cells, Tensor]:
    """Surface cells in ascending order, and the volume that maps a cell to its place among them."""
    size = layout.cells
    inside = (sdf.reshape(layout.points) < 0).to(torch.uint8)
    case = torch.zeros(size, dtype=torch.uint8, device=sdf.device)
    for corner in range(8):
        i, j, k = corner & 1, (corner >> 1) & 1, corner >> 2
        case |= inside[i : i + size[0], j : j + size[1], k : k + size[2]] << corner
    case = case.reshape(-1)
    numbers = ((case > 0) & (case < 255)).nonzero().squeeze(1)
    slots = torch.full((layout.cell_count,), -1, dtype=torch.int32, device=sdf.device)
    slots[numbers] = torch.arange(len(numbers), dtype=torch.int32, device=sdf.device)
    places = torch.stack(torch.unravel_index(numbers, size), dim=1)
    cases = case[numbers].long()

    # two problem cells across their ambiguous face both take the loops of the complementary case
    face = table.problem_face.long()[cases]
    axis, step = face.clamp(min=0) // 2, face.clamp(min=0) % 2 * 2 - 1
    beside = places.gather(1, axis[:, None]).squeeze(1) + step
    extent = torch.tensor(size, device=sdf.device)[axis]
    flippable = (face >= 0) & (beside >= 0) & (beside < extent)
    stride = torch.tensor([size[1] * size[2], size[2], 1], device=sdf.device)[axis]
    neighbour = torch.where(flippable, numbers + step * stride, numbers)
    flip = flippable & (face[slots[neighbour].long()] >= 0)
    return _Cells(numbers, places, cases, torch.where(flip, 255 - cases, cases)), slots


def _quads(cells: _Cells, slots: Tensor, layout: Layout, table: Tables) -> tuple[Tensor, Tensor]:
    """Dual vertices and cells of each quad (Q, 4), in the order of the cell at its first corner,
    then of the axis.
    """
    device = slots.device
    counts = table.loop_count.long()[cells.loop_cases]
    starts = counts.cumsum(0) - counts
    axes = torch.arange(3, device=device)
    following, last = (axes + 1) % 3, (axes + 2) % 3
    low = cells.cases[:, None] & 1
    crosses = (cells.cases[:, None] >> (1 << axes)) & 1 != low
    owned = crosses & (cells.places[:, following] > 0) & (cells.places[:, last] > 0)
    slot, axis = owned.nonzero(as_tuple=True)
    stride = torch.tensor([layout.cells[1] * layout.cells[2], layout.cells[2], 1], device=device)
    b, c = stride[(axis + 1) % 3], stride[(axis + 2) % 3]
    number = cells.numbers[slot]
    around = slots[torch.stack([number, number - b, number - b - c, number - c], dim=1)].long()
    edge = table.ring_edges.long()[axis]
    corners = starts[around] + table.loop_of_edge.long()[cells.loop_cases[around], edge]
    order = torch.where(
        low[slot] == 1,
        torch.tensor([0, 1, 2, 3], device=device),
        torch.tensor([0, 3, 2, 1], device=device),
    )
    return corners.gather(1, order), around.gather(1, order)


def _weight_rows(cells: _Cells, layout: Layout) -> tuple[Tensor, Tensor]:
    """Row of the weights of each surface cell, and whether it has one: not in the closing layer."""
    if layout.layer == 0:
        return cells.numbers, torch.ones_like(cells.numbers, dtype=torch.bool)
    size = torch.tensor(layout.cells, device=cells.numbers.device) - 2
    inner = cells.places - 1
    known = ((inner >= 0) & (inner < size)).all(dim=1)
    row = (inner[:, 0] * size[1] + inner[:, 1]) * size[2] + inner[:, 2]
    return torch.where(known, row, 0), known


def _weights(weights: Tensor | None, rows: Tensor, known: Tensor, like: Tensor) -> Tensor:
    """Weights of the surface cells (S, n); 1 where there are none."""
    if weights is None:
        return like.new_ones(())
    return torch.where(known[:, None], weights.reshape(len(weights), -1)[rows], 1)


def _share(first: Tensor, second: Tensor) -> Tensor:
    """Weight of the first end in the crossing between two weighted values of opposite sign.

    B / (B - A), whose derivative (A' B - A B') / (B - A)^2 is bounded by taking |B - A| no smaller
    than the machine epsilon.
    """
    closest = torch.finfo(first.dtype).eps
    width = second - first
    usual = (width.abs() >= closest) & width.isfinite()
    exact = torch.where(usual, second, 1) / torch.where(usual, width, 1)
    with torch.no_grad():
        value = torch.where(width == 0, 0.5, second / torch.where(width == 0, 1, width))
        value = torch.where(first.isinf(), 0, torch.where(second.isinf(), 1, value))
        slope = torch.where(
            width.isinf(), 0, torch.where(second < first, -1 / closest, 1 / closest)
        )
    finite_first, finite_second = (torch.where(end.isinf(), 0, end) for end in (first, second))
    change = value * (finite_first - finite_first.detach())
    change = change + (1 - value) * (finite_second - finite_second.detach())
    return torch.where(usual, exact, value + slope * change)


def extract(
    fields: Fields, layout: Layout, mode: str
) -> tuple[Tensor, Tensor, Tensor | None, Callable[[Tensor], Tensor]]:
    """Vertices (V, 3), faces (F, 3), vertex features (V, K) or None, and the deviation loss as a
    function of the vertices.
    """
    sdf, device = fields.sdf, fields.sdf.device
    table = tables(device)
    cells, slots = _surface_cells(sdf.detach(), layout, table)
    quads, quad_slots = _quads(cells, slots, layout, table)
    rows, known = _weight_rows(cells, layout)

    offsets = torch.tensor([[k & 1, k >> 1 & 1, k >> 2] for k in range(8)], device=device)
    corner_places = cells.places[:, None] + offsets
    strides = torch.tensor(
        [layout.points[1] * layout.points[2], layout.points[2], 1], device=device
    )
    points = (corner_places * strides).sum(dim=2)
    x = sdf.new_tensor(layout.lower) + corner_places * sdf.new_tensor(layout.spacing)
    if fields.deformation is not None:
        x = x + fields.deformation[points]
    s = sdf[points]
    magnitude = torch.where(s.isinf(), 0, s).detach().abs()
    limits = torch.finfo(s.dtype)
    smallest = limits.tiny / limits.eps**2
    s = s / magnitude.amax(dim=1, keepdim=True).clamp(min=smallest)
    value = s * _weights(fields.corner_weights, rows, known, sdf)

    # one incidence for every crossing edge of every surface cell
    loop = table.loop_of_edge.long()[cells.loop_cases]
    slot, edge = (loop >= 0).nonzero(as_tuple=True)
    counts = table.loop_count.long()[cells.loop_cases]
    duals = int(counts.sum())
    vertex = (counts.cumsum(0) - counts)[slot] + loop[slot, edge]
    start, end = table.edge_corners.long()[edge].unbind(dim=1)
    b = _weights(fields.edge_weights, rows, known, sdf).expand(len(s), 12)[slot, edge, None]

    def dual_mean(corner_values: Tensor) -> Tensor:
        w = _share(value[slot, start], value[slot, end])[:, None]
        crossings = w * corner_values[slot, start] + (1 - w) * corner_values[slot, end]
        total = sdf.new_zeros(duals, 1).index_add(0, vertex, b)
        return sdf.new_zeros(duals, crossings.shape[1]).index_add(0, vertex, b * crossings) / total

    g = _weights(fields.split_weights, rows, known, sdf).expand(len(s), 1)[quad_slots, 0]

    def with_midpoints(values: Tensor) -> Tensor:
        if mode == "test":
            return values + 0 * g.sum()  # the split weights take part, with a zero gradient
        even, odd = g.log()[:, 0::2].sum(1), g.log()[:, 1::2].sum(1)
        w = torch.sigmoid(even - odd)[:, None] / 2
        corner = values[quads]
        middle = w * (corner[:, 0] + corner[:, 2]) + (0.5 - w) * (corner[:, 1] + corner[:, 3])
        return torch.cat([values, middle])

    vertices = with_midpoints(dual_mean(x))
    features = (
        None if fields.features is None else with_midpoints(dual_mean(fields.features[points]))
    )

    def deviation(vertices: Tensor) -> Tensor:
        w = _share(s[slot, start], s[slot, end])[:, None]
        crossings = w * x[slot, start] + (1 - w) * x[slot, end]
        distance = torch.linalg.vector_norm(vertices[vertex] - crossings, dim=1)
        length = sdf.new_zeros(duals).index_add(0, vertex, torch.ones_like(distance))
        mean = sdf.new_zeros(duals).index_add(0, vertex, distance) / length
        return (distance - mean[vertex]).abs().sum() / max(len(vertex), 1)

    return vertices, _triangles(quads, g.detach(), duals, mode), features, deviation


def _triangles(quads: Tensor, g: Tensor, duals: int, mode: str) -> Tensor:
    """Four triangles around a midpoint, or two on the diagonal with the larger product of split
    weights.
    """
    v = quads.to(torch.int32)
    if mode == "train":
        middle = torch.arange(duals, duals + len(v), dtype=torch.int32, device=v.device)[
            :, None, None
        ]
        around = torch.stack([v, v.roll(-1, dims=1)], dim=2)
        return torch.cat([around, middle.expand(-1, 4, 1)], dim=2).reshape(-1, 3)
    even = (g[:, 0] * g[:, 2] > g[:, 1] * g[:, 3])[:, None]
    first, second = v[:, [0, 1, 2, 0, 2, 3]], v[:, [0, 1, 3, 1, 2, 3]]
    return torch.where(even, first, second).reshape(-1, 3)
