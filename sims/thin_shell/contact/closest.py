"""Closest points of pairs, as torch functions of their four points.

Which parameters u of a pair are free is found by the kernel, see `closest_kernels`, with weights w*
and the inverse G* of the matrix t_k . t_l of their rates, t_k = dr/du_k. Near these positions the
parameters go where r . t_k = 0. The steps of Newton's method with a fixed matrix,

    u_k <- u_k - sum_l G*_kl r(u) . t_l,

are zero up to rounding here, but each of them gives one derivative more in the positions; one of
them is also a kernel, `touch`. Where the set of free parameters changes, the distance has one
continuous derivative.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geomopt.launch import differentiable, launch
from sims.thin_shell.contact.closest_kernels import kernels


def _arguments(local: Tensor, kind: Tensor) -> list[Tensor]:
    return [local.detach().flatten(1).contiguous(), kind.detach().to(local.dtype).contiguous()]


def closest(local: Tensor, kind: Tensor) -> Tensor:
    """Weights (n, 4) of the closest points, differentiable twice in local (n, 4, 3) [m].

    kind (n,) of `contact.pairs`, of any dtype. r = sum_i w_i x_i goes from the closest point of the
    second primitive to that of the first. The weights of a pair add up to zero. No NaN: parallel
    edges, faces without area and edges without length answer with one of their closest points.
    """
    n = len(local)
    weights, rates, products = (local.new_empty(n, *shape) for shape in ((4,), (2, 4), (2, 2)))
    launch(kernels()[0], n, _arguments(local, kind), [weights, rates, products], split=True)
    if local.requires_grad and torch.is_grad_enabled():
        along = rates @ local
        back = products @ along
        for _ in range(2):
            moved = back @ separation(local, weights)[:, :, None]
            weights = weights - (moved.mT @ rates)[:, 0]
    return weights


def touch(local: Tensor, kind: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (n, 4), |r| (n,) [m] and r / |r| (n, 3), fast and differentiable once.

    local (n, 4, 3) [m] and kind (n,) as in `closest`. Where |r| is zero so is the direction, and
    the derivatives of both.
    """

    def forward(local: Tensor) -> tuple[list[Tensor], None]:
        made = [local.new_empty(len(local), *shape) for shape in ((4,), (), (3,))]
        launch(kernels()[1], len(local), _arguments(local, kind), made, split=True)
        return made, None

    def backward(
        tensors: Sequence[Tensor],
        saved: None,
        gradients: Sequence[Tensor | None],
        needed: Sequence[bool],
    ) -> list[Tensor]:
        (local,) = tensors
        given = [
            local.new_zeros(len(local), *shape) if gradient is None else gradient
            for gradient, shape in zip(gradients, ((4,), (), (3,)), strict=True)
        ]
        result = torch.empty_like(local, memory_format=torch.contiguous_format)
        inputs = [*_arguments(local, kind), *given]
        launch(kernels()[2], len(local), inputs, [result.flatten(1)], split=True)
        return [result]

    weights, distance, direction = differentiable(forward, backward, local, rows=True)
    return weights, distance, direction


def separation(local: Tensor, weights: Tensor) -> Tensor:
    """r = sum_i w_i x_i (n, 3) [m] of local (n, 4, 3)."""
    return (weights[:, None] @ local)[:, 0]


def _distance(apart: Tensor) -> tuple[Tensor, Tensor]:
    """Length (n,) of (n, 3), of derivative zero at zero; and the length, or one where it is 0."""
    square = (apart * apart).sum(1)
    positive = square > 0
    length = torch.where(positive, square, 1.0).sqrt()
    return torch.where(positive, length, 0.0), length


def gap(local: Tensor, weights: Tensor, offset: Tensor) -> Tensor:
    """|r| - offset (n,) [m], the room between the surfaces of pairs."""
    return _distance(separation(local, weights))[0] - offset


def normal(local: Tensor, weights: Tensor) -> Tensor:
    """r / |r| (n, 3), from the second primitive to the first; zero where they intersect."""
    apart = separation(local, weights)
    return apart / _distance(apart)[1][:, None]
