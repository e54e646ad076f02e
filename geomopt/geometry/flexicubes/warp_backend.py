"""FlexiCubes as fused Warp kernels: topology first, then positions as one torch operation with a
hand-written adjoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geomopt.geometry.flexicubes import large_tensors
from geomopt.geometry.flexicubes.connectivity import Connectivity, connect
from geomopt.geometry.flexicubes.deviation_kernels import deviation_kernels
from geomopt.geometry.flexicubes.layout import Fields, Layout
from geomopt.geometry.flexicubes.quad_kernels import quad_kernels
from geomopt.geometry.flexicubes.tables import tables
from geomopt.geometry.flexicubes.vertex_kernels import kernels
from geomopt.launch import Vectors, differentiable, launch, warp_scalar


def _readable(weights: Tensor | None) -> Tensor | None:
    """Weights in a layout that a kernel reads in place: any strides but those of an expanded
    tensor.
    """
    return weights.contiguous() if weights is not None and 0 in weights.stride() else weights


def _given(tensor: Tensor | None, like: Tensor, *shape: int) -> Tensor:
    """The tensor, or an empty one where there is none: a kernel takes an array in any case."""
    return like.new_empty(shape) if tensor is None else tensor


def _box(layout: Layout, dtype: torch.dtype) -> list[Any]:
    """Lower corner and cell size, as kernels take them."""
    vec3 = kernels(warp_scalar(dtype)).vec3
    return [vec3(*layout.lower), vec3(*layout.spacing)]


def _loops(connectivity: Connectivity) -> list[Tensor]:
    """The surface cells and the tables of their loops, as kernels take them."""
    table = tables(connectivity.cells.device)
    return [
        connectivity.cells,
        connectivity.loop_cases,
        connectivity.ends,
        connectivity.counts,
        table.loop_crossings,
        table.loop_starts,
    ]


def extract(
    fields: Fields, layout: Layout, mode: str
) -> tuple[Tensor, Tensor, Tensor | None, Callable[[Tensor], Tensor]]:
    """Vertices (V, 3), faces (F, 3), vertex features (V, K) or None, and the deviation loss as a
    function of the vertices.
    """
    sdf = fields.sdf.contiguous()
    deformation = None if fields.deformation is None else fields.deformation.contiguous()
    features = None if fields.features is None else fields.features.contiguous()
    weights = (fields.corner_weights, fields.edge_weights, fields.split_weights)
    like = sdf.detach()
    connectivity = connect(like, layout)
    scalar = warp_scalar(sdf.dtype)
    cell_count, quad_count = len(connectivity.cells), len(connectivity.quads)
    middles = quad_count if mode == "train" else 0
    face_count = quad_count * (4 if mode == "train" else 2)
    faces = torch.empty((face_count, 3), dtype=torch.int32, device=sdf.device)
    channels = 0 if features is None else features.shape[1]

    def cell_inputs(tensors: tuple[Tensor | None, ...]) -> list[Any]:
        sdf, deformation, corner_weights, edge_weights, _, features = tensors
        return [
            sdf,
            Vectors(_given(deformation, like, 0, 3)),
            _given(corner_weights, like, 0, 8),
            _given(edge_weights, like, 0, 12),
            _given(features, like, 0, channels),
            int(deformation is not None),
            int(corner_weights is not None),
            int(edge_weights is not None),
            channels,
            layout.cells,
            layout.layer,
            *_box(layout, like.dtype),
            *_loops(connectivity),
        ]

    def quad_inputs(split_weights: Tensor | None) -> list[Any]:
        return [
            _given(split_weights, like, 0),
            int(split_weights is not None),
            layout.cells,
            layout.layer,
            connectivity.cells,
            Vectors(connectivity.quads),
            Vectors(connectivity.quad_slots),
        ]

    def forward(*tensors: Tensor | None) -> tuple[list[Tensor], Any]:
        vertices = like.new_empty((connectivity.duals + middles, 3))
        vertex_features = like.new_zeros((len(vertices), channels))
        made = [Vectors(vertices), vertex_features]
        kernel = kernels(scalar).place_vertices
        launch(kernel, cell_count, cell_inputs(tensors), made, split=True)
        inputs = quad_inputs(tensors[4])
        if mode == "train":
            kernel = quad_kernels(scalar).place_midpoints
            inputs += [channels, connectivity.duals]
            launch(kernel, quad_count, inputs, [*made, Vectors(faces)], split=True)
        else:
            kernel = quad_kernels(scalar).split_quads
            launch(kernel, quad_count, inputs, [Vectors(faces)], split=True)
        # the adjoint keeps its own copy, so that a caller may change the vertices in place
        saved = vertices.clone(), vertex_features.clone()
        return [vertices, vertex_features, like.new_empty((cell_count, 8, 4))], saved

    def backward(tensors: Any, saved: Any, gradients: Any, needed: Any) -> list[Tensor | None]:
        # cloned, as the midpoints pass their gradient on to the dual vertices in place
        gradient, feature_gradient = (
            torch.zeros_like(value) if given is None else given.clone()
            for value, given in zip(saved, gradients[:2], strict=True)
        )
        results = [
            large_tensors.zeros(tensor.shape, tensor) if tensor is not None and wanted else None
            for tensor, wanted in zip(tensors, needed, strict=True)
        ]
        of_sdf, of_deformation, of_corners, of_edges, of_splits, of_features = results
        pulled = [Vectors(saved[0]), saved[1], Vectors(gradient), feature_gradient]
        launch(
            quad_kernels(scalar).pull_back_midpoints,
            middles,
            [*quad_inputs(tensors[4]), channels, connectivity.duals, int(of_splits is not None)],
            [*pulled, _given(of_splits, like, 0)],
        )
        pulled += [Vectors(_given(gradients[2], like, 0, 8, 4)), int(gradients[2] is not None)]
        wanted = [of_sdf, of_deformation, of_corners, of_edges, of_features]
        launch(
            kernels(scalar).pull_back_vertices,
            cell_count,
            [*cell_inputs(tensors), *pulled, *(int(result is not None) for result in wanted)],
            [
                _given(of_sdf, like, 0),
                Vectors(_given(of_deformation, like, 0, 3)),
                _given(of_corners, like, 0, 8),
                _given(of_edges, like, 0, 12),
                _given(of_features, like, 0, channels),
            ],
        )
        return results

    inputs = (sdf, deformation, *(_readable(value) for value in weights), features)
    vertices, vertex_features, corners = differentiable(forward, backward, *inputs)

    def deviation(vertices: Tensor) -> Tensor:
        given = None if deformation is None else deformation.detach()
        return _deviation(vertices, corners, like, given, layout, connectivity)

    return vertices, faces, None if features is None else vertex_features, deviation


def _deviation(
    vertices: Tensor,
    corners: Tensor,
    sdf: Tensor,
    deformation: Tensor | None,
    layout: Layout,
    connectivity: Connectivity,
) -> Tensor:
    """Mean over all (vertex, edge) incidences of |d_e - mean_e d_e|.

    corners (S, 8, 4) stands for what the loss takes from the corners of the surface cells, field
    and position; it has no values, these come from `sdf` and `deformation`. Its gradient reaches
    them through the extraction, which so writes each of the large gradients once.
    """
    made = deviation_kernels(warp_scalar(sdf.dtype))
    count = len(connectivity.cells)
    crossings = tables(sdf.device).loop_starts[:, 4][connectivity.loop_cases.long()]
    incidences = crossings.sum().clamp(min=1)

    def inputs(vertices: Tensor) -> list[Any]:
        return [
            Vectors(vertices),
            sdf,
            Vectors(_given(deformation, sdf, 0, 3)),
            int(deformation is not None),
            layout.cells,
            *_box(layout, sdf.dtype),
            *_loops(connectivity),
        ]

    def forward(*tensors: Any) -> tuple[list[Tensor], Any]:
        deviation = sdf.new_empty(count)
        launch(made.measure_deviation, count, inputs(tensors[0]), [deviation], split=True)
        return [deviation.sum() / incidences], None

    def backward(tensors: Any, saved: Any, gradients: Any, needed: Any) -> list[Tensor | None]:
        of_vertices, of_corners = torch.zeros_like(tensors[0]), torch.empty_like(tensors[1])
        scaled = (gradients[0] / incidences).reshape(1)
        outputs = [Vectors(of_vertices), Vectors(of_corners)]
        kernel = made.pull_back_deviation
        launch(kernel, count, [*inputs(tensors[0]), scaled], outputs, split=True)
        return [of_vertices, of_corners]

    return differentiable(forward, backward, vertices.contiguous(), corners)[0]
