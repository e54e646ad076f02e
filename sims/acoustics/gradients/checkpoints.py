"""What a run keeps of itself for its gradients, and running parts of it again.

A run is cut into segments of steps. Of the last one all that the reverse sweep reads is kept as the
run passes; the others are run again when the sweep comes to them, from states that were kept (the
first from silence), into the same memory (Griewank, Optim. Methods Softw. 1 (1992) 35,
with one level).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sims.acoustics.elements.space import Space
from sims.acoustics.stepping.marching import Emitted, Motion, Repeated, Walls, move


@dataclass(frozen=True)
class GradientMemory:
    """What is kept of a run for its gradients, and made again.

    bytes: at most at a time, with the fields that steps run again take. full_history: bytes of the
    pressure at all nodes and times. working: bytes of what the sweep itself works with, which is
    there between its start and its end. repeated: steps that are run again, as a share of all.
    """

    bytes: int
    full_history: int
    working: int
    repeated: float

    @property
    def share(self) -> float:
        """Of the full history."""
        return self.bytes / self.full_history

    def __str__(self) -> str:
        return (
            f"{self.bytes / 2**20:.1f} MiB kept for gradients, {self.share:.1%} of the full "
            f"history, {self.repeated:.0%} of the steps run twice, {self.working / 2**20:.1f} MiB "
            "to sweep back with"
        )


@dataclass(frozen=True)
class Kept:
    """What the reverse sweep reads of each step: the rates of the walls' nodes, the pressure at
    nodes (U,) that receivers hear, the pressure and what accelerates it at all nodes.
    """

    rates: bool
    heard: Tensor | None
    fields: bool


@dataclass(frozen=True)
class Segment:
    """Steps start to stop. rates: (n, W). heard: (n, U), after each step. pressures: (n + 2, N),
    from the step before `start` on. accelerations: (n, N), walls included.
    """

    start: int
    stop: int
    rates: Tensor
    heard: Tensor
    pressures: Tensor
    accelerations: Tensor


def segments(
    steps: int, of_step: int, of_state: int, fixed: int, again: int, limit: float
) -> tuple[list[int], int]:
    """Bounds of the fewest segments whose memory stays below a limit, and the longest one.

    of_step, of_state, fixed, again: numbers to keep for a step of a segment, for a state to go on
    from, in any case, and where there is more than one segment. The last segment is as long as the
    limit allows, as it is the one that is not run again. Where no segments stay below the limit,
    those that take the least.
    """

    def needed(count: int, length: int) -> int:
        # the first segment goes on from silence, the last one is not run again
        more = again if count > 1 else 0
        return fixed + more + length * of_step + max(count - 2, 0) * of_state

    counts = range(1, steps + 1)
    fitting = (n for n in counts if needed(n, math.ceil(steps / n)) <= limit)
    count = next(fitting, None)
    if count is None:
        count = min(counts, key=lambda n: needed(n, math.ceil(steps / n)))
        longest = math.ceil(steps / count)
    else:
        left = limit - needed(count, 0)
        longest = steps if left >= steps * of_step else int(left // of_step)
    rest = steps - longest
    pieces = math.ceil(rest / longest) if rest else 0
    return [rest * piece // pieces for piece in range(pieces)] + [rest, steps], longest


class Recording:
    """A run that can be looked at backwards in time."""

    def __init__(
        self,
        space: Space,
        walls: Walls,
        emitted: Emitted | None,
        initial: Tensor,
        time_step: float,
        steps: int,
        kept: Kept,
        working: int,
        limit: float,
    ) -> None:
        """working: numbers that the sweep works with. limit: of the full history."""
        steps += 1  # the one to time 0
        self.space, self.walls, self.emitted = space, walls, emitted
        self.initial, self.time_step, self.kept = initial, time_step, kept
        nodes, count = len(initial), len(walls.nodes)
        heard = 0 if kept.heard is None else len(kept.heard)
        of_step = count * kept.rates + heard * (not kept.fields) + 2 * nodes * kept.fields
        of_state = 2 * nodes + 2 * count + 3 * len(walls.strength) * walls.most
        # to run again takes fields of its own
        fixed, again = 2 * nodes * kept.fields, 3 * nodes
        full = nodes * steps
        self.bounds, longest = segments(steps, of_step, of_state, fixed, again, limit * full)
        self.states: dict[int, tuple[Tensor, ...]] = {}
        self._held = len(self.bounds) - 2
        empty = initial.new_empty
        self._rates = empty(longest * kept.rates, count)
        self._heard = empty(longest * (not kept.fields), heard)
        self._pressures = empty((longest + 2) * kept.fields, nodes)
        self._accelerations = empty(longest * kept.fields, nodes)
        numbers = fixed + longest * of_step + max(len(self.bounds) - 3, 0) * of_state
        if len(self.bounds) > 2:
            numbers += again
        size = initial.element_size()
        repeated = self.bounds[-2] / steps
        self.memory = GradientMemory(numbers * size, full * size, working * size, repeated)

    def follow(self, motion: Motion) -> None:
        """See a run pass, for the first time."""
        if motion.step in self.bounds[1:-2]:
            self.states[motion.step] = motion.kept()
        if motion.step >= self.bounds[-2]:
            self._note(motion, self.bounds[-2])

    def segment(self, index: int) -> Segment:
        """One of the segments between `bounds`; it takes the place of the one before it."""
        start, stop = self.bounds[index : index + 2]
        if self._held != index:
            self._held = index
            motion = self._resumed(start)
            stepped = Repeated(lambda: self._move(motion), motion, self.walls)
            while motion.step < start:
                stepped()
            self._note(motion, start)
            while motion.step < stop:
                stepped()
                self._note(motion, start)
        length = stop - start
        heard = self._heard[:length]
        if self.kept.fields and self.kept.heard is not None:
            heard = self._pressures[2 : length + 2, self.kept.heard]
        fields = self._pressures[: length + 2], self._accelerations[:length]
        return Segment(start, stop, self._rates[:length], heard, *fields)

    def _resumed(self, step: int) -> Motion:
        earlier = [known for known in self.states if known <= step]
        if not earlier:
            return Motion.at_rest(self.initial, self.walls)
        return Motion.resumed(max(earlier), self.states[max(earlier)], self.walls)

    def _move(self, motion: Motion) -> None:
        move(self.space, self.walls, motion, self.time_step, self.initial, self.emitted)

    def _note(self, motion: Motion, start: int) -> None:
        kept, row = self.kept, motion.step - start - 1
        if kept.fields:
            if row < 0:
                self._pressures[0] = motion.previous
            self._pressures[row + 2] = motion.pressure
        if row < 0:
            return
        if kept.rates:
            self._rates[row] = motion.walls.rates
        if kept.heard is not None and not kept.fields:
            torch.index_select(motion.pressure, 0, kept.heard, out=self._heard[row])
        if kept.fields:
            felt = self._accelerations[row].copy_(motion.acceleration)
            if self.walls.fraction and len(self.walls.nodes):
                pushes = motion.walls.pushes / self.time_step**2
                felt.index_add_(0, self.walls.nodes, pushes, alpha=-1)
