"""Exponential time differencing of order four: coefficients, and one step of it.

v_t = L v + N(v) with diagonal L. The linear part is solved exactly, the other by four stages (Cox
and Matthews 2002, J. Comput. Phys. 176, eqs. 26-29). The coefficients are means over a circle
around h L, which is exact to rounding where the closed forms cancel (Kassam and Trefethen 2005,
SIAM J. Sci. Comput. 26, eq. 2.5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

EVERY = slice(None)  # all trajectories
CIRCLE_POINTS = 32  # the mean of an entire function over them errs by about 1 / 32!


@dataclass(frozen=True)
class Coefficients:
    """What one step multiplies modes and nonlinear terms by, each (B or 1, C or 1, *kept modes).

    With E = exp(h L), E2 = exp(h L / 2) and Q, f1, f2, f3 of Cox and Matthews:
    growth = E - 1, half = E2, stage = Q, first = (E2 - 1) Q, weights = (f1, 2 f2, f3). E - 1,
    because a rounding of E itself would add up over the steps in the modes it barely moves.
    constants: what a constant part of N adds to the half step, to the last stage and to the whole
    step; None without one.
    """

    growth: Tensor
    half: Tensor
    stage: Tensor
    first: Tensor
    weights: tuple[Tensor, Tensor, Tensor]
    constants: tuple[Tensor, Tensor, Tensor] | None

    def rows(self, rows: slice) -> Coefficients:
        """Those of some trajectories, where they differ between trajectories."""
        if rows == EVERY:
            return self
        one, two, three = self.weights
        constants = self.constants
        return Coefficients(
            cut(self.growth, rows),
            cut(self.half, rows),
            cut(self.stage, rows),
            cut(self.first, rows),
            (cut(one, rows), cut(two, rows), cut(three, rows)),
            None
            if constants is None
            else (cut(constants[0], rows), cut(constants[1], rows), cut(constants[2], rows)),
        )


def coefficients(
    rate: Tensor, time_step: Tensor, acted_on: Tensor, constant: Tensor | None, dtype: torch.dtype
) -> Coefficients:
    """The coefficients for h L = `rate` (B or 1, C or 1, *modes), float64 or complex128.

    time_step: h [s], broadcastable to `rate`. acted_on: 1 on the modes that N acts on, 0 on the
    others. constant: the constant part of N, complex128. dtype: of the field, to cast to at the
    end. A real rate gives coefficients that are real, twice each, for the real and the imaginary
    part of a mode (see `lanes`). Differentiable in every argument.
    """
    angles = (torch.arange(CIRCLE_POINTS, dtype=torch.float64, device=rate.device) + 0.5) * (
        2.0 * torch.pi / CIRCLE_POINTS
    )
    z = rate[..., None] + torch.polar(torch.ones_like(angles), angles)
    power = torch.exp(z)
    cube = z**3
    scale = time_step * acted_on

    def mean(values: Tensor) -> Tensor:
        average = values.mean(-1)
        return scale * (average if rate.is_complex() else average.real)

    half = torch.exp(0.5 * rate)
    q = mean((torch.exp(0.5 * z) - 1.0) / z)
    f1 = mean((-4.0 - z + power * (4.0 - 3.0 * z + z * z)) / cube)
    f2 = mean((2.0 + z + power * (z - 2.0)) / cube)
    f3 = mean((-4.0 - 3.0 * z - z * z + power * (4.0 - z)) / cube)

    def cast(value: Tensor) -> Tensor:
        if rate.is_complex():
            return value.to(dtype.to_complex())
        return lanes(value.to(dtype.to_complex() if value.is_complex() else dtype))

    constants = None
    if constant is not None:
        constants = (
            cast(q * constant),
            cast((half + 1.0) * q * constant),
            cast((f1 + 4.0 * f2 + f3) * constant),
        )
    return Coefficients(
        cast(torch.expm1(rate)),
        cast(without_dust(half, dtype)),
        cast(q),
        cast((half - 1.0) * q),
        (cast(f1), cast(2.0 * f2), cast(f3)),
        constants,
    )


def lanes(values: Tensor) -> Tensor:
    """Modes (*shape) as real and imaginary parts (*shape, 2); real values stand for both.

    Real factors on them cost half of what the same factors cost on complex numbers.
    """
    if values.is_complex():
        return torch.view_as_real(values)
    return values[..., None].expand(*values.shape, 2).contiguous()


def cut(value: Tensor, rows: slice) -> Tensor:
    """The rows of `value`, all of it where one row stands for every trajectory."""
    return value if rows == EVERY or value.shape[0] == 1 else value[rows]


def without_dust(decay: Tensor, dtype: torch.dtype) -> Tensor:
    """`decay` with zero where it leaves less than the square of a rounding of `dtype`.

    What it would leave there is mostly below the normal numbers, which processors are slow with.
    """
    return torch.where(decay.abs() < torch.finfo(dtype).eps ** 2, 0.0, decay)


class Buffers:
    """Memory a step may overwrite, so that it asks for none.

    made: N, complex. half, last, full: as in `etdrk4_step`, in lanes or not. wide and stage: the
    modes that `take` was given.
    """

    def __init__(self, stage: Tensor, *, split: bool):
        """stage: modes of the shape and the kind that steps work on."""
        parts = stage.new_empty(4, *stage.shape)
        self.split, self.made = split, parts[0]
        _, self.half, self.last, self.full = lanes(parts) if split else parts

    def take(self, modes: Tensor, kept: int) -> None:
        """Work on `modes` (B, C, *modes), zero beyond the kept columns, so that a transform need
        not pad them.
        """
        self.wide, stage = modes, modes[..., :kept]
        self.stage = lanes(stage) if self.split else stage


def etdrk4_step(
    v: Tensor,
    c: Coefficients,
    nonlinear: Callable[[Tensor], Tensor],
    buffers: Buffers | None = None,
) -> Tensor:
    """The kept modes `v` one step later; `nonlinear` makes N of those of a stage.

    v: (B, C, *kept), or (B, C, *kept, 2) in lanes as the coefficients are. With `buffers`, `v` is
    their stage and is overwritten, and so are they; no gradient is kept. Without them the same
    operations are made on new tensors.
    """
    half_out = last_out = full_out = stage_out = None
    if buffers is not None:
        half_out, last_out, full_out = buffers.half, buffers.last, buffers.full
        stage_out = buffers.stage
    # each N is added wherever it is wanted at once, while it is in the cache
    n = nonlinear(v)
    half = torch.mul(v, c.half, out=half_out)
    full = torch.addcmul(v, v, c.growth, out=full_out)
    last = torch.addcmul(full, n, c.first, out=last_out)
    if c.constants is not None:
        half = torch.add(half, c.constants[0], out=half_out)
        last = torch.add(last, c.constants[1], out=last_out)
        full = torch.add(full, c.constants[2], out=full_out)
    full = torch.addcmul(full, n, c.weights[0], out=full_out)
    n = nonlinear(torch.addcmul(half, n, c.stage, out=stage_out))
    full = torch.addcmul(full, n, c.weights[1], out=full_out)
    n = nonlinear(torch.addcmul(half, n, c.stage, out=stage_out))
    full = torch.addcmul(full, n, c.weights[1], out=full_out)
    # E2 a + Q (2 N(b) - N(v)) with a = E2 v + Q N(v)
    n = nonlinear(torch.addcmul(last, n, c.stage, value=2.0, out=stage_out))
    return torch.addcmul(full, n, c.weights[2], out=stage_out)
