"""Bring the outer vertices of a mesh to the walls of a room, and keep its elements open.

Rounds of relaxing the mesh within its constraints and of projecting onto the surface follow each
other. A vertex whose projection would leave an element with too small a Jacobian goes part of the
way only.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from geomopt.geometry import Mesh, closest_points
from geomopt.geometry.mesh import face_normals
from sims.acoustics.element_energy import relaxed
from sims.acoustics.pillow import Draft
from sims.acoustics.trilinear import scaled_jacobians

ROUNDS = 12
ITERATIONS = 15
RINGS = 3  # elements farther than that from the surface stay as they are
STEPS = (1.0, 0.5, 0.25, 0.1, 0.0)  # shares of the way to the surface that the guard tries


def snapped(draft: Draft, surface: Mesh, size: float, minimum_jacobian: float) -> Draft:
    """The draft with its outer vertices on the surface, as far as the guard lets them.

    surface: the triangles that lie in no plane of the grid. size: the edge of a good element [m].
    """
    moving, active = _near(draft, RINGS)
    vertices = draft.vertices.clone()
    vertices[draft.outer] = _projected(vertices[draft.outer], draft.held[draft.outer], surface)[0]
    local = torch.full((len(vertices),), -1)
    local[moving] = torch.arange(len(moving))
    hexahedra = draft.hexahedra[active]
    used = torch.unique(hexahedra)
    rename = torch.full((len(vertices),), -1)
    rename[used] = torch.arange(len(used))
    is_moving = torch.zeros(len(vertices), dtype=torch.bool)
    is_moving[moving] = True
    for _ in range(ROUNDS):
        _, normals = _projected(vertices[draft.outer], draft.held[draft.outer], surface)
        freedom = _freedom(draft, normals) * is_moving[:, None, None]
        vertices[used] = relaxed(vertices[used], rename[hexahedra], freedom[used], size, ITERATIONS)
        vertices = _guarded(replace(draft, vertices=vertices), surface, active, minimum_jacobian)
    return replace(draft, vertices=vertices)


def _near(draft: Draft, rings: int) -> tuple[Tensor, Tensor]:
    """Vertices within some rings of the outer ones, and the elements that hold one of them."""
    marked = torch.zeros(len(draft.vertices), dtype=torch.bool)
    marked[draft.outer] = True
    for _ in range(rings):
        elements = marked[draft.hexahedra].any(dim=1)
        marked[draft.hexahedra[elements].flatten()] = True
    return marked.nonzero()[:, 0], marked[draft.hexahedra].any(dim=1).nonzero()[:, 0]


def _freedom(draft: Draft, normals: Tensor) -> Tensor:
    """Projections (V, 3, 3) onto the directions that keep a vertex in its walls."""
    axes = torch.eye(3, dtype=normals.dtype) * draft.held[:, :, None]
    walls = torch.cat([axes, torch.zeros(len(axes), 1, 3, dtype=normals.dtype)], dim=1)
    walls[draft.outer, 3] = normals
    return torch.eye(3, dtype=normals.dtype) - torch.linalg.pinv(walls, rtol=1e-2) @ walls


def _projected(points: Tensor, held: Tensor, surface: Mesh) -> tuple[Tensor, Tensor]:
    """Points (S, 3) on the surface, reached without a move along axes `held`, and normals there."""
    normals = face_normals(surface.vertices, surface.faces)
    for _ in range(10):
        nearest, face, _ = closest_points(points, surface)
        free = torch.where(held, 0.0, normals[face])
        length = (free**2).sum(dim=1, keepdim=True)
        # along the free part of the normal to the plane of the nearest triangle
        way = ((nearest - points) * normals[face]).sum(dim=1, keepdim=True)
        slide = free * way / length.clamp(min=0.05)
        step = torch.where(held.any(dim=1, keepdim=True), slide, nearest - points)
        points = points + torch.where(held, 0.0, step)
    nearest, face, _ = closest_points(points, surface)
    return points, normals[face]


def _guarded(draft: Draft, surface: Mesh, active: Tensor, least: float) -> Tensor:
    """Vertices with the outer ones moved to the surface where no element suffers too much."""
    start = draft.vertices
    goal = start.clone()
    goal[draft.outer] = _projected(start[draft.outer], draft.held[draft.outer], surface)[0]
    hexahedra = draft.hexahedra[active]
    before = scaled_jacobians(start[hexahedra])
    level = torch.zeros(len(start), dtype=torch.int64)
    shares = torch.tensor(STEPS, dtype=start.dtype)
    while True:
        moved = start + (goal - start) * shares[level][:, None]
        after = scaled_jacobians(moved[hexahedra])
        bad = (after < least) & (after < before)
        stuck = torch.unique(hexahedra[bad])
        stuck = stuck[(level[stuck] < len(STEPS) - 1) & (goal[stuck] != start[stuck]).any(dim=1)]
        if not len(stuck):
            return moved
        level[stuck] += 1
