"""Many steps in a row, with the tensors of all of them kept for backward, or of a few.

A step keeps its unknowns, 24 bytes a vertex and 8 an edge for its director, and what it started
from where that is felt: the plastic state where a material yields, and the angles where one is
viscous. (Directors could be found again from positions, by another factorisation a step.) Where
surfaces touch it keeps 64 bytes for each pair that does, and 40 for each pair on the list of near
ones, which many steps share; what is made from a list stays as far as it is small, see
`contact.near`.

With checkpoints only every k-th state is kept, and backward repeats the k steps from it, bit for
bit, before it goes through them: about T / k + k states in place of T, for the price of one more
pass forward. With contact the list of near pairs starts anew at each of these states, as the order
of sums follows from it; so one checkpoint and another agree to rounding there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch.utils.checkpoint import checkpoint as replayed

from geomopt.errors import InputError
from sims.thin_shell.newton import Solution
from sims.thin_shell.state import Control, Frame, State, Trajectory, frame, record

Stepper = Callable[[State, Control], tuple[State, Solution]]


def roll(
    step: Stepper,
    begin: Callable[[], None],
    state: State,
    controls: Sequence[Control],
    plastic: bool,
    checkpoint: int | None,
) -> Trajectory:
    """The trajectory of `step` under successive controls; see `Simulator.rollout`.

    begin: makes `step` forget all but the state that it is given.
    """
    if checkpoint is None:
        checkpoint = max(len(controls), 1)
        run = _steps
    elif isinstance(checkpoint, int) and checkpoint > 0:
        run = partial(replayed, _steps, use_reentrant=False, preserve_rng_state=False)
    else:
        raise InputError(f"checkpoint must be a positive whole number or None, got {checkpoint!r}")
    # one record at the end, so that gradients are summed in the same order with any checkpoints
    frames, solutions = [frame(state)], []
    for first in range(0, len(controls), checkpoint):
        state, made, ended = run(step, begin, state, controls[first : first + checkpoint])
        frames += made
        solutions += ended
    return record(frames, state, solutions, plastic)


def _steps(
    step: Stepper, begin: Callable[[], None], state: State, controls: Sequence[Control]
) -> tuple[State, list[Frame], list[Solution]]:
    """The last state, what is recorded of each, and how each solve ended."""
    begin()
    frames, solutions = [], []
    for control in controls:
        state, solution = step(state, control)
        frames.append(frame(state))
        solutions.append(solution)
    return state, frames, solutions
