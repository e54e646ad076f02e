"""Laws that fields to start from are drawn by, each with a generator of its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor

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
    """Sums of long sine waves, (count, channels, points), for equations in one dimension.

    u(x) = sum over `waves` terms of A sin(2 pi l x / L + phi) with A ~ U(-1/2, 1/2), phi ~ U(0, 2
    pi) and l a whole number drawn from 1 .. highest: the law of the Kuramoto-Sivashinsky data of
    Brandstetter, Welling and Worrall 2022 (arXiv 2202.07643). In the fraction x / L the length
    does not matter, so boxes may differ in it. Values are drawn on the generator's device.
    """
    device = generator.device
    shape = (count, stepper.channels, waves, 1)
    options = {"generator": generator, "dtype": torch.float64, "device": device}
    amplitude = torch.rand(shape, **options) - 0.5
    phase = 2.0 * math.pi * torch.rand(shape, **options)
    number = torch.randint(1, highest + 1, shape, generator=generator, device=device)
    fraction = torch.arange(stepper.points[0], dtype=torch.float64, device=device)
    fraction = fraction / stepper.points[0]
    angle = 2.0 * math.pi * number * fraction + phase
    return (amplitude * torch.sin(angle)).sum(2).to(dtype)
