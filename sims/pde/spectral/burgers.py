"""The Burgers equation: a velocity that carries itself, without pressure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sims.pde.spectral.arguments import Number, checked_parameter
from sims.pde.spectral.grid import Wavenumbers
from sims.pde.spectral.stepper import Stepper


class Burgers(Stepper):
    """u_t + (u . grad) u = viscosity laplace u on a periodic box, u a vector.

    Fields (B, dimension, *points): as many velocity components as axes. In one dimension, where
    u u_x = (u^2 / 2)_x, the mean is conserved. Fronts are about viscosity / max |u| thick; points
    must be closer than that. Raises InputError for a negative viscosity.
    """

    degree = 2

    def __init__(
        self,
        length: float | Sequence[float] | Tensor = 1.0,
        points: int | Sequence[int] = 128,
        time_step: Number = 0.01,
        viscosity: Number = 0.01,
        dimension: int = 1,
    ):
        super().__init__(
            length,
            points,
            time_step,
            dimension=dimension,
            channels=dimension,
            conserves_mean=dimension == 1,
            parameters={"viscosity": checked_parameter("viscosity", viscosity, least=0.0)},
        )

    def linear(self, waves: Wavenumbers, values: Mapping[str, Tensor]) -> Tensor:
        """-viscosity |k|^2."""
        return -values["viscosity"] * waves.squared

    def multiplier(self, waves: Wavenumbers, values: Mapping[str, Tensor]) -> Tensor | None:
        """In one dimension -i k / 2, of u^2."""
        del values
        return -0.5j * waves.odd[0] if self.dimension == 1 else None

    def factors(self, waves: Wavenumbers) -> tuple[Tensor, ...]:
        """In more dimensions the slopes i k_j."""
        return () if self.dimension == 1 else tuple(1j * wave for wave in waves.odd)

    def product(self, modes: Tensor, factors: tuple[Tensor, ...]) -> Tensor:
        """The modes of u^2 in one dimension, else of -(u . grad) u."""
        u = self.transform.to_space(modes)
        if self.dimension == 1:
            return self.transform.to_modes(u.pow_(2))
        carried = torch.zeros_like(u)
        for axis, slope in enumerate(factors):
            carried = carried - u[:, axis : axis + 1] * self.transform.to_space(modes, slope)
        return self.transform.to_modes(carried)
