"""Bring the outer vertices of a mesh to the walls of a room, and keep its elements open.

Rounds of relaxing the mesh within its walls and of projecting onto the walls follow each other. A
vertex whose projection would leave an element with too small a Jacobian goes part of the way only.

At last the vertices on curved walls leave them a little, so that the faces, which are chords, lie
as much outside as inside. To first order the frequency of a mode follows the sum of what a wall
moves by, so that a room of inscribed chords would sound too high.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from geomopt.geometry import Mesh, closest_points
from sims.acoustics.elements.trilinear import least_widths, scaled_jacobians
from sims.acoustics.meshing.element_energy import relaxed
from sims.acoustics.meshing.pillow import Draft

ROUNDS = 20  # at most; a few are enough for most rooms
ITERATIONS = 15
SETTLED = 2  # rounds without a wider narrowest element, after which an open mesh is done
RINGS = 3  # elements farther than that from the surface stay as they are
STEPS = (1.0, 0.5, 0.25, 0.1, 0.0)  # shares of the way to the surface that the guard tries
NARROW = 0.15  # share of the size; the walls give way to elements narrower than that
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
    widths: list[float] = []
    for _ in range(ROUNDS):
        normals, _ = _walls_at(draft, vertices[draft.outer])
        freedom = _freedom(draft, normals) * moving[:, None, None]
        vertices[used] = relaxed(vertices[used], local, freedom[used], size, ITERATIONS)
        goal = _projected(draft, vertices)
        vertices, held = _guarded(vertices, goal, hexahedra, minimum_jacobian)
        least = float(scaled_jacobians(vertices[hexahedra]).min())
        widths.append(float(least_widths(vertices[hexahedra]).min()))
        settled = len(widths) > SETTLED and widths[-1] < 1.01 * max(widths[:-SETTLED])
        if settled and least > minimum_jacobian:
            break
    goal = _balanced(draft, vertices, size)
    vertices, _ = _guarded(vertices, goal, hexahedra, minimum_jacobian)
    vertices, released = _released(draft, vertices, hexahedra, moving, size)
    return replace(draft, vertices=vertices), held + released


def _near(draft: Draft) -> Tensor:
    """The elements (E,) bool within some rings of the outer vertices."""
    marked = torch.zeros(len(draft.vertices), dtype=torch.bool)
    marked[draft.outer] = True
    for _ in range(RINGS):
        elements = marked[draft.hexahedra].any(dim=1)
        marked[draft.hexahedra[elements].flatten()] = True
    return marked[draft.hexahedra].any(dim=1)


def _walls_at(draft: Draft, places: Tensor) -> tuple[Tensor, Tensor]:
    """Normals (S, 6, 3) of the walls that each outer vertex, at places (S, 3), belongs to, and
    their heights (S, 6) above it; zeros where there are fewer.
    """
    held = draft.held[draft.outer]
    normals = torch.zeros(len(places), 3 + MEETING, 3, dtype=places.dtype)
    heights = torch.zeros(len(places), 3 + MEETING, dtype=places.dtype)
    normals[:, :3] = torch.eye(3, dtype=places.dtype) * held[:, :, None]
    walls = held.sum(dim=1) + torch.bincount(torch.cat(draft.on), minlength=len(places))
    for patch, _, own, slot in _slots(draft):
        nearest, face, _ = closest_points(places[own], patch)
        away, normal = nearest - places[own], patch.face_normals[face]
        # a vertex of one wall goes straight to it, also from beyond its rim; in more walls it goes
        # to where their planes meet
        alone = (walls[own] == 1)[:, None] & (away.norm(dim=1, keepdim=True) > TOUCH)
        normal = torch.where(alone, torch.nn.functional.normalize(away, dim=1), normal)
        normals[own, slot] = normal
        heights[own, slot] = (away * normal).sum(dim=1)
    return normals, heights


def _slots(draft: Draft) -> Iterator[tuple[Mesh, Tensor, Tensor, Tensor]]:
    """Each patch, its faces, its outer vertices, and its row among the walls of each of them."""
    filled = torch.full((len(draft.outer),), 3)
    for patch, ring, on in zip(draft.patches, draft.rings, draft.on, strict=True):
        own = on[filled[on] < 3 + MEETING]
        if len(own):
            yield patch, ring, own, filled[own].clone()
            filled[own] += 1


def _inverse(normals: Tensor) -> Tensor:
    return torch.linalg.pinv(normals, rtol=PARALLEL)


def _freedom(draft: Draft, normals: Tensor) -> Tensor:
    """Projections (V, 3, 3) onto the directions along all walls of a vertex."""
    unit = torch.eye(3, dtype=normals.dtype)
    freedom = unit * (~draft.held)[:, :, None]
    freedom[draft.outer] = unit - _inverse(normals) @ normals
    return freedom


def _projected(draft: Draft, vertices: Tensor) -> Tensor:
    """Vertices, the outer ones on all of their walls: Newton's method on the planes of the nearest
    triangles.
    """
    places = vertices[draft.outer]
    for _ in range(10):
        normals, heights = _walls_at(draft, places)
        step = (_inverse(normals) @ heights[..., None])[..., 0]
        places = places + step
        if float(step.abs().max()) < TOUCH:
            break
    return vertices.index_copy(0, draft.outer, places)


def _released(
    draft: Draft, vertices: Tensor, hexahedra: Tensor, moving: Tensor, size: float
) -> tuple[Tensor, int]:
    """Vertices of which those of very narrow elements leave their walls, and how many do so.

    They go no farther than it takes: one such element would set the time step of the whole room.
    """
    wanted = NARROW * size
    free = torch.zeros(len(vertices), dtype=torch.bool)
    free[hexahedra[least_widths(vertices[hexahedra]) < wanted].flatten()] = True
    if not bool(free.any()):
        return vertices, 0
    normals, _ = _walls_at(draft, vertices[draft.outer])
    normals[free[draft.outer], 3:] = 0.0
    used, local = torch.unique(hexahedra, return_inverse=True)
    goal = vertices.clone()
    freedom = _freedom(draft, normals) * (moving & free)[:, None, None]
    goal[used] = relaxed(vertices[used], local, freedom[used], size, 4 * ITERATIONS)
    tried = [torch.lerp(vertices, goal, share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    least = [float(least_widths(moved[hexahedra]).min()) for moved in tried]
    enough = [place for place, width in enumerate(least) if width >= wanted]
    chosen = enough[0] if enough else max(range(len(tried)), key=least.__getitem__)
    off = (tried[chosen] - vertices).norm(dim=1)[draft.outer] > ON_WALL
    return tried[chosen], int(off.sum())


def _balanced(draft: Draft, vertices: Tensor, size: float) -> Tensor:
    """Vertices moved out of their walls by how far the walls bulge over the faces around them."""
    normals, heights = _walls_at(draft, vertices[draft.outer])
    for patch, ring, own, slot in _slots(draft):
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
        heights[own, slot] = (total[0] / total[1])[draft.outer[own]]
    step = (_inverse(normals) @ heights[..., None])[..., 0]
    return vertices.index_add(0, draft.outer, step)


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
