"""Curvatures that a regularised Newton step can be solved with: dense, L-BFGS, Fisher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from optimizers.gradient.quasi_newton import History
from optimizers.state import restore, snapshot


class Dense:
    """A matrix (d, d) that a query of order 2 has told."""

    FIELDS = ("matrix",)
    order = 2

    def __init__(self, like: Tensor) -> None:
        self.matrix = like.new_zeros(len(like), len(like))

    def take(self, step: Tensor, change: Tensor, gradient: Tensor, round_off: float) -> None:
        """Steps teach nothing that the matrix does not know."""

    def solve(self, gradient: Tensor, shift: float, free: Tensor) -> Tensor | None:
        """(H + shift I)^-1 g (d,) on the free coordinates; None unless that is positive definite.

        free: mask (d,); elsewhere the result is 0.
        """
        index = free.nonzero()[:, 0]
        block = self.matrix[index[:, None], index].clone()
        block.diagonal().add_(shift)
        factor, failed = torch.linalg.cholesky_ex(block)
        if int(failed):
            return None
        solution = torch.cholesky_solve(gradient[index, None], factor)[:, 0]
        return torch.zeros_like(gradient).index_put((index,), solution)

    def clear(self) -> None:
        """Forget the matrix."""
        self.matrix = torch.zeros_like(self.matrix)

    def state_dict(self) -> dict[str, Any]:
        """A copy of the matrix."""
        return snapshot(self, self.FIELDS)

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from a state of the same dimension."""
        restore(self, self.FIELDS, state, device)


class Secant:
    """The L-BFGS matrix in its compact form, from steps and the changes of the gradient.

        H = s I - [s S, Y] [[s S^T S, L], [L^T, -D]]^-1 [s S, Y]^T

    with L and D the strictly lower and the diagonal part of S^T Y and s = y.y / s.y of the newest
    pair. Nocedal and Wright, equation 7.29.
    """

    order = 1

    def __init__(self, memory: int, like: Tensor) -> None:
        self.history = History(memory, like)

    def take(self, step: Tensor, change: Tensor, gradient: Tensor, round_off: float) -> None:
        """Learn from an accepted step (d,) and the change of the gradient over it."""
        self.history.take(step, change, round_off)

    def solve(self, gradient: Tensor, shift: float, free: Tensor) -> Tensor | None:
        """(H + shift I)^-1 g (d,) on the free coordinates, as `Dense.solve`."""
        gradient, rows = gradient * free, self.history.rows()
        if not rows:
            return gradient / shift
        steps, changes = self.history.steps[rows], self.history.changes[rows]
        products = steps @ changes.mT
        scale = float(changes[-1].square().sum()) / self.history.curvatures[rows[-1]]
        lower, diagonal = products.tril(-1), torch.diag(products.diagonal())
        core = torch.cat(
            (
                torch.cat((scale * steps @ steps.mT, lower), 1),
                torch.cat((lower.mT, -diagonal), 1),
            )
        )
        factors = torch.cat((scale * steps, changes)) * free
        return low_rank_solution(gradient, scale + shift, factors, core)

    def clear(self) -> None:
        """Forget all pairs."""
        self.history.clear()

    def state_dict(self) -> dict[str, Any]:
        """Copies of the pairs."""
        return self.history.state_dict()

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from a state of the same memory."""
        self.history.load_state_dict(state, device)


class Fisher:
    """The empirical Fisher matrix c G^T G / m of the newest m gradients G (m, d), never formed.

    c: makes its curvature along the newest step that which was met there. A Fisher matrix is a
    curvature only in the units of a log-likelihood; this way it is one in any.
    The Woodbury form of the inverse that M-FAC computes by a recursion (Frantar, Kurtic and
    Alistarh, 2021): for m up to some hundreds the Cholesky factor of an m x m matrix is simpler.
    """

    FIELDS = ("gradients", "products", "taken", "unit")
    order = 1

    def __init__(self, memory: int, like: Tensor) -> None:
        self.memory = memory
        self.gradients = like.new_zeros(0, len(like))
        self.products = like.new_zeros(memory, memory)
        self.taken, self.unit = 0, 1.0

    def take(self, step: Tensor, change: Tensor, gradient: Tensor, round_off: float) -> None:
        """Put a gradient (d,) in place of the oldest."""
        if not len(self.gradients):
            self.gradients = gradient.new_zeros(self.memory, len(gradient))
        row = self.taken % self.memory
        self.gradients[row] = gradient
        self.products[row] = self.products[:, row] = self.gradients @ gradient
        self.taken += 1
        known = self.gradients[: min(self.taken, self.memory)]
        modelled, met = float((known @ step).square().mean()), float(step.dot(change))
        if modelled > 0 and met > 0:
            self.unit = met / modelled

    def solve(self, gradient: Tensor, shift: float, free: Tensor) -> Tensor | None:
        """(shift I + c G^T G / m)^-1 g (d,) on the free coordinates, as `Dense.solve`."""
        gradient, count = gradient * free, min(self.taken, self.memory)
        if not count:
            return gradient / shift
        factors, gram = self.gradients[:count], self.products[:count, :count]
        if not bool(free.all()):
            factors = factors * free
            gram = factors @ factors.mT
        core = -count * torch.eye(count, dtype=gram.dtype, device=gram.device)
        return low_rank_solution(gradient, shift, factors, core / self.unit, gram)

    def clear(self) -> None:
        """Forget all gradients."""
        self.taken, self.unit = 0, 1.0

    def state_dict(self) -> dict[str, Any]:
        """Copies of the gradients."""
        return snapshot(self, self.FIELDS)

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from a state of the same memory."""
        restore(self, self.FIELDS, state, device)


def low_rank_solution(
    gradient: Tensor, shift: float, factors: Tensor, core: Tensor, gram: Tensor | None = None
) -> Tensor:
    """(shift I - W^T N^-1 W)^-1 g (d,) of factors W (r, d) and a core N (r, r), by Woodbury.

        g / shift + W^T (shift N - W W^T)^-1 W g / shift

    gram: W W^T, where it is known.
    """
    gram = factors @ factors.mT if gram is None else gram
    inner = torch.linalg.solve_ex(shift * core - gram, factors @ gradient)[0]
    return (gradient + factors.mT @ inner) / shift
