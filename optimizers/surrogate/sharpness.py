"""A penalty that keeps a surrogate's prediction from hanging on the exact values of its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from optimizers.checks import check_number


@dataclass(frozen=True)
class SharpnessPenalty:
    """For a surrogate whose minimum will be searched away from its data (offline optimization).

    radius: of the disturbance of the weights, r, and the unit rho in which sharpness is measured.
    tolerance: epsilon, the sharpness that is allowed.
    multiplier: lambda at the start of the training.
    rate: of the multiplier per step, eta; 0 keeps it fixed.
    spread: of the designs at which G is taken around those of the data, in their deviations.

    With G(w) the mean prediction of a surrogate over a batch of designs, in standardised outputs,
    it asks for rho |grad_w G| <= epsilon: to first order, the largest change of G under a
    disturbance of the weights (not of the designs) by rho. A training step descends on

        loss + lambda rho |grad_w G|,   then   lambda <- max(0, lambda + eta (rho |grad_w G| - eps))

    with the gradient of the norm from two gradients of G, see `sharpness`. IGNITE (Dao et al.,
    NeurIPS 2024, Incorporating surrogate gradient norm to improve offline optimization). Ours:
    - The multiplier stays at or above 0, each member of an ensemble has its own, and it starts at 3
      rather than 1e-3. A last layer with a bias has |grad_w G| >= 1, so the published constraint
      is never met and its multiplier only grows, by some 0.1 in 1000 steps: too little to be seen.
    - With a spread, designs are first disturbed by that normal noise, so that G is taken where the
      search will go. This makes a surrogate far more cautious: only for searches that otherwise end
      with designs worse than their data.

    Measured (benchmarks/offline_design.py): it gains where a plain surrogate learns the errors of
    its data, which is where designs have many numbers and few have been measured; with 8 to 20
    numbers and 300 designs the plain surrogate is better. Give the trainer no share for validation
    with it: errors on more of the same data choose the weights from before it took effect.
    """

    radius: float = 0.05
    tolerance: float = 1e-3
    multiplier: float = 3.0
    rate: float = 1e-3
    spread: float = 0.0

    def __post_init__(self) -> None:
        check_number("radius", self.radius, above=0)
        check_number("tolerance", self.tolerance, least=0)
        check_number("multiplier", self.multiplier, least=0)
        check_number("rate", self.rate, least=0)
        check_number("spread", self.spread, least=0)

    def gradient(
        self, mean_prediction: Callable[[Tensor], Tensor], weights: Tensor, multiplier: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the penalty adds to a training step, for K networks at once.

        mean_prediction: as in `sharpness`. weights: (K, P). multiplier: lambda, (K,).
        Returns |grad_w G| (K,), the gradient (K, P) to be added to that of the loss, and the
        multiplier (K,) of the next step.
        """
        norm, slope = sharpness(mean_prediction, weights, self.radius)
        excess = self.radius * norm - self.tolerance
        following = (multiplier + self.rate * excess).clamp(min=0.0)
        return norm, (multiplier * self.radius)[:, None] * slope, following


def sharpness(
    mean_prediction: Callable[[Tensor], Tensor], weights: Tensor, radius: float
) -> tuple[Tensor, Tensor]:
    """How much K networks hang on their weights: |grad_w G| (K,), and its gradient (K, P).

    mean_prediction: takes weights (K, P) and returns G (K,), row by row.
    radius: r > 0, length of the finite difference.

        q = grad G(w),   gradient of |q|:   H q / |q| = (grad G(w + r q / |q|) - q) / r + O(r)

    so it needs no second derivatives, which networks with kinks do not have. Where q = 0 it is 0.
    """

    def gradient_at(point: Tensor) -> Tensor:
        with torch.enable_grad():
            point = point.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(
                mean_prediction(point).sum(), point, materialize_grads=True
            )
        return gradient

    first = gradient_at(weights)
    norm = first.norm(dim=1)
    unit = first / norm.clamp(min=torch.finfo(norm.dtype).tiny)[:, None]
    return norm, (gradient_at(weights + radius * unit) - first) / radius
