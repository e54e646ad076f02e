"""Live solvers in processes of Ray, on one machine or many."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch

from geomopt.errors import BackendUnavailable
from sims.pde.data.campaign import Campaign
from sims.pde.data.live import LiveSolver
from sims.pde.objectives import Batch

DEATHS = 5  # in a row, without a window in between: then it is no accident


class Worker:
    """A live solver with a thread of its own; the class of Ray's actors."""

    def __init__(self, campaign: Campaign, seed: int, sizes: Mapping[str, int]) -> None:
        torch.set_num_threads(1)
        self.live = LiveSolver(campaign, generator=torch.Generator().manual_seed(seed), **sizes)

    def solve(self) -> Batch:
        """The next windows."""
        return self.live.solve()


class Workers:
    """`count` workers, each of which solves its next windows while its last ones are waited for.

    A worker that dies is replaced by one with numbers of its own, and the windows it was solving
    are counted in `lost`. Starts Ray with as many processors where it does not run yet, and then
    ends it again. Raises BackendUnavailable without ray, and RuntimeError where workers keep dying.
    """

    def __init__(
        self, campaign: Campaign, count: int, *, seed: int, batch: int, frames: int, windows: int
    ) -> None:
        self.campaign, self.seed = campaign, seed
        self.sizes = {"batch": batch, "frames": frames, "windows": windows}
        self.lost = self.begun = 0
        self._deaths = 0
        self._ray = _ray()
        self._ours = not self._ray.is_initialized()
        if self._ours:
            self._ray.init(
                num_cpus=count,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="warning",
            )
        self._kind = self._ray.remote(num_cpus=1)(Worker)
        self.actors: dict[Any, Any] = {}  # what each is solving -> who
        for _ in range(count):
            self._begin()

    def take(self, *, wait: bool) -> Batch | None:
        """Windows of the worker that is ready first; None where none is and none shall be waited
        for, or where one died.
        """
        ready, _ = self._ray.wait(list(self.actors), timeout=None if wait else 0)
        if not ready:
            return None
        actor = self.actors.pop(ready[0])
        try:
            made = self._ray.get(ready[0])
        except self._ray.exceptions.RayActorError as error:
            self.lost += self.sizes["batch"]
            self._deaths += 1
            if self._deaths >= DEATHS:
                raise RuntimeError(f"{DEATHS} workers died one after the other: {error}") from error
            self._begin()
            return None
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None  # what the solver itself had to say
        self._deaths = 0
        self.actors[actor.solve.remote()] = actor
        return made

    def state(self) -> dict[str, Any]:
        """For a file."""
        return {"begun": self.begun, "lost": self.lost}

    def restore(self, state: Mapping[str, Any]) -> None:
        """From a file: none of the numbers of the workers before is used again."""
        actors, self.actors = self.actors, {}
        for actor in actors.values():
            self._ray.kill(actor)
        self.begun, self.lost = state["begun"], state["lost"]
        for _ in actors:
            self._begin()

    def close(self) -> None:
        """End them, and Ray if it was started for them."""
        for actor in self.actors.values():
            self._ray.kill(actor)
        self.actors = {}
        if self._ours:
            self._ray.shutdown()

    def _begin(self) -> None:
        self.begun += 1
        actor = self._kind.remote(self.campaign, self.seed + 7919 * self.begun, self.sizes)
        self.actors[actor.solve.remote()] = actor


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise BackendUnavailable(
            "workers need the package ray: pip install 'geomopt[cluster]'; workers=0 needs nothing"
        ) from error
