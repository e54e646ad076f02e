"""Data sets made with the solvers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from geomopt.runs.progress import Progress
from sims.pde.data.campaign import Campaign
from sims.pde.data.trajectories import Trajectories
from sims.pde.networks.arguments import check_count, check_generator


@torch.no_grad()
def generate(
    stepper: Any,
    trajectories: int,
    frames: int,
    frame_time: float | tuple[float, float],
    *,
    initial: Callable[[Any, int, torch.Generator], Tensor],
    generator: torch.Generator,
    warm_up: float = 0.0,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    substeps: int | None = None,
    points: int | None = None,
    dtype: torch.dtype | None = None,
    batch: int = 256,
    description: str = "",
    units: str = "",
    progress: bool = False,
) -> Trajectories:
    """Trajectories of a solver, `batch` of them at a time; the fields lie on the CPU.

    The first of the `frames` is the state after `warm_up` seconds. What the other arguments mean is
    told at `Campaign`. The same generator state gives the same data. Raises InputError for
    arguments that do not fit, and where trajectories diverge, with their number.
    """
    check_count("trajectories", trajectories)
    check_count("frames", frames)
    check_count("batch", batch)
    check_generator("generator", generator)
    campaign = Campaign(
        stepper, initial, frame_time, warm_up, dict(ranges or {}), substeps, points, dtype
    )
    frame_seconds = campaign.frame_times()[1]
    lasting = warm_up + (frames - 1) * frame_seconds
    states: Tensor | None = None
    told: list[dict[str, Tensor]] = []
    solver: Any = None
    with Progress("trajectories", None, progress) as shown:
        for first in range(0, trajectories, batch):
            count = min(batch, trajectories - first)
            drawn = campaign.draw(count, generator)
            solver, steps = campaign.solver(drawn)

            def say(done: float, first: int = first, count: int = count) -> None:
                share = done / lasting if lasting else 1.0
                text = f"{first + count} of {trajectories}"
                shown.step((first + count * share) / trajectories, text, "")

            u = campaign.begin(solver, count, generator, say)
            for frame in range(frames):
                if frame:
                    u = solver.advance(u, steps)
                    say(warm_up + frame * frame_seconds)
                kept = campaign.kept(u, solver)
                if states is None:  # all of it at once: lists of frames would take twice the memory
                    states = kept.new_empty(trajectories, frames, *kept.shape[1:])
                states[first : first + count, frame] = kept
            told.append(campaign.told(solver, drawn, count))
    assert states is not None
    whole = {name: torch.cat([each[name] for each in told]) for name in told[0]}
    return replace(campaign.described(states, solver, whole), units=units, description=description)
