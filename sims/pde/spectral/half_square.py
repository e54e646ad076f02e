"""The flux u^2 / 2 that several equations in one dimension share."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sims.pde.spectral.grid import Wavenumbers
from sims.pde.spectral.stepper import Stepper


class HalfSquare(Stepper):
    """N(u) = -a (u^2 / 2)_x, with a the parameter `advection`, or one without it."""

    degree = 2

    def multiplier(self, waves: Wavenumbers, values: Mapping[str, Tensor]) -> Tensor | None:
        """-i k a / 2."""
        half = -0.5j * waves.odd[0]
        return half * values["advection"] if "advection" in values else half

    def product(self, modes: Tensor, factors: tuple[Tensor, ...]) -> Tensor:
        """The modes of u^2."""
        del factors
        return self.transform.to_modes(self.transform.to_space(modes).pow_(2))
