"""Sheets as scenes of the viewer, and films of their motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from geomopt.geometry import Mesh
from geomopt.viewer.record import record_scenes
from geomopt.viewer.scene import Scene as Frame
from sims.thin_shell.model import Model
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.state import State, Trajectory

Shown = Literal["curvature", "crease"]
SHOWN = {"curvature": "curvature, 1/m", "crease": "crease, 1/m"}
FLOOR_LINES = 10  # along each side of a floor
FLOOR_MARGIN = 0.1  # of the longest side of the scene, around it


def frame(
    simulator: Simulator,
    state: State,
    show: Shown | Tensor | None = None,
    title: str = "",
    floor: float | None = None,
) -> Frame:
    """What the viewer shows of a state: the sheets, and points at the vertices that are held.

    show: "curvature" without regard to the rest shape, or "crease", the plastic part of it, see
    `vertex_curvature`; or a number for each vertex (V,). floor: height z [m] of a grid that is
    drawn under the scene. Raises InputError for another name or shape.
    """
    scene = simulator.scene
    positions = state.positions.detach()
    values, label = _shown(simulator.model, state, show)
    meshes = {}
    if values is None and len(scene.sheets) > 1:
        start = 0
        for number, sheet in enumerate(scene.sheets, 1):
            part = positions[start : start + len(sheet.vertices)]
            meshes[f"sheet {number}"] = Mesh(part, sheet.faces)
            start += len(sheet.vertices)
    else:
        meshes["sheet"] = Mesh(positions, scene.faces)
    held = positions[scene.held.any(dim=1)]
    return Frame(
        meshes=meshes,
        points={"held": held} if len(held) else {},
        lines={} if floor is None else {"floor": _grid(scene.vertices.detach(), floor)},
        fields={} if values is None else {"sheet": {label: values}},
        title=title,
    )


def film(
    simulator: Simulator,
    states: Sequence[State] | Trajectory,
    path: str | Path,
    show: Shown | None = None,
    floor: float | None = None,
    size: tuple[int, int] = (960, 600),
) -> Path:
    """Write states as an animation (gif, mp4) of six seconds, or the last one as a picture (png).

    The camera stands still and colours mean the same in all frames. show, floor: see `frame`; a
    Trajectory keeps no angles, so it cannot show curvature, and its states can. Raises InputError
    for that, another suffix and no states, BackendUnavailable without an OpenGL library.
    """
    if isinstance(states, Trajectory):
        states = _moments(states, show)
    if not states:
        raise InputError("states must be at least one, got none")
    frames = [frame(simulator, state, show, f"t = {state.time:.3f} s", floor) for state in states]
    return record_scenes(frames, path, size, motion=True)


def _moments(trajectory: Trajectory, show: Shown | None) -> list[State]:
    """The states of a trajectory, as far as a picture reads them."""
    if show == "curvature":
        raise InputError(
            "show must be 'crease' or None for a Trajectory, which keeps no angles, "
            "got 'curvature'; pass a list of states"
        )
    plastic = trajectory.plastic_angles
    return [
        replace(
            trajectory.final,
            positions=positions,
            plastic_angles=trajectory.final.plastic_angles if plastic is None else plastic[place],
            time=float(trajectory.times[place]),
        )
        for place, positions in enumerate(trajectory.positions)
    ]


def _shown(model: Model, state: State, show: Shown | Tensor | None) -> tuple[Tensor | None, str]:
    if show is None:
        return None, ""
    if isinstance(show, Tensor):
        return check_tensor("show", show, (len(state.positions),)).detach(), "value"
    if show not in SHOWN:
        raise InputError(f"show must be one of {tuple(SHOWN)}, a tensor or None, got {show!r}")
    angles = state.angles if show == "curvature" else state.plastic_angles
    return vertex_curvature(model, angles.detach()), SHOWN[show]


def vertex_curvature(model: Model, angles: Tensor) -> Tensor:
    """Curvature (V,) [1/m] that angles (n, k) [rad] of bending elements make, as if from flat.

    sqrt(2 W / (A D)) with energy W and area A of the elements around a vertex.
    """
    stiffness, scale = (model.values[name].detach() for name in ("stiffness", "scale"))
    moments = (stiffness.reshape(len(angles), *[angles.shape[1]] * 2) @ angles[..., None])[..., 0]
    twice = (angles * moments).sum(dim=1)
    # the corners of a face, or the ends of the edge of a hinge, come first
    points = 3 if angles.shape[1] == 3 else 2
    around = torch.cat([block[:, : 3 * points : 3] // 3 for block in model.bending.blocks])
    covers = 1 if points == 3 else 3  # hinges have two faces each, and so cover each face thrice
    energy, rigidity = (
        part.new_zeros(len(model.scene.vertices)).index_add(
            0, around.flatten(), part.repeat_interleave(points)
        )
        for part in (twice, scale / covers)
    )
    return (energy / rigidity.clamp(min=torch.finfo(torch.float64).tiny)).clamp(min=0).sqrt()


def _grid(vertices: Tensor, height: float) -> Tensor:
    """Lines (L, 2, 3) of a square grid around vertices at a height."""
    spans = vertices.aminmax(dim=0)
    size = float((spans.max - spans.min).amax())
    middle = ((spans.min + spans.max) / 2)[:2]
    half = (0.5 + FLOOR_MARGIN) * size
    at = torch.linspace(-half, half, FLOOR_LINES + 1).to(vertices)
    ends = torch.full_like(at, half)
    across = torch.stack([torch.stack([at, -ends], 1), torch.stack([at, ends], 1)], dim=1)
    lines = torch.cat([across, across.flip(2)]) + middle
    return torch.cat([lines, torch.full_like(lines[..., :1], height)], dim=2)
