"""Many worlds at once: rollouts of simulators in several processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from geomopt.errors import InputError
from geomopt.workers import Workers
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.state import Control, State, Trajectory

Controls = Sequence[Control | None] | Control | int


@dataclass(frozen=True, eq=False)
class World:
    """What became of one world. ok: it came to its end with `trajectory`; else `error` says why
    not."""

    ok: bool
    trajectory: Trajectory | None = None
    error: str = ""


def rollout_worlds(
    simulators: Sequence[Simulator],
    states: Sequence[State | None],
    controls: Sequence[Controls],
    workers: Workers,
    checkpoint: int | None = None,
) -> list[World]:
    """The rollouts of B simulators under their own controls, in the processes of `workers`.

    states: where each starts, None for its initial state. controls, checkpoint: see
    `Simulator.rollout`. Trajectories are differentiable in all tensors of their own simulator,
    state and controls. A world that fails costs that world alone. Raises InputError for lists of
    different lengths.
    """
    counts = {"simulators": len(simulators), "states": len(states), "controls": len(controls)}
    if len(set(counts.values())) > 1:
        raise InputError(f"simulators, states and controls must be as many, got {counts}")
    each = zip(simulators, states, controls, strict=True)
    found = workers.map(_rolled, [(*world, checkpoint) for world in each])
    return [World(outcome.ok, outcome.value, outcome.error) for outcome in found]


def _rolled(
    simulator: Simulator, state: State | None, controls: Controls, checkpoint: int | None
) -> Trajectory:
    start = simulator.initial_state() if state is None else state
    return simulator.rollout(start, controls, checkpoint)
