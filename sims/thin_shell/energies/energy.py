"""What an energy is: a function of an element's unknowns, as Warp kernels and as a torch twin.

An energy sees elements only. `local` (n, size) holds the unknowns of n elements, gathered from the
global vector; `constants` are tensors with n rows that the model computed from materials and rest
shape. So an energy knows no mesh, no indices and no time, and anything that is a potential of a few
unknowns fits: elastic, viscous or contact.

The kernels give value, gradient and Hessian, fast. The twin gives the value in torch operations
that can be differentiated twice in everything. The adjoint needs y . d(gradient)/d(constants), the
derivative of the work that the forces do along y, see `virtual_work`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from geomopt.launch import launch

Constants = tuple[Tensor, ...]
ELEMENTS_PER_THREAD = 2048  # below it a second thread costs more than it gains


class Elements(NamedTuple):
    """value (n,) [J], gradient (n, size), hessian (n, size, size); None where not asked for."""

    value: Tensor
    gradient: Tensor | None
    hessian: Tensor | None


class Evaluate(Protocol):
    """Value (order 0), with gradient (1), with Hessian (2) of n elements.

    project: clamp the Hessian of each element to positive semi-definite. extrapolated: what
    `Energy.extrapolate` gave, to stand in the geometric part of the Hessian only.
    """

    def __call__(
        self,
        local: Tensor,
        constants: Constants,
        order: int,
        project: bool = False,
        extrapolated: Tensor | None = None,
    ) -> Elements: ...


@dataclass(frozen=True)
class Energy:
    """One kind of element.

    size: unknowns of an element. value: the twin, (local (n, size), *constants) -> (n,) [J].
    evaluate: the kernels. sample: (generator, n) -> random valid (local, constants) in float64, on
    which the conformance test tries everything. extrapolate: (local, increment, constants) -> the
    strain after a linear step, for energies that can take it in their Hessian. points: the first
    3 * points unknowns are positions, the others do not turn with the element. vectors: which of
    the constants are directions in space (n, 3) or (n, k, 3), and do turn with it. work: (local,
    direction (n, size), *constants) -> (n,), the derivative of the value along a direction, in
    closed form, differentiable once in the constants; `virtual_work` does without it, but slowly.
    projects: whether the kernel itself clamps Hessians, at little cost.
    foresee: (local, increment, constants, before) -> what `extrapolated` should be after a linear
    step, from what it was in that step, None at first; for energies with corners.
    """

    name: str
    size: int
    value: Callable[..., Tensor]
    evaluate: Evaluate
    sample: Callable[[torch.Generator, int], tuple[Tensor, Constants]]
    extrapolate: Callable[[Tensor, Tensor, Constants], Tensor] | None = None
    points: int = 3
    vectors: tuple[int, ...] = ()
    work: Callable[..., Tensor] | None = None
    projects: bool = False
    foresee: Callable[[Tensor, Tensor, Constants, Tensor | None], Tensor] | None = None


def positive_semidefinite(matrices: Tensor) -> Tensor:
    """Symmetric matrices (n, k, k) with their negative eigenvalues set to zero."""
    values, vectors = torch.linalg.eigh(matrices)
    return (vectors * values.clamp(min=0).unsqueeze(-2)) @ vectors.mT


def virtual_work(energy: Energy, local: Tensor, direction: Tensor, constants: Constants) -> Tensor:
    """gradient . direction (n,) [J] of elements, differentiable in the constants.

    local, direction (n, size) without a graph.
    """
    if energy.work is not None:
        return energy.work(local, direction, *constants)
    with torch.enable_grad():
        unknowns = local.detach().requires_grad_()
        total = energy.value(unknowns, *constants).sum()
        (gradient,) = torch.autograd.grad(total, unknowns, create_graph=True)
    return (gradient * direction).sum(1)


def by_autograd(
    value: Callable[..., Tensor],
    local: Tensor,
    constants: Constants,
    order: int,
    project: bool = False,
) -> Elements:
    """Value, gradient and Hessian of a twin by automatic differentiation, slow: for the tests."""

    unknowns = local.detach().requires_grad_()
    values = value(unknowns, *constants)
    if order == 0:
        return Elements(values.detach(), None, None)
    # elements do not see each other, so the derivatives of the sum are those of each
    (gradient,) = torch.autograd.grad(values.sum(), unknowns, create_graph=True)
    if order == 1:
        return Elements(values.detach(), gradient.detach(), None)
    rows = [
        torch.autograd.grad(gradient[:, k].sum(), unknowns, retain_graph=True)[0]
        for k in range(local.shape[1])
    ]
    second = torch.stack(rows, dim=1)
    if project:
        second = positive_semidefinite(second)
    return Elements(values.detach(), gradient.detach(), second)


def by_kernel(
    kernel: Any,
    local: Tensor,
    constants: Constants,
    order: int,
    project: bool = False,
    projects: bool = False,
) -> Elements:
    """Value, gradient and Hessian by one Warp kernel.

    The kernel takes local, the constants and the order, and writes value (n,), gradient (n, size)
    and hessian (n, size, size) as far as the order asks; the others come without elements. With
    `projects` it takes `project` (0 or 1) after the order and has a projection of its own, else all
    negative eigenvalues are clamped here.
    """
    n, size = local.shape
    value, gradient, hessian = (
        torch.empty(
            n if rank <= order else 0, *(size,) * rank, dtype=torch.float64, device=local.device
        )
        for rank in range(3)
    )
    inputs = [tensor.to(torch.float64).contiguous() for tensor in (local, *constants)]
    launch(
        kernel,
        n,
        [*inputs, order, *([int(project)] if projects else [])],
        [value, gradient, hessian],
        split=True,
        grain=ELEMENTS_PER_THREAD,
    )
    if order > 1 and project and not projects:
        hessian = positive_semidefinite(hessian)
    return Elements(value, gradient if order > 0 else None, hessian if order > 1 else None)
