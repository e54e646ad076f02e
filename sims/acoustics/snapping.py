"""Bring the outer vertices of a mesh to the walls of a room, and keep its elements open.

Rounds of relaxing the mesh within its walls and of projecting onto the walls follow each other. A
vertex whose projection would leave an element with too small a Jacobian goes part of the way only.

At last the vertices on curved walls leave them a little, so that the faces, which are chords, lie
as much outside as inside. To first order the frequency of a mode follows the sum of what a wall
moves by, so that a room of inscribed chords would sound too high.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from geomopt.geometry import closest_points
from sims.acoustics.element_energy import relaxed
from sims.acoustics.pillow import Draft
from sims.acoustics.trilinear import scaled_jacobians

ROUNDS = 12  # and up to twice as many until no element is below the guard
ITERATIONS = 15
RINGS = 3  # elements farther than that from the surface stay as they are
STEPS = (1.0, 0.5, 0.25, 0.1, 0.0)  # shares of the way to the surface that the guard tries
BULGE = 0.1  # share of the size; more is a cut edge and no curve
MEETING = 3  # patches that a vertex can lie in; more than three rarely meet in a corner
ON_WALL = 1e-6  # [m]
TOUCH = 1e-9  # [m]; nearer than that the way to a wall has no direction
PARALLEL = 0.1  # singular value below which two walls count as one


def snapped(draft: Draft, size: float, minimum_jacobian: float) -> tuple[Draft, int]:
    """The draft with its outer faces on the walls, and how many vertices the guard held back.

    size: the edge of a good element [m].
    """
    if not len(draft.outer):
        return draft, 0
    active = _near(draft)
    hexahedra = draft.hexahedra[active]
    used, local = torch.unique(hexahedra, return_inverse=True)
    # vertices that elements beyond the active ones share stay, and so do all behind them
    moving = torch.ones(len(draft.vertices), dtype=torch.bool)
    moving[draft.hexahedra[~active].flatten()] = False
    vertices, held = _projected(draft, draft.vertices), 0
    for turn in range(2 * ROUNDS):
        if turn >= ROUNDS and float(scaled_jacobians(vertices[hexahedra]).min()) > minimum_jacobian:
            break
        normals, _ = _walls_at(draft, vertices)
        freedom = torch.eye(3, dtype=normals.dtype) - _inverse(normals) @ normals
        freedom = freedom * moving[:, None, None]
        vertices[used] = relaxed(vertices[used], local, freedom[used], size, ITERATIONS)
        goal = _projected(draft, vertices)
        vertices, held = _guarded(vertices, goal, hexahedra, minimum_jacobian)
    goal = _balanced(draft, vertices, size)
    vertices, _ = _guarded(vertices, goal, hexahedra, minimum_jacobian)
    return replace(draft, vertices=vertices), held


def _near(draft: Draft) -> Tensor:
    """The elements (E,) bool within some rings of the outer vertices."""
    marked = torch.zeros(len(draft.vertices), dtype=torch.bool)
    marked[draft.outer] = True
    for _ in range(RINGS):
        elements = marked[draft.hexahedra].any(dim=1)
        marked[draft.hexahedra[elements].flatten()] = True
    return marked[draft.hexahedra].any(dim=1)


def _walls_at(draft: Draft, vertices: Tensor) -> tuple[Tensor, Tensor]:
    """Normals (V, 6, 3) of the walls that each vertex belongs to, and their heights (V, 6) above
    it; zeros where there are fewer.
    """
    normals = torch.zeros(len(vertices), 3 + MEETING, 3, dtype=vertices.dtype)
    heights = torch.zeros(len(vertices), 3 + MEETING, dtype=vertices.dtype)
    normals[:, :3] = torch.eye(3, dtype=vertices.dtype) * draft.held[:, :, None]
    filled = torch.full((len(vertices),), 3)
    walls = draft.held.sum(dim=1).index_add(
        0, torch.cat(draft.on), torch.ones(sum(map(len, draft.on)), dtype=torch.int64)
    )
    for patch, on in zip(draft.patches, draft.on, strict=True):
        own = on[filled[on] < 3 + MEETING]
        if not len(own):
            continue
        nearest, face, _ = closest_points(vertices[own], patch)
        away, normal = nearest - vertices[own], patch.face_normals[face]
        # a vertex of one wall goes straight to it, also from beyond its rim; in more walls it goes
        # to where their planes meet
        alone = (walls[own] == 1)[:, None] & (away.norm(dim=1, keepdim=True) > TOUCH)
        normal = torch.where(alone, torch.nn.functional.normalize(away, dim=1), normal)
        normals[own, filled[own]] = normal
        heights[own, filled[own]] = (away * normal).sum(dim=1)
        filled[own] += 1
    return normals, heights


def _inverse(normals: Tensor) -> Tensor:
    return torch.linalg.pinv(normals, rtol=PARALLEL)


def _projected(draft: Draft, vertices: Tensor) -> Tensor:
    """Vertices on all of their walls: Newton's method on the planes of the nearest triangles."""
    vertices = vertices.clone()
    for _ in range(10):
        normals, heights = _walls_at(draft, vertices)
        vertices += (_inverse(normals) @ heights[..., None])[..., 0]
    return vertices


