"""Two-dimensional flow of an incompressible fluid, by its vorticity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from sims.pde.spectral.arguments import (
    Number,
    check_batch,
    checked_parameter,
    checked_points,
    lengths_of,
    whole_number,
)
from sims.pde.spectral.grid import Wavenumbers, coordinates, wavenumbers
from sims.pde.spectral.stepper import Stepper

SMALLEST = torch.finfo(torch.float64).tiny  # of |k|^2, to divide the mean mode by


class NavierStokes2D(Stepper):
    """w_t + u . grad w = viscosity laplace w - drag w + forcing, with w = v_x - u_y.

    The velocity (u, v) = (psi_y, -psi_x) comes from the stream function, -laplace psi = w. Fields
    are vorticities (B, 1, N_x, N_y); the first axis is x. The density is one.

    forcing: the curl f_y,x - f_x,y of the force on a unit of mass, (N_x, N_y) or (B or 1, 1, N_x,
    N_y), or None; `kolmogorov_forcing` makes the usual one. Its modes that dealiasing leaves out
    have no effect. A mean vorticity, which no periodic velocity has, moves nothing.
    """

    degree = 2

    def __init__(
        self,
        length: float | Sequence[float] | Tensor = 2.0 * math.pi,
        points: int | Sequence[int] = 64,
        time_step: Number = 0.01,
        viscosity: Number = 1e-3,
        drag: Number = 0.0,
        forcing: Tensor | None = None,
    ):
        parameters = {
            "viscosity": checked_parameter("viscosity", viscosity, least=0.0),
            "drag": checked_parameter("drag", drag, least=0.0),
        }
        undamped = not bool(torch.as_tensor(drag).detach().any())
        super().__init__(
            length,
            points,
            time_step,
            dimension=2,
            parameters=parameters,
            conserves_mean=undamped and forcing is None,
        )
        self.forcing = None if forcing is None else _checked_forcing(forcing, self.points)

    def linear(self, waves: Wavenumbers, values: Mapping[str, Tensor]) -> Tensor:
        """-viscosity |k|^2 - drag."""
        return -values["viscosity"] * waves.squared - values["drag"]

    def factors(self, waves: Wavenumbers) -> tuple[Tensor, ...]:
        """From vorticity to u and v, and from their products to -u . grad w."""
        x, y = waves.components
        return (*_velocity_factors(waves), x * x - y * y, -x * y)

    def product(self, modes: Tensor, factors: tuple[Tensor, ...]) -> Tensor:
        """The modes of -u . grad w = (uv)_yy - (uv)_xx + (u^2 - v^2)_xy, by four transforms
        (Basdevant 1983, J. Comput. Phys. 50, 209).
        """
        to_u, to_v, of_shear, of_stretch = factors
        u = self.transform.to_space(modes, to_u)
        v = self.transform.to_space(modes, to_v)
        shear = self.transform.to_modes(u * v)
        stretch = self.transform.to_modes((u - v) * (u + v))
        return shear * of_shear + stretch * of_stretch

    def constant(self, device: torch.device, values: Mapping[str, Tensor]) -> Tensor | None:
        """The modes of the forcing."""
        del values
        if self.forcing is None:
            return None
        return torch.fft.rfftn(self.forcing.to(device, torch.float64), dim=(2, 3))

    def velocity(self, vorticity: Tensor) -> Tensor:
        """(u, v) of vorticities (B, 1, N_x, N_y), as (B, 2, N_x, N_y)."""
        self._check_field(vorticity)
        edges = lengths_of(self.length, 2, vorticity.device)
        factors = torch.cat(_velocity_factors(wavenumbers(edges, self.points)), 1)
        modes = torch.fft.rfftn(vorticity, dim=(2, 3))
        return torch.fft.irfftn(modes * factors.to(modes.dtype), s=self.points, dim=(2, 3))

    def energy(self, vorticity: Tensor) -> Tensor:
        """Kinetic energy on a unit of mass, the mean of (u^2 + v^2) / 2, (B,)."""
        return 0.5 * self.velocity(vorticity).square().sum(1).mean((1, 2))

    def enstrophy(self, vorticity: Tensor) -> Tensor:
        """The mean of w^2 / 2, (B,)."""
        self._check_field(vorticity)
        return 0.5 * vorticity.square().mean((1, 2, 3))

    def _values(self) -> list[object]:
        return [*super()._values(), self.forcing]

    def _check_field(self, u: Tensor) -> None:
        super()._check_field(u)
        check_batch("forcing", self.forcing, u.shape[0])


def kolmogorov_forcing(
    points: int,
    wavenumber: int = 4,
    amplitude: Number = 1.0,
    length: float = 2.0 * math.pi,
    *,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """The curl of the force amplitude sin(k y) in the direction of x, (points, points).

    It is -amplitude k cos(k y) with k = 2 pi wavenumber / length. Raises InputError for a wave
    that the points cannot hold.
    """
    (points,) = checked_points(points, 1)
    if whole_number("wavenumber", wavenumber) >= points / 3:
        raise InputError(
            f"wavenumber must be below a third of the {points} points, got {wavenumber!r}"
        )
    amplitude = checked_parameter("amplitude", amplitude)
    edge = checked_parameter("length", length, above=0.0)
    if isinstance(edge, Tensor) and edge.ndim:
        raise InputError(f"length must be one number, the edge of a square, got {length!r}")
    edges = lengths_of(edge, 2, torch.device("cpu"))
    if isinstance(amplitude, Tensor) and amplitude.ndim:
        amplitude = amplitude.reshape(-1, 1, 1, 1)
    k = 2.0 * math.pi * wavenumber / edges[0, 0]
    y = coordinates(edges, (points, points))[0, 1]
    return (-amplitude * k * torch.cos(k * y)).to(dtype)


def _velocity_factors(waves: Wavenumbers) -> tuple[Tensor, Tensor]:
    """psi_y and -psi_x of a unit of vorticity; the mean flow is at rest."""
    x, y = waves.odd
    inverse = torch.where(waves.squared > 0, 1.0 / waves.squared.clamp_min(SMALLEST), 0.0)
    return 1j * y * inverse, -1j * x * inverse


def _checked_forcing(forcing: Tensor, points: tuple[int, ...]) -> Tensor:
    check_tensor("forcing", forcing)
    plane = forcing[None, None] if forcing.ndim == 2 else forcing
    if plane.ndim != 4 or plane.shape[1] != 1 or tuple(plane.shape[2:]) != points:
        raise InputError(
            f"forcing must have shape {points} or (batch, 1, {points[0]}, {points[1]}), got "
            f"{tuple(forcing.shape)}"
        )
    return plane
