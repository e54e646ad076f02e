"""Closest points of pairs, as torch functions of their four points.

Which parameters of a pair are free is found by the kernel, see `closest_kernels`. At the weights w*
that it gives, the parameters move by

    one free:  u = -r.p / |p|^2,        two free:  u = -((r x q).X, (p x r).X) / |X|^2,

with r = sum_i w*_i x_i, its rates p and q, and X = p x q. That is zero up to rounding, but it holds
for all positions near these: weights + u rates can be differentiated as often as one likes. Where
the set of free parameters changes the distance has one continuous derivative.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geomopt.launch import launch
from sims.thin_shell.contact.closest_kernels import kernel


def closest(local: Tensor, kind: Tensor) -> Tensor:
    """Weights (n, 4) of the closest points, differentiable twice in local (n, 4, 3) [m].

    kind (n,) of `contact.pairs`, of any dtype. r = sum_i w_i x_i goes from the closest point of the
    second primitive to that of the first. The weights of a pair add up to zero. No NaN: parallel
    edges, faces without area and edges without length answer with one of their closest points.
    """
    n = len(local)
    weights, rates = local.new_empty(n, 4), local.new_empty(n, 2, 4)
    free = torch.empty(n, dtype=torch.int32, device=local.device)
    launch(
        kernel(),
        n,
        [local.detach().flatten(1).contiguous(), kind.detach().to(local.dtype).contiguous()],
        [weights, rates, free],
        split=True,
    )
    if not (local.requires_grad and torch.is_grad_enabled()):
        return weights
    apart = separation(local, weights)
    first, second = (rates @ local).unbind(1)
    one, two = (free == 1)[:, None], (free == 2)[:, None]
    along = (apart * first).sum(1, keepdim=True)
    single = along / torch.where(one, first.square().sum(1, keepdim=True), 1.0)
    normal = torch.linalg.cross(first, second)
    square = torch.where(two, normal.square().sum(1, keepdim=True), 1.0)
    u = (torch.linalg.cross(apart, second) * normal).sum(1, keepdim=True) / square
    v = (torch.linalg.cross(first, apart) * normal).sum(1, keepdim=True) / square
    # rates that are not free are zero, so that these two vanish where they do not belong
    return weights - torch.where(one, single, u) * rates[:, 0] - v * rates[:, 1]


def separation(local: Tensor, weights: Tensor) -> Tensor:
    """r = sum_i w_i x_i (n, 3) [m] of local (n, 4, 3)."""
    return (weights[:, None] @ local)[:, 0]


def _distance(apart: Tensor) -> tuple[Tensor, Tensor]:
    """Length (n,) of (n, 3), of derivative zero at zero; and the length, or one where it is 0."""
    square = apart.square().sum(1)
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
