"""A law by which trajectories begin: what is drawn for each, and how long it is solved first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from sims.pde.data.downsample import downsample
from sims.pde.data.trajectories import Trajectories
from sims.pde.networks.arguments import check_number

PIECES = 20  # a warm-up is solved in, so that a progress bar moves


@dataclass(frozen=True)
class Campaign:
    """How trajectories are drawn and solved.

    stepper: a solver, or what makes one of the values that are drawn: called with each name of
    `ranges` and its values (count,) float64, and with `time_step` if there are `substeps`.
    initial: (stepper, count, generator) -> the first fields (count, C, *space), whose dtype and
    device are those of the solution. frame_time: between two frames [s], a multiple of the
    solver's step; with `substeps`, the solver's steps in a frame, also a range (lowest, highest) to
    draw one from for each trajectory. warm_up: time [s] that is solved at least before the first
    frame, in whole steps. ranges: name to (lowest, highest), drawn uniformly and
    independently for each trajectory; `length` is that of the box, the others are parameters.
    points: of the grid that frames are kept on, by spectral truncation; None for the solver's.
    dtype: of the frames that are kept, None for the solution's.

    Raises InputError for times that do not fit the solver, and for ranges that are none.
    """

    stepper: Any
    initial: Callable[[Any, int, torch.Generator], Tensor]
    frame_time: float | tuple[float, float]
    warm_up: float = 0.0
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    substeps: int | None = None
    points: int | None = None
    dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        ready = hasattr(self.stepper, "step") and not isinstance(self.stepper, type)
        if ready and (self.ranges or self.substeps is not None):
            raise InputError(
                "stepper must be what makes a solver, such as functools.partial(KortewegDeVries, "
                "points=128), where ranges or substeps are given; got a ready solver"
            )
        if not ready and not callable(self.stepper):
            raise InputError(f"stepper must be a solver or make one, got {self.stepper!r}")
        for name, limits in {**self.ranges, "frame_time": self.frame_times()}.items():
            low = _range(name, limits)[0]
            if name in ("frame_time", "length") and not low > 0:
                raise InputError(f"{name} must be positive, got {limits}")
        if isinstance(self.frame_time, tuple) and self.substeps is None:
            raise InputError("a range of frame_time needs substeps, the solver's steps in a frame")
        if not callable(self.initial):
            raise InputError(f"initial must draw the first fields, got {self.initial!r}")
        if not check_number("warm_up", self.warm_up, "seconds") >= 0:
            raise InputError(f"warm_up must be at least 0 s, got {self.warm_up}")
        if self.dtype not in (None, torch.float32, torch.float64):
            raise InputError(f"dtype must be float32 or float64, got {self.dtype}")

    def frame_times(self) -> tuple[float, float]:
        """Lowest and highest time between two frames [s]."""
        given = self.frame_time
        return _range("frame_time", given if isinstance(given, tuple) else (given, given))

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Values (count,) float64 of each name in `ranges`, and of a range of `frame_time`."""
        ranges = dict(self.ranges)
        if isinstance(self.frame_time, tuple):
            ranges["frame_time"] = self.frame_time
        return {
            name: low + (high - low) * _uniform(count, generator)
            for name, (low, high) in ranges.items()
        }

    def solver(self, drawn: Mapping[str, Tensor]) -> tuple[Any, int]:
        """The solver of values that were drawn, and its steps in a frame."""
        if hasattr(self.stepper, "step") and not isinstance(self.stepper, type):
            stepper = self.stepper
        else:
            values: dict[str, Any] = {name: drawn[name] for name in self.ranges}
            if self.substeps is not None:
                frame_time = drawn.get("frame_time", self.frame_times()[0])
                values["time_step"] = frame_time / self.substeps
            stepper = self.stepper(**values)
        if self.substeps is not None:
            return stepper, self.substeps
        if _many(stepper.time_step):
            raise InputError(
                "stepper must have one time_step, or frame_time be a range with substeps, got "
                f"{stepper.time_step}"
            )
        frame_time, time_step = self.frame_times()[0], float(stepper.time_step)
        steps = round(frame_time / time_step)
        if steps < 1 or abs(steps * time_step - frame_time) > 1e-9 * frame_time:
            raise InputError(
                f"frame_time must be a multiple of the solver's time_step {time_step}, got "
                f"{frame_time}"
            )
        return stepper, steps

    def begin(
        self,
        stepper: Any,
        count: int,
        generator: torch.Generator,
        shown: Callable[[float], None] | None = None,
    ) -> Tensor:
        """The first frame (count, C, *space) on the solver's grid, after the warm-up.

        shown: told the seconds that are solved.
        """
        u = check_tensor("initial's fields", self.initial(stepper, count, generator))
        shortest = float(torch.as_tensor(stepper.time_step).min())
        left = whole = math.ceil(self.warm_up / shortest - 1e-9)
        while left:
            some = min(left, max(1, whole // PIECES))
            u = _checked(stepper.advance(u, some), stepper)
            left -= some
            if shown is not None:
                shown(self.warm_up * (1 - left / whole))
        return u

    def kept(self, u: Tensor, stepper: Any) -> Tensor:
        """A frame as it is kept, on the CPU. Raises InputError where trajectories diverged."""
        _checked(u, stepper)
        return (u if self.points is None else downsample(u, self.points)).to("cpu", self.dtype)

    def told(self, solver: Any, drawn: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
        """Values (count,) float64 of the parameters of a solver, fixed or drawn, and of the rest
        that was drawn.
        """
        known: dict[str, Tensor] = {}
        own = {"length": solver.length} if _many(solver.length) else {}
        for name, value in {**solver.parameters, **own, **drawn}.items():
            values = torch.as_tensor(value, dtype=torch.float64).detach().cpu()
            known[name] = values.expand(count)
        return known

    def described(self, states: Tensor, solver: Any, told: Mapping[str, Tensor]) -> Trajectories:
        """States as they were kept, with what is told about each of them."""
        parameters = dict(told)
        frame_time = parameters.pop("frame_time", self.frame_times()[0])
        length = parameters.pop("length", solver.length)
        equation = type(solver).__name__
        return Trajectories(states, frame_time, length, parameters, equation=equation)


def _many(value: Any) -> bool:
    """Whether each trajectory has its own."""
    return isinstance(value, Tensor) and value.numel() > 1


def _checked(u: Tensor, stepper: Any) -> Tensor:
    """Fields that are finite, or InputError."""
    lost = int((~u.flatten(1).isfinite().all(1)).sum())
    if lost:
        raise InputError(
            f"{lost} of {len(u)} trajectories diverged with time_step={stepper.time_step}; take a "
            "smaller one, more points or a smaller initial field"
        )
    return u


def _range(name: str, limits: Any) -> tuple[float, float]:
    try:
        low, high = (float(limit) for limit in limits)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a range (lowest, highest), got {limits!r}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise InputError(f"{name} must be finite with lowest <= highest, got {limits!r}")
    return low, high


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    device = generator.device
    return torch.rand(count, generator=generator, dtype=torch.float64, device=device).cpu()
