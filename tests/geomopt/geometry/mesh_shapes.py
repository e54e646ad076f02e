"""Meshes with known numbers, in float64, for the tests of this folder."""

import numpy as np
import torch
import trimesh

from geomopt.geometry.mesh import Mesh


def mesh_of(source: trimesh.Trimesh) -> Mesh:
    faces = torch.from_numpy(np.array(source.faces)).int()
    return Mesh(torch.from_numpy(np.array(source.vertices, dtype=np.float64)), faces)


def mesh(vertices: list, faces: list) -> Mesh:
    return Mesh(torch.tensor(vertices, dtype=torch.float64), torch.tensor(faces, dtype=torch.int32))


def icosphere(subdivisions: int = 2, radius: float = 1.0) -> Mesh:
    return mesh_of(trimesh.creation.icosphere(subdivisions, radius))


def torus(major: float = 1.0, minor: float = 0.3) -> Mesh:
    return mesh_of(trimesh.creation.torus(major, minor))


def cube(side: float = 1.0) -> Mesh:
    return mesh_of(trimesh.creation.box((side,) * 3))


def tetrahedron() -> Mesh:
    corners = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    return mesh(corners, [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def square(cells: int = 4, side: float = 1.0) -> Mesh:
    """An open square in the plane z = 0, normal up."""
    steps = torch.linspace(0, side, cells + 1, dtype=torch.float64)
    x, y = torch.meshgrid(steps, steps, indexing="ij")
    corner = torch.arange((cells + 1) ** 2).reshape(cells + 1, cells + 1)
    a, b, c, d = corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:]
    faces = torch.cat(
        [torch.stack([a, b, c], -1).reshape(-1, 3), torch.stack([a, c, d], -1).reshape(-1, 3)]
    )
    return Mesh(torch.stack([x, y, 0 * x], -1).reshape(-1, 3), faces.int())


def joined(*parts: Mesh) -> Mesh:
    offsets = np.cumsum([0] + [len(part.vertices) for part in parts])
    faces = [part.faces + int(offset) for part, offset in zip(parts, offsets, strict=False)]
    return Mesh(torch.cat([part.vertices for part in parts]), torch.cat(faces))


def rotation(seed: int) -> torch.Tensor:
    """A random proper rotation matrix."""
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    return q * torch.det(q)
