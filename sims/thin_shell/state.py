"""What changes while sheets move: states, what drives them, and the record of a rollout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from sims.thin_shell.contact.pairs import Pairs
from sims.thin_shell.newton import Solution


@dataclass(frozen=True, eq=False)
class Control:
    """What acts on a scene during one step; every part may be left out.

    positions (V, 3) [m]: where held coordinates are at the end of the step, rows of others are not
    read. directors (E, 3): normals of the sheet at clamped edges at the end of the step, for walls
    that turn. forces (V, 3) [N] on vertices. moments (E,) [N m] on edges, right-handed about the
    direction of `Scene.edges`; see `Scene.edge_moments`. poses (B, 6): where the bodies are at the
    end of the step, positions [m] and rotation vectors [rad]; rows of bodies that nothing drives
    are not read.
    """

    positions: Tensor | None = None
    directors: Tensor | None = None
    forces: Tensor | None = None
    moments: Tensor | None = None
    poses: Tensor | None = None

    def check(self, vertices: int, edges: int, bodies: int, like: Tensor) -> Control:
        """This control in the dtype and device of `like`; raises InputError for wrong shapes."""
        shapes = {
            "positions": (vertices, 3),
            "directors": (edges, 3),
            "forces": (vertices, 3),
            "moments": (edges,),
            "poses": (bodies, 6),
        }
        checked = {}
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None:
                checked[name] = check_tensor(f"control.{name}", value, shape).to(like)
        if "poses" in checked:
            checked["poses"] = checked["poses"].clone()  # a state keeps them
        return Control(**checked)

    def steps(self) -> list[Control]:
        """The controls of T steps from one whose tensors have a leading axis T."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        given = {name: value for name, value in given.items() if value is not None}
        for name, value in given.items():
            if check_tensor(f"controls.{name}", value, finite=False).ndim == 0:
                raise InputError(f"controls.{name} must have the steps as its first axis, got ()")
        counts = {name: len(value) for name, value in given.items()}
        if not counts or len(set(counts.values())) > 1:
            raise InputError(
                f"controls must have tensors with one common number of steps first, got {counts}"
            )
        count = next(iter(counts.values()))
        return [
            Control(**{name: value[step] for name, value in given.items()}) for step in range(count)
        ]


@dataclass(frozen=True, eq=False)
class State:
    """A moment of a scene.

    positions (V, 3) [m]; velocities (V, 3) [m/s]; angles (n, k) [rad] of the bending elements;
    plastic_angles (n, k) [rad], what creases have taken of them for good; accumulated (n,) [1/m],
    plastic curvature summed over time; poses (B, 6) of the bodies; touched: the pairs that touched
    at the start of the step that led here, and slip (m, 3) [m], how far friction has let each of
    them move elastically; wrenches (B, 6): force [N] and torque about the body's position [N m]
    that what drives each body has given it in that step; time [s]. The rest serves what comes next:
    previous_positions and previous_velocities of the step before (BDF2), accelerations (V, 3)
    [m/s^2] (Newmark), balanced: the loads of an equilibrium. solutions: how Newton's method ended
    in each part of the way to an equilibrium.
    """

    positions: Tensor
    velocities: Tensor
    angles: Tensor
    plastic_angles: Tensor
    accumulated: Tensor
    poses: Tensor
    wrenches: Tensor
    touched: Pairs | None = None
    slip: Tensor | None = None
    time: float = 0.0
    previous_positions: Tensor | None = None
    previous_velocities: Tensor | None = None
    accelerations: Tensor | None = None
    balanced: Control | None = None
    solutions: Sequence[Solution] = ()

    def check(
        self, name: str, angles: tuple[int, int], edges: int, bodies: int, like: Tensor
    ) -> State:
        """This state in the dtype and device of `like` (V, 3), for elements of `angles` (n, k).

        Raises InputError, with the `name` of the argument, for a state of another scene.
        """
        shapes = {"angles": angles, "plastic_angles": angles, "accumulated": angles[:1]}
        shapes |= {"poses": (bodies, 6), "wrenches": (bodies, 6)}
        if self.touched is not None:
            shapes["slip"] = (len(self.touched.kind), 3)
        checked = {}
        for part, value in ((f.name, getattr(self, f.name)) for f in fields(self)):
            if part in ("time", "balanced", "solutions", "touched"):
                continue
            if value is not None or part in ("positions", "velocities", *shapes):
                shape = shapes.get(part, like.shape)
                checked[part] = check_tensor(f"{name}.{part}", value, shape).to(like)
        if (self.previous_positions is None) != (self.previous_velocities is None):
            raise InputError(
                f"{name}.previous_positions and {name}.previous_velocities must be given together"
            )
        if self.balanced is not None:
            if not isinstance(self.balanced, Control):
                kind = type(self.balanced).__name__
                raise InputError(f"{name}.balanced must be a Control or None, got {kind}")
            checked["balanced"] = self.balanced.check(len(like), edges, bodies, like)
        return replace(self, **checked)


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A rollout of T steps.

    positions (T + 1, V, 3) [m] and velocities (T + 1, V, 3) [m/s], the start first; plastic_angles
    (T + 1, n, k) [rad] where a material yields; poses (T + 1, B, 6) and wrenches (T + 1, B, 6) [N,
    N m] of the bodies, see `State`; times (T + 1,) [s]; final: the last state;
    solutions: how Newton's method ended in each step.
    """

    positions: Tensor
    velocities: Tensor
    plastic_angles: Tensor | None
    poses: Tensor
    wrenches: Tensor
    times: Tensor
    final: State
    solutions: Sequence[Solution]


class Frame(NamedTuple):
    """What a trajectory records of a state."""

    positions: Tensor
    velocities: Tensor
    plastic_angles: Tensor
    poses: Tensor
    wrenches: Tensor
    time: float


def frame(state: State) -> Frame:
    """The part of a state that a trajectory records."""
    parts = (state.positions, state.velocities, state.plastic_angles, state.poses, state.wrenches)
    return Frame(*parts, state.time)


def record(
    frames: Sequence[Frame], final: State, solutions: Sequence[Solution], plastic: bool
) -> Trajectory:
    """The trajectory of successive states."""
    return Trajectory(
        positions=torch.stack([frame.positions for frame in frames]),
        velocities=torch.stack([frame.velocities for frame in frames]),
        plastic_angles=torch.stack([f.plastic_angles for f in frames]) if plastic else None,
        poses=torch.stack([frame.poses for frame in frames]),
        wrenches=torch.stack([frame.wrenches for frame in frames]),
        times=torch.tensor([frame.time for frame in frames], dtype=torch.float64),
        final=final,
        solutions=tuple(solutions),
    )
