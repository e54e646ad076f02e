"""Forward mode: how a solution moves when the inputs of its solve move.

With tangents of the inputs and of the held unknowns,

    H_ff dz_f = - (dr_f/d(inputs) d(inputs) + H_fh dz_h)

where H is the Hessian at the solution (implicit function theorem), as in `adjoint`. One solve a
tangent, so it suits a few parameters and many outputs: fits by Gauss and Newton's method.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sims.thin_shell.bending import Values, yielded
from sims.thin_shell.linearised import Linearised
from sims.thin_shell.model import Model


def push_forward(
    model: Model,
    at: Linearised,
    values: Values,
    moving: Values,
    time_step: float | None,
    loads: Tensor,
    held: Tensor,
    moments: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
    """Tangents of the unknowns, angles, reactions (size,) and creases after a solve.

    values: what the elements depend on, moving: their tangents. loads (size,): tangent of the loads
    and the inertia; held (size,): of the held unknowns, zero elsewhere. moments (E,): those that
    act, if any.
    """
    with torch.enable_grad():
        leaves = {n: t.detach().clone().requires_grad_(n in moving) for n, t in values.items()}
        z = at.unknowns.detach().clone().requires_grad_()
        ways = [moving[name] for name in moving]
        force = -loads
        if moving:
            potential = model.potential(z, leaves, time_step)
            if moments is not None and "start" in moving:
                drift = model.bending.drift(model.split(z)[0], leaves["start"])
                potential = potential + (moments * drift).sum()
            wanted = [leaves[name] for name in moving]
            slopes = torch.autograd.grad(potential, wanted, create_graph=True, allow_unused=True)
            rate = _dot(slopes, ways)
            if rate is not None and rate.requires_grad:
                (more,) = torch.autograd.grad(rate, z)
                force = force + more
        moved = at.solve(-force, held)
        pulls = torch.where(model.free, 0.0, at.product(moved) + force)
        angles = model.bending.angles(z, leaves)
        outputs = [angles]
        if model.plastic:
            outputs += yielded(angles, leaves, model.bending.order)
        inner = [z, *(leaves[name] for name in moving)]
        found = [_along(output, inner, [moved, *ways]) for output in outputs]
    return moved, found[0], pulls, tuple(found[1:])


def _along(output: Tensor, leaves: Sequence[Tensor], ways: Sequence[Tensor]) -> Tensor:
    """Derivative of an output along `ways`: the derivative of its pull back, which is linear."""
    seed = torch.zeros_like(output, requires_grad=True)
    slopes = torch.autograd.grad(
        (output * seed).sum(), leaves, create_graph=True, retain_graph=True, allow_unused=True
    )
    rate = _dot(slopes, ways)
    if rate is None:
        return torch.zeros_like(seed)
    return torch.autograd.grad(rate, seed)[0]


def _dot(slopes: Sequence[Tensor | None], ways: Sequence[Tensor]) -> Tensor | None:
    parts = [(s * way).sum() for s, way in zip(slopes, ways, strict=True) if s is not None]
    return torch.stack(parts).sum() if parts else None
