"""The Kuramoto-Sivashinsky equation: flames and films, the standard chaos in one dimension."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sims.pde.spectral.arguments import Number, checked_parameter
from sims.pde.spectral.grid import Wavenumbers
from sims.pde.spectral.half_square import HalfSquare


class KuramotoSivashinsky(HalfSquare):
    """u_t + u u_x + u_xx + viscosity u_xxxx = 0 on a periodic interval.

    Fields (B, 1, points). Modes below k = viscosity^(-1/2) grow, u u_x hands their energy on to
    those that decay. The mean of u is conserved: a constant c in u only lets everything travel at
    speed c. Raises InputError for a viscosity that is not positive.
    """

    def __init__(
        self,
        length: float | Tensor = 64.0,
        points: int = 128,
        time_step: Number = 0.1,
        viscosity: Number = 1.0,
    ):
        viscosity = checked_parameter("viscosity", viscosity, above=0.0)
        super().__init__(
            length, points, time_step, dimension=1, parameters={"viscosity": viscosity}
        )

    def linear(self, waves: Wavenumbers, values: Mapping[str, Tensor]) -> Tensor:
        """k^2 - viscosity k^4."""
        return waves.squared - values["viscosity"] * waves.squared.square()
