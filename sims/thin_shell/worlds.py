"""Many worlds at once: rollouts of simulators, together on a GPU or in several processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from geomopt.errors import InputError
from geomopt.workers import Workers
from sims.thin_shell.newton import NotConverged, Solution
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.stack import Stack
from sims.thin_shell.state import Control, Frame, State, Trajectory, frame, record

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
    states: Sequence[State | None] | None = None,
    controls: Sequence[Controls] = (),
    together: bool | None = None,
    workers: Workers | None = None,
    checkpoint: int | None = None,
) -> list[World]:
    """The rollouts of B simulators under their own controls.

    states: where each starts, the initial states by default. controls: for each as in
    `Simulator.rollout`. together: step all worlds as one, with one launch for all elements and one
    factorisation; by default on CUDA. Else each is a call in one of the processes of `workers`, by
    default as many as there are cores, which stay until the program ends. Results are the same to
    the tolerance of a step. Trajectories are differentiable in all tensors of their own simulator,
    state and controls. A world that fails costs that world alone. checkpoint: see
    `Simulator.rollout`; only for processes.

    Raises InputError for lists of different lengths, and for worlds together that differ in time
    step, integrator, bending, solver, tolerance, gravity, law of friction or number of steps.
    """
    if not isinstance(simulators, Sequence) or not all(
        isinstance(simulator, Simulator) for simulator in simulators
    ):
        kinds = (
            [type(one).__name__ for one in simulators]
            if isinstance(simulators, Sequence)
            else type(simulators).__name__
        )
        raise InputError(f"simulators must be a list of Simulators, got {kinds}")
    given = [None] * len(simulators) if states is None else states
    counts = {"simulators": len(simulators), "states": len(given), "controls": len(controls)}
    if len(set(counts.values())) > 1:
        raise InputError(f"simulators, states and controls must be as many, got {counts}")
    if not simulators:
        return []
    if together is None:
        together = simulators[0].scene.vertices.is_cuda
    worlds = [*zip(simulators, given, controls, strict=True)]
    if together:
        return _rolled_together(worlds)
    found = (workers or _shared()).map(_rolled, [(*world, checkpoint) for world in worlds])
    return [World(outcome.ok, outcome.value, outcome.error) for outcome in found]


@cache
def _shared() -> Workers:
    return Workers()


def _rolled(
    simulator: Simulator, state: State | None, controls: Controls, checkpoint: int | None
) -> Trajectory:
    start = simulator.initial_state() if state is None else state
    return simulator.rollout(start, controls, checkpoint)


@dataclass(eq=False)
class _Running:
    """A world on its way."""

    simulator: Simulator
    state: State
    controls: list[Control]
    frames: list[Frame] = field(default_factory=list)
    solutions: list[Solution] = field(default_factory=list)
    error: str = ""

    def took(self, state: State, solution: Solution) -> None:
        """Note a step."""
        self.state = state
        self.frames.append(frame(state))
        self.solutions.append(solution)

    def outcome(self) -> World:
        """What became of it."""
        if self.error:
            return World(False, error=self.error)
        plastic = self.simulator.model.plastic
        return World(True, record(self.frames, self.state, self.solutions, plastic))


def _rolled_together(worlds: Sequence[tuple[Simulator, State | None, Controls]]) -> list[World]:
    running = []
    for simulator, state, controls in worlds:
        start = simulator.initial_state() if state is None else simulator.checked_state(state)
        running.append(_Running(simulator, start, simulator.checked_controls(controls)))
        running[-1].frames.append(frame(start))
    steps = {len(world.controls) for world in running}
    if len(steps) > 1:
        raise InputError(f"controls must be for one number of steps, got {sorted(steps)}")
    stack = Stack.of([world.simulator for world in running])
    going = running
    for step in range(steps.pop()):
        now = [world.controls[step] for world in going]
        states = [world.state for world in going]
        try:
            joined, solution = stack.simulator.solved_step(
                stack.state(states), stack.control(now, states)
            )
        except NotConverged:
            for world, control in zip(going, now, strict=True):
                try:
                    world.took(*world.simulator.solved_step(world.state, control))
                except NotConverged as error:
                    world.error = f"step {step}: {error}"
            left = [world for world in going if not world.error]
            if not left:
                break
            if len(left) < len(going):
                going, stack = left, Stack.of([world.simulator for world in left])
            continue
        for world, state in zip(going, stack.split(joined), strict=True):
            world.took(state, solution)
    return [world.outcome() for world in running]
