"""Where and for how long a surrogate was trained: what it refuses to answer outside of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import product
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_tensor
from sims.acoustics.elements.element_search import located
from sims.acoustics.elements.hexahedra import Hexahedra
from sims.acoustics.elements.lattice import Lattice
from sims.acoustics.solver import Solver
from sims.acoustics.source import Pulse, default_width

ROUNDING = 1e-6  # of the room's size, that a position on a wall may lie beyond it


@dataclass(frozen=True, eq=False)
class Domain:
    """What a surrogate answers: sources in a box, receivers in the air, times up to a duration.

    source_low, source_high: (3,) float64, the box of sources [m]. edges_x, edges_y, edges_z: rising
    places that cut the room into boxes [m]. air: (ex, ey, ez) bool, which of these are air.
    corners: (E, 8, 3), the hexahedra that a room is made of where it is not of bricks; then there
    are no boxes, and otherwise none of these. fmax [Hz]; width of the default pulse [m]; duration
    and time_step [s]. receiver_low, receiver_high: (3,) float64, the box of receivers [m], None for
    the whole room.
    """

    source_low: Tensor
    source_high: Tensor
    edges_x: Tensor
    edges_y: Tensor
    edges_z: Tensor
    air: Tensor
    corners: Tensor
    fmax: float
    width: float
    duration: float
    time_step: float
    receiver_low: Tensor | None = None
    receiver_high: Tensor | None = None

    @classmethod
    def of(cls, solver: Solver, low: Any, high: Any, duration: float) -> Domain:
        """Sources from corner low to corner high (3,) [m] in the room of a solver.

        Raises InputError for corners outside of the box around the room.
        """
        low, high = box(low, high)
        if not 0 < duration < math.inf:
            raise InputError(f"duration must be above 0 s, got {duration}")
        space = solver.space
        boxes, air = [torch.zeros(0, dtype=torch.float64)] * 3, torch.zeros(0, 0, 0).bool()
        corners = torch.zeros(0, 8, 3, dtype=torch.float64)
        if isinstance(space, Lattice):
            boxes, air = [line.cpu() for line in space.grid.lines], space.grid.air.cpu()
        elif isinstance(space, Hexahedra):
            corners = space.vertices.detach().cpu()[space.hexahedra.cpu().long()].double()
        else:
            raise InputError(f"solver must be of bricks or hexahedra, got {type(space).__name__}")
        found = cls(
            source_low=low,
            source_high=high,
            edges_x=boxes[0],
            edges_y=boxes[1],
            edges_z=boxes[2],
            air=air,
            corners=corners,
            fmax=solver.fmax,
            width=default_width(solver.fmax),
            duration=float(duration),
            time_step=solver.time_step,
        )
        found.low_high_in_room()
        return found

    def low_high_in_room(self) -> None:
        """Raise InputError where the box of sources leaves the box around the room."""
        low, high = self.bounds
        if (self.source_low < low).any() or (self.source_high > high).any():
            raise InputError(
                f"sources must lie in the room from {low.tolist()} to {high.tolist()} m, got "
                f"{self.source_low.tolist()} to {self.source_high.tolist()}"
            )

    def heard_in(self, low: Any, high: Any) -> Domain:
        """The same with receivers from corner low to corner high (3,) [m] alone.

        Raises InputError for a box that leaves the one of receivers that there is.
        """
        low, high = box(low, high)
        held_low, held_high = self.heard
        slack = self.slack
        if (low < held_low - slack).any() or (high > held_high + slack).any():
            raise InputError(
                f"receivers must lie from {held_low.tolist()} to {held_high.tolist()} m, got a "
                f"region from {low.tolist()} to {high.tolist()}"
            )
        return replace(self, receiver_low=low, receiver_high=high)

    @property
    def heard(self) -> tuple[Tensor, Tensor]:
        """The corners (3,) of the box of receivers [m]."""
        if self.receiver_low is None or self.receiver_high is None:
            return self.bounds
        return self.receiver_low, self.receiver_high

    @property
    def edges(self) -> tuple[Tensor, Tensor, Tensor]:
        """The places that cut the room into boxes along x, y and z [m]."""
        return self.edges_x, self.edges_y, self.edges_z

    @cached_property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The corners (3,) of the box around the room [m]."""
        if len(self.corners):
            return self.corners.amin((0, 1)), self.corners.amax((0, 1))
        return torch.stack([e[0] for e in self.edges]), torch.stack([e[-1] for e in self.edges])

    @cached_property
    def slack(self) -> float:
        """How far beyond a wall a position may lie by rounding [m]."""
        return ROUNDING * float((self.bounds[1] - self.bounds[0]).max())

    def state(self) -> dict[str, Any]:
        """The fields by name, for a file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def steps(self, duration: float) -> int:
        """How many steps cover a duration [s], as in `Solver`; raises InputError beyond ours."""
        if not 0 < duration <= self.duration * (1 + 1e-9):
            raise InputError(
                f"duration must be above 0 and at most the {self.duration:g} s that the surrogate "
                f"was trained on, got {duration}; train it longer"
            )
        return math.ceil(duration / self.time_step - 1e-9)

    def in_air(self, points: Tensor) -> Tensor:
        """Which of the points (R, 3) lie in the air, (R,) bool."""
        points = points.detach().to("cpu", torch.float64)
        if len(self.corners):
            return located(self.corners, points)[0] >= 0
        inside = self._in_cells(points, (0.0, 0.0, 0.0))
        if not inside.all():
            slack = self.slack
            for shift in product((slack, -slack), repeat=3):
                inside |= self._in_cells(points, shift)
        return inside

    def _in_cells(self, points: Tensor, shift: Sequence[float]) -> Tensor:
        places = (points + points.new_tensor(shift)).T.contiguous()
        cells = [
            torch.searchsorted(line, place, right=True) - 1
            for line, place in zip(self.edges, places, strict=True)
        ]
        limits = [len(line) - 1 for line in self.edges]
        within = torch.ones(len(points), dtype=torch.bool)
        for cell, limit in zip(cells, limits, strict=True):
            within &= (cell >= 0) & (cell < limit)
        x, y, z = (cell.clamp(0, limit - 1) for cell, limit in zip(cells, limits, strict=True))
        return within & self.air[x, y, z]

    def receivers(self, receivers: Any, like: Tensor) -> Tensor:
        """Receivers (R, 3) in the dtype and on the device of `like`; raises InputError."""
        places = as_tensor(
            "receivers", receivers, "positions (R, 3) [m]", dtype=like.dtype, device=like.device
        )
        places = check_tensor("receivers", places[None] if places.ndim == 1 else places, (None, 3))
        self._check_air("receivers", places)
        if self.receiver_low is None:
            return places
        low, high = self.heard
        at = places.detach().to("cpu", torch.float64)
        outside = ~contains(low, high, at, self.slack)
        if outside.any():
            number = int(outside.nonzero()[0])
            raise InputError(
                f"receivers[{number}] at {at[number].tolist()} m lies outside of the box that the "
                f"surrogate was trained on, {low.tolist()} to {high.tolist()}; move it, or join "
                "surrogates of several boxes with Decomposed"
            )
        return places

    def sources(self, positions: Any, like: Tensor) -> Tensor:
        """Positions of sources (S, 3) as `receivers`; raises InputError outside of their box."""
        places = as_tensor(
            "source", positions, "positions (3,) [m]", dtype=like.dtype, device=like.device
        )
        places = check_tensor("source", places[None] if places.ndim == 1 else places, (None, 3))
        at = places.detach().to("cpu", torch.float64)
        outside = ~contains(self.source_low, self.source_high, at, self.slack)
        if outside.any():
            number = int(outside.nonzero()[0])
            raise InputError(
                f"source at {at[number].tolist()} m lies outside of the box that the surrogate "
                f"was trained on, {self.source_low.tolist()} to {self.source_high.tolist()}; "
                "move it or train with a larger box"
            )
        self._check_air("source", places)
        return places

    def pulse(self, source: Any, like: Tensor) -> tuple[Tensor, Any, Any]:
        """Position (3,), amplitude and width of a pulse; raises InputError for a narrower one."""
        pulse = source if isinstance(source, Pulse) else Pulse(source)
        width = self.width if pulse.width is None else pulse.width
        held = as_tensor("width", width, "a number [m]", dtype=torch.float64).detach()
        if held.ndim or not self.width * (1 - 1e-6) <= float(held) < math.inf:
            raise InputError(
                f"the width of a pulse must be at least the {self.width:.6g} m that the surrogate "
                f"was trained on, got {held.tolist()}; ask the solver, or train at a higher fmax"
            )
        places = self.sources(pulse.position, like)
        if len(places) != 1:
            raise InputError(f"source must be one position (3,) [m], got {len(places)}")
        return places[0], pulse.amplitude, width

    def _check_air(self, name: str, places: Tensor) -> None:
        outside = ~self.in_air(places)
        if outside.any():
            number = int(outside.nonzero()[0])
            raise InputError(
                f"{name}[{number}] at {places[number].tolist()} m is outside of the air of the "
                f"room; {int(outside.sum())} of {len(places)} are; move it inside"
            )


def box(low: Any, high: Any) -> tuple[Tensor, Tensor]:
    """Two corners (3,) float64 [m]; raises InputError where low is not below high."""
    low, high = (
        check_tensor(name, as_tensor(name, at, "a corner (3,) [m]", dtype=torch.float64), (3,))
        for name, at in (("low", low), ("high", high))
    )
    if not (low < high).all():
        raise InputError(
            f"low must be below high on each axis, got {low.tolist()} and {high.tolist()}"
        )
    return low, high


def contains(low: Tensor, high: Tensor, points: Tensor, slack: float) -> Tensor:
    """Which of the points (R, 3) lie in a box, up to a slack [m]; (R,) bool."""
    return ((points >= low - slack) & (points <= high + slack)).all(1)
