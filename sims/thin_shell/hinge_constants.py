"""Stiffness of hinges from rest shapes and the bending rigidity of the sheet.

Per unit width a sheet of rigidity D turns by M s / D over a length s under the moment M. A hinge
stands for the strips from the shared edge to the middles of the two faces, each of the length
A / |e|, which turn one after the other, so that its compliance is the sum of theirs:

    1 / k = 1 / k1 + 1 / k2,    k_i = D_i |e|^2 / A_i.

With one D that is k = D |e|^2 / (A1 + A2), the energy of Grinspun, Hirani, Desbrun and Schroeder
2003 (Discrete shells) with the factor that is right for cylinders on good meshes: kappa_b = D / 2
in kappa_b |e|^2 / (A1 + A2) theta^2. A wall holds the middle of a mirrored pair still, so the hinge
of a face against a wall is one such strip alone.

The curvature of a hinge is kappa = theta / height, height = (A1 + A2) / |e|, exact for a bend along
the edge, and bending = k height^2.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _strip(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Length of the edge a, b (n,) [m] and of the strip to the middle of the face, A / |e|."""
    length = torch.linalg.vector_norm(b - a, dim=1)
    area = 0.5 * torch.linalg.vector_norm(torch.linalg.cross(b - a, c - a), dim=1)
    return length, area / length


def hinge_stiffness(corners: Tensor, rigidity: Tensor) -> tuple[Tensor, Tensor]:
    """Stiffness (n,) [J] and bending (n,) [J m2] of hinges.

    corners (n, 4, 3): rest positions a, b, c, d [m], the edge from a to b, then the corners of the
    two faces opposite to it. rigidity: D [N m], (n,), or (n, 2) for faces of different materials.
    Differentiable in both.
    """
    a, b, c, d = corners.unbind(1)
    length, first = _strip(a, b, c)
    _, second = _strip(a, b, d)
    rigidities = rigidity[:, None] if rigidity.ndim == 1 else rigidity
    compliance = (torch.stack([first, second], dim=1) / rigidities).sum(1) / length
    return 1.0 / compliance, (first + second) ** 2 / compliance


def wall_hinge_stiffness(corners: Tensor, rigidity: Tensor) -> tuple[Tensor, Tensor]:
    """Stiffness (n,) [J] and bending (n,) [J m2] of hinges between faces and walls.

    corners (n, 3, 3): rest positions a, b, c [m], the clamped edge from a to b. rigidity (n,): D
    [N m]. Differentiable in both. Height is A / |e|.
    """
    length, strip = _strip(*corners.unbind(1))
    return rigidity * length / strip, rigidity * length * strip
