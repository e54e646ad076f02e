"""The way in: `extract_surface` and the `Surface` that it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from geomopt.errors import InputError
from geomopt.geometry.flexicubes import torch_backend, warp_backend
from geomopt.geometry.flexicubes.layout import Fields, lay_out, surround
from geomopt.geometry.flexicubes.values import check_values
from geomopt.geometry.grid import DenseGrid
from geomopt.geometry.mesh import Mesh

MODES = ("train", "test")
BACKENDS = {"warp": warp_backend.extract, "torch": torch_backend.extract}


@dataclass(frozen=True, eq=False)
class Surface:
    """An extracted surface.

    vertices (V, 3), faces (F, 3) int32 wound so that normals point to sdf > 0, features (V, K) or
    None. In mode "train" the vertices of the cells come first and the midpoints of the quads after
    them.
    """

    vertices: Tensor
    faces: Tensor
    features: Tensor | None
    _deviation: Callable[[Tensor], Tensor] = field(repr=False)

    def deviation_loss(self) -> Tensor:
        """How far the vertices are from being equidistant from their plain crossings, as a scalar
        in units of length.

        Mean over all pairs of a vertex v and an edge e of its loop of |d_e - mean_e d_e| with
        d_e = |v - p_e| and p_e the crossing that ignores the weights (L_dev of Shen et al. 2023);
        0 for an empty surface.
        """
        return self._deviation(self.vertices)

    def mesh(self) -> Mesh:
        """The surface as a mesh of its own, without gradients."""
        return Mesh(self.vertices.detach().clone(), self.faces)


def extract_surface(
    sdf: Tensor,
    grid: DenseGrid,
    corner_weights: Tensor | None = None,
    edge_weights: Tensor | None = None,
    split_weights: Tensor | None = None,
    deformation: Tensor | None = None,
    mode: str = "train",
    features: Tensor | None = None,
    close_boundary: bool = False,
    backend: str = "warp",
) -> Surface:
    """Extract the surface sdf = 0 with FlexiCubes (Shen et al. 2023, section 4).

    sdf (N,): field at the grid points, negative inside, 0 counts as outside; its dtype, float32 or
        float64, is that of the other tensors and of the result.
    corner_weights (C, 8), edge_weights (C, 12), split_weights (C,): positive used values (see
        `used_weights`), exactly 1 where None. Corner k of a cell is at offset (k & 1, (k >> 1) & 1,
        k >> 2); edges are numbered by axis, then by their start corner.
    deformation (N, 3): added to the grid points, in units of length.
    mode: "train" splits each quad into four triangles around a midpoint that split_weights move;
        "test" into two, on the diagonal whose split weights have the larger product.
    features (N, K): interpolated to the vertices with the same weights.
    close_boundary: take everything outside the box as outside, which caps the surface flush with
        the box; otherwise it ends open at the outermost cells. The points around the box count as
        infinitely far outside, so a cap does not move with the field under it.
    backend: "warp" (kernels, CPU and CUDA) or "torch" (plain operations, which also have second
        derivatives).

    Positions and gradients are finite for every finite field: the gradient is bounded on an edge
    where both values are below the machine epsilon times the largest value of the cell. A field
    without a sign change gives an empty surface with zero gradients.
    Raises InputError for a wrong shape, dtype, device or option, for NaN or infinite values, and
    for weights that are not positive.
    """
    if not isinstance(grid, DenseGrid):
        raise InputError(f"grid must be a DenseGrid, got {type(grid).__name__}")
    if mode not in MODES:
        raise InputError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if backend not in BACKENDS:
        raise InputError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    points, cells = grid.point_count, grid.cell_count
    check_values("sdf", sdf, (points,))
    for name, value, shape, positive in (
        ("corner_weights", corner_weights, (cells, 8), True),
        ("edge_weights", edge_weights, (cells, 12), True),
        ("split_weights", split_weights, (cells,), True),
        ("deformation", deformation, (points, 3), False),
        ("features", features, (points, None), False),
    ):
        if value is not None:
            check_values(name, value, shape, like=sdf, positive=positive)
    layout = lay_out(grid)
    fields = Fields(sdf, corner_weights, edge_weights, split_weights, deformation, features)
    if close_boundary:
        layout, fields = surround(grid, fields)
    return Surface(*BACKENDS[backend](fields, layout, mode))
