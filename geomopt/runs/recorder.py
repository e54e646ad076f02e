"""Puts the iterates of a run on disk, beginning where the last process stopped."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

import optimizers
from geomopt.errors import InputError
from geomopt.runs import store
from geomopt.runs.store import Run

_COLUMNS = (
    "iteration",
    "value",
    "violation",
    "best_value",
    "best_violation",
    "evaluations",
    "gradients",
    "seconds",
)


class Recorder:
    """Appends each iterate of a run and keeps the scenes of some for the timeline.

    problem: its `scene(parameters)`, if it has one, makes the scenes. frames: how many are kept.
    What a killed process wrote past its checkpoint is dropped. The checkpoint's own iterate is
    written again, since the process may have been killed between saving it and handing it out.
    """

    def __init__(self, run: Run, problem: Any, frames: int) -> None:
        self.run, self.problem = run, problem
        self.frames = frames if hasattr(problem, "scene") else 0
        self._next = 0
        last = self._checkpointed()
        start = 0 if last is None else last.iteration
        store.keep_iterates(run.iterates_file, start)
        for iteration, file in run.frames.items():
            if iteration >= start:
                file.unlink()
        if last is not None:
            self._next = start
            self.take(last)

    def take(self, iterate: optimizers.Iterate) -> None:
        """Write one iterate; one that is written already is passed over."""
        iteration = iterate.iteration
        if iteration < self._next:
            return
        spacing = frame_spacing(iteration, self.frames)
        if spacing and iteration % spacing == 0:
            self._write_frame(iteration, iterate.best_x)
            for other, file in self.run.frames.items():
                if other % spacing:
                    file.unlink()
        store.append_iterate(self.run.iterates_file, _row(iterate))
        self._next = iteration + 1

    def finish(self, result: optimizers.Result) -> None:
        """End the timeline with the result."""
        final = result.iterations - 1
        if self.frames and final not in self.run.frames:
            self._write_frame(final, result.x)

    def _checkpointed(self) -> optimizers.Iterate | None:
        file = self.run.checkpoint_file
        if not file.exists():
            return None
        try:
            return optimizers.last_iterate(file, self.problem.device)
        except ValueError as error:
            raise InputError(f"{error}; delete it to begin the run anew") from error

    def _write_frame(self, iteration: int, x: Tensor) -> None:
        scene = self.problem.scene(self.problem.parameters_of(x))
        scene.save(self.run.frame_file(iteration))


def frame_spacing(iteration: int, frames: int) -> int:
    """Iterations between kept frames once a run has come to `iteration`: a power of two.

    It doubles when more than `frames` would be kept, so between half of them and all stay, evenly
    spaced, however long a run turns out to be, and the choice depends on nothing that a resumed run
    would not know. 0 stands for no frames at all.
    """
    if frames == 0:
        return 0
    return 2 ** max(0, math.ceil(math.log2((iteration + 1) / frames)))


def _row(iterate: optimizers.Iterate) -> dict[str, Any]:
    row = {name: getattr(iterate, name) for name in _COLUMNS}
    row.update({f"terms.{name}": number for name, number in iterate.terms.items()})
    events = ", ".join(event for event in iterate.events if event != "new best")
    return {**row, "events": events} if events else row
