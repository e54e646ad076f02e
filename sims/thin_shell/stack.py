"""Scenes side by side as one, so that one launch and one factorisation serve all of them.

The worlds of a stack do not feel each other: each has its own contact, and what is summed over
elements or solved for falls into blocks. Vertices of a scene are those of its sheets, then those of
its bodies, so those of a world lie in two places; everything else of a world lies in a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.thin_shell.contact.pairs import Pairs
from sims.thin_shell.scene import Scene
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.state import Control, State

SAME = ("time_step", "integrator", "bending", "linear", "tolerance")
LAWS = ("law", "grip", "creep_speed")


@dataclass(frozen=True, eq=False)
class Stack:
    """Simulators of single worlds and the one of all of them."""

    worlds: Sequence[Simulator]
    simulator: Simulator

    @classmethod
    def of(cls, worlds: Sequence[Simulator]) -> Stack:
        """Put the scenes of simulators side by side.

        Raises InputError where they differ in time step, integrator, bending, solver, tolerance,
        gravity, softness or the law of friction.
        """
        for name in SAME:
            values = {getattr(world, name) for world in worlds}
            if len(values) > 1:
                raise InputError(f"simulators must have one {name}, got {sorted(values)}")
        if any(world.softening != worlds[0].softening for world in worlds):
            raise InputError("simulators must all be plain or have one softness and progress")
        settings = {name: getattr(worlds[0], name) for name in SAME}
        joined = Simulator(_side_by_side([world.scene for world in worlds]), **settings)
        if worlds[0].softening is not None:
            joined = joined.softened(*worlds[0].softening)
        return cls(worlds, joined)

    @cached_property
    def vertices(self) -> list[Tensor]:
        """Where the vertices of each world stand."""
        return _vertex_places([world.scene for world in self.worlds])

    @cached_property
    def _elements(self) -> list[Tensor]:
        """Where the bending elements of each world stand."""
        kinds = [[len(block) for block in world.model.bending.blocks] for world in self.worlds]
        places: list[list[Tensor]] = [[] for _ in kinds]
        start = 0
        for kind in zip(*kinds, strict=True):
            for place, count in zip(places, kind, strict=True):
                place.append(torch.arange(start, start + count))
                start += count
        return [torch.cat(place).to(self._device) for place in places]

    @property
    def _device(self) -> torch.device:
        return self.simulator.scene.vertices.device

    def _rows(self, name: str) -> list[Tensor]:
        """Where the rows of a tensor of a State or Control stand for each world."""
        if name in ("angles", "plastic_angles", "accumulated"):
            return self._elements
        if name in ("poses", "wrenches", "directors", "moments"):
            bodies = name in ("poses", "wrenches")
            scenes = [world.scene for world in self.worlds]
            counts = [len(scene.bodies) if bodies else len(scene.edges) for scene in scenes]
            return list(torch.arange(sum(counts), device=self._device).split(counts))
        return self.vertices

    def _joined(self, name: str, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts))[torch.argsort(torch.cat(self._rows(name)))]

    def state(self, states: Sequence[State]) -> State:
        """The states of all worlds as one. Raises InputError where they hold different things."""
        found: dict[str, object] = {"time": states[0].time}
        for field in fields(State):
            parts = [getattr(state, field.name) for state in states]
            if field.name in ("time", "balanced", "solutions", "touched", "slip"):
                continue
            if any((part is None) != (parts[0] is None) for part in parts):
                raise InputError(f"states must all have {field.name} or none of them")
            if parts[0] is not None:
                found[field.name] = self._joined(field.name, parts)
        if all(state.touched is not None and state.slip is not None for state in states):
            pairs = [state.touched for state in states if state.touched is not None]
            shifted = [rows[p.vertices] for rows, p in zip(self.vertices, pairs, strict=True)]
            found["touched"] = Pairs(torch.cat([p.kind for p in pairs]), torch.cat(shifted))
            found["slip"] = torch.cat([s.slip for s in states if s.slip is not None])
        return State(**found)  # pyright: ignore[reportArgumentType]

    def control(self, controls: Sequence[Control], states: Sequence[State]) -> Control:
        """What acts on each world from its state as one control of all."""
        found = {}
        for field in fields(Control):
            parts = [getattr(control, field.name) for control in controls]
            if all(part is None for part in parts):
                continue
            if field.name in ("positions", "poses"):
                rest = [getattr(state, field.name) for state in states]
            elif field.name == "directors":
                rest = [world.model.values["walls"] for world in self.worlds]
            elif field.name == "forces":
                rest = [torch.zeros_like(state.positions) for state in states]
            else:
                rest = [
                    world.scene.vertices.new_zeros(len(world.scene.edges)) for world in self.worlds
                ]
            filled = [r if part is None else part for part, r in zip(parts, rest, strict=True)]
            found[field.name] = self._joined(field.name, filled)
        return Control(**found)

    def split(self, state: State) -> list[State]:
        """The state of each world."""
        found: list[dict[str, object]] = [{"time": state.time} for _ in self.worlds]
        for field in fields(State):
            value = getattr(state, field.name)
            if not isinstance(value, Tensor) or field.name == "slip":
                continue
            for part, rows in zip(found, self._rows(field.name), strict=True):
                part[field.name] = value[rows]
        if state.touched is not None and state.slip is not None:
            for part, rows in zip(found, self.vertices, strict=True):
                back = torch.full((len(state.positions),), -1, device=rows.device)
                back[rows] = torch.arange(len(rows), device=rows.device)
                own = back[state.touched.vertices]
                inside = own[:, 0] >= 0
                part["touched"] = Pairs(state.touched.kind[inside], own[inside])
                part["slip"] = state.slip[inside]
        return [State(**part) for part in found]  # pyright: ignore[reportArgumentType]


def _vertex_places(scenes: Sequence[Scene]) -> list[Tensor]:
    """Where the vertices of each scene stand when they are side by side."""
    device = scenes[0].vertices.device
    sheets = [sum(len(sheet.vertices) for sheet in scene.sheets) for scene in scenes]
    bodies = [len(scene.vertices) - own for scene, own in zip(scenes, sheets, strict=True)]
    places = torch.arange(sum(sheets) + sum(bodies), device=device).split([*sheets, *bodies])
    pairs = zip(places[: len(scenes)], places[len(scenes) :], strict=True)
    return [torch.cat(pair) for pair in pairs]


def _side_by_side(scenes: Sequence[Scene]) -> Scene:
    first = scenes[0]
    gravities = {tuple(torch.as_tensor(scene.gravity).tolist()) for scene in scenes}
    if len(gravities) > 1:
        raise InputError(f"simulators must have one gravity, got {sorted(gravities)}")
    for scene in scenes:
        if (scene.contact is None) != (first.contact is None) or any(
            getattr(scene.contact, name, None) != getattr(first.contact, name, None)
            for name in LAWS
        ):
            raise InputError(f"simulators must have contact with one {', '.join(LAWS)}, or none")
    order = torch.argsort(torch.cat(_vertex_places(scenes)))

    def joined(parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts))[order]

    axes = sorted({axis for scene in scenes for axis in scene.symmetry or {}})
    planes = {
        axis: joined([s.mask("symmetry", (s.symmetry or {}).get(axis)) for s in scenes])
        for axis in axes
    }
    return Scene(
        sheets=[sheet for scene in scenes for sheet in scene.sheets],
        bodies=[body for scene in scenes for body in scene.bodies],
        clamped=joined([scene.mask("clamped", scene.clamped) for scene in scenes]),
        fixed=joined([scene.held for scene in scenes]),
        symmetry=planes,
        gravity=first.gravity,
        contact=first.contact,
        worlds=tuple(scenes),
    )
