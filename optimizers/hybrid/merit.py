"""One number for a value under constraints, with its gradient."""

from __future__ import annotations

from torch import Tensor

from optimizers.evaluation import Evaluation

WEIGHT = 10.0  # of the violation against the value, in sizes of their gradients


class Merit:
    """Value plus weight times violation: the same order near a solution as feasible ones first.

    weight: 0 until a violated point with gradients was seen; then 10 times the size of the gradient
        of the value over that of the violation, the largest such ratio so far, for scaled
        coordinates.
    """

    def __init__(self, scale: Tensor, weight: float = 0.0) -> None:
        self.scale, self.weight = scale, weight

    def learn(self, evaluation: Evaluation) -> None:
        """Take the weight from violated points with gradients."""
        if evaluation.constraint_gradient is None or evaluation.gradient is None:
            return
        value = (evaluation.gradient * self.scale).norm(dim=1)
        violation = (violation_gradient(evaluation) * self.scale).norm(dim=1)
        known = (violation > 0) & (value > 0)
        if bool(known.any()):
            ratio = float((value[known] / violation[known]).max())
            self.weight = max(self.weight, WEIGHT * ratio)

    def of(self, evaluation: Evaluation) -> Tensor:
        """Merits (B,); +inf in failed rows."""
        if evaluation.constraints is None:
            return evaluation.value
        violation = evaluation.violation.masked_fill(~evaluation.ok, 0.0)
        return evaluation.value + (self.weight or 1.0) * violation

    def gradient(self, evaluation: Evaluation) -> Tensor:
        """Gradients (B, d) of the merits."""
        assert evaluation.gradient is not None
        if evaluation.constraint_gradient is None:
            return evaluation.gradient
        return evaluation.gradient + (self.weight or 1.0) * violation_gradient(evaluation)


def violation_gradient(evaluation: Evaluation) -> Tensor:
    """Gradients (B, d) of the violation."""
    constraints, jacobian = evaluation.constraints, evaluation.constraint_gradient
    assert constraints is not None
    assert jacobian is not None
    signs = (constraints > 0).to(jacobian.dtype)
    if evaluation.equalities:
        first = constraints.shape[1] - evaluation.equalities
        signs[:, first:] = constraints[:, first:].sign()
    signs = signs.masked_fill(~evaluation.ok[:, None], 0.0)
    return (signs[:, None] @ jacobian)[:, 0]
