"""Which triangle lies across each edge: so that `antialias` tells a silhouette from a crease."""

from __future__ import annotations

import torch
from torch import Tensor

from geomopt.errors import check_indices, check_tensor
from geomopt.launch import launch
from geomopt.render import edges_kernels as kernels
from geomopt.render.fragments import check_backend

OPEN = -1
NONMANIFOLD = -2


def edge_opposites(faces: Tensor, vertex_count: int, *, backend: str = "warp") -> Tensor:
    """The corner on the other side of each edge, (F, 3) int32.

    Edge k of a face (F, 3) is the one that faces its corner k. Entry (f, k) is 3 g + c if corner c
    of face g lies across it, so that the opposite vertex is `faces.flatten()[3 g + c]`; -1 if no
    face does (an open edge), -2 if several do. Faces must share their vertices: see
    `position_indices`. Raises InputError for indices outside [0, vertex_count).
    """
    check_indices("faces", faces, (None, 3), vertex_count)
    if check_backend(backend) == "torch":
        return _opposites_by_sorting(faces, vertex_count)
    triangles = faces.int().contiguous()
    count = 3 * triangles.shape[0]
    size = 1 << max(count - 1, 1).bit_length()
    heads = torch.full((size,), -1, dtype=torch.int32, device=faces.device)
    following = torch.empty(count, dtype=torch.int32, device=faces.device)
    out = torch.empty_like(triangles)
    launch(kernels.enter_edges, count, [triangles.view(-1), size - 1], [heads, following])
    launch(
        kernels.match_edges, count, [triangles.view(-1), size - 1, heads, following], [out.view(-1)]
    )
    return out


def _opposites_by_sorting(faces: Tensor, vertex_count: int) -> Tensor:
    corners = faces.long()
    ends = torch.stack([corners[:, [1, 2, 0]], corners[:, [2, 0, 1]]], -1).reshape(-1, 2)
    key = ends.amin(1) * vertex_count + ends.amax(1)
    _, edge, uses = torch.unique(key, return_inverse=True, return_counts=True)
    order = torch.argsort(edge, stable=True)
    ends = uses.cumsum(0)
    first, second = order[ends - uses], order[ends - 1]
    other = torch.where(first[edge] == torch.arange(len(key)).to(edge), second[edge], first[edge])
    other = torch.where(uses[edge] == 1, OPEN, torch.where(uses[edge] == 2, other, NONMANIFOLD))
    return other.int().reshape(-1, 3)


def position_indices(vertices: Tensor, faces: Tensor) -> Tensor:
    """The faces (F, 3) int32 with one index for all vertices (V, 3) at exactly the same position.

    Meshes whose vertices are doubled along texture or normal seams are open there, and every seam
    would be taken for a silhouette: rasterize and antialias with these indices, and interpolate
    attributes with the original ones.
    """
    check_tensor("vertices", vertices, (None, 3))
    check_indices("faces", faces, (None, 3), vertices.shape[0])
    _, label = torch.unique(vertices.detach(), dim=0, return_inverse=True)
    members = torch.arange(len(label), device=label.device)
    representative = torch.full_like(label, len(label)).scatter_reduce_(0, label, members, "amin")
    return representative[label][faces.long()].int()
