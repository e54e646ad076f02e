"""Networks that take the place of a stepper: from one field to the field a time step later."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_tensor
from optimizers import checkpoint
from sims.pde.networks.arguments import check_count, check_number
from sims.pde.surrogates.conditions import (
    ROOM,
    check_names,
    gathered,
    normalised,
    ranges,
    warn_outside,
)
from sims.pde.surrogates.saved import differences, fill, read

OF_THE_GRID = ("time_step", "spacing")  # conditions that the surrogate has a value for itself
NETWORKS_OF = ("network", "fine")  # arguments that are networks, of which a file tells how to make
MOST = 10.0  # times the largest value that was met: a rollout beyond it has diverged


class Surrogate(torch.nn.Module):
    """u(t + Δt) = u(t) + s y, with the scaled increment y from a network.

    Takes the place of a stepper wherever one is called: `step`, `time_step`, `length`, `points`,
    `channels`. Fields u are (B, C, *space), periodic; they keep their dtype, the network computes
    in that of its weights.

    time_step [s], length [of the equation]: of the training data; length is a number or one for
    each axis. points: of the grid, a number or one for each axis. channels: C. conditions: name to
    the (lowest, highest) value of training, in the order in which the network gets them; two names
    are known to all: `time_step` [s] and `spacing`, the length over the points of the first axis.
    Those who leave them out are held to the values above. refining: whether the network sees a
    candidate of the increment and a level beside the fields.

    scale: s (C,), which brings increments to unit standard deviation; spread and centre (C,): what
    fields are divided by after what is subtracted from them; `largest`: what a rollout may not
    exceed. `fit_scale` measures all of them.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        *,
        time_step: float,
        length: float | Sequence[float],
        points: int | Sequence[int],
        channels: int = 1,
        conditions: Mapping[str, tuple[float, float]] | None = None,
        refining: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(network, torch.nn.Module):
            raise InputError(f"network must be a torch module, got {type(network).__name__}")
        self.network = network
        self.time_step = _positive("time_step", time_step)
        self.channels = check_count("channels", channels)
        axes = len(points) if isinstance(points, list | tuple) else 1
        dimension = getattr(network, "dimension", axes)
        self.points = _for_each_axis("points", points, dimension)
        for count in self.points:
            check_count("points", count)
        self.lengths = tuple(
            _positive("length", x) for x in _for_each_axis("length", length, dimension)
        )
        self.conditions = ranges(conditions)
        self.warned: set[str] = set()
        self.record: Any = None  # what the training was, a TrainingRecord
        seen = 2 * self.channels if refining else self.channels
        self._check_network("network", network, seen, leveled=refining)
        self.scale: Tensor
        self.centre: Tensor
        self.spread: Tensor
        self.extent: Tensor
        for name in ("scale", "centre", "spread"):
            self.register_buffer(name, torch.full((channels,), math.nan, dtype=torch.float64))
        self.register_buffer("extent", torch.tensor(math.nan, dtype=torch.float64))
        self._fitted = False

    @property
    def dimension(self) -> int:
        """How many axes the grid has."""
        return len(self.points)

    @property
    def length(self) -> float | tuple[float, ...]:
        """Of the box: a number where it is the same along all axes."""
        return self.lengths[0] if len(set(self.lengths)) == 1 else self.lengths

    @property
    def spacing(self) -> float:
        """The distance of points along the first axis."""
        return self.lengths[0] / self.points[0]

    @property
    def largest(self) -> float | None:
        """Ten times the largest |u| of training; None before that."""
        return float(self.extent) * MOST if self.fitted else None

    @property
    def fitted(self) -> bool:
        """Whether the scale is known."""
        if not self._fitted:
            self._fitted = bool(torch.isfinite(self.scale).all())
        return self._fitted

    def fit_scale(self, states: Tensor) -> None:
        """Measure scale, spread, centre and extent on states (trajectories, frames, C, *space).

        Frames are one time step apart. The scale is the standard deviation of u(t + Δt) - u(t) over
        all of them, for each channel. Raises InputError for other shapes, values that are not
        finite, and a channel that does not change.
        """
        shape = (None, None, self.channels, *[None] * self.dimension)
        check_tensor("states", states, shape)
        if states.shape[1] < 2:
            raise InputError(f"states must have at least two frames, got {states.shape[1]}")
        change = _spread(one.diff(dim=0) for one in states.detach())[1]
        centre, spread = _spread(states.detach())
        if not bool((change > 0).all()):
            still = change.le(0).nonzero().flatten().tolist()
            raise InputError(f"states must change from frame to frame, channels {still} do not")
        self.scale.copy_(change)
        self.centre.copy_(centre)
        self.spread.copy_(spread)
        self.extent.copy_(states.detach().abs().amax())

    def step(
        self,
        u: Tensor,
        condition: Mapping[str, Any] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The fields (B, C, *space) one time step after u, in the dtype of u.

        condition: a number or values (B,) for each name in `conditions`. generator: of the noise of
        a surrogate that draws some; torch's own without it. Differentiable in u and in conditions
        that are tensors.

        Raises InputError for fields of another shape or that are not finite, for conditions that
        are unknown or missing, and for a scale that was not measured. Warns `OutsideTraining`, once
        for each name.
        """
        check_tensor("u", u)
        told = self.told(u, condition)
        return self.advanced(u, self.scaled_increment(u, told, generator))

    def advance(
        self,
        u: Tensor,
        steps: int,
        condition: Mapping[str, Any] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The same as so many times `step`.

        Fields that grow beyond all bounds on the way are infinite or NaN at its end, where `step`
        would not take them any further.
        """
        check_count("steps", steps)
        check_tensor("u", u)
        told = self.told(u, condition)
        for _ in range(steps):
            u = self.advanced(u, self.scaled_increment(u, told, generator))
        return u

    def increment(
        self,
        u: Tensor,
        condition: Mapping[str, Any] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """y (B, C, *space) in the dtype of the weights, of which `step` makes u + s y."""
        return self.scaled_increment(u, self.told(u, condition), generator)

    def scaled_increment(
        self, u: Tensor, told: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """y of fields and of conditions (B, n) that were checked and normalised by `told`."""
        raise TypeError(f"{type(self).__name__} does not say how it makes an increment")

    def advanced(self, u: Tensor, y: Tensor) -> Tensor:
        """u + s y in the dtype of u."""
        return u + self.each(self.scale, u) * y.to(u.dtype)

    def target(self, u: Tensor, following: Tensor) -> Tensor:
        """y = (following - u) / s in the dtype of the weights: what `increment` should give."""
        return ((following - u) / self.each(self.scale, u)).to(self.dtype)

    def seen(self, u: Tensor) -> Tensor:
        """(u - centre) / spread in the dtype of the weights: what the network sees."""
        return ((u - self.each(self.centre, u)) / self.each(self.spread, u)).to(self.dtype)

    def given(self, output: Tensor, u: Tensor) -> Tensor:
        """What a network gave for fields u, in the dtype of the weights.

        Raises InputError for another shape, which might broadcast.
        """
        if output.shape != u.shape:
            raise InputError(
                f"network must give {tuple(u.shape)} for fields of that shape, gave "
                f"{tuple(output.shape)}"
            )
        return output.to(self.dtype)

    def told(self, u: Tensor, condition: Mapping[str, Any] | None = None) -> Tensor | None:
        """Conditions (B, n) in the dtype of the weights, 0 and 1 at the ends of their ranges.

        Checks the shape of u too. Raises and warns as `step` does.
        """
        check_tensor("u", u, finite=False)
        condition = check_names("condition", condition)
        if not self.fitted:
            raise InputError(
                "the surrogate's scale was not measured: call fit_scale(states) or train it first"
            )
        free = "spacing" in self.conditions
        sizes = [None] * self.dimension if free else self.points
        if u.dim() != self.dimension + 2 or u.shape[1] != self.channels or not _fits(u, sizes):
            space = ", ".join("any" if size is None else str(size) for size in sizes)
            raise InputError(
                f"u must have shape (any, {self.channels}, {space}), as it was trained with "
                f"{self.points} points on a length of {self.length}, got {tuple(u.shape)}"
            )
        self._check_names(condition)
        if not self.conditions:
            return None
        own = {"time_step": self.time_step}
        if _fits(u, self.points):
            own["spacing"] = self.spacing
        values = gathered(self.conditions, {**own, **condition}, u)
        if not torch.compiler.is_compiling():
            warn_outside(self.conditions, values.detach(), self.warned)
        return normalised(self.conditions, values).to(self.dtype)

    def check_grid(self, length: Any, points: Any, time_step: Any = None) -> None:
        """Raise InputError where data of another spacing or time step does not fit.

        What is a condition may differ. length, points: for each axis, or one for all.
        """
        found = {"spacing": _first("length", length) / _first("points", points)}
        if time_step is not None:
            found["time_step"] = _first("time_step", time_step)
        for name, own in (("spacing", self.spacing), ("time_step", self.time_step)):
            if name in self.conditions or name not in found:
                continue
            value = found[name].flatten()
            off = (value - own).abs()
            if not float(off.max()) <= ROOM * own:
                raise InputError(
                    f"{name} must be {own:.6g}, as the surrogate was trained, got "
                    f"{float(value[off.argmax()]):.6g}; make it one of its conditions to train "
                    "over a range"
                )

    def check_proportions(self, length: Any, points: Any) -> None:
        """Raise InputError where data have another ratio of the spacings along their axes.

        The first axis is for `check_grid`. length, points: for each axis, or one for all.
        """
        cube = not isinstance(length, list | tuple)
        edges = (1.0,) * self.dimension if cube else tuple(float(edge) for edge in length)
        counts = _for_each_axis("points", points, self.dimension)
        if len(edges) != self.dimension:
            raise InputError(f"length must be of {self.dimension} axes, got {length!r}")
        for axis in range(1, self.dimension):
            own = self.lengths[axis] / self.points[axis] / self.spacing
            came = edges[axis] / counts[axis] / (edges[0] / counts[0])
            if not abs(came - own) <= ROOM * own:
                raise InputError(
                    f"spacing along axis {axis} must be {own:.6g} times that along the first, as "
                    f"in the surrogate's box {self.lengths}, got {came:.6g} times"
                )

    @property
    def dtype(self) -> torch.dtype:
        """That of the weights."""
        return next((p.dtype for p in self.network.parameters()), torch.get_default_dtype())

    def parameter_count(self) -> int:
        """How many real numbers are learned."""
        return sum(parameter.numel() for parameter in self.parameters())

    def settings(self) -> dict[str, Any]:
        """What makes an untrained one like this, with its networks."""
        return {
            "time_step": self.time_step,
            "length": list(self.lengths),
            "points": list(self.points),
            "channels": self.channels,
            "conditions": {name: list(ends) for name, ends in self.conditions.items()},
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, scales and architecture to a file, the old one until the new is whole."""
        content = {
            "architecture": self.architecture(),
            "settings": self.settings(),
            "dtype": str(self.dtype).removeprefix("torch."),
            "weights": self.state_dict(),
        }
        checkpoint.save(Path(path), content)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take the weights, scales and trained ranges of a file of the same architecture.

        Raises InputError for another file, and says what differs in one of another architecture.
        """
        content = read(path)
        apart = differences(content["architecture"], self.architecture())
        if apart:
            raise InputError(f"{path} holds a surrogate of another architecture: {apart}")
        fill(self, content["weights"], path)
        self.conditions = ranges(content["settings"]["conditions"])
        self._fitted = False

    def architecture(self) -> dict[str, Any]:
        """Kind, settings and networks, without what is learned or chosen afterwards."""
        networks = {
            name: {"kind": type(net).__name__, "settings": getattr(net, "settings", None)}
            for name, net in self.named_children()
            if name in NETWORKS_OF
        }
        settings = {**self.settings(), "conditions": list(self.conditions)}
        return {"kind": type(self).__name__, "settings": settings, "networks": networks}

    def _check_network(
        self, name: str, network: torch.nn.Module, channels_in: int, *, leveled: bool
    ) -> None:
        """Raise InputError for a network that says of itself that it cannot be called."""
        for what, must in (
            ("channels_in", channels_in),
            ("channels_out", self.channels),
            ("conditions", len(self.conditions)),
            ("leveled", leveled),
            ("dimension", self.dimension),
        ):
            came = getattr(network, what, must)
            if came != must:
                raise InputError(
                    f"{name} must have {what}={must} for {type(self).__name__} with "
                    f"channels={self.channels} and {len(self.conditions)} conditions, got {came}"
                )
        stride = getattr(network, "total_stride", 1)
        if any(count % stride for count in self.points):
            raise InputError(
                f"points must be multiples of the stride {stride} of {name}, got {self.points}"
            )

    def _check_names(self, condition: Mapping[str, Any]) -> None:
        for name, value in condition.items():
            if name in self.conditions:
                continue
            if name not in OF_THE_GRID:
                raise InputError(
                    f"condition must have the names {sorted(self.conditions)}, got {name!r}"
                )
            self.check_grid(
                value if name == "spacing" else self.spacing,
                1,
                value if name == "time_step" else self.time_step,
            )

    def each(self, of_channels: Tensor, like: Tensor) -> Tensor:
        """Values (C,) of the channels, ready to be multiplied with fields."""
        return of_channels.to(like).view(-1, *[1] * self.dimension)


class OneStep(Surrogate):
    """The increment by one call of the network: y = N(u, c)."""

    def scaled_increment(
        self, u: Tensor, told: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """y (B, C, *space); the generator is not used."""
        return self.given(self.network(self.seen(u), told), u)


def _spread(parts: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) over all (frames, C, *space)."""
    count, mean, square = 0, torch.zeros(()), torch.zeros(())
    for part in parts:  # a trajectory at a time: all differences at once would double the data
        values = part.movedim(1, 0).flatten(1).double()
        own, size = values.mean(1), values.shape[1]
        apart = own - mean.to(own)
        total = count + size
        square = square.to(own) + (values - own[:, None]).square().sum(1)
        square = square + apart.square() * (count * size / total)
        mean = mean.to(own) + apart * (size / total)
        count = total
    return mean, (square / count).sqrt()


def _fits(u: Tensor, sizes: Sequence[int | None]) -> bool:
    return all(want is None or have == want for have, want in zip(u.shape[2:], sizes, strict=False))


def _positive(name: str, value: Any) -> float:
    value = check_number(name, value, "a number above 0")
    if not value > 0:
        raise InputError(f"{name} must be a number above 0, got {value}")
    return value


def _for_each_axis(name: str, value: Any, dimension: int) -> tuple[Any, ...]:
    values = tuple(value) if isinstance(value, list | tuple) else (value,) * dimension
    if len(values) != dimension:
        raise InputError(f"{name} must be a number or {dimension} numbers, got {value!r}")
    return values


def _first(name: str, value: Any) -> Tensor:
    """Of the first axis, where there is one value for each."""
    value = value[0] if isinstance(value, list | tuple) and value else value
    found = as_tensor(name, value, "a number for each axis", dtype=torch.float64)
    if not found.numel():
        raise InputError(f"{name} must be a number for each axis, got {value!r}")
    return found
