"""Many steps in Fourier space: on new tensors where a gradient is wanted, in place elsewhere."""

from __future__ import annotations

import cmath
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from geomopt.errors import check_tensor
from sims.pde.spectral.arguments import Number, lengths_of
from sims.pde.spectral.etdrk import (
    Buffers,
    Coefficients,
    coefficients,
    cut,
    etdrk4_step,
    lanes,
    without_dust,
)
from sims.pde.spectral.grid import Wavenumbers, dealiasing_mask, wavenumbers
from sims.pde.spectral.tracking import transforming
from sims.pde.spectral.transform import Transform

DECAYS_KEPT = 8  # different counts of steps are few: one, and those between the frames of rollouts
SPARE_BYTES = 1 << 23  # of an array that is kept for the next call, where it is still in the cache


class Equation(Protocol):
    """What marching asks of an equation; `stepper.Stepper` says what each is."""

    length: float | tuple[float, ...] | Tensor
    points: tuple[int, ...]
    dimension: int
    time_step: Number
    parameters: dict[str, Number]
    degree: int
    transform: Transform

    def linear(self, waves: Wavenumbers, values: Mapping[str, Tensor]) -> Tensor: ...
    def multiplier(self, waves: Wavenumbers, values: Mapping[str, Tensor]) -> Tensor | None: ...
    def factors(self, waves: Wavenumbers) -> tuple[Tensor, ...]: ...
    def product(self, modes: Tensor, factors: tuple[Tensor, ...]) -> Tensor: ...
    def constant(self, device: torch.device, values: Mapping[str, Tensor]) -> Tensor | None: ...


class Prepared:
    """The numbers that steps of an equation are made of, for fields of one dtype and device.

    first: the column of modes from which on there are some that N leaves alone. acted_on: 1 from
    there on where N does act, 0 elsewhere. spare: memory of the last call, by the shape of modes.
    """

    def __init__(self, equation: Equation, dtype: torch.dtype, device: torch.device):
        self.dtype = dtype
        edges = lengths_of(equation.length, equation.dimension, device)
        waves = wavenumbers(edges, equation.points)
        shape = (-1, 1, *[1] * equation.dimension)
        values = {
            name: torch.as_tensor(value, dtype=torch.float64, device=device).reshape(shape)
            for name, value in equation.parameters.items()
        }
        h = torch.as_tensor(equation.time_step, dtype=torch.float64, device=device).reshape(shape)
        self.rate = h * equation.linear(waves, values)
        self.split = not self.rate.is_complex()
        mask = dealiasing_mask(equation.points, equation.degree, device)
        self.scheme: Coefficients | None = None
        self.multiplier: Tensor | None = None
        self.factors: tuple[Tensor, ...] = ()
        self.first = 0
        if equation.degree == 1:
            mask = torch.zeros_like(mask)
        else:
            kept = equation.transform.kept
            low = mask[..., :kept]
            constant = equation.constant(device, values)
            if constant is not None:
                constant = constant[..., :kept]
            self.scheme = coefficients(self.rate[..., :kept], h, low, constant, dtype)
            multiplier = equation.multiplier(waves, values)
            if multiplier is not None:
                self.multiplier = multiplier[..., :kept].to(dtype.to_complex())
            self.factors = tuple(
                factor[..., :kept].to(dtype.to_complex()) for factor in equation.factors(waves)
            )
            if equation.dimension == 1:
                self.first = kept  # N acts on all columns before, and on none from here on
        self.acted_on = mask[..., self.first :].to(dtype.to_complex())
        self.spare: dict[torch.Size, Buffers] = {}
        self._decays: dict[int, Tensor | None] = {}

    def decay(self, steps: int) -> Tensor | None:
        """exp(steps h L) on the modes from column `first` on that N leaves alone, 0 on the others;
        None where that leaves nothing.
        """
        if steps not in self._decays:
            if len(self._decays) >= DECAYS_KEPT:
                self._decays.clear()
            with torch.inference_mode(False):  # a gradient may want it later
                linear = torch.exp(steps * self.rate[..., self.first :])
                linear = without_dust(torch.where(self.acted_on.bool(), 0.0, linear), self.dtype)
                self._decays[steps] = linear.to(self.acted_on.dtype) if linear.any() else None
        return self._decays[steps]

    def nonlinear(
        self, equation: Equation, rows: slice, buffers: Buffers | None
    ) -> Callable[[Tensor], Tensor]:
        """N of a stage, from and to the form that the coefficients have."""
        factors = tuple(cut(factor, rows) for factor in self.factors)
        multiplier = None if self.multiplier is None else cut(self.multiplier, rows)

        def nonlinear(stage: Tensor) -> Tensor:
            if buffers is not None:
                stage = buffers.wide
            elif self.split:
                stage = torch.view_as_complex(stage)
            made = equation.product(stage, factors)
            if multiplier is not None:
                made = torch.mul(made, multiplier, out=None if buffers is None else buffers.made)
            return lanes(made) if self.split else made

        return nonlinear


def march(
    equation: Equation, u: Tensor, prepared: Prepared, steps: int, rows: slice, *, in_place: bool
) -> Tensor:
    """The fields `u` (B, C, *points) after `steps` steps.

    rows: which `u` are of the trajectories that `prepared` is made for. in_place: overwrite what
    is not needed any more; else a gradient can go through.
    """
    axes = tuple(range(2, u.ndim))
    v = torch.fft.rfftn(u, dim=axes)
    _check_finite(u, v)
    decay, kept = prepared.decay(steps), equation.transform.kept
    apart = v[..., prepared.first :]
    beyond = None if decay is None else apart * cut(decay, rows)
    if prepared.scheme is None:
        v = torch.zeros_like(v) if beyond is None else beyond
        return torch.fft.irfftn(v, s=equation.points, dim=axes)
    scheme = prepared.scheme.rows(rows)
    if in_place:
        apart *= prepared.acted_on
        low = v[..., :kept]
        buffers = prepared.spare.pop(low.shape, None)
        if buffers is None:
            with torch.inference_mode(False):  # a call outside of it may come next
                buffers = Buffers(low, split=prepared.split)
        buffers.take(v, kept)
        nonlinear = prepared.nonlinear(equation, rows, buffers)
        for _ in range(steps):
            etdrk4_step(buffers.stage, scheme, nonlinear, buffers)
        if buffers.made.nbytes <= SPARE_BYTES:
            prepared.spare = {low.shape: buffers}
        if beyond is not None:
            apart += beyond
    else:
        low = v[..., :kept]
        if prepared.first < kept:
            low = low * prepared.acted_on[..., :kept]
        low = lanes(low) if prepared.split else low
        nonlinear = prepared.nonlinear(equation, rows, None)
        for _ in range(steps):
            low = etdrk4_step(low, scheme, nonlinear)
        low = torch.view_as_complex(low) if prepared.split else low
        v = torch.nn.functional.pad(low, (0, v.shape[-1] - kept))
        if beyond is not None:
            v = torch.cat([v[..., : prepared.first], v[..., prepared.first :] + beyond], -1)
    return torch.fft.irfftn(v, s=equation.points, dim=axes)


def _check_finite(u: Tensor, modes: Tensor) -> None:
    """Raise InputError unless `u` is finite: by its mean modes, which one bad value spoils."""
    if transforming():
        return  # values cannot be looked at
    mean = modes.detach()[(..., *[0] * (u.ndim - 2))].sum().item()
    if not cmath.isfinite(mean):
        check_tensor("u", u)
