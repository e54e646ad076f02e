"""Laws that fields to start from are drawn by, each with a generator of its own.

All are smooth and periodic and speak of fractions of the box, so that boxes may differ in length.
Values are drawn in float64 on the generator's device, the same whatever the dtype.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.pde.spectral.arguments import whole_number
from sims.pde.spectral.grid import mode_numbers
from sims.pde.spectral.stepper import Stepper


def random_waves(
    stepper: Stepper,
    count: int,
    generator: torch.Generator,
    *,
    waves: int = 10,
    highest: int = 2,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Sums of long sine waves in one dimension, (count, channels, points).

    u(x) = sum over `waves` terms of A sin(2 pi l x / L + phi) with A ~ U(-1/2, 1/2), phi ~ U(0, 2
    pi) and l a whole number drawn from 1 .. highest: the law of the Kuramoto-Sivashinsky data of
    Brandstetter, Welling and Worrall 2022 (arXiv 2202.07643). Raises InputError for a stepper of
    more dimensions and for counts below 1.
    """
    _check_source(stepper, generator)
    if stepper.dimension != 1:
        raise InputError(
            f"random_waves are for one dimension, the stepper has {stepper.dimension}; "
            "filtered_noise has any"
        )
    for name, value in (("count", count), ("waves", waves), ("highest", highest)):
        whole_number(name, value)
    shape = (count, stepper.channels, waves, 1)
    amplitude = _uniform(shape, generator) - 0.5
    phase = 2.0 * math.pi * _uniform(shape, generator)
    number = torch.randint(1, highest + 1, shape, generator=generator, device=generator.device)
    (fraction,) = _fractions(stepper, generator.device)
    angle = number * fraction * (2.0 * math.pi) + phase  # the product first: it is in float64
    return (amplitude * torch.sin(angle)).sum(2).to(dtype)


def filtered_noise(
    stepper: Stepper,
    count: int,
    generator: torch.Generator,
    *,
    waves: float = 4.0,
    deviation: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Gaussian noise of long waves, (count, channels, *points), of mean zero.

    The mode of m_i waves along each axis has the deviation exp(-|m|^2 / (2 waves^2)), and each
    channel is scaled to the standard deviation `deviation`. Raises InputError for numbers that
    are not positive.
    """
    _check_source(stepper, generator)
    whole_number("count", count)
    for name, value in (("waves", waves), ("deviation", deviation)):
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} must be positive, got {value!r}")
    axes = tuple(range(2, 2 + stepper.dimension))
    shape = (count, stepper.channels, *stepper.points)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device)
    squared = torch.zeros((), dtype=torch.float64, device=generator.device)
    for numbers in mode_numbers(stepper.points, generator.device):
        squared = squared + numbers.square()
    modes = torch.fft.rfftn(noise, dim=axes) * torch.exp(-squared / (2.0 * waves**2))
    modes = torch.where(squared > 0, modes, 0.0)
    field = torch.fft.irfftn(modes, s=stepper.points, dim=axes)
    scale = field.square().mean(axes, keepdim=True).sqrt()
    return (field * (deviation / scale)).to(dtype)


def spots(
    stepper: Stepper,
    count: int,
    generator: torch.Generator,
    *,
    number: int = 8,
    radius: float = 0.04,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """The state of rest of a Gray-Scott reaction with seeds in it, (count, 2, *points).

    u = 1 - s / 2 and v = s / 4, where s is near one in `number` round Gaussian spots of standard
    deviation `radius` (in box edges) at places drawn uniformly, and 0 elsewhere. Raises
    InputError for a stepper without two channels and for numbers that are not positive.
    """
    _check_source(stepper, generator)
    if stepper.channels != 2:
        raise InputError(f"spots are for two channels, the stepper has {stepper.channels}")
    whole_number("count", count)
    whole_number("number", number)
    if not (math.isfinite(radius) and radius > 0):
        raise InputError(f"radius must be positive, got {radius!r}")
    centres = _uniform((count, number, stepper.dimension), generator)
    squared = torch.zeros((), dtype=torch.float64, device=generator.device)
    for axis, fraction in enumerate(_fractions(stepper, generator.device)):
        centre = centres[:, :, axis].reshape(count, number, *[1] * stepper.dimension)
        # the chord of the circle that a periodic axis is: smooth where the distance has a kink
        squared = squared + (torch.sin(math.pi * (fraction - centre)) / math.pi).square()
    empty = (1.0 - torch.exp(-squared / (2.0 * radius**2))).prod(1)
    seeds = 1.0 - empty
    return torch.stack([1.0 - 0.5 * seeds, 0.25 * seeds], 1).to(dtype)


def _check_source(stepper: object, generator: object) -> None:
    if not isinstance(stepper, Stepper):
        raise InputError(f"stepper must be one of sims.pde, got {type(stepper).__name__}")
    if not isinstance(generator, torch.Generator):
        raise InputError(f"generator must be a torch.Generator, got {type(generator).__name__}")


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)


def _fractions(stepper: Stepper, device: torch.device) -> list[Tensor]:
    """x / L of each axis, shaped to broadcast over (*points)."""
    fractions = []
    for axis, points in enumerate(stepper.points):
        values = torch.arange(points, dtype=torch.float64, device=device) / points
        fractions.append(values.reshape([-1 if i == axis else 1 for i in range(stepper.dimension)]))
    return fractions
