"""What the membrane energies share: the strain of a triangle and random triangles.

A triangle with corners x0, x1, x2 has the deformation gradient F = [x1 - x0, x2 - x0] Dm^-1 (3x2),
constant over it, where Dm = [X1 - X0, X2 - X0] (2x2) holds the rest edges in the rest plane. The
energies see F through C = F^T F alone, so they do not feel rotations or translations.

Symmetric 2x2 tensors are kept as three numbers (11, 22, 12): strains with the engineering shear
2 E12, stresses with S12. The product of the two is then the work, and a stiffness is a 3x3 matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor


def columns(local: Tensor, inverse_rest: Tensor) -> tuple[Tensor, Tensor]:
    """The two columns (n, 3) of the deformation gradient of local (n, 9)."""
    x0, x1, x2 = local.reshape(-1, 3, 3).unbind(1)
    edges = torch.stack((x1 - x0, x2 - x0), -1)
    return (edges @ inverse_rest).unbind(-1)


def green_strain(local: Tensor, inverse_rest: Tensor) -> Tensor:
    """Green's strain (C - I)/2 as (n, 3): E11, E22 and the engineering shear 2 E12."""
    a, b = columns(local, inverse_rest)
    stretch = torch.stack(((a * a).sum(-1), (b * b).sum(-1)), -1)
    return torch.cat(((stretch - 1) / 2, (a * b).sum(-1, keepdim=True)), -1)


def random_triangles(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Deformed triangles local (n, 9) anywhere in space, and their inverse_rest (n, 2, 2).

    Stretches lie between about 0.6 and 1.5, rest triangles have edges of order one.
    """

    def normal(*shape: int) -> Tensor:
        made = torch.randn(
            *shape, generator=generator, dtype=torch.float64, device=generator.device
        )
        return made.clamp(-2, 2)

    rest = torch.eye(2, dtype=torch.float64, device=generator.device) + 0.2 * normal(count, 2, 2)
    frame = torch.linalg.qr(normal(count, 3, 3)).Q[:, :, :2]
    stretch = torch.eye(2, dtype=torch.float64, device=generator.device) + 0.1 * normal(count, 2, 2)
    edges = frame @ stretch @ rest
    corner = normal(count, 3)
    local = torch.cat((corner, corner + edges[..., 0], corner + edges[..., 1]), -1)
    return local, torch.linalg.inv(rest)


def random_stiffness(generator: torch.Generator, count: int) -> Tensor:
    """Positive definite stiffness matrices (n, 3, 3) of no symmetry class [J]."""
    factor = torch.randn(
        count, 3, 3, generator=generator, dtype=torch.float64, device=generator.device
    )
    return torch.eye(3, dtype=torch.float64, device=generator.device) + 0.2 * factor @ factor.mT
