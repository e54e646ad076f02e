"""Data sets made with the solvers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.runs.progress import Progress
from sims.pde.data.campaign import Campaign
from sims.pde.data.trajectories import Trajectories
from sims.pde.networks.periodic import check_count


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
    campaign = Campaign(
        stepper, initial, frame_time, warm_up, dict(ranges or {}), substeps, points, dtype
    )
    frame_seconds = campaign.frame_times()[1]
    lasting = warm_up + (frames - 1) * frame_seconds
    states: Tensor | None = None
    told: list[dict[str, Tensor]] = []
    equation, side = "", None
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
                kept = campaign.kept(u).cpu()
                if states is None:  # all of it at once: lists of frames would take twice the memory
                    states = kept.new_empty(trajectories, frames, *kept.shape[1:])
                states[first : first + count, frame] = kept
            if states is not None:
                _check(states[first : first + count], solver)
            told.append(_told(solver, drawn, count))
            equation, side = type(solver).__name__, solver.length
    assert states is not None
    values = {name: torch.cat([each[name] for each in told]) for name in told[0]}
    times = values.pop("frame_time", frame_seconds)
    lengths = values.pop("length", None)
    return Trajectories(
        states,
        times,
        _length(side) if lengths is None else lengths,
        values,
        equation=equation,
        units=units,
        description=description,
    )


def _check(states: Tensor, solver: Any) -> None:
    """Raise InputError where trajectories are not finite."""
    lost = int((~states.flatten(1).isfinite().all(1)).sum())
    if lost:
        raise InputError(
            f"{lost} of {len(states)} trajectories diverged with time_step={solver.time_step}; "
            "take a smaller one, more points or a smaller initial field"
        )


def _told(solver: Any, drawn: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Values (count,) of what is known about trajectories: drawn, or fixed parameters."""
    fixed = {}
    for name, value in solver.parameters.items():
        values = torch.as_tensor(value, dtype=torch.float64).detach().cpu()
        if values.ndim == 0 or values.shape == (count,):
            fixed[name] = values
    return {name: values.expand(count) for name, values in {**fixed, **drawn}.items()}


def _length(side: Any) -> Any:
    """Of the box, the same for all."""
    if isinstance(side, tuple | list):
        return tuple(float(each) for each in side)
    return float(side)
