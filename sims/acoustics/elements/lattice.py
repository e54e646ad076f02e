"""Rooms that are unions of axis-aligned bricks, as one dense lattice of spectral elements."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import cached_property
from itertools import product
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.launch import SPLIT_ABOVE, launch, warp_scalar
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.elements.bricks import MERGED, cut_bricks
from sims.acoustics.elements.coupling import Coupling, couple
from sims.acoustics.elements.lattice_kernels import cell_kernels
from sims.acoustics.elements.lattice_row_kernels import row_kernels
from sims.acoustics.elements.space import WallFaces
from sims.acoustics.elements.spectral import element, interpolation_weights

WIDTHS = (16, 8, 4)  # lanes of a row launch
MOST_NODES = 2**31  # the kernels count in 32 bits
NODE_BYTES = 80  # that a run in float32 takes for each node
FURNITURE = 6  # surfaces 0 to 5 are the sides


def check_memory(shape: Sequence[int], device: torch.device) -> None:
    """Raise InputError for more nodes than the memory of the device holds."""
    needed = NODE_BYTES * math.prod(shape)
    if device.type == "cuda":
        there = torch.cuda.mem_get_info(device)[1]
    else:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise InputError(
            f"the room would have {' x '.join(map(str, shape))} nodes, which take about "
            f"{needed / 2**30:.3g} GiB of the {there / 2**30:.3g} GiB there are; lower fmax or "
            "nodes_per_wavelength, or take a smaller room"
        )


class Lattice:
    """The `Space` of a brick room: all nodes of the box around it, z fastest.

    Along each axis the elements share nodes, so that stiffness and mass are sums over three
    directions and a node gathers from its neighbours along the axes only. Elements without air
    keep their nodes, with mass 0.

    shape: nodes along x, y, z. grid: the elements (`BrickGrid`). The surface of a wall face is
    where it looks from the air, 0 to 5 for low x, high x, low y, high y, low z, high z, or 6 where
    it is furniture.
    """

    def __init__(
        self,
        bricks: Tensor,
        furniture: Tensor,
        longest: float,
        order: int = 4,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """bricks, furniture: (B, 2, 3) float64, low and high corners of boxes [m]. longest: of the
        edges of elements [m], P c / (fmax nodes_per_wavelength).

        Raises InputError as `cut_bricks` does, and for an order other than 1 to 6.
        """
        self.order = order
        self.reference = element(order)
        self.dtype, self.device = dtype, torch.device(device)
        self.grid = cut_bricks(bricks, furniture, longest)
        self._lines = [self._node_line(line) for line in self.grid.lines]
        x, y, z = self._lines
        self.shape = (len(x), len(y), len(z))
        if math.prod(self.shape) >= MOST_NODES:
            raise InputError(
                f"the room would have {' x '.join(map(str, self.shape))} nodes; lower fmax or "
                "nodes_per_wavelength, or take a smaller room"
            )
        check_memory(self.shape, self.device)
        self.points = torch.cartesian_prod(x, y, z).to(self.device)
        self.mass = self._masses().reshape(-1).to(self.device)
        self.faces = self._walls()
        self._tables = self._make_tables()
        self._kernels, self._count, self._grain, self._sizes = self._launch_shape()

    def _node_line(self, line: Tensor) -> Tensor:
        low, edge = line[:-1, None], line.diff()[:, None]
        inner = low + edge * (self.reference.nodes[:-1] + 1) / 2
        return torch.cat([inner.reshape(-1), line[-1:]])

    def _masses(self) -> Tensor:
        total = self.grid.air.to(torch.float64)
        for edge in self.grid.edges():
            # each pass takes the first axis from elements to nodes and moves it to the end
            share = edge[:, None] / 2 * self.reference.weights
            total = total.movedim(0, -1) @ _spread(share)
        return total

    def _make_tables(self) -> list[Tensor]:
        """What the kernels read, flat; see there."""
        weights = [
            _weights(edge, self.reference.weights, self.reference.stiffness, axis == 2)
            for axis, edge in enumerate(self.grid.edges())
        ]
        return [
            table.to(self.device, self.dtype if table.is_floating_point() else None).reshape(-1)
            for table in (*weights, *self._shares())
        ]

    def _launch_shape(self) -> tuple[Any, int, int, tuple[int, ...]]:
        """Kernels, how many threads they want, how many of these are worth a core, and sizes."""
        scalar = warp_scalar(self.dtype)
        nx, ny, nz = self.shape
        widths = [width for width in WIDTHS if width <= nz]
        if self.device.type == "cpu" and widths:
            worth = math.ceil(SPLIT_ABOVE / (ny * nz))
            return row_kernels(scalar, widths[0]), nx, worth, (*self.shape, self.order)
        return cell_kernels(scalar, self.order), nx * ny * nz, SPLIT_ABOVE, self.shape

    def _shares(self) -> tuple[Tensor, Tensor]:
        """Which part of the one-dimensional weights counts at each node.

        That part, m_e M_1 / M with m_e the mass across the axis of the elements on that side, M_1
        the mass along the axis and M the node's, is the same for all nodes inside of an element's
        face, edge or volume: worked out once for each of these.
        """
        air = self.grid.air.to(torch.float64)
        edges = self.grid.edges()
        # column 2 e + 1 is the inside of element e, column 2 e its lower end
        touch = [_touch(edge) for edge in edges]
        total = torch.einsum("efg,ex,fy,gz->xyz", air, *touch)
        inverse = torch.where(total > 0, 1 / total, 0.0)
        sides = []
        for axis, count in enumerate(air.shape):
            others = [touch[other] if other != axis else None for other in range(3)]
            across = air
            for other, spread in enumerate(others):
                if spread is not None:
                    across = (across.movedim(other, -1) @ spread).movedim(-1, other)
            kinds = torch.arange(2 * count + 1)
            along = touch[axis].sum(0)
            shape = [-1 if other == axis else 1 for other in range(3)]
            for side in ((kinds - 1) // 2, kinds // 2):
                held = (side >= 0) & (side < count)
                mass = across.index_select(axis, side.clamp(0, count - 1))
                sides.append(mass * (along * held).reshape(shape) * inverse)
        stacked = torch.stack(sides, 2)
        rows = stacked.reshape(-1, *stacked.shape[2:])
        rounded = (rows.flatten(1) * 2.0**36).round()
        found, number = torch.unique(rounded, dim=0, return_inverse=True)
        first = torch.full((len(found),), len(rows)).scatter_reduce(
            0, number, torch.arange(len(rows)), "amin"
        )
        nodes = [_kinds(size, self.order) for size in self.shape]
        shares = rows[first].index_select(2, nodes[2])
        empty = (shares == 0).flatten(1).all(1)
        profile = torch.where(empty[number], -1, number).to(torch.int32)
        profile = profile.reshape(stacked.shape[:2])[nodes[0]][:, nodes[1]]
        return profile.reshape(-1), shares

    def _walls(self) -> WallFaces:
        grid, edges, lines = self.grid, self.grid.edges(), self.grid.lines
        padded = torch.nn.functional.pad(grid.air, (1,) * 6)
        taken = torch.nn.functional.pad(grid.furniture, (1,) * 6)
        square = self.reference.weights[:, None] * self.reference.weights
        parts: list[tuple[Tensor, ...]] = []
        for axis, high in product(range(3), (0, 1)):
            beyond = [slice(1, -1)] * 3
            beyond[axis] = slice(2 * high, padded.shape[axis] - 2 + 2 * high)
            cells = (grid.air & ~padded[tuple(beyond)]).nonzero()
            local = [torch.arange(self.order + 1)] * 3
            local[axis] = torch.tensor([high * self.order])
            first, second = (edges[a][cells[:, a]] for a in range(3) if a != axis)
            low = torch.stack([lines[a][cells[:, a]] for a in range(3)], 1)
            top = torch.stack([lines[a][cells[:, a] + 1] for a in range(3)], 1)
            low[:, axis] = top[:, axis] = lines[axis][cells[:, axis] + high]
            nodes = _numbers(cells, self.order, self.shape, local)
            areas = (first * second / 4)[:, None] * square.flatten()
            surface = torch.where(taken[tuple(beyond)][tuple(cells.T)], FURNITURE, 2 * axis + high)
            parts.append((nodes, areas, surface, low, top))
        fields = (torch.cat(column).to(self.device) for column in zip(*parts, strict=True))
        return WallFaces(*fields)

    @cached_property
    def _cells(self) -> Tensor:
        return self.grid.air.nonzero()

    @cached_property
    def element_nodes(self) -> Tensor:
        """(E, (P+1)³) int64, the nodes of each element with air, x slowest and z fastest."""
        local = [torch.arange(self.order + 1)] * 3
        return _numbers(self._cells, self.order, self.shape, local).to(self.device)

    @cached_property
    def _corners(self) -> Tensor:
        shape = [len(line) for line in self.grid.lines]
        return _numbers(self._cells, 1, shape, [torch.arange(2)] * 3)

    @cached_property
    def hexahedra(self) -> Tensor:
        """(E, 8) int64, the corners of each element in `vertices`, x slowest and z fastest."""
        return torch.unique(self._corners, return_inverse=True)[1].to(self.device)

    @cached_property
    def vertices(self) -> Tensor:
        """(V, 3) float64, the corners of the elements with air [m]."""
        return torch.cartesian_prod(*self.grid.lines)[torch.unique(self._corners)].to(self.device)

    def interpolation(self, name: str, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes (R, (P+1)³) int64 and weights (R, (P+1)³) float64 of the field at positions (R, 3).

        The polynomials of the element that holds a position, differentiable in it; on a face
        between elements either side's. Raises InputError for a position outside of the air.
        """
        points = positions.to("cpu", torch.float64)
        cells = self._cells_at(name, points.detach())
        weights = []
        for axis, line in enumerate(self.grid.lines):
            low = line[cells[:, axis]]
            edge = line[cells[:, axis] + 1] - low
            local = 2 * (points[:, axis] - low) / edge - 1
            weights.append(interpolation_weights(self.order, local))
        nodes = _numbers(cells, self.order, self.shape, [torch.arange(self.order + 1)] * 3)
        mixed = torch.einsum("ra,rb,rc->rabc", *weights).flatten(1)
        return nodes.to(self.device), mixed.to(self.device)

    def _cells_at(self, name: str, points: Tensor) -> Tensor:
        """An element with air that holds each point (R, 3), (R, 3) int64."""
        lines = self.grid.lines
        tolerance = MERGED * float(max(line[-1] - line[0] for line in lines))
        sides: list[list[Tensor]] = [[], []]
        outside = ~points.isfinite().all(1)
        for axis, line in enumerate(lines):
            place = points[:, axis].contiguous()
            outside |= (place < line[0] - tolerance) | (place > line[-1] + tolerance)
            for side, shift in zip(sides, (-tolerance, tolerance), strict=True):
                cell = torch.searchsorted(line, place + shift, right=True) - 1
                side.append(cell.clamp(0, len(line) - 2))
        cells = torch.full((len(points), 3), -1)
        for choice in product((1, 0), repeat=3):
            tried = torch.stack([sides[side][axis] for axis, side in enumerate(choice)], 1)
            found = (cells[:, 0] < 0) & self.grid.air[tuple(tried.T)] & ~outside
            cells[found] = tried[found]
        missed = (cells[:, 0] < 0).nonzero()
        if len(missed):
            number = int(missed[0])
            point = ", ".join(f"{value:.6g}" for value in points[number].tolist())
            raise InputError(
                f"{name}[{number}] at ({point}) m is outside of the air of the room, in a wall or "
                f"in furniture; {len(missed)} of {len(points)} are; move it inside"
            )
        return cells

    def accelerate(self, pressure: Tensor, out: Tensor) -> None:
        """out = -A pressure, both (N,)."""
        inputs = [pressure, *self._sizes, *self._tables]
        launch(self._kernels.accelerate, self._count, inputs, [out], split=True, grain=self._grain)

    def advance(
        self, pressure: Tensor, previous: Tensor, acceleration: Tensor, time_step: float
    ) -> None:
        """previous <- 2 p - previous + dt² a - (dt⁴/12) A a, with a = acceleration, all (N,)."""
        steps = [time_step**2, time_step**4 / 12]
        inputs = [pressure, acceleration, *steps, *self._sizes, *self._tables]
        launch(
            self._kernels.advance, self._count, inputs, [previous], split=True, grain=self._grain
        )

    def coupling(self, nodes: Tensor) -> Coupling:
        """The columns of A at nodes (W,), ascending."""
        return couple(nodes, self.mass, self.element_nodes, self.order, self._metric)

    def _metric(self, elements: Tensor) -> Tensor:
        """det(J) J⁻¹ J⁻ᵀ w (n, Q, 6) [m] of elements (n,)."""
        cells = self._cells[elements.cpu()]
        edges = torch.stack([e[cells[:, a]] for a, e in enumerate(self.grid.edges())], 1) / 2
        weights = self.reference.weights
        shares = torch.einsum("a,b,c->abc", weights, weights, weights).flatten()
        metric = torch.zeros(len(cells), len(shares), 6, dtype=torch.float64)
        for axis, place in enumerate((0, 3, 5)):
            scale = edges.prod(1) / edges[:, axis].square()
            metric[:, :, place] = scale[:, None] * shares
        return metric.to(self.device)

    def element_of_node(self, node: int) -> str:
        """The smallest element at this node in words, with its place and size, for messages."""
        rest, k = divmod(node, self.shape[2])
        i, j = divmod(rest, self.shape[1])
        best: tuple[float, str] | None = None
        sides = [sorted({(at - 1) // self.order, at // self.order}) for at in (i, j, k)]
        for cell in product(*sides):
            if any(not 0 <= c < n for c, n in zip(cell, self.grid.air.shape, strict=True)):
                continue
            if not bool(self.grid.air[cell]):
                continue
            low = [float(line[c]) for line, c in zip(self.grid.lines, cell, strict=True)]
            high = [float(line[c + 1]) for line, c in zip(self.grid.lines, cell, strict=True)]
            size = [b - a for a, b in zip(low, high, strict=True)]
            text = (
                f"the element of {' x '.join(f'{edge:.4g}' for edge in size)} m from "
                f"({', '.join(f'{value:.4g}' for value in low)})"
            )
            if best is None or min(size) < best[0]:
                best = (min(size), text)
        if best is None:
            raise InputError(f"node {node} lies outside of the air of the room")
        return best[1]


def _spread(share: Tensor) -> Tensor:
    """(e, e P + 1) from (e, P+1): what each element gives to the nodes along one axis."""
    count, local = share.shape
    order = local - 1
    spread = share.new_zeros(count, count * order + 1)
    columns = torch.arange(count)[:, None] * order + torch.arange(local)
    return spread.scatter_(1, columns, share)


def _touch(edge: Tensor) -> Tensor:
    """(e, 2e + 1), the length of each element at its lower end, inside and upper end."""
    return _spread(edge[:, None].expand(-1, 3).contiguous())


def _kinds(size: int, order: int) -> Tensor:
    """Which of the 2 e + 1 ends and insides of elements each of e P + 1 nodes is."""
    nodes = torch.arange(size)
    return 2 * (nodes // order) + (nodes % order > 0).long()


def _numbers(cells: Tensor, order: int, shape: Sequence[int], local: Sequence[Tensor]) -> Tensor:
    """(R, n) the nodes of elements (R, 3) with the given places within these, z fastest."""
    x, y, z = (cells[:, axis, None] * order + steps for axis, steps in enumerate(local))
    rows = (x[:, :, None] * shape[1] + y[:, None, :]) * shape[2]
    return (rows[..., None] + z[:, None, None, :]).flatten(1)


def _weights(edge: Tensor, quadrature: Tensor, stiffness: Tensor, by_offset: bool) -> Tensor:
    """-c² K / M along one axis for neighbours of nodes, as the kernels want them.

    (n, 2P): of the nodes below and above for a node between elements, of all P + 1 for one inside.
    by_offset: (2P, n) instead, for the neighbours at -P .. -1, 1 .. P.
    """
    order = len(quadrature) - 1
    mass = _spread(edge[:, None] / 2 * quadrature).sum(0)
    numbers = torch.arange(len(edge)) * order
    factor = -(SPEED_OF_SOUND**2) * 2 / edge
    if by_offset:
        table = torch.zeros((2 * order, len(mass)), dtype=torch.float64)
    else:
        table = torch.zeros((len(mass), 2 * order), dtype=torch.float64)
    for local, other in product(range(order + 1), repeat=2):
        nodes, step = numbers + local, other - local
        values = factor * stiffness[local, other] / mass[nodes]
        if step == 0:
            continue
        if by_offset:
            table[order + step - (step > 0), nodes] = values
        elif local == 0:
            table[nodes, order + other - 1] = values
        else:
            table[nodes, other] = values
    return table
