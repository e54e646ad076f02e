"""How fast the angles between faces and directors change when corners move.

Corners x0, x1, x2, counter-clockwise; edge i is opposite to corner i. The angle of a director away
from the normal of the face, outward over edge i, changes with moves y_j of the corners by

    - sum_j e_i . e_j / (A2 l_i) n . y_j  +  (d . e_i) (d x e_i) . de_i / (l_i |d x e_i|^2)

with the unit normal n, double area A2, edge vectors e_i of length l_i and their changes de_i. The
first part is the turn of the normal; the second counts where a director d is not perpendicular to
its edge. Torch operations, differentiable once in directors.
"""

from __future__ import annotations

import torch
from torch import Tensor


def edge_vectors(corners: Tensor) -> Tensor:
    """Edges (n, 3, 3) of triangles corners (n, 3, 3), or the changes of edges from moves."""
    return corners.roll(-2, dims=1) - corners.roll(-1, dims=1)


def tilt_rates(edges: Tensor, moves: Tensor) -> Tensor:
    """The first part (n, 3) for edges (n, 3, 3) and moves (n, 3, 3) of the corners."""
    normal = torch.linalg.cross(edges[:, 0], edges[:, 1])
    lifts = moves @ (normal / normal.square().sum(-1, keepdim=True))[:, :, None]
    return -(edges @ (edges.mT @ lifts))[..., 0] / torch.linalg.vector_norm(edges, dim=-1)


def twist_rates(directors: Tensor, edges: Tensor, changes: Tensor) -> Tensor:
    """The second part (...) for directors, edges and changes of edges (..., 3)."""
    across = torch.linalg.cross(directors, edges)
    share = (directors * edges).sum(-1) / across.square().sum(-1)
    return share * (across * changes).sum(-1) / torch.linalg.vector_norm(edges, dim=-1)
