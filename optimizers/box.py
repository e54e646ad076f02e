"""One named part of a design."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Box:
    """One named part of a design: an array with bounds.

    shape: of the array, an integer or a sequence of them, () for a number.
    lower, upper: a number or an array of that shape, -inf and inf where free.
    start: where a search begins; by default the middle, or nearest to 0 where a side is free.
    scale: size of a typical change, the unit of every step size; by default the width, or 1 where
        a side is free.
    trajectory: the first axis is time, so that methods may search between few knots first.
    """

    shape: Any = ()
    lower: Any = -math.inf
    upper: Any = math.inf
    start: Any = None
    scale: Any = None
    trajectory: bool = False

    def __post_init__(self) -> None:
        given = self.shape
        shape = given if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
        shape = tuple(shape)
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in shape):
            raise ValueError(f"shape must hold positive integers, got {self.shape}")
        if self.trajectory and not shape:
            raise ValueError("a trajectory needs a shape whose first axis is time, got ()")
        object.__setattr__(self, "shape", shape)

    @property
    def size(self) -> int:
        """How many numbers the part holds."""
        return math.prod(self.shape)

    def flat(
        self, dtype: torch.dtype, device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """lower, upper, start and scale as vectors (size,); ValueError if one does not fit."""

        def vector(name: str, value: Any) -> Tensor:
            try:
                tensor = torch.as_tensor(value, dtype=dtype, device=device).detach()
                tensor = tensor.expand(self.shape).reshape(-1).clone()  # pyright: ignore
            except (TypeError, ValueError, RuntimeError) as error:
                raise ValueError(
                    f"{name} must be a number or an array of shape {self.shape}, got {value!r:.80}"
                ) from error
            if bool(tensor.isnan().any()):
                raise ValueError(f"{name} must not hold NaN, got {value!r:.80}")
            return tensor

        lower, upper = vector("lower", self.lower), vector("upper", self.upper)
        if not bool((lower < upper).all()):
            at = int((lower >= upper).nonzero()[0])
            raise ValueError(
                f"lower must be below upper everywhere, got {float(lower[at])} and "
                f"{float(upper[at])} at entry {at}"
            )
        bounded = lower.isfinite() & upper.isfinite()
        if self.start is None:
            start = torch.where(bounded, 0.5 * lower + 0.5 * upper, 0.0).clamp(lower, upper)
        else:
            start = vector("start", self.start)
        if not bool(start.isfinite().all()):
            raise ValueError("start must be finite")
        if self.scale is None:
            scale = torch.where(bounded, upper - lower, 1.0)
        else:
            scale = vector("scale", self.scale)
        if not bool(((scale > 0) & scale.isfinite()).all()):
            raise ValueError("scale must be positive and finite")
        return lower, upper, start, scale
