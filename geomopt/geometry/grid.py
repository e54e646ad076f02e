"""The regular grid on which a signed distance lives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from geomopt.errors import InputError


def _triple(name: str, value: float | Sequence[float] | Tensor) -> tuple[float, float, float]:
    given = value.tolist() if hasattr(value, "tolist") else value  # pyright: ignore
    values = tuple(given) if isinstance(given, Sequence) else (given,) * 3
    if len(values) != 3 or not all(isinstance(one, int | float) for one in values):
        raise InputError(f"{name} must be one number or three, got {value!r}")
    return values  # pyright: ignore[reportReturnType]


@dataclass(frozen=True)
class DenseGrid:
    """A box of R_x x R_y x R_z equal cells. Nothing is stored but its numbers: indices are
    arithmetic.

    resolution: cells along each axis, one int or three. lower, upper: corners of the box, one
    number or three (a sequence, an array or a tensor). Grid point (i, j, k) has index
    (i (R_y + 1) + j) (R_z + 1) + k: z varies fastest. Cell (i, j, k), whose lower corner is that
    point, has index (i R_y + j) R_z + k. Raises InputError for anything else.
    """

    resolution: int | Sequence[int]
    lower: float | Sequence[float] | Tensor = -1.0
    upper: float | Sequence[float] | Tensor = 1.0
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        cells = _triple("resolution", self.resolution)
        if any(int(count) != count or count < 1 for count in cells):
            raise InputError(
                f"resolution must be one or three positive integers, got {self.resolution}"
            )
        lower, upper = _triple("lower", self.lower), _triple("upper", self.upper)
        if not all(float("-inf") < a < b < float("inf") for a, b in zip(lower, upper, strict=True)):
            raise InputError(
                f"lower must be below upper on every axis and finite, got {lower} and {upper}"
            )
        if self.dtype not in (torch.float32, torch.float64):
            raise InputError(f"dtype must be torch.float32 or torch.float64, got {self.dtype}")
        object.__setattr__(self, "resolution", tuple(int(count) for count in cells))
        object.__setattr__(self, "lower", tuple(float(value) for value in lower))
        object.__setattr__(self, "upper", tuple(float(value) for value in upper))
        object.__setattr__(self, "device", torch.device(self.device))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Grid points along each axis, (R_x + 1, R_y + 1, R_z + 1)."""
        return tuple(count + 1 for count in self.resolution)  # pyright: ignore

    @property
    def point_count(self) -> int:
        """N, the number of grid points."""
        nx, ny, nz = self.shape
        return nx * ny * nz

    @property
    def cell_count(self) -> int:
        """C, the number of cells."""
        rx, ry, rz = self.resolution  # pyright: ignore
        return rx * ry * rz

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Edge lengths of a cell."""
        return tuple(
            (high - low) / count
            for low, high, count in zip(self.lower, self.upper, self.resolution, strict=True)  # pyright: ignore
        )  # pyright: ignore

    @property
    def points(self) -> Tensor:
        """Positions (N, 3) of the grid points, z fastest; made anew at each call."""
        axes = [
            torch.linspace(low, high, count, dtype=self.dtype, device=self.device)
            for low, high, count in zip(self.lower, self.upper, self.shape, strict=True)  # pyright: ignore
        ]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> DenseGrid:
        """The same grid on another device or in another precision."""
        return replace(self, device=device or self.device, dtype=dtype or self.dtype)
