"""The base of all steppers: a linear symbol, a nonlinearity, and what a step makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from sims.pde.spectral.arguments import (
    Number,
    check_batch,
    checked_lengths,
    checked_parameter,
    checked_points,
    lengths_of,
    whole_number,
)
from sims.pde.spectral.etdrk import EVERY
from sims.pde.spectral.grid import Wavenumbers, coordinates, kept_columns
from sims.pde.spectral.marching import Prepared, march
from sims.pde.spectral.tracking import wants_graph
from sims.pde.spectral.transform import Transform

CHUNK_BYTES = 1 << 20  # of a field for each thread: what a step works on stays near the core


class Stepper:
    """A periodic equation u_t = L u + N(u), advanced by ETDRK4 in Fourier space.

    An equation is a subclass that gives `linear`, and if it is nonlinear its `degree`,
    `multiplier` and `product`. Modes that dealiasing leaves out of N (`grid.kept_columns`) feel
    the linear part alone. All of it is differentiable in the field, the parameters, the length
    and the time step; where nothing asks for a gradient the same operations are made in place.

    length: edge of the box, one number, one for each axis, or a tensor (B,) with one for each
    trajectory. points: even number of points, one or one for each axis. time_step: h [s], a number
    or a tensor () or (B,). Fields are (B, channels, *points), float32 or float64.
    """

    degree = 1  # of the nonlinearity in u; 1 where there is none

    def __init__(
        self,
        length: float | Sequence[float] | Tensor,
        points: int | Sequence[int],
        time_step: Number,
        *,
        dimension: int,
        parameters: Mapping[str, Number],
        channels: int = 1,
        conserves_mean: bool = True,
    ):
        if whole_number("dimension", dimension) > 3:
            raise InputError(f"dimension must be 1, 2 or 3, got {dimension!r}")
        self.dimension = dimension
        self.points = checked_points(points, dimension)
        self.length = checked_lengths(length, dimension)
        self.time_step = checked_parameter("time_step", time_step, above=0.0)
        self.channels = channels
        self.conserves_mean = conserves_mean
        self.parameters: dict[str, Number] = dict(parameters)
        self.transform = Transform(self.points, kept_columns(self.points[-1], self.degree))
        self._kept: dict[tuple[torch.dtype, torch.device], tuple[list[object], Prepared]] = {}

    def linear(self, waves: Wavenumbers, values: Mapping[str, Tensor]) -> Tensor:
        """L, broadcastable to (B or 1, channels or 1, *modes), float64 or complex128.

        values: the parameters, float64, (B or 1, 1, *ones).
        """
        raise TypeError(f"{type(self).__name__} has no linear symbol")

    def multiplier(self, waves: Wavenumbers, values: Mapping[str, Tensor]) -> Tensor | None:
        """g in N(u) = g * product(u) + constant, broadcastable like L; None for one."""
        del waves, values
        return None

    def factors(self, waves: Wavenumbers) -> tuple[Tensor, ...]:
        """What `product` multiplies modes by, each (B or 1, 1, *modes)."""
        del waves
        return ()

    def product(self, modes: Tensor, factors: tuple[Tensor, ...]) -> Tensor:
        """The kept modes (B, channels, *kept) of the nonlinear product of fields.

        modes: (B, channels, *modes) as `transform.to_space` takes them. factors: those of
        `factors`, cut to the kept modes.
        """
        raise TypeError(f"{type(self).__name__} has no nonlinearity")

    def constant(self, device: torch.device, values: Mapping[str, Tensor]) -> Tensor | None:
        """What N adds whatever the state: modes (B or 1, channels, *modes), or None."""
        del device, values
        return None

    def grid(
        self, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Coordinates of the points, (dimension, *points); with a length for each trajectory
        (B, dimension, *points).
        """
        edges = lengths_of(self.length, self.dimension, torch.device(device))
        values = coordinates(edges, self.points).to(dtype)
        return values if isinstance(self.length, Tensor) and self.length.ndim else values[0]

    def step(self, u: Tensor) -> Tensor:
        """The fields (B, channels, *points) one time step after `u`.

        Raises InputError for fields of another shape, of half precision, or not finite.
        """
        return self.advance(u, 1)

    def advance(self, u: Tensor, steps: int) -> Tensor:
        """The fields `steps` time steps after `u`: as that many times `step`, but all in Fourier
        space. Raises InputError as `step` does, and for `steps` below 1.
        """
        self._check_field(u)
        steps = whole_number("steps", steps)
        prepared = self._prepared(u)
        if wants_graph([u, *_tensors(self._values())]):
            return march(self, u, prepared, steps, EVERY, in_place=False)
        with torch.no_grad():
            parts = [
                march(self, u[rows], prepared, steps, rows, in_place=True)
                for rows in self._portions(u)
            ]
            return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _values(self) -> list[object]:
        """All that the coefficients depend on and that may change or ask for a gradient."""
        return [self.length, self.time_step, *self.parameters.values()]

    def _prepared(self, u: Tensor) -> Prepared:
        """The coefficients for fields like `u`, kept until something they depend on changes."""
        values = self._values()
        tensors = _tensors(values)
        if tensors and wants_graph(tensors):
            return Prepared(self, u.dtype, u.device)
        kept = self._kept.get((u.dtype, u.device))
        if kept is not None and all(map(_same, values, kept[0])):
            return kept[1]
        with torch.inference_mode(False), torch.no_grad():  # a gradient may want them later
            prepared = Prepared(self, u.dtype, u.device)
            copies = [value.clone() if isinstance(value, Tensor) else value for value in values]
        self._kept[u.dtype, u.device] = (copies, prepared)
        return prepared

    def _portions(self, u: Tensor) -> list[slice]:
        """Trajectories to advance one portion after the other."""
        batch = u.shape[0]
        row = u.numel() * u.element_size() // batch
        count = max(1, CHUNK_BYTES * torch.get_num_threads() // row)
        if u.is_cuda or count >= batch:
            return [EVERY]
        return [slice(start, start + count) for start in range(0, batch, count)]

    def __getstate__(self) -> dict[str, Any]:
        # other processes make their coefficients themselves
        return self.__dict__ | {"_kept": {}}

    def _check_field(self, u: Tensor) -> None:
        """Raise InputError unless `u` has the shape and the precision of a field."""
        check_tensor("u", u, finite=False)
        if u.dtype not in (torch.float32, torch.float64):
            raise InputError(f"u must be float32 or float64, got {u.dtype}")
        if u.shape[2:] != self.points or u.ndim != self.dimension + 2:
            raise InputError(
                f"u must have shape (batch, {self.channels}, *points), got {tuple(u.shape)}, the "
                f"stepper has points={self.points}"
            )
        if u.shape[1] != self.channels:
            raise InputError(
                f"u must have {self.channels} channel(s), got {tuple(u.shape)}, which has "
                f"{u.shape[1]}"
            )
        if not u.shape[0]:
            raise InputError("u must hold at least one trajectory, got none")
        check_batch("length", self.length, u.shape[0])
        check_batch("time_step", self.time_step, u.shape[0])
        for name, value in self.parameters.items():
            check_batch(name, value, u.shape[0])


def _tensors(values: list[object]) -> list[Tensor]:
    return [value for value in values if isinstance(value, Tensor)]


def _same(value: object, other: object) -> bool:
    if isinstance(value, Tensor) and isinstance(other, Tensor):
        return torch.equal(value, other)
    return not isinstance(value, Tensor) and not isinstance(other, Tensor) and value == other
