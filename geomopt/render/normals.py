"""Normals at the pixels: of vertices, of faces, or smooth up to creases."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from geomopt.errors import InputError
from geomopt.geometry.mesh import area_vectors, face_normals, vertex_normals
from geomopt.render.fragments import Fragments
from geomopt.render.interpolate import interpolate


def pixel_normals(
    vertices: Tensor,
    faces: Tensor,
    fragments: Fragments,
    *,
    smooth: bool = True,
    crease: float | None = None,
    backend: str = "warp",
) -> Tensor:
    """Unit normals (B, H, W, 3) in the world, 0 in the background.

    smooth: those of the vertices, interpolated, else those of the faces. crease: angle in degrees
    between two faces above which smooth normals do not run on from one to the other.
    """
    if smooth and crease is None:
        normal = interpolate(vertex_normals(vertices, faces), faces, fragments, backend=backend)
    elif smooth and crease is not None:
        corners = corner_normals(vertices, faces, crease)
        own = torch.arange(3 * len(faces), device=faces.device).reshape(-1, 3)
        normal = interpolate(corners.reshape(-1, 3), own, fragments, backend=backend)
    else:
        own = torch.arange(len(faces), device=faces.device)[:, None].expand(-1, 3)
        normal = interpolate(face_normals(vertices, faces), own, fragments, backend=backend)
    return normalize(normal, dim=-1)


def corner_normals(vertices: Tensor, faces: Tensor, crease: float) -> Tensor:
    """Unit normals (F, 3, 3) at the corners of faces (F, 3): means over the faces at the vertex, by
    area, that are less than `crease` degrees from the corner's own."""
    if not 0 <= crease <= 180:
        raise InputError(f"crease must lie between 0 and 180 degrees, got {crease}")
    vertex = faces.long().flatten()
    order = torch.argsort(vertex, stable=True)
    valence = torch.bincount(vertex, minlength=len(vertices))
    first = valence.cumsum(0) - valence
    # all pairs of corners at one vertex
    count = valence[vertex]
    corner = torch.repeat_interleave(torch.arange(len(vertex), device=faces.device), count)
    local = torch.arange(len(corner), device=faces.device)
    local = local - torch.repeat_interleave(count.cumsum(0) - count, count)
    other = order[first[vertex[corner]] + local] // 3
    unit, area = face_normals(vertices, faces), area_vectors(vertices, faces)
    near = (unit[corner // 3] * unit[other]).sum(-1) >= math.cos(math.radians(crease)) - 1e-6
    total = vertices.new_zeros(len(vertex), 3).index_add(0, corner, area[other] * near[:, None])
    return normalize(total, dim=-1).reshape(-1, 3, 3)
