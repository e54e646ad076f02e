"""The walls of a room across the grid, in patches between sharp edges, and which faces of a core
belong to which patch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geomopt.geometry import Mesh, closest_points
from geomopt.geometry.topology import connected_labels
from sims.acoustics.meshing.castellation import FLAT, Frame

TURN = 0.7  # how many sizes farther a patch may be that a face looks towards, not away from
PASSES = 50


def patches_of(frame: Frame, sharp: float) -> list[Mesh]:
    """The triangles in no wall along the grid, largest first, cut where the room has an edge.

    sharp: the angle between the normals of two triangles [degrees] from which on they are cut.
    Edges that stand into the room do not cut: one layer of elements bends around them.
    """
    topology = frame.mesh.topology()
    normals, rest = frame.mesh.face_normals, frame.wall < 0
    before, after = topology.edge_faces.long().unbind(dim=1)
    corners = frame.mesh.vertices[topology.opposite_vertices.long()]
    rise = ((corners[:, 1] - corners[:, 0]) * normals[before]).sum(dim=1)
    joined = (normals[before] * normals[after]).sum(dim=1) > math.cos(math.radians(sharp))
    joined |= rise > -FLAT * frame.extent
    joined &= rest[before] & rest[after]
    label, _ = connected_labels(torch.stack([before[joined], after[joined]]), len(rest))
    _, number = torch.unique(label[rest], return_inverse=True)
    faces = frame.mesh.faces[rest]
    patches = [
        Mesh(frame.mesh.vertices, faces[number == patch])
        for patch in range(int(number.max()) + 1 if len(number) else 0)
    ]
    return sorted(patches, key=lambda patch: -float(patch.area))


def labelled(
    vertices: Tensor, faces: Tensor, fixed: Tensor, patches: list[Mesh], size: float
) -> Tensor | None:
    """The patch (F,) of each face (F, 4) in cyclic order, or `fixed` where that is not -1.

    Faces take the nearest patch that they look towards, and then what most neighbours have, until
    the faces of each patch hang together around all of their corners; None if they never do.
    """
    label, free = fixed.clone(), fixed < 0
    corners = vertices[faces[free]]
    middle = corners.mean(dim=1)
    look = torch.linalg.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    look = look / look.norm(dim=1, keepdim=True)
    costs = []
    for patch in patches:
        nearest, face, _ = closest_points(middle, patch)
        normal = patch.face_normals[face]
        costs.append((nearest - middle).norm(dim=1) - TURN * size * (look * normal).sum(dim=1))
    cost = torch.stack(costs, dim=1)
    shift = int(fixed.max().clamp(min=-1)) + 1
    label[free] = cost.argmin(dim=1) + shift
    beside = _neighbors(faces)
    count = shift + len(patches)
    prices = torch.full((len(faces), count), torch.inf, dtype=cost.dtype)
    prices[free, shift:] = cost
    for _ in range(PASSES):
        pinched = _pinched(faces, label)
        alike = (label[beside] == label[:, None]).sum(dim=1)
        doubtful = free & ((alike <= 1) | (torch.isin(faces, pinched).any(dim=1) & (alike <= 2)))
        if not bool(doubtful.any()):
            return None if len(pinched) else label
        # one after another: two neighbours that change at once may swap for ever
        for face in doubtful.nonzero()[:, 0].tolist():
            votes = torch.bincount(label[beside[face]], minlength=count).double()
            votes[label[face]] -= 0.5  # a tie goes against what is doubtful
            label[face] = int((votes - 1e-3 * prices[face].clamp(max=1e6)).argmax())
    return None


def _neighbors(faces: Tensor) -> Tensor:
    """The face (F, 4) across each side of faces of a closed surface, side k from corner k."""
    start, stop = faces.flatten(), faces.roll(-1, dims=1).flatten()
    count = int(faces.max()) + 1
    forward, backward = start * count + stop, stop * count + start
    keys, order = torch.sort(forward)
    return order[torch.searchsorted(keys, backward)].view(-1, 4) // 4


def _pinched(faces: Tensor, label: Tensor) -> Tensor:
    """Vertices at which the faces of one label form more than one fan."""
    beside = _neighbors(faces)
    border = label[:, None] != label[beside]
    count = int(label.max()) + 1
    # a fan has two border sides at its vertex: one that starts there, and one that ends there
    starts = faces[border] * count + label[:, None].expand_as(faces)[border]
    keys, uses = torch.unique(starts, return_counts=True)
    return torch.unique(keys[uses > 1] // count)
