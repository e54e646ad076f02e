"""Forward mode: how a solution moves when the inputs of its solve move.

With tangents of the inputs and of the held unknowns,

    H_ff dz_f = - (dr_f/d(inputs) d(inputs) + H_fh dz_h)

where H is the Hessian at the solution (implicit function theorem), as in `adjoint`. One solve a
tangent, so it suits a few parameters and many outputs: fits by Gauss and Newton's method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sims.thin_shell.bending import Values, potential
from sims.thin_shell.linearised import Linearised
from sims.thin_shell.model import Model
from sims.thin_shell.system import System


def push_forward(
    model: Model,
    at: Linearised,
    values: Values,
    moving: Values,
    rebuilt: Callable[[Values], System],
    outputs: Callable[[Tensor, Values, System], list[Tensor]],
    loads: Tensor,
    held: Tensor,
    moments: Tensor | None = None,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Tangents of the unknowns, the reactions (size,), and `outputs` of unknowns, values, system.

    values: what the elements depend on, moving: their tangents, rebuilt: the system for values
    that are differentiated. loads (size,): tangent of the loads and the inertia; held (size,): of
    the held unknowns, zero elsewhere. moments (E,): those that act, if any.
    """
    with torch.enable_grad():
        leaves = {n: t.detach().clone().requires_grad_(n in moving) for n, t in values.items()}
        z = at.unknowns.detach().clone().requires_grad_()
        system = rebuilt(leaves)
        ways = [moving[name] for name in moving]
        force = -loads
        if moving:
            total = potential(z, system.terms, system.blocks)
            if moments is not None and "start" in moving:
                drift = model.bending.drift(model.split(z)[0], leaves["start"])
                total = total + (moments * drift).sum()
            wanted = [leaves[name] for name in moving]
            slopes = torch.autograd.grad(total, wanted, create_graph=True, allow_unused=True)
            rate = _dot(slopes, ways)
            if rate is not None and rate.requires_grad:
                (more,) = torch.autograd.grad(rate, z)
                force = force + more
        moved = at.solve(-force, held)
        pulls = torch.where(model.free, 0.0, at.product(moved) + force)
        inner = [z, *(leaves[name] for name in moving)]
        made = outputs(z, leaves, system)
        found = [_along(output, inner, [moved, *ways]) for output in made]
    return moved, pulls, found


def _along(output: Tensor, leaves: Sequence[Tensor], ways: Sequence[Tensor]) -> Tensor:
    """Derivative of an output along `ways`: the derivative of its pull back, which is linear."""
    seed = torch.zeros_like(output, requires_grad=True)
    if not output.numel():
        return torch.zeros_like(output)
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
