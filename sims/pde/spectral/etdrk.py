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

CIRCLE_POINTS = 32  # the mean of an entire function over them errs by about 1 / 32!


@dataclass(frozen=True)
class Coefficients:
    """What one step multiplies modes and nonlinear products by, (B or 1, C or 1, *modes) complex.

    With E = exp(h L), E2 = exp(h L / 2), Q, f1, f2, f3 of Cox and Matthews, N = g G + F for a
    product G, a multiplier g and a constant F:
    growth = E - 1, half = E2, stage = Q g, first = (E2 - 1) Q g, weights = (f1 g, 2 f2 g, f3 g).
    E - 1, because a rounding of E itself would add up over the steps in the modes it barely moves.
    constants: what F adds to the half step, to the third stage and to the whole step; None
    without F.
    """

    growth: Tensor
    half: Tensor
    stage: Tensor
    first: Tensor
    weights: tuple[Tensor, Tensor, Tensor]
    constants: tuple[Tensor, Tensor, Tensor] | None

    def rows(self, rows: slice) -> Coefficients:
        """Those of some trajectories, where they differ between trajectories."""
        constants = self.constants
        return Coefficients(
            cut(self.growth, rows),
            cut(self.half, rows),
            cut(self.stage, rows),
            cut(self.first, rows),
            (cut(self.weights[0], rows), cut(self.weights[1], rows), cut(self.weights[2], rows)),
            None
            if constants is None
            else (cut(constants[0], rows), cut(constants[1], rows), cut(constants[2], rows)),
        )


def cut(value: Tensor, rows: slice) -> Tensor:
    """The rows of `value`, all of it where one row stands for every trajectory."""
    return value if len(value) == 1 else value[rows]


def coefficients(
    rate: Tensor,
    time_step: Tensor,
    multiplier: Tensor,
    constant: Tensor | None,
    dtype: torch.dtype,
) -> Coefficients:
    """The coefficients for h L = `rate`, complex128, cast to the complex `dtype` at the end.

    time_step: h [s], broadcastable to `rate` with one axis more. multiplier: g, constant: F,
    broadcastable to `rate`. Differentiable in every argument.
    """
    angles = (torch.arange(CIRCLE_POINTS, dtype=torch.float64, device=rate.device) + 0.5) * (
        2.0 * torch.pi / CIRCLE_POINTS
    )
    circle = torch.polar(torch.ones_like(angles), angles)
    z = rate[..., None] + circle
    power = torch.exp(z)
    cube = z**3
    q = (time_step * (torch.exp(0.5 * z) - 1.0) / z).mean(-1)
    f1 = (time_step * (-4.0 - z + power * (4.0 - 3.0 * z + z * z)) / cube).mean(-1)
    f2 = (time_step * (2.0 + z + power * (z - 2.0)) / cube).mean(-1)
    f3 = (time_step * (-4.0 - 3.0 * z - z * z + power * (4.0 - z)) / cube).mean(-1)
    half = torch.exp(0.5 * rate)
    constants = None
    if constant is not None:
        whole = (f1 + 4.0 * f2 + f3) * constant
        constants = (
            (q * constant).to(dtype),
            ((half + 1.0) * q * constant - whole).to(dtype),
            whole.to(dtype),
        )
    return Coefficients(
        torch.expm1(rate).to(dtype),
        half.to(dtype),
        (q * multiplier).to(dtype),
        ((half - 1.0) * q * multiplier).to(dtype),
        (
            (f1 * multiplier).to(dtype),
            (2.0 * f2 * multiplier).to(dtype),
            (f3 * multiplier).to(dtype),
        ),
        constants,
    )


@dataclass(frozen=True)
class Buffers:
    """Memory a step may overwrite: the half step (..., kept), and a stage (..., wide) that is
    zero beyond the kept columns, so that a transform takes it without padding.
    """

    half: Tensor
    stage: Tensor


def etdrk4_step(
    v: Tensor, c: Coefficients, product: Callable[[Tensor], Tensor], buffers: Buffers | None = None
) -> Tensor:
    """One step of the modes `v`. With `buffers`, `v` and they are overwritten, and no gradient
    is kept; without them the same operations are made on new tensors.

    v: (B, C, *modes), as wide as the coefficients, or wider and zero from there on with buffers.
    product: G of the modes of a stage.
    """
    own = v[..., : c.growth.shape[-1]]
    if buffers is None:
        half_out = stage_out = own_out = None
    else:
        half_out, stage_out, own_out = buffers.half, buffers.stage[..., : own.shape[-1]], own

    def product_of(stage: Tensor) -> Tensor:
        return product(stage if buffers is None else buffers.stage)

    start = product(v)
    if c.constants is None:
        half = torch.mul(own, c.half, out=half_out)
        full = torch.addcmul(own, own, c.growth, out=own_out)
    else:
        half = torch.addcmul(c.constants[0], own, c.half, out=half_out)
        full = torch.addcmul(own, own, c.growth, out=own_out)
        full = torch.add(full, c.constants[2], out=own_out)
    second = product_of(torch.addcmul(half, start, c.stage, out=stage_out))
    third = product_of(torch.addcmul(half, second, c.stage, out=stage_out))
    # E2 a + Q (2 N(b) - N(v)) with a = E2 v + Q N(v)
    last = torch.addcmul(full, start, c.first, out=stage_out)
    last = torch.addcmul(last, third, c.stage, value=2.0, out=stage_out)
    if c.constants is not None:
        last = torch.add(last, c.constants[1], out=stage_out)
    fourth = product_of(last)
    full = torch.addcmul(full, start, c.weights[0], out=own_out)
    full = torch.addcmul(full, torch.add(second, third, out=half_out), c.weights[1], out=own_out)
    full = torch.addcmul(full, fourth, c.weights[2], out=own_out)
    return full if buffers is None else v
