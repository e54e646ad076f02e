"""A solver that goes on and on, and gives its trajectories away window by window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sims.pde.data.campaign import Campaign
from sims.pde.networks.arguments import check_count
from sims.pde.objectives import Batch


class LiveSolver:
    """Trajectories of a campaign in windows of `frames` frames, the next where the last one ended.

    batch: trajectories that are solved at a time. windows: that each of them lasts; after as many a
    new batch begins, with its warm-up. generator: of all that is drawn, on the device of the
    fields. The windows lie on the CPU.
    """

    def __init__(
        self,
        campaign: Campaign,
        *,
        batch: int,
        frames: int,
        windows: int,
        generator: torch.Generator,
    ) -> None:
        self.campaign, self.generator = campaign, generator
        self.batch = check_count("batch", batch)
        self.frames = check_count("frames", frames, 2)
        self.windows = check_count("windows", windows)
        self.left = 0
        self._drawn: dict[str, Tensor] = {}
        self._solver: Any = None
        self._steps = 0
        self._u: Tensor | None = None

    @torch.no_grad()
    def solve(self) -> Batch:
        """The next window of each trajectory. Raises InputError where one diverges."""
        u = self._u
        if u is None or not self.left:
            self._drawn = self.campaign.draw(self.batch, self.generator)
            self._solver, self._steps = self.campaign.solver(self._drawn)
            u = self.campaign.begin(self._solver, self.batch, self.generator)
            self.left = self.windows
        made = [self.campaign.kept(u, self._solver)]
        for _ in range(self.frames - 1):
            u = self._solver.advance(u, self._steps)
            made.append(self.campaign.kept(u, self._solver))
        self._u = u
        self.left -= 1
        states = torch.stack(made, 1)
        told = self.campaign.told(self._solver, self._drawn, self.batch)
        whole = self.campaign.described(states, self._solver, told)
        return Batch(states, {name: v.to(states.dtype) for name, v in whole.conditions().items()})

    def state(self) -> dict[str, Any]:
        """For a file."""
        kept = {"drawn": self._drawn, "left": self.left, "generator": self.generator.get_state()}
        return kept if self._u is None else kept | {"u": self._u}

    def restore(self, state: Mapping[str, Any]) -> None:
        """From a file."""
        self.generator.set_state(state["generator"])
        self.left, self._drawn = state["left"], dict(state["drawn"])
        if "u" in state:
            self._solver, self._steps = self.campaign.solver(self._drawn)
            self._u = state["u"].to(self.generator.device)
