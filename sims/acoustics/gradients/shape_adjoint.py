"""Gradients in the metric and the mass of mapped elements, in the reverse sweep; see `adjoint`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.gradients.checkpoints import Segment
from sims.acoustics.stepping.marching import KICKS

if TYPE_CHECKING:
    from sims.acoustics.elements.hexahedra import Hexahedra


class ShapeSweep:
    """Sums over time for the stiffness K and the mass M of A = c² M⁻¹ K.

    mass: (N,), the derivative in M at a fixed K, M s and M f: the sum over steps of
    -dt⁴/12 a u - μ (pⁿ⁺¹ - 2 pⁿ + pⁿ⁻¹ - k), with a = -A μ, u = -A p + s - f, and k what comes
    up of the initial field.
    """

    def __init__(self, space: Hexahedra, time_step: float, like: Tensor) -> None:
        self.space, self.time_step = space, time_step
        self.mass = torch.zeros_like(like)
        self._sums = space.metric_sums(like.dtype)
        self._scaled = torch.zeros_like(like)

    def add(
        self, field: Tensor, acceleration: Tensor, segment: Segment, step: int, initial: Tensor
    ) -> None:
        """Add a step."""
        row = step - segment.start
        before, now, after = segment.pressures[row : row + 3]
        felt = segment.accelerations[row]
        square, quartic = self.time_step**2, self.time_step**4 / 12
        self.mass.addcmul_(acceleration, felt, value=-quartic)
        torch.sub(after, now, alpha=2, out=self._scaled).add_(before)
        if step in KICKS:
            self._scaled.sub_(initial, alpha=KICKS[step])
        self.mass.addcmul_(field, self._scaled, value=-1)
        torch.mul(field, square, out=self._scaled).add_(acceleration, alpha=quartic)
        self.space.metric_gradient(self._scaled, now, self._sums)
        torch.mul(field, quartic, out=self._scaled)
        self.space.metric_gradient(self._scaled, felt, self._sums)

    def metric(self) -> Tensor:
        """The gradient in the metric (E, Q, 6), float64."""
        return self.space.of_metric(self._sums) * -(SPEED_OF_SOUND**2)
