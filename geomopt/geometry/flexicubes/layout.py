"""What the extraction backends share: the numbered cells of the box, and the tensors that they
read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn.functional import pad

from geomopt.geometry.grid import DenseGrid


@dataclass(frozen=True)
class Layout:
    """A box of cells, with one layer of cells around the grid when it closes the boundary.

    cells: cells along each axis, with the layer. layer: 0, or 1 when there is one. lower, spacing:
    lower corner of the box, with the layer, and edge lengths of a cell.
    """

    cells: tuple[int, int, int]
    layer: int
    lower: tuple[float, float, float]
    spacing: tuple[float, float, float]

    @property
    def points(self) -> tuple[int, int, int]:
        """Points along each axis."""
        return tuple(count + 1 for count in self.cells)  # pyright: ignore[reportReturnType]

    @property
    def cell_count(self) -> int:
        """Number of cells, with the layer."""
        return self.cells[0] * self.cells[1] * self.cells[2]


@dataclass(frozen=True)
class Fields:
    """The differentiable inputs of an extraction.

    sdf (N,), corner_weights (C, 8), edge_weights (C, 12), split_weights (C,), deformation (N, 3),
    features (N, K); all but the first may be None. N counts the points of the layout, with the
    layer; C the cells of the grid, without.
    """

    sdf: Tensor
    corner_weights: Tensor | None
    edge_weights: Tensor | None
    split_weights: Tensor | None
    deformation: Tensor | None
    features: Tensor | None


def lay_out(grid: DenseGrid) -> Layout:
    """The cells of the grid itself."""
    cells, lower = grid.resolution, grid.lower
    return Layout(cells, 0, lower, grid.spacing)  # pyright: ignore[reportArgumentType]


def surround(grid: DenseGrid, fields: Fields) -> tuple[Layout, Fields]:
    """The grid with a layer of cells around it whose outer points lie outside at an infinite value.

    An infinite value puts every crossing on an edge of the layer at its end on the grid, so the
    caps lie flush on the box.
    """

    def around(values: Tensor | None) -> Tensor | None:
        if values is None:
            return None
        volume = values.reshape(*grid.shape, values.shape[1])
        return pad(volume, (0, 0) + (1, 1) * 3).flatten(0, 2)

    spacing = grid.spacing
    corner = zip(grid.lower, spacing, strict=True)  # pyright: ignore[reportArgumentType]
    lower = tuple(low - step for low, step in corner)
    cells = tuple(count + 1 for count in grid.shape)
    sdf = pad(fields.sdf.reshape(grid.shape), (1, 1) * 3, value=float("inf")).reshape(-1)
    closed = replace(
        fields,
        sdf=sdf,
        deformation=around(fields.deformation),
        features=around(fields.features),
    )
    return Layout(cells, 1, lower, spacing), closed  # pyright: ignore[reportArgumentType]
