"""The limited-memory quasi-Newton step in a box."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from optimizers.state import restore, snapshot


def free_coordinates(gradient: Tensor, to_lower: Tensor, to_upper: Tensor) -> Tensor:
    """Mask (d,) of the coordinates that a small step down the gradient can move.

    to_lower <= 0 <= to_upper: (d,), what is left to the bounds.
    """
    held = ((to_lower >= 0) & (gradient > 0)) | ((to_upper <= 0) & (gradient < 0))
    return ~held


class History:
    """The newest steps and what they changed in the gradient, in a ring that is written in place.

    steps, changes: (memory, d), pair i of the run in row i % memory; empty before the first pair.
    curvatures: of each row, step . change > 0.
    stiffness: (d,), a diagonal model of the Hessian that the product starts from.
    pairs: how many were taken since the last `clear`.
    """

    FIELDS = ("steps", "changes", "curvatures", "stiffness", "pairs")

    def __init__(self, memory: int, like: Tensor) -> None:
        self.memory = memory
        self.steps = self.changes = like.new_zeros(0, len(like))
        self.curvatures = [0.0] * memory
        self.stiffness = like.new_zeros(0)
        self.pairs = 0

    def __len__(self) -> int:
        return min(self.pairs, self.memory)

    def clear(self) -> None:
        """Forget all pairs; the room for them stays."""
        self.pairs = 0

    def rows(self) -> list[int]:
        """Rows of the ring, oldest pair first."""
        return [pair % self.memory for pair in range(self.pairs - len(self), self.pairs)]

    def take(self, step: Tensor, change: Tensor, round_off: float) -> bool:
        """Keep a pair (d,), (d,) in place of the oldest, unless its curvature is not above 0.

        round_off: share of |step| |change| that counts as 0.
        """
        curvature, square = float(step.dot(change)), float(change.dot(change))
        if not curvature > round_off * (float(step.dot(step)) * square) ** 0.5:
            return False
        if not len(self.steps):
            self.steps = step.new_zeros(self.memory, len(step))
            self.changes = torch.zeros_like(self.steps)
        row = self.pairs % self.memory
        self.steps[row], self.changes[row] = step, change
        self.curvatures[row] = curvature
        self._stiffen(step, change, curvature, square)
        self.pairs += 1
        return True

    def _stiffen(self, step: Tensor, change: Tensor, curvature: float, square: float) -> None:
        """The diagonal of the BFGS update of the diagonal, rescaled to the newest curvature.

        With r = y . (y / w) / y . s:  w <- r w - r (w s)^2 / s . (w s) + y^2 / y . s
        Gilbert and Lemarechal, 1989, section 4.2. One number for all coordinates would do for
        turned problems; parameters of different units need 20 times more gradients with it.
        """
        if self.pairs == 0:
            self.stiffness = torch.full_like(step, square / curvature)
            return
        old = self.stiffness
        weighted = old * step
        growth = float((change / old).dot(change)) / curvature
        loss = growth / float(weighted.dot(step))
        new = weighted.square_().mul_(-loss).add_(old, alpha=growth).clamp_(min=0.0)
        new.addcmul_(change, change, value=1 / curvature)
        self.stiffness = new.clamp_(min=torch.finfo(new.dtype).eps * square / curvature)

    def product(self, gradient: Tensor, free: Tensor | None = None) -> Tensor:
        """H g (d,) by the two-loop recursion (Nocedal and Wright, algorithm 7.4).

        free: mask (d,) to which the pairs are cut; g must be 0 elsewhere. A pair that has no
        positive curvature there is left out.
        """
        rows, curvatures = self.rows(), self.curvatures
        if free is not None:
            curvatures, cut, tiny = (
                list(curvatures),
                torch.empty_like(gradient),
                torch.finfo(gradient.dtype).eps,
            )
            for row in rows:
                torch.mul(self.changes[row], free, out=cut)
                curvatures[row] = float(self.steps[row].dot(cut))
                if curvatures[row] <= tiny * float(cut.dot(cut)):
                    curvatures[row] = 0.0
            rows = [row for row in rows if curvatures[row] > 0]
        result, weights = gradient.clone(), [0.0] * self.memory
        for row in reversed(rows):
            weights[row] = float(self.steps[row].dot(result)) / curvatures[row]
            result.sub_(self.changes[row], alpha=weights[row])
            if free is not None:
                result.mul_(free)
        result.div_(self.stiffness)
        for row in rows:
            share = weights[row] - float(self.changes[row].dot(result)) / curvatures[row]
            result.add_(self.steps[row], alpha=share)
            if free is not None:
                result.mul_(free)
        return result

    def state_dict(self) -> dict[str, Any]:
        """Copies of the ring."""
        return snapshot(self, self.FIELDS)

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from a state of the same memory."""
        restore(self, self.FIELDS, state, device)


def quasi_newton_step(
    gradient: Tensor, room: tuple[Tensor, Tensor] | None, history: History
) -> Tensor:
    """A direction (d,) of descent; to be clamped into the box as it is followed.

    gradient: (d,). room: what is left to the lower and the upper bounds, (d,) each, None without
    bounds. A coordinate that the gradient over the stiffness takes to its bound moves that far. The
    others move by the two-loop product of the pairs cut to them, so that both blocks descend
    (Bertsekas, 1982, Projected Newton methods, section 3).
    """
    if not len(history):
        return -gradient
    if room is not None:
        plain = (gradient / history.stiffness).neg_()
        bound = ((plain <= room[0]) & (gradient > 0)) | ((plain >= room[1]) & (gradient < 0))
        if bool(bound.any()):
            free = ~bound
            return torch.where(bound, plain, history.product(gradient * free, free).neg_())
    return history.product(gradient).neg_()
