"""FlexiCubes as fused Warp kernels: topology first, then positions and their hand-written adjoint
as one torch operation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomopt.geometry import flexicubes_topology_kernels as topology_kernels
from geomopt.geometry.flexicubes_deviation_kernels import deviation_kernels
from geomopt.geometry.flexicubes_kernels import kernels
from geomopt.geometry.flexicubes_layout import Fields, Layout
from geomopt.geometry.flexicubes_tables import tables
from geomopt.launch import Vectors, differentiable, launch, warp_scalar


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
    launch(
        topology_kernels.count_surface_cells, len(rows), [signs, size_y, size_z], [rows], split=True
    )
    ends = rows.cumsum(0, dtype=torch.int32)
    count = int(ends[-1])
    cells, slots = integers(count), integers(layout.cell_count)
    cases, loop_cases = cells.new_empty((2, count), dtype=torch.uint8)
    inputs, outputs = [signs, size_y, size_z, ends], [cells, cases, slots]
    launch(topology_kernels.list_surface_cells, len(rows), inputs, outputs, split=True)

    counts = integers(2, count)
    launch(
        topology_kernels.resolve_loops,
        count,
        [cells, cases, slots, size_x, size_y, size_z, table.problem_face, table.loop_count],
        [loop_cases, counts],
        split=True,
    )
    ends = counts.cumsum(1, dtype=torch.int32)
    duals, quad_count = ends[:, -1].tolist() if count else (0, 0)
    quads, quad_slots = integers(quad_count, 4), integers(quad_count, 4)
    launch(
        topology_kernels.list_quads,
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


def _zeros(like: Tensor) -> Tensor:
    """Zeros whose pages are not touched until they are written to, which matters for sparse
    gradients of dense weights.
    """
    if like.device.type == "cpu":
        return torch.from_numpy(np.zeros(tuple(like.shape), dtype=_NUMPY[like.dtype]))
    return torch.zeros(like.shape, dtype=like.dtype, device=like.device)


_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


def _readable(weights: Tensor | None) -> Tensor | None:
    """Weights in a layout that a kernel reads in place: any strides but those of an expanded
    tensor.
    """
    return weights.contiguous() if weights is not None and 0 in weights.stride() else weights


class _Arguments:
    """Turns optional tensors into kernel arguments: a stand-in where there is none."""

    def __init__(self, sdf: Tensor, layout: Layout, connectivity: Connectivity) -> None:
        table = tables(sdf.device)
        scalar = warp_scalar(sdf.dtype)
        vec3 = kernels(scalar).vec3
        self.sdf = sdf
        self.box = [vec3(*layout.lower), vec3(*layout.spacing)]
        self.connectivity = [
            connectivity.cells,
            connectivity.loop_cases,
            connectivity.ends,
            connectivity.counts,
            table.loop_edges,
            table.loop_starts,
            table.edge_corners,
        ]

    def vector(self, tensor: Tensor | None) -> Vectors:
        return Vectors(self.sdf.new_empty((0, 3)) if tensor is None else tensor)

    def rows(self, tensor: Tensor | None) -> Tensor:
        return self.sdf.new_empty((0, 1)) if tensor is None else tensor

    def scalars(self, tensor: Tensor | None) -> Tensor:
        return self.sdf.new_empty(0) if tensor is None else tensor


def extract(
    fields: Fields, layout: Layout, mode: str
) -> tuple[Tensor, Tensor, Tensor | None, Callable[[Tensor], Tensor]]:
    """Vertices (V, 3), faces (F, 3), vertex features (V, K) or None, and the deviation loss as a
    function of the vertices.
    """
    sdf = fields.sdf.contiguous()
    deformation = None if fields.deformation is None else fields.deformation.contiguous()
    features = None if fields.features is None else fields.features.contiguous()
    weights = [
        _readable(w) for w in (fields.corner_weights, fields.edge_weights, fields.split_weights)
    ]
    connectivity = connect(sdf.detach(), layout)
    quad_count, training = len(connectivity.quads), mode == "train"
    middles = quad_count if training else 0
    faces = torch.empty(
        (quad_count * (4 if training else 2), 3), dtype=torch.int32, device=sdf.device
    )
    made = kernels(warp_scalar(sdf.dtype))
    arguments = _Arguments(sdf.detach(), layout, connectivity)
    channels = 0 if features is None else features.shape[1]

    def vertex_arguments(tensors: tuple[Tensor | None, ...]) -> list[Any]:
        sdf, deformation, corner_weights, edge_weights, _, features = tensors
        return [
            sdf,
            arguments.vector(deformation),
            arguments.rows(corner_weights),
            arguments.rows(edge_weights),
            arguments.rows(features),
            int(deformation is not None),
            int(corner_weights is not None),
            int(edge_weights is not None),
            channels,
            layout.cells,
            layout.layer,
            *arguments.box,
            *arguments.connectivity,
        ]

    def split_arguments(split_weights: Tensor | None) -> list[Any]:
        return [arguments.scalars(split_weights), int(split_weights is not None)]

    quads = [
        layout.cells,
        layout.layer,
        connectivity.cells,
        Vectors(connectivity.quads),
        Vectors(connectivity.quad_slots),
    ]

    def forward(*tensors: Tensor | None) -> tuple[list[Tensor], Any]:
        vertices = sdf.new_empty((connectivity.duals + middles, 3))
        vertex_features = sdf.new_zeros((len(vertices), channels))
        outputs = [Vectors(vertices), vertex_features]
        launch(
            made.place_vertices,
            len(connectivity.cells),
            vertex_arguments(tensors),
            outputs,
            split=True,
        )
        split = split_arguments(tensors[4])
        if training:
            inputs = [*split, channels, *quads, connectivity.duals]
            launch(made.place_midpoints, middles, inputs, [*outputs, Vectors(faces)], split=True)
        else:
            launch(made.split_quads, quad_count, [*split, *quads], [Vectors(faces)], split=True)
        # the adjoint keeps its own copy, so that a caller may change the vertices in place
        return [vertices, vertex_features], (vertices.clone(), vertex_features.clone())

    def backward(tensors: Any, saved: Any, gradients: Any, needed: Any) -> list[Tensor | None]:
        vertices, vertex_features = saved
        # cloned, as the midpoints pass their gradient on to the dual vertices in place
        gradient, feature_gradient = (
            torch.zeros_like(value) if given is None else given.clone()
            for value, given in zip(saved, gradients, strict=True)
        )
        results = [
            _zeros(tensor) if tensor is not None and wanted else None
            for tensor, wanted in zip(tensors, needed, strict=True)
        ]
        values = [Vectors(vertices), vertex_features]
        given = [Vectors(gradient), feature_gradient]
        launch(
            made.pull_back_midpoints,
            middles,
            [
                *split_arguments(tensors[4]),
                channels,
                *quads,
                connectivity.duals,
                *values,
                int(results[4] is not None),
            ],
            [*given, arguments.scalars(results[4])],
        )
        wanted = [int(results[which] is not None) for which in (0, 1, 2, 3, 5)]
        sdf_gradient, deformation_gradient, corner_gradient, edge_gradient, _, features_gradient = (
            results
        )
        launch(
            made.pull_back_vertices,
            len(connectivity.cells),
            [*vertex_arguments(tensors), *values, *given, *wanted],
            [
                arguments.scalars(sdf_gradient),
                arguments.vector(deformation_gradient),
                arguments.rows(corner_gradient),
                arguments.rows(edge_gradient),
                arguments.rows(features_gradient),
            ],
        )
        return results

    corner_weights, edge_weights, split_weights = weights
    vertices, vertex_features = differentiable(
        forward, backward, sdf, deformation, corner_weights, edge_weights, split_weights, features
    )

    def deviation(vertices: Tensor) -> Tensor:
        return _deviation(vertices, sdf, deformation, layout, connectivity, arguments)

    return vertices, faces, None if features is None else vertex_features, deviation


def _deviation(
    vertices: Tensor,
    sdf: Tensor,
    deformation: Tensor | None,
    layout: Layout,
    connectivity: Connectivity,
    arguments: _Arguments,
) -> Tensor:
    """Mean over all (vertex, edge) incidences of |d_e - mean_e d_e|."""
    made = deviation_kernels(warp_scalar(sdf.dtype))
    count = len(connectivity.cells)
    crossings = tables(sdf.device).loop_starts[:, 4][connectivity.loop_cases.long()]
    incidences = max(int(crossings.sum()), 1)

    def inputs(vertices: Tensor, sdf: Tensor, deformation: Tensor | None) -> list[Any]:
        return [
            Vectors(vertices),
            sdf,
            arguments.vector(deformation),
            int(deformation is not None),
            layout.cells,
            *arguments.box,
            *arguments.connectivity,
        ]

    def forward(*tensors: Any) -> tuple[list[Tensor], Any]:
        deviation = sdf.new_empty(count)
        launch(made.measure_deviation, count, inputs(*tensors), [deviation], split=True)
        return [deviation.sum() / incidences], None

    def backward(tensors: Any, saved: Any, gradients: Any, needed: Any) -> list[Tensor | None]:
        scaled = (gradients[0] / incidences).reshape(1)
        vertices_gradient = torch.zeros_like(tensors[0])
        results = [
            _zeros(tensor) if tensor is not None and wanted else None
            for tensor, wanted in zip(tensors[1:], needed[1:], strict=True)
        ]
        launch(
            made.pull_back_deviation,
            count,
            [*inputs(*tensors), scaled, *(int(result is not None) for result in results)],
            [
                Vectors(vertices_gradient),
                arguments.scalars(results[0]),
                arguments.vector(results[1]),
            ],
        )
        return [vertices_gradient, *results]

    return differentiable(forward, backward, vertices.contiguous(), sdf, deformation)[0]
