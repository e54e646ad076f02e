"""What the membrane energies share: the strain of a triangle and random triangles.

A triangle with corners x0, x1, x2 has the deformation gradient F = [x1 - x0, x2 - x0] Dm^-1 (3x2),
constant over it, where Dm = [X1 - X0, X2 - X0] (2x2) holds the rest edges in the rest plane. The
energies see F through C = F^T F alone, so they do not feel rotations or translations.

Symmetric 2x2 tensors are kept as three numbers (11, 22, 12): strains with the engineering shear
2 E12, stresses with S12. The product of the two is then the work, and a stiffness is a 3x3 matrix.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geomopt.launch import launch
from sims.thin_shell.energies.energy import ELEMENTS_PER_THREAD, Constants, Elements


def columns(local: Tensor, inverse_rest: Tensor) -> tuple[Tensor, Tensor]:
    """The two columns (n, 3) of the deformation gradient of local (n, 9)."""
    x0, x1, x2 = local.reshape(-1, 3, 3).unbind(1)
    gradient = torch.stack((x1 - x0, x2 - x0), -1) @ inverse_rest
    return gradient[..., 0], gradient[..., 1]


def green_strain(local: Tensor, inverse_rest: Tensor) -> Tensor:
    """Green's strain (C - I)/2 as (n, 3): E11, E22 and the engineering shear 2 E12."""
    a, b = columns(local, inverse_rest)
    stretch = torch.stack(((a * a).sum(-1), (b * b).sum(-1)), -1)
    return torch.cat(((stretch - 1) / 2, (a * b).sum(-1, keepdim=True)), -1)


def strain_rate(local: Tensor, direction: Tensor, inverse_rest: Tensor) -> Tensor:
    """Change (n, 3) of Green's strain when local (n, 9) moves along direction (n, 9)."""
    a, b = columns(local, inverse_rest)
    da, db = columns(direction, inverse_rest)
    stretch = torch.stack(((a * da).sum(-1), (b * db).sum(-1)), -1)
    return torch.cat((stretch, (a * db + b * da).sum(-1, keepdim=True)), -1)


def extrapolate(local: Tensor, increment: Tensor, constants: Constants) -> Tensor:
    """Green's strain (n, 3) after the linear step: E(local) + dE/dlocal increment.

    The true strain of local + increment has the quadratic term of the increment on top, which is
    what a large rotation adds falsely. Kernels take the result for the stress of the geometric term
    (mixed integration points; Magisano, Leonetti and Garcea 2017).
    """
    # E is homogeneous in local but for its constant, so half of local as an increment gives it
    linear = strain_rate(local, local / 2 + increment, constants[0])
    return linear - linear.new_tensor([0.5, 0.5, 0.0])


def evaluate_with(
    kernel: Any,
    local: Tensor,
    constants: Constants,
    order: int,
    project: bool = False,
    extrapolated: Tensor | None = None,
) -> Elements:
    """Run a kernel of membrane_kernels.py on triangles local (n, 9) with its three constants.

    With `project` each Hessian that is not positive semi-definite is replaced: the second
    derivatives in F (6x6) lose their negative eigenvalues, before the rest shape turns them into
    second derivatives in the corners. One that is positive semi-definite stays as it is.
    """
    count = len(local)
    value, gradient, hessian = (
        local.new_empty((count if rank <= order else 0, *(9,) * rank), dtype=torch.float64)
        for rank in range(3)
    )
    strain = local.new_empty((0, 3)) if extrapolated is None else extrapolated
    arrays = [array.to(torch.float64).contiguous() for array in (local, *constants, strain)]
    flags = [order, int(project), int(extrapolated is not None)]
    outputs = [value, gradient, hessian]
    launch(kernel, count, [*arrays, *flags], outputs, split=True, grain=ELEMENTS_PER_THREAD)
    return Elements(value, gradient if order > 0 else None, hessian if order > 1 else None)


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
