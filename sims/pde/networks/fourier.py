"""A Fourier neural operator on periodic grids of one, two or three dimensions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from geomopt.errors import InputError
from sims.pde.networks.arguments import (
    check_count,
    check_counts,
    check_dimension,
    check_fields,
    check_flag,
)
from sims.pde.networks.conditioning import Embedding
from sims.pde.networks.periodic import PeriodicConvolution


class FourierNet(torch.nn.Module):
    """Fields to fields through layers that are diagonal in wavenumbers.

    Li et al., Fourier neural operator for parametric partial differential equations (2021), arXiv
    2010.08895, equation 5, with v kept: v ← v + gelu(W v + F⁻¹ R F v), R a matrix for each of the
    lowest modes. Coordinates are not among the inputs, as a periodic grid has no origin: it
    commutes with any shift.

    dimension: 1, 2 or 3. channels_in, channels_out: of the fields. width: channels of a layer.
    modes: how many wavenumbers are kept along each axis, 0 among them; at most half of the points.
    layers: how many. conditions: how many numbers each trajectory has. leveled: whether it is told
    a level of refinement.
    """

    total_stride = 1

    def __init__(
        self,
        dimension: int = 1,
        channels_in: int = 1,
        channels_out: int = 1,
        *,
        width: int = 32,
        modes: int | Sequence[int] = 24,
        layers: int = 4,
        conditions: int = 0,
        leveled: bool = False,
    ) -> None:
        super().__init__()
        self.dimension = check_dimension(dimension)
        self.channels_in = check_count("channels_in", channels_in)
        self.channels_out = check_count("channels_out", channels_out)
        self.conditions = check_count("conditions", conditions, 0)
        self.leveled = check_flag("leveled", leveled)
        check_count("width", width)
        check_count("layers", layers)
        each = [modes] * dimension if isinstance(modes, int) else modes
        self.modes = check_counts("modes", each, f"a number or {dimension} numbers")
        if len(self.modes) != dimension:
            raise InputError(f"modes must be a number or {dimension} numbers, got {modes!r}")
        self.settings: dict[str, Any] = {
            "dimension": dimension,
            "channels_in": channels_in,
            "channels_out": channels_out,
            "width": width,
            "modes": list(self.modes),
            "layers": layers,
            "conditions": conditions,
            "leveled": self.leveled,
        }
        told = 2 * width if conditions or leveled else 0
        self.embedding = Embedding(conditions, self.leveled, told) if told else None
        self.stem = PeriodicConvolution(dimension, channels_in, width, kernel=1)
        self.spectral = torch.nn.ModuleList(
            SpectralConvolution(width, self.modes) for _ in range(layers)
        )
        self.local = torch.nn.ModuleList(
            PeriodicConvolution(dimension, width, width, kernel=1) for _ in range(layers)
        )
        self.told = torch.nn.ModuleList(
            torch.nn.Linear(told, width) for _ in range(layers if told else 0)
        )
        self.wide = PeriodicConvolution(dimension, width, 4 * width, kernel=1)
        self.head = PeriodicConvolution(dimension, 4 * width, channels_out, kernel=1, zero=True)

    def forward(
        self, fields: Tensor, condition: Tensor | None = None, level: Tensor | None = None
    ) -> Tensor:
        """(B, channels_in, *space), (B, conditions), (B,) -> (B, channels_out, *space)."""
        check_fields(fields, self.channels_in, self.dimension)
        space = fields.shape[2:]
        if any(2 * modes > points for modes, points in zip(self.modes, space, strict=True)):
            raise InputError(
                f"fields must have at least two points for each of {self.modes} modes, got "
                f"{tuple(space)}"
            )
        told = None if self.embedding is None else self.embedding(condition, level)
        x = self.stem(fields)
        for number, (spectral, local) in enumerate(zip(self.spectral, self.local, strict=True)):
            y = spectral(x) + local(x)
            if told is not None:
                shift = self.told[number](told)
                y = y + shift.view(*shift.shape, *[1] * (y.dim() - 2))
            x = x + functional.gelu(y)
        return self.head(functional.gelu(self.wide(x)))


class SpectralConvolution(torch.nn.Module):
    """A matrix (width, width) for each of the lowest modes of x (B, width, *space)."""

    def __init__(self, width: int, modes: tuple[int, ...]) -> None:
        super().__init__()
        self.modes = modes
        corners = 2 ** (len(modes) - 1)  # signs of the wavenumbers of all axes but the last
        size = (corners, *modes, width, width, 2)
        self.weight = torch.nn.Parameter(torch.randn(size) / (math.sqrt(2.0) * width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, *space) -> the same shape."""
        space = x.shape[2:]
        axes = tuple(range(2, x.dim()))
        kind = x.dtype
        # transforms exist in single and double precision only
        with torch.autocast(x.device.type, enabled=False):
            wide = x if kind == torch.float64 else x.float()
            spectrum = torch.fft.rfftn(wide, dim=axes).movedim((0, 1), (-2, -1))
            weight = torch.view_as_complex(self.weight.to(wide))
            out = torch.zeros_like(spectrum)  # (*modes, B, width): one product for all trajectories
            signs = itertools.product((False, True), repeat=len(space) - 1)
            for corner, negative in enumerate(signs):
                at = _corner(negative, self.modes, spectrum.shape[:-2])
                out[at] = spectrum[at] @ weight[corner]
            out = out.movedim((-2, -1), (0, 1))
            return torch.fft.irfftn(out, s=space, dim=axes).to(kind)


def _corner(
    negative: tuple[bool, ...], modes: tuple[int, ...], points: Sequence[int]
) -> tuple[slice, ...]:
    """Where the modes of some signs stand in a spectrum of real fields."""
    first = [
        slice(size - count, size) if below else slice(0, count)
        for below, count, size in zip(negative, modes[:-1], points[:-1], strict=True)
    ]
    return (*first, slice(0, modes[-1]))
