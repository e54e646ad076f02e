"""The Gray-Scott reaction: two chemicals that diffuse and form spots, stripes and waves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.pde.spectral.arguments import Number, checked_parameter
from sims.pde.spectral.grid import Wavenumbers
from sims.pde.spectral.stepper import Stepper


class GrayScott(Stepper):
    """u_t = D_u laplace u - u v^2 + feed (1 - u), v_t = D_v laplace v + u v^2 - (feed + kill) v.

    Fields (B, 2, *points), the channels u and v; u = 1, v = 0 is the state of rest. diffusivities:
    (D_u, D_v), two numbers or a tensor (2,). The product has degree three, so only the lower half
    of the modes on each axis react; the others diffuse and decay. The default numbers make spots
    that divide (Pearson 1993, Science 261, 189), and want points 0.01 apart: on twice that they
    stand still. Raises InputError for negative numbers.
    """

    degree = 3

    def __init__(
        self,
        length: float | Sequence[float] | Tensor = 1.25,
        points: int | Sequence[int] = 128,
        time_step: Number = 1.0,
        feed: Number = 0.03,
        kill: Number = 0.062,
        diffusivities: Sequence[Number] | Tensor = (2e-5, 1e-5),
        dimension: int = 2,
    ):
        if isinstance(diffusivities, Tensor) and diffusivities.ndim == 1:
            diffusivities = diffusivities.unbind()
        if not isinstance(diffusivities, Sequence) or len(diffusivities) != 2:
            raise InputError(f"diffusivities must be two numbers, got {diffusivities!r}")
        names = ("feed", "kill", "diffusivity_u", "diffusivity_v")
        super().__init__(
            length,
            points,
            time_step,
            dimension=dimension,
            channels=2,
            conserves_mean=False,
            parameters={
                name: checked_parameter(name, value, least=0.0)
                for name, value in zip(names, (feed, kill, *diffusivities), strict=True)
            },
        )

    def linear(self, waves: Wavenumbers, values: Mapping[str, Tensor]) -> Tensor:
        """(-D_u |k|^2 - feed, -D_v |k|^2 - feed - kill)."""
        of_u = -values["diffusivity_u"] * waves.squared - values["feed"]
        of_v = -values["diffusivity_v"] * waves.squared - values["feed"] - values["kill"]
        return torch.cat(torch.broadcast_tensors(of_u, of_v), 1)

    def product(self, modes: Tensor, factors: tuple[Tensor, ...]) -> Tensor:
        """The modes of (-u v^2, u v^2)."""
        del factors
        u, v = self.transform.to_space(modes).split(1, 1)
        made = self.transform.to_modes(u * v * v)
        return torch.cat([-made, made], 1)

    def constant(self, device: torch.device, values: Mapping[str, Tensor]) -> Tensor | None:
        """The feed of u, in its mean mode."""
        columns = self.points[-1] // 2 + 1
        unit = torch.zeros(1, 2, *self.points[:-1], columns, dtype=torch.complex128, device=device)
        unit[(0, 0, *[0] * self.dimension)] = math.prod(self.points)
        return values["feed"] * unit
