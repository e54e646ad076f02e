"""A live solver as the source of a training, through a reservoir."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.pde.data.campaign import Campaign
from sims.pde.data.live import LiveSolver
from sims.pde.data.reservoir import Reservoir
from sims.pde.data.workers import Workers
from sims.pde.networks.arguments import check_count, check_number
from sims.pde.objectives import Batch


class Stream:
    """Windows that a solver makes while a training draws them.

    Meyer et al., Training deep surrogate models with large scale online learning (2023), arXiv
    2306.16133. The solver fills a `Reservoir` of `capacity` windows of `frames` frames, from which
    batches are drawn once `watermark` windows are there. Without `workers` it runs in the process
    of the training: for each batch that is drawn it makes `fresh` windows, on average, so that the
    ratio of solving and learning is fixed and all is repeatable. With `workers` as many processes
    of Ray solve as fast as the reservoir takes their windows, in an order that is not repeatable.
    When the reservoir is full of windows that were not used yet the solver waits.

    batch: trajectories that are solved together. windows: that each lasts before new ones begin.
    seed: of the solver. device: of the fields that are solved in this process.

    waited: draws that had to wait for the first windows or for a worker. A context manager: with
    workers it must be closed. Raises InputError for sizes out of range and BackendUnavailable for
    workers without ray.
    """

    def __init__(
        self,
        campaign: Campaign,
        *,
        frames: int,
        capacity: int = 4096,
        watermark: int = 512,
        fresh: float = 4.0,
        batch: int = 64,
        windows: int = 50,
        seed: int = 0,
        workers: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        if not isinstance(campaign, Campaign):
            raise InputError(f"campaign must be a Campaign, got {campaign!r}")
        if not check_number("fresh", fresh, "windows for each batch") > 0:
            raise InputError(f"fresh must be positive, got {fresh}")
        check_count("seed", seed, 0)
        check_count("workers", workers, 0)
        self.campaign, self.frames, self.fresh = campaign, frames, fresh
        self.reservoir = Reservoir(capacity, watermark)
        self.generator = torch.Generator().manual_seed(seed)  # of what is overwritten
        self.waited = 0
        self.owed = 0.0  # windows that the solver is behind
        self._waiting: Batch | None = None
        sizes = {"batch": batch, "frames": frames, "windows": windows}
        try:
            own = torch.Generator(device).manual_seed(seed + 1)
        except RuntimeError as error:
            raise InputError(
                f"device must be one of this machine, got {device!r}: {error}"
            ) from None
        self.live = LiveSolver(campaign, generator=own, **sizes)
        self.workers = Workers(campaign, workers, seed=seed, **sizes) if workers else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers."""
        if self.workers is not None:
            self.workers.close()

    def draw(self, batch: int, frames: int, stride: int, generator: torch.Generator) -> Batch:
        """Windows of `frames` frames that are `stride` apart, each from a random start.

        Raises InputError where the stream's own windows are too short.
        """
        span = (frames - 1) * stride + 1
        if span > self.frames:
            raise InputError(
                f"frames={frames} with stride={stride} need windows of at least {span} frames, the "
                f"stream makes {self.frames}"
            )
        self._fill()
        self._go_on()
        found = self.reservoir.draw(batch, generator)
        at = generator.device
        start = torch.randint(
            self.frames - span + 1, (batch,), generator=generator, device=at
        ).cpu()
        times = start[:, None] + stride * torch.arange(frames)
        told = dict(found.condition)
        told["time_step"] = told["time_step"] * stride
        return Batch(found.states[torch.arange(batch)[:, None], times], told)

    def sample(self, stride: int) -> Tensor:
        """The states (n, frames, C, *space) that are in the reservoir, frames `stride` apart."""
        self._fill()
        return self.reservoir.held_states[:, ::stride]

    def ranges(self, stride: int = 1) -> dict[str, tuple[float, float]]:
        """Lowest and highest of each condition, by the law that they are drawn from."""
        self._fill()
        known = {
            name: (float(values.min()), float(values.max()))
            for name, values in self.reservoir.held_conditions.items()
        }
        low, high = self.campaign.frame_times()
        known["time_step"] = (stride * low, stride * high)
        for name, (low, high) in self.campaign.ranges.items():
            if name == "length":
                points = self.reservoir.held_states.shape[3]
                known["spacing"] = (low / points, high / points)
            else:
                known[name] = (low, high)
        return known

    def state(self) -> dict[str, Any]:
        """For a file."""
        waiting = self._waiting
        return {
            "reservoir": self.reservoir.state(),
            "generator": self.generator.get_state(),
            "solver": self.live.state(),
            "waiting": None
            if waiting is None
            else {"states": waiting.states, "condition": dict(waiting.condition)},
            "counts": [self.waited, self.owed],
            "workers": None if self.workers is None else self.workers.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """From a file; workers begin anew, with other numbers than before."""
        if (state["workers"] is None) != (self.workers is None):
            raise InputError(
                "source must have workers as the training in the checkpoint had, or no"
            )
        self.reservoir.restore(state["reservoir"])
        self.generator.set_state(state["generator"])
        self.live.restore(state["solver"])
        kept = state["waiting"]
        self._waiting = None if kept is None else Batch(kept["states"], kept["condition"])
        self.waited, self.owed = state["counts"]
        if self.workers is not None:
            self.workers.restore(state["workers"])

    def _fill(self) -> None:
        """Up to the watermark."""
        self.waited += not self.reservoir.ready
        while not self.reservoir.ready:
            made = self.live.solve() if self.workers is None else self.workers.take(wait=True)
            if made is not None:
                self._put(made)

    def _go_on(self) -> None:
        """What came since the last draw, or what the solver is due."""
        if self._waiting is not None:
            self._put(self._waiting)
        if self.workers is not None:
            while self._waiting is None and (made := self.workers.take(wait=False)) is not None:
                self._put(made)
            return
        self.owed += self.fresh
        while self._waiting is None and self.owed >= self.live.batch:
            self.owed -= self.live.batch
            self._put(self.live.solve())
        self.owed = min(self.owed, float(self.live.batch))  # a solver that waits does not catch up

    def _put(self, made: Batch) -> None:
        taken = self.reservoir.put(made, self.generator)
        rest = {name: values[taken:] for name, values in made.condition.items()}
        self._waiting = Batch(made.states[taken:], rest) if taken < len(made.states) else None
