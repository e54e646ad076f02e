"""Trajectories of fields with what they were made with, and windows of them to train on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_tensor
from sims.pde.networks.arguments import check_count
from sims.pde.objectives import Batch
from sims.pde.surrogates.surrogate import OF_THE_GRID


@dataclass(frozen=True, eq=False, repr=False)
class Trajectories:
    """Fields over time on periodic boxes, each trajectory with its own box and parameters.

    states: (n, frames, C, *space), float32 or float64, in one, two or three directions. frame_time:
    between two frames [s], a number or one for each trajectory (n,). length: of the box, in the
    equation's unit of length: a number, a tuple with one for each direction, or a tensor (n,) with
    one for each trajectory, whose box is then a cube. parameters: of the equation, name to a number
    or to values (n,). equation, units, description: text that goes with the data.

    Raises InputError for states of another shape or with values that are not finite, for times and
    lengths that are not positive, and for parameters that do not fit the trajectories.
    """

    states: Tensor
    frame_time: float | Tensor
    length: float | tuple[float, ...] | Tensor
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    equation: str = ""
    units: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        states = check_tensor("states", self.states)
        if states.dtype not in (torch.float32, torch.float64):
            raise InputError(f"states must be float32 or float64, got {states.dtype}")
        if not 4 <= states.ndim <= 6 or 0 in states.shape:
            raise InputError(
                "states must have shape (trajectories, frames, channels, *space) with one to three "
                f"directions and no empty one, got {tuple(states.shape)}"
            )
        for name in ("equation", "units", "description"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"{name} must be text, got {getattr(self, name)!r}")
        count = len(states)
        keep = object.__setattr__  # frozen: what was given is kept in its checked form
        keep(self, "frame_time", _positive("frame_time", self.frame_time, count))
        if isinstance(self.length, tuple | list):
            if len(self.length) != states.ndim - 3:
                raise InputError(
                    f"length must have one number for each of {states.ndim - 3} directions, got "
                    f"{tuple(self.length)}"
                )
            sides = tuple(_positive("length", side, None) for side in self.length)
            keep(self, "length", sides[0] if len(sides) == 1 else sides)
        else:
            keep(self, "length", _positive("length", self.length, count))
        if not isinstance(self.parameters, Mapping):
            raise InputError(f"parameters must map names to values, got {self.parameters!r}")
        keep(
            self,
            "parameters",
            {name: _parameter(name, value, count) for name, value in self.parameters.items()},
        )

    def __repr__(self) -> str:
        shape, kind = tuple(self.states.shape), str(self.states.dtype).removeprefix("torch.")
        told = [self.equation, f"{kind} states {shape}", *self.parameters]
        return f"Trajectories({', '.join(part for part in told if part)})"

    def __len__(self) -> int:
        return len(self.states)

    @property
    def frames(self) -> int:
        """Of each trajectory."""
        return self.states.shape[1]

    @property
    def channels(self) -> int:
        """Of the fields."""
        return self.states.shape[2]

    @property
    def points(self) -> tuple[int, ...]:
        """Of the grid, in each direction."""
        return tuple(self.states.shape[3:])

    def conditions(self, stride: int = 1) -> dict[str, Tensor]:
        """What a surrogate may be told, name to values (n,), float64.

        The parameters; `time_step`, the seconds between frames that are `stride` apart; and
        `spacing`, of the grid in its first direction.
        """
        own = torch.ones(len(self), dtype=torch.float64)
        side = self.length[0] if isinstance(self.length, tuple) else self.length
        return {
            **self.parameters,
            "time_step": stride * self.frame_time * own,
            "spacing": side / self.points[0] * own,
        }

    def draw(self, batch: int, frames: int, stride: int, generator: torch.Generator) -> Batch:
        """Windows of `frames` frames that are `stride` apart, for `batch` random trajectories.

        Trajectories are drawn with replacement; windows start at any frame from which there is
        room, so at every phase of the stride. Raises InputError where there is no room.
        """
        for name, value in (("batch", batch), ("frames", frames), ("stride", stride)):
            check_count(name, value)
        span = (frames - 1) * stride + 1
        if span > self.frames:
            raise InputError(
                f"frames={frames} with stride={stride} need trajectories of at least {span} "
                f"frames, these have {self.frames}; take fewer frames or a smaller stride"
            )
        at = generator.device
        which = torch.randint(len(self), (batch,), generator=generator, device=at)
        start = torch.randint(self.frames - span + 1, (batch,), generator=generator, device=at)
        conditions = self.conditions(stride)
        told = {name: values[which.cpu()].to(self.states) for name, values in conditions.items()}
        device = self.states.device
        times = start.to(device)[:, None] + stride * torch.arange(frames, device=device)
        return Batch(self.states[which.to(device)[:, None], times], told)

    def sample(self, stride: int) -> Tensor:
        """All states, frames `stride` apart."""
        return self.states[:, ::stride]

    def ranges(self, stride: int = 1) -> dict[str, tuple[float, float]]:
        """Lowest and highest of each condition."""
        return {
            name: (float(values.min()), float(values.max()))
            for name, values in self.conditions(stride).items()
        }

    def part(self, trajectories: slice, frames: slice = slice(None)) -> Trajectories:
        """Some of the trajectories and frames; a step of the frames makes the frame time longer."""
        check_slices(trajectories, frames)
        states = self.states[trajectories, frames]

        def own(value: Any) -> Any:
            return value[trajectories] if isinstance(value, Tensor) else value

        return replace(
            self,
            states=states,
            frame_time=own(self.frame_time) * (frames.step or 1),
            length=own(self.length),
            parameters={name: own(values) for name, values in self.parameters.items()},
        )

    def to(self, *, dtype: torch.dtype | None = None, device: Any = None) -> Trajectories:
        """With states of another dtype or on another device."""
        return replace(self, states=self.states.to(dtype=dtype, device=device))

    def state(self) -> dict[str, Any]:
        """What tells these data from others, for the file of a training that draws from them."""
        sizes = [float(one.double().square().sum()) for one in self.states.detach()]
        # a plain sum of fields without a mean would be rounding; the weights tell their order
        total = sum(number * size for number, size in enumerate(sizes, 1))
        return {"shape": list(self.states.shape), "squares": total}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Raises InputError where a training that goes on was one on other data."""
        now = self.state()
        if list(state["shape"]) != now["shape"]:
            raise InputError(
                f"source has states {now['shape']}, the training in the checkpoint had "
                f"{list(state['shape'])}; give the same data or another checkpoint"
            )
        if not abs(state["squares"] - now["squares"]) <= 1e-6 * now["squares"]:
            raise InputError(
                "source has other values than the data of the training in the checkpoint; give the "
                "same data or another checkpoint"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a file; see `sims.pde.data.storage.save`."""
        from sims.pde.data.storage import save  # which makes Trajectories and so imports this

        save(self, path)

    @staticmethod
    def load(
        path: str | os.PathLike[str],
        trajectories: slice = slice(None),
        frames: slice = slice(None),
    ) -> Trajectories:
        """Read from a file, a part of it if wanted; see `sims.pde.data.storage.load`."""
        from sims.pde.data.storage import load

        return load(path, trajectories, frames)


def check_slices(*slices: slice) -> None:
    """Raise InputError for a slice that goes backwards, which no file is read in."""
    for given in slices:
        if not isinstance(given, slice):
            raise InputError(f"trajectories and frames must be slices, got {given!r}")
        if given.step is not None and given.step < 1:
            raise InputError(f"slices must go forwards, got the step {given.step}")


def _positive(name: str, value: object, count: int | None) -> Any:
    """A float, or a float64 tensor (count,) where values were given."""
    allowed = "a positive number" + ("" if count is None else f" or {count} of them")
    values = as_tensor(name, value, allowed, dtype=torch.float64).detach().cpu()
    if values.ndim and (count is None or values.shape != (count,)):
        raise InputError(f"{name} must be {allowed}, got shape {tuple(values.shape)}")
    if not bool((torch.isfinite(values) & (values > 0)).all()):
        raise InputError(f"{name} must be positive and finite, got {float(values.min())} as lowest")
    return float(values) if values.numel() == 1 else values


def _parameter(name: object, value: object, count: int) -> Tensor:
    if not isinstance(name, str) or not name.isidentifier() or name in OF_THE_GRID:
        raise InputError(
            f"parameters must have identifiers other than {', '.join(OF_THE_GRID)} for names, got "
            f"{name!r}"
        )
    label = f"parameters[{name!r}]"
    values = as_tensor(label, value, f"a number or {count} of them", dtype=torch.float64)
    values = values.detach().cpu()
    if values.ndim and values.shape != (count,):
        raise InputError(f"{label} must be a number or have shape ({count},), got {values.shape}")
    if not bool(torch.isfinite(values).all()):
        raise InputError(f"{label} must be finite, got {value!r}")
    return values.expand(count).clone()
