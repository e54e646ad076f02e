"""The Korteweg-de Vries equation: waves on shallow water, and their solitons."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sims.pde.spectral.arguments import Number, checked_parameter
from sims.pde.spectral.grid import Wavenumbers
from sims.pde.spectral.half_square import HalfSquare


class KortewegDeVries(HalfSquare):
    """u_t + advection u u_x + dispersion u_xxx = 0 on a periodic interval.

    Fields (B, 1, points). The mean of u and of u^2 are conserved; with the usual advection 6 and
    dispersion 1, c / 2 sech^2(sqrt(c) (x - c t) / 2) is a soliton of speed c. Nothing damps short
    waves, so the field must be resolved. Raises InputError for numbers that are not finite.
    """

    def __init__(
        self,
        length: float | Tensor = 32.0,
        points: int = 128,
        time_step: Number = 0.01,
        advection: Number = 6.0,
        dispersion: Number = 1.0,
    ):
        super().__init__(
            length,
            points,
            time_step,
            dimension=1,
            parameters={
                "advection": checked_parameter("advection", advection),
                "dispersion": checked_parameter("dispersion", dispersion),
            },
        )

    def linear(self, waves: Wavenumbers, values: Mapping[str, Tensor]) -> Tensor:
        """i dispersion k^3."""
        return 1j * values["dispersion"] * waves.odd[0] ** 3
