"""Small differences of states, carried through the steps of a model beside the states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError

_SIZE = 1e-7  # of a difference, relative to its state


class Tangents:
    """The tangent map of a model, from differences: (Phi(u + d q) - Phi(u)) / d.

    A tangent is a row of n values, all channels and points of a state. smallest, largest: the
    growth factors within which both rounding, 1e-16 / d, and curvature, d, stay small.
    """

    smallest, largest = 1e-5, 1e3

    def __init__(
        self,
        model: Any,
        count: int,
        condition: Mapping[str, Any] | None,
        generator: torch.Generator | None,
    ) -> None:
        self.model, self.count = model, count
        self.condition, self.generator = condition, generator
        self.time_step = _one_time(model.time_step)
        self.conserves_mean = bool(getattr(model, "conserves_mean", False))
        self.together = generator is None and not _differs_by_trajectory(model, condition)
        self.floor = 0.0

    def apart(self, u: Tensor, copies: int, distance: float) -> Tensor:
        """u (B, C, *space) and copies - 1 neighbours of each at a relative distance."""
        if copies == 1:
            return u
        noise = torch.randn(
            (copies - 1, *u.shape), generator=torch.Generator().manual_seed(1), dtype=u.dtype
        ).to(u.device)
        noise = self._project(noise.flatten(0, 1).flatten(1).unsqueeze(1), u.shape[1])
        noise = noise.reshape(copies - 1, *u.shape)
        return torch.cat([u, (u + distance * _scale(u) * noise).flatten(0, 1)])

    def start(self, u: Tensor) -> Tensor:
        """Orthonormal tangents (B, count, n) in directions of chance."""
        size = u[0].numel()
        drawn = torch.randn(
            (len(u), self.count, size),
            generator=torch.Generator().manual_seed(0),
            dtype=torch.float64,
        ).to(u.device)
        self.floor = 1e-6 * float(_scale(u).mean()) or 1.0
        return torch.linalg.qr(self._project(drawn, u.shape[1]).mT)[0].mT

    def advance(self, u: Tensor, steps: int) -> Tensor:
        """The states (B, C, *space) some steps later."""
        if self.condition is None and self.generator is None and hasattr(self.model, "advance"):
            u = self.model.advance(u, steps)
        else:
            options: dict[str, Any] = {}
            if self.condition is not None:
                options["condition"] = self.condition
            if self.generator is not None:
                options["generator"] = self.generator
            for _ in range(steps):
                u = self.model.step(u, **options)
        if not bool(torch.isfinite(u).all()):
            raise InputError("u diverged on the way; exponents need states that stay bounded")
        return u

    def move(self, u: Tensor, frame: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """States (B, C, *space) and tangents (B, count, n) some steps later."""
        size = _SIZE * _scale(u).clamp(min=self.floor).flatten(1).unsqueeze(1)
        size = size * u[0].numel() ** 0.5
        near = u.flatten(1).unsqueeze(1) + size * frame
        every = torch.cat([u.flatten(1).unsqueeze(1), near], 1)
        if self.together:
            moved = self.advance(every.reshape(-1, *u.shape[1:]), steps).reshape(every.shape)
        else:
            moved = self._one_by_one(every, u.shape, steps)
        grown = (moved[:, 1:] - moved[:, :1]) / size
        return moved[:, 0].reshape(u.shape), self._project(grown, u.shape[1])

    def _one_by_one(self, every: Tensor, shape: torch.Size, steps: int) -> Tensor:
        """As one call would, but with the parameters of each trajectory and noise in common."""
        state = None if self.generator is None else self.generator.get_state()
        moved = []
        for fields in every.unbind(1):
            if self.generator is not None and state is not None:
                self.generator.set_state(state)
            moved.append(self.advance(fields.reshape(shape), steps).flatten(1))
        return torch.stack(moved, 1)

    def _project(self, tangents: Tensor, channels: int) -> Tensor:
        """Tangents (B, m, n) less what changes the mean of a channel, if that is conserved."""
        if not self.conserves_mean:
            return tangents
        split = tangents.unflatten(-1, (channels, -1))
        return (split - split.mean(-1, keepdim=True)).flatten(-2)


def _scale(u: Tensor) -> Tensor:
    """Root mean square (B, 1, ...) of each state."""
    return u.flatten(1).square().mean(1).sqrt().view(-1, *[1] * (u.ndim - 1))


def _differs_by_trajectory(model: Any, condition: Mapping[str, Any] | None) -> bool:
    values = [getattr(model, name, None) for name in ("length", "forcing")]
    values += (condition or {}).values()
    parameters = getattr(model, "parameters", None)
    if isinstance(parameters, Mapping):
        values += parameters.values()
    return any(isinstance(value, Tensor) and value.ndim and len(value) > 1 for value in values)


def _one_time(time_step: Any) -> float:
    if isinstance(time_step, Tensor) and time_step.numel() != 1:
        raise InputError(
            "stepper must have one time_step for all trajectories, "
            f"got one for each of {time_step.numel()}"
        )
    return float(time_step)
