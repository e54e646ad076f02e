"""Stable neo-Hookean tetrahedron, for soft solids that may be crushed and turned inside out.

    W = mu/2 (I1 - 3) - mu (J - 1) + lam/2 (J - 1)^2,    I1 = tr F^T F,    J = det F

which is mu/2 (I1 - 3) + lam/2 (J - alpha)^2 with alpha = 1 + mu/lam (Smith, de Goes and Kim 2018,
Stable neo-Hookean flesh simulation, equation 13) less its value at rest. F = [x1 - x0, x2 - x0,
x3 - x0] inverse_rest is constant over the element, and P = mu F + (lam (J - 1) - mu) dJ/dF vanishes
at rest. mu, lam (n,) [J] are rest volume x moduli. At small strain e

    W = mu e : e + (lam - mu)/2 (tr e)^2

so the moduli are mu = E / (2 (1 + nu)) and lam = mu / (1 - 2 nu), the Lame number plus mu.

The energy is a polynomial: finite and smooth everywhere, also where an element has collapsed or is
inside out, from where it recovers. A collapsed element has (lam - mu)/2, which is more than
the one at rest for nu > 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geomopt.launch import launch
from sims.thin_shell.energies.energy import ELEMENTS_PER_THREAD, Constants, Elements, Energy
from sims.thin_shell.energies.stable_neo_hookean_kernels import kernel


def deformation(local: Tensor, inverse_rest: Tensor) -> Tensor:
    """The deformation gradient F (n, 3, 3) of local (n, 12)."""
    corners = local.unflatten(1, (4, 3))
    return (corners[:, 1:] - corners[:, :1]).mT @ inverse_rest


def cofactors(gradient: Tensor) -> Tensor:
    """dJ/dF (n, 3, 3) of deformation gradients (n, 3, 3)."""
    a, b, c = gradient.unbind(-1)
    cross = torch.linalg.cross
    return torch.stack((cross(b, c), cross(c, a), cross(a, b)), -1)


def value(local: Tensor, inverse_rest: Tensor, mu: Tensor, lam: Tensor) -> Tensor:
    """Energy (n,) [J] of tetrahedra local (n, 12)."""
    gradient = deformation(local, inverse_rest)
    a, b, c = gradient.unbind(-1)
    growth = (a * torch.linalg.cross(b, c)).sum(-1) - 1
    squares = gradient.square().sum((-2, -1))
    return mu * ((squares - 3) / 2 - growth) + lam / 2 * growth**2


def work(local: Tensor, direction: Tensor, inverse_rest: Tensor, mu: Tensor, lam: Tensor) -> Tensor:
    """Derivative (n,) [J] of the energy along a direction (n, 12)."""
    gradient = deformation(local, inverse_rest)
    rate = deformation(direction, inverse_rest)
    swelling = cofactors(gradient)
    growth = (gradient[..., 0] * swelling[..., 0]).sum(-1) - 1
    stretching = (gradient * rate).sum((-2, -1))
    return mu * stretching + (lam * growth - mu) * (swelling * rate).sum((-2, -1))


def evaluate(
    local: Tensor,
    constants: Constants,
    order: int,
    project: bool = False,
    extrapolated: Tensor | None = None,
) -> Elements:
    """Value, gradient and Hessian of tetrahedra by the kernel.

    With `project` the second derivatives in F (9x9) lose their negative eigenvalues, before the
    rest shape turns them into second derivatives in the corners.
    """
    count = len(local)
    value, gradient, hessian = (
        local.new_empty((count if rank <= order else 0, *(12,) * rank), dtype=torch.float64)
        for rank in range(3)
    )
    inputs = [tensor.to(torch.float64).contiguous() for tensor in (local, *constants)]
    flags = [order, int(project)]
    outputs = [value, gradient, hessian]
    launch(kernel(), count, [*inputs, *flags], outputs, split=True, grain=ELEMENTS_PER_THREAD)
    return Elements(value, gradient if order > 0 else None, hessian if order > 1 else None)


def sample(generator: torch.Generator, count: int) -> tuple[Tensor, Constants]:
    """Random tetrahedra with edges of order one; some are compressed, one in four is inside out."""

    def normal(*shape: int) -> Tensor:
        made = torch.randn(
            *shape, generator=generator, dtype=torch.float64, device=generator.device
        )
        return made.clamp(-2, 2)

    identity = torch.eye(3, dtype=torch.float64, device=generator.device)
    rest = identity + 0.15 * normal(count, 3, 3)
    stretch = identity + 0.15 * normal(count, 3, 3)
    stretch[::4, 2] *= -0.5
    turn = torch.linalg.qr(normal(count, 3, 3)).Q
    turn = turn * torch.linalg.det(turn).sign()[:, None, None]
    corner = normal(count, 1, 3)
    edges = (turn @ stretch @ rest).mT
    local = torch.cat((corner, corner + edges), 1).flatten(1)
    moduli = torch.rand(2, count, generator=generator, dtype=torch.float64, device=generator.device)
    mu, excess = moduli + 0.5
    return local, (torch.linalg.inv(rest), mu, mu + excess)


STABLE_NEO_HOOKEAN = Energy(
    "stable-neo-hookean", 12, value, evaluate, sample, points=4, work=work, projects=True
)
