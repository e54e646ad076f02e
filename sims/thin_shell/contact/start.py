"""What a scene must not be at the start: surfaces in each other, or nearer than they are thick."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.thin_shell.contact.detection import Detection
from sims.thin_shell.contact.intersections import intersections
from sims.thin_shell.contact.pairs import (
    EDGE_EDGE,
    VERTEX_EDGE,
    VERTEX_FACE,
    Surface,
)

LISTED = 5  # of the pairs that a message shows


def check_start(
    surface: Surface, positions: Tensor, radius: Tensor, names: Sequence[str] | None = None
) -> None:
    """Raise InputError unless all that may touch is apart at positions (V, 3) [m].

    radius (C,) [m], of the components. names: what to call these, "component 0" and so on else;
    faces and vertices are numbered within them. Listed are faces that intersect, then vertices on
    the wrong side of a plane, then pairs without a gap, the worst first, and how far these must
    move apart.
    """
    positions, radius = positions.detach(), radius.detach()
    called = names or [f"component {number}" for number in range(len(radius))]
    _refuse_intersections(surface, positions, called)
    _refuse_sunken(surface, positions, radius, called)
    detection = Detection(surface)
    pairs = detection.near(positions, radius, math.ulp(0.0))
    if not len(pairs.kind):
        return
    gaps = detection.gaps(positions, pairs, radius)
    worst = torch.sort(gaps, stable=True).indices[:LISTED]
    lines = [
        f"{_pair_name(surface, called, kind, vertices)} must move apart by more than {-gap:.3g} m"
        for kind, vertices, gap in zip(
            pairs.kind[worst].tolist(),
            pairs.vertices[worst].tolist(),
            gaps[worst].tolist(),
            strict=True,
        )
    ]
    raise InputError(
        f"sheets and bodies must be farther apart at the start than they are thick, got "
        f"{len(gaps)} pairs that are not: {_shown(lines, len(gaps))}"
    )


def _refuse_intersections(surface: Surface, positions: Tensor, called: Sequence[str]) -> None:
    # the axis of a cylinder as a face without area
    axes = surface.lone_edges[:, [0, 1, 1]]
    faces = torch.cat([surface.faces, axes])
    pairs = intersections(positions, faces)
    owner = surface.component[faces[:, 0]]
    still = surface.held[faces].all(dim=1)
    first, second = pairs.unbind(1)
    counts = surface.collides[owner[first], owner[second]] & ~(still[first] & still[second])
    pairs = pairs[counts]
    if not len(pairs):
        return

    def name(face: int) -> str:
        own = int(owner[face])
        if face >= len(surface.faces):
            return f"the axis of {called[own]}"
        return f"face {int((owner[:face] == own).sum())} of {called[own]}"

    lines = [f"{name(one)} and {name(other)}" for one, other in pairs[:LISTED].tolist()]
    raise InputError(
        f"sheets and bodies must not intersect at the start, got {len(pairs)} pairs of faces that "
        f"do: {_shown(lines, len(pairs))}"
    )


def _refuse_sunken(
    surface: Surface, positions: Tensor, radius: Tensor, called: Sequence[str]
) -> None:
    for plane in surface.planes:
        a, b, c = positions[plane]
        normal = torch.linalg.cross(b - a, c - a)
        own = surface.component[plane[0]]
        points = surface.points
        counts = surface.collides[own, surface.component[points]] & ~surface.held[points]
        points = points[counts]
        component = surface.component[points]
        height = (positions[points] - a) @ (normal / normal.norm()) - radius[component]
        sunken = (height <= 0).nonzero().squeeze(1)
        if len(sunken):
            worst = sunken[torch.sort(height[sunken], stable=True).indices[:LISTED]]
            lines = [
                f"{_vertex_name(surface, called, int(points[row]))} must rise by more than "
                f"{-float(height[row]):.3g} m"
                for row in worst
            ]
            raise InputError(
                f"sheets and bodies must lie above {called[int(own)]} at the start, with all of "
                f"their thickness, got {len(sunken)} vertices that do not: "
                f"{_shown(lines, len(sunken))}"
            )


def _shown(lines: list[str], count: int) -> str:
    more = f"; and {count - len(lines)} more" if count > len(lines) else ""
    return "; ".join(lines) + more


def _local(surface: Surface, vertex: int) -> int:
    """The number of a vertex within its component."""
    return int((surface.component[:vertex] == surface.component[vertex]).sum())


def _vertex_name(surface: Surface, called: Sequence[str], vertex: int) -> str:
    return f"vertex {_local(surface, vertex)} of {called[int(surface.component[vertex])]}"


def _pair_name(surface: Surface, called: Sequence[str], kind: int, vertices: list[int]) -> str:
    def corners(of: list[int]) -> str:
        numbers = ", ".join(str(_local(surface, vertex)) for vertex in of)
        return f"({numbers}) of {called[int(surface.component[of[0]])]}"

    a, b, c, d = vertices
    if kind == EDGE_EDGE:
        return f"edge {corners([a, b])} and edge {corners([c, d])}"
    first = _vertex_name(surface, called, a)
    if kind == VERTEX_FACE:
        return f"{first} and face {corners([b, c, d])}"
    if kind == VERTEX_EDGE:
        return f"{first} and edge {corners([b, c])}"
    return f"{first} and {called[int(surface.component[b])]}"
