"""How far hexahedra are from cubes, as an energy whose least value untangles and evens a mesh.

With J the edges at a corner of an element over the wanted edge length, a cube has J a rotation. The
energy of a corner is (|J^-1|^2 / 3)^2 + w |J|^2 / 3 + v / det J^2. The first part, of which the
worst corners dominate the sum, bounds the eigenvalues of the wave operator, so the narrowest
elements, which set the time step, weigh most; the last keeps a softened element from shrinking to a
point. In place of det J stands (det J + sqrt(det J^2 + e^2)) / 2, which lets
folded elements open (Garanzha et al., Foldover-free maps in 50 lines of code, ACM Trans. Graph. 40,
2021, equation 4); e goes to zero as the mesh opens.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

STRETCH = 0.4  # w, against elements that grow at no cost
SHRINK = 0.3  # v
# the three neighbours of each corner along the axes, and whether they lie before it
NEIGHBORS = [[corner ^ 4, corner ^ 2, corner ^ 1] for corner in range(8)]
HANDED = [1.0 if corner in (0, 3, 5, 6) else -1.0 for corner in range(8)]


def corner_edges(corners: Tensor) -> Tensor:
    """Edges (E, 8, 3, 3), [element, corner, edge, axis], from each corner of (E, 8, 3)."""
    return corners[:, NEIGHBORS] - corners[:, :, None]


def determinants(edges: Tensor) -> Tensor:
    """Volumes (E, 8) spanned at the corners, positive where an element is not folded."""
    one, two, three = edges.unbind(dim=2)
    handed = torch.tensor(HANDED, dtype=edges.dtype, device=edges.device)
    return (one * torch.linalg.cross(two, three)).sum(dim=-1) * handed


def energy_and_slope(corners: Tensor, size: float, softening: float) -> tuple[float, Tensor]:
    """The energy of elements (E, 8, 3) and its derivative (E, 8, 3)."""
    edges = corner_edges(corners) / size
    one, two, three = edges.unbind(dim=2)
    handed = torch.tensor(HANDED, dtype=edges.dtype)[:, None]
    cofactors = torch.stack(
        [
            torch.linalg.cross(two, three) * handed,
            torch.linalg.cross(three, one) * handed,
            torch.linalg.cross(one, two) * handed,
        ],
        dim=2,
    )
    determinant = (one * cofactors[:, :, 0]).sum(dim=-1)
    root = (determinant**2 + softening**2).sqrt()
    # (d + sqrt(d² + e²)) / 2 without cancellation at large negative d
    opened = torch.where(
        determinant > 0, (determinant + root) / 2, softening**2 / (2 * (root - determinant))
    )
    squared = (cofactors**2).sum(dim=(2, 3))
    ratio = squared / (3 * opened**2)
    energy = float((ratio**2 + SHRINK / opened**2).sum() + STRETCH / 3 * (edges**2).sum())

    by_squared = 2 * ratio / (3 * opened**2)
    by_opened = -4 * ratio**2 / opened - 2 * SHRINK / opened**3
    by_determinant = by_opened * opened / root
    by_cofactor = 2 * by_squared[..., None, None] * cofactors * handed[..., None]
    by_first, by_second, by_third = by_cofactor.unbind(dim=2)
    cross = torch.linalg.cross
    slope = torch.stack(
        [
            cross(two, by_third) - cross(three, by_second),
            cross(three, by_first) - cross(one, by_third),
            cross(one, by_second) - cross(two, by_first),
        ],
        dim=2,
    )
    slope = slope + by_determinant[..., None, None] * cofactors + 2 * STRETCH / 3 * edges
    slope = slope / size
    out = -slope.sum(dim=2)
    for corner in range(8):
        for edge in range(3):
            out[:, NEIGHBORS[corner][edge]] += slope[:, corner, edge]
    return energy, out


def relaxed(
    vertices: Tensor,
    hexahedra: Tensor,
    freedom: Tensor,
    size: float,
    iterations: int,
) -> Tensor:
    """Vertices (V, 3) after some L-BFGS iterations on the energy of `hexahedra` (E, 8).

    freedom: (V, 3, 3), the projection onto the directions in which a vertex may move.
    """
    softening = _softening(vertices[hexahedra], size)

    def evaluate(flat: np.ndarray) -> tuple[float, np.ndarray]:
        moved = torch.from_numpy(flat).view(-1, 3)
        place = vertices + torch.einsum("vij,vj->vi", freedom, moved)
        energy, slope = energy_and_slope(place[hexahedra], size, softening)
        total = torch.zeros_like(vertices).index_add_(0, hexahedra.flatten(), slope.flatten(0, 1))
        return energy, torch.einsum("vji,vj->vi", freedom, total).flatten().numpy()

    found = minimize(
        evaluate,
        np.zeros(vertices.numel()),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": iterations, "maxcor": 12, "maxfun": 2 * iterations},
    )
    return vertices + torch.einsum("vij,vj->vi", freedom, torch.from_numpy(found.x).view(-1, 3))


def _softening(corners: Tensor, size: float) -> float:
    """e of the energy: nothing to speak of on an open mesh, the depth of the worst fold else."""
    least = float(determinants(corner_edges(corners)).min()) / size**3
    return 1e-3 if least > 0.02 else 0.05 + abs(min(least, 0.0))
