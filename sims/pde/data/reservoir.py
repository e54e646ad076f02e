"""A buffer between a solver that makes windows of trajectories and a training that draws them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.pde.networks.arguments import check_count
from sims.pde.objectives import Batch


class Reservoir:
    """Windows to draw from, each of which is used at least once before it is overwritten.

    Draws are uniform with replacement over all that is there. While there is room, what comes is
    added; when it is full, what comes overwrites a random window that was already used; if none was
    used, the giver must wait. Draws begin once `watermark` windows are there, so that the first
    batches are not of a few trajectories only. This is the reservoir of Meyer et al. 2023, arXiv
    2306.16133, without its draining at the end.

    received, overwritten: counts of windows. Raises InputError for a watermark above the capacity.
    """

    def __init__(self, capacity: int, watermark: int = 1) -> None:
        self.capacity = check_count("capacity", capacity)
        self.watermark = check_count("watermark", watermark)
        if watermark > capacity:
            raise InputError(f"watermark must be at most capacity {capacity}, got {watermark}")
        self.received = self.overwritten = 0
        self.uses = torch.zeros(capacity, dtype=torch.int64)
        self.held = 0
        self._states: Tensor | None = None
        self._told: dict[str, Tensor] = {}

    @property
    def ready(self) -> bool:
        """Whether it may be drawn from."""
        return self.held >= self.watermark

    @property
    def held_states(self) -> Tensor:
        """The windows (held, frames, C, *space)."""
        if self._states is None:
            raise InputError("the reservoir is empty")
        return self._states[: self.held]

    @property
    def held_conditions(self) -> dict[str, Tensor]:
        """What is told about them, name to values (held,)."""
        return {name: values[: self.held] for name, values in self._told.items()}

    def put(self, windows: Batch, generator: torch.Generator) -> int:
        """Take the first of some windows, as many as can be; returns how many these were."""
        states = windows.states
        if self._states is None:
            self._states = self._whole(states[:0])
            self._told = {name: self._whole(v[:0]) for name, v in windows.condition.items()}
        same = states.shape[1:] == self._states.shape[1:]
        if not same or windows.condition.keys() != self._told.keys():
            raise InputError(
                f"windows must be like the first, {tuple(self._states.shape[1:])} with conditions "
                f"{sorted(self._told)}, got {tuple(states.shape[1:])} with "
                f"{sorted(windows.condition)}"
            )
        room = min(len(states), self.capacity - self.held)
        used = torch.nonzero(self.uses[: self.held] > 0).flatten()
        order = torch.randperm(len(used), generator=generator)[: len(states) - room]
        places = torch.cat([torch.arange(self.held, self.held + room), used[order]])
        count = len(places)
        self._states[places] = states[:count]
        for name, values in windows.condition.items():
            self._told[name][places] = values[:count]
        self.uses[places] = 0
        self.held += room
        self.received += count
        self.overwritten += count - room
        return count

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Random windows. Raises InputError below the watermark."""
        if self._states is None or not self.ready:
            raise InputError(
                f"the reservoir holds {self.held} windows, draws begin at {self.watermark}"
            )
        at = generator.device
        which = torch.randint(self.held, (count,), generator=generator, device=at).cpu()
        self.uses += torch.bincount(which, minlength=self.capacity)
        return Batch(
            self._states[which], {name: values[which] for name, values in self._told.items()}
        )

    def state(self) -> dict[str, Any]:
        """For a file."""
        kept = {} if self._states is None else {"states": self._states[: self.held].clone()}
        return kept | {
            "told": {name: values[: self.held].clone() for name, values in self._told.items()},
            "uses": self.uses.clone(),
            "counts": [self.capacity, self.watermark, self.received, self.overwritten],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """From a file. Raises InputError where that was of another size."""
        sizes = list(state["counts"][:2])
        if sizes != [self.capacity, self.watermark]:
            raise InputError(
                f"the reservoir of the checkpoint had capacity and watermark {sizes}, this one has "
                f"{[self.capacity, self.watermark]}"
            )
        self.received, self.overwritten = state["counts"][2:]
        self.uses.copy_(state["uses"])
        self.held = 0 if "states" not in state else len(state["states"])
        self._states = self._whole(state["states"]) if self.held else None
        self._told = {name: self._whole(values) for name, values in state["told"].items()}

    def _whole(self, some: Tensor) -> Tensor:
        """Room for all windows, with some of them."""
        whole = some.new_empty(self.capacity, *some.shape[1:])
        whole[: len(some)] = some
        return whole