def _balanced(draft: Draft, vertices: Tensor, size: float) -> Tensor:
    """Vertices moved out of their walls by how far the walls bulge over the faces around them."""
    normals, heights = _walls_at(draft, vertices)
    slots = torch.full((len(vertices),), 3)
    for patch, on, ring in zip(draft.patches, draft.on, draft.rings, strict=True):
        if not len(ring):
            continue
        corners = vertices[ring]
        places = torch.einsum("qc,fcx->fqx", _bilinear(corners), corners)
        nearest, face, _ = closest_points(places.flatten(0, 1), patch)
        bulge = (nearest - places.flatten(0, 1)) * patch.face_normals[face]
        bulge = bulge.sum(dim=1).view(len(ring), -1).mean(dim=1).clamp(-BULGE * size, BULGE * size)
        across = torch.linalg.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
        area = across.norm(dim=1)
        total = vertices.new_zeros(2, len(vertices))
        for corner in range(4):
            total = total.index_add(1, ring[:, corner], torch.stack([area * bulge, area]))
        own = on[slots[on] < 3 + MEETING]
        heights[own, slots[own]] = (total[0] / total[1])[own]
        slots[own] += 1
    return vertices + (_inverse(normals) @ heights[..., None])[..., 0]


def _bilinear(like: Tensor) -> Tensor:
    """Weights (16, 4) of the corners of a face, in cyclic order, at four by four places."""
    share = (torch.arange(4, dtype=like.dtype) + 0.5) / 4
    x, y = torch.cartesian_prod(share, share).unbind(dim=1)
    return torch.stack([(1 - x) * (1 - y), x * (1 - y), x * y, (1 - x) * y], dim=1)


def _guarded(start: Tensor, goal: Tensor, hexahedra: Tensor, least: float) -> tuple[Tensor, int]:
    """Vertices moved from start to goal, (V, 3) each, where no element suffers too much, and how
    many of them did not get there.
    """
    before = scaled_jacobians(start[hexahedra])
    level = torch.zeros(len(start), dtype=torch.int64)
    shares = torch.tensor(STEPS, dtype=start.dtype)
    wanted = (goal != start).any(dim=1)
    while True:
        moved = torch.lerp(start, goal, shares[level][:, None])
        after = scaled_jacobians(moved[hexahedra])
        bad = (after < least) & (after < before)
        stuck = torch.unique(hexahedra[bad])
        stuck = stuck[(level[stuck] < len(STEPS) - 1) & wanted[stuck]]
        if not len(stuck):
            return moved, int(((goal - moved).norm(dim=1) > ON_WALL).sum())
        level[stuck] += 1
