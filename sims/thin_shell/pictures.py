"""Sheets and bodies as scenes of the viewer, and films of their motion."""

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
from sims.thin_shell.body_meshes import body_mesh, plane_lines
from sims.thin_shell.contact.closest import closest, separation
from sims.thin_shell.contact.constants import sides
from sims.thin_shell.contact.pairs import EDGE_EDGE
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
    contacts: bool = False,
) -> Frame:
    """What the viewer shows of a state: sheets and bodies, and points where sheets are held.

    show: "curvature" without regard to the rest shape, or "crease", the plastic part of it, see
    `vertex_curvature`; or a number for each vertex (V,), which colours the sheets. floor: height z
    [m] of a grid that is drawn under the scene; a plane is a grid as well. contacts: whether to
    draw points in the middle of all gaps within the range of contact. Raises InputError for another
    name or shape.
    """
    scene = simulator.scene
    positions = state.positions.detach()
    count = sum(len(sheet.vertices) for sheet in scene.sheets)
    values, label = _shown(simulator.model, state, show)
    meshes = {}
    if values is None and len(scene.sheets) > 1:
        for number, (sheet, part) in enumerate(
            zip(scene.sheets, scene.vertex_parts, strict=False), 1
        ):
            meshes[f"sheet {number}"] = Mesh(positions[part], sheet.faces)
    elif scene.sheets:
        meshes["sheet"] = Mesh(positions[:count], scene.faces)
    lines = {} if floor is None else {"floor": _grid(scene.vertices.detach(), floor)}
    radii = simulator.model.values.get("contact_radius")
    for place, (body, part) in enumerate(zip(scene.bodies, scene.body_parts, strict=True)):
        name = "body" if len(scene.bodies) == 1 else f"body {place + 1}"
        radius = 0.0 if radii is None else float(radii[len(scene.sheets) + place])
        mesh = body_mesh(body, radius, positions[part], state.poses[place].detach())
        if mesh is None:
            lines[name] = plane_lines(scene, place, positions)
        else:
            meshes[name] = mesh
    points = {"held": positions[:count][scene.held[:count].any(dim=1)]}
    if contacts:
        points["contacts"] = _contacts(simulator, positions)
    return Frame(
        meshes=meshes,
        points={name: places for name, places in points.items() if len(places)},
        lines=lines,
        fields={} if values is None or not count else {"sheet": {label: values[:count]}},
        title=title,
    )


def film(
    simulator: Simulator,
    states: Sequence[State] | Trajectory,
    path: str | Path,
    show: Shown | None = None,
    floor: float | None = None,
    contacts: bool = False,
    size: tuple[int, int] = (960, 600),
) -> Path:
    """Write states as an animation (gif, mp4) of six seconds, or the last one as a picture (png).

    The camera stands still and colours mean the same in all frames. show, floor, contacts: see
    `frame`; a Trajectory keeps no angles, so it cannot show curvature, and its states can. Raises
    InputError for that, another suffix and no states, BackendUnavailable without an OpenGL library.
    """
    if isinstance(states, Trajectory):
        states = _moments(states, show)
    if not states:
        raise InputError("states must be at least one, got none")
    frames = [
        frame(simulator, state, show, f"t = {state.time:.3f} s", floor, contacts)
        for state in states
    ]
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
            poses=trajectory.poses[place],
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


def _contacts(simulator: Simulator, positions: Tensor) -> Tensor:
    """The points (n, 3) in the middle of all gaps within the range of contact."""
    around, values = simulator.neighbourhood, simulator.model.values
    if around is None:
        return positions.new_zeros(0, 3)
    radius, reach = values["contact_radius"].detach(), float(values["contact_range"].max())
    pairs = around.active(positions, radius, reach)
    local = positions[pairs.vertices]
    weights = closest(local, pairs.kind)
    second_corner = torch.where(pairs.kind == EDGE_EDGE, weights[:, 1], 0.0)
    first = weights[:, :1] * local[:, 0] + second_corner[:, None] * local[:, 1]
    apart = separation(local, weights)
    length = torch.linalg.vector_norm(apart, dim=1, keepdim=True)
    one, other = (radius[component][:, None] for component in sides(pairs, around.surface))
    return first - apart / length * (one + length - other) / 2


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
