"""Transport and diffusion of a scalar: linear, so every step is exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from geomopt.errors import InputError
from sims.pde.spectral.arguments import Number, checked_parameter
from sims.pde.spectral.grid import Wavenumbers
from sims.pde.spectral.stepper import Stepper

AXES = ("x", "y", "z")


class AdvectionDiffusion(Stepper):
    """u_t + velocity . grad u = div(diffusivity grad u) on a periodic box.

    Fields (B, 1, *points) in one to three dimensions. velocity and diffusivity: one number (or
    tensor () or (B,)) for all axes, or a list with one for each; a list makes the parameters
    "velocity_x", "velocity_y" and so on. Raises InputError for a negative diffusivity.
    """

    def __init__(
        self,
        length: float | Sequence[float] | Tensor = 1.0,
        points: int | Sequence[int] = 64,
        time_step: Number = 0.01,
        velocity: Number | Sequence[Number] = 1.0,
        diffusivity: Number | Sequence[Number] = 1e-3,
        dimension: int = 1,
    ):
        super().__init__(
            length,
            points,
            time_step,
            dimension=dimension,
            parameters={
                **_by_axis("velocity", velocity, dimension, None),
                **_by_axis("diffusivity", diffusivity, dimension, 0.0),
            },
        )

    def linear(self, waves: Wavenumbers, values: Mapping[str, Tensor]) -> Tensor:
        """-i velocity . k - diffusivity |k|^2, axis by axis."""
        total = 0.0 * waves.squared
        for axis, even, odd in zip(AXES, waves.components, waves.odd, strict=False):
            velocity = _along("velocity", axis, values)
            diffusivity = _along("diffusivity", axis, values)
            total = total - 1j * velocity * odd - diffusivity * even.square()
        return total


def _by_axis(
    name: str, value: Number | Sequence[Number], dimension: int, least: float | None
) -> dict[str, Number]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return {name: checked_parameter(name, value, least=least)}
    if len(value) != dimension:
        raise InputError(f"{name} must be one number or {dimension} of them, got {value!r}")
    return {
        f"{name}_{axis}": checked_parameter(f"{name}_{axis}", each, least=least)
        for axis, each in zip(AXES, value, strict=False)
    }


def _along(name: str, axis: str, values: Mapping[str, Tensor]) -> Tensor:
    return values[name] if name in values else values[f"{name}_{axis}"]
