"""Tetrahedral meshes of simple solids: boxes, balls and domes, structured and of good quality.

A ball is the octahedron |x| + |y| + |z| <= n of the integer lattice, drawn out onto spheres. Each
octant is a tetrahedron, cut by the lattice into smaller ones and octahedra, and these into four
around one of their three diagonals, the one that leaves the best of them. Octants are mirror images
of each other, so they fit together, and four of them are a dome.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

# the parts of a lattice cell, by how many of its corners lie within x + y + z <= n
LOWER = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
UPPER = [[1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]]
MIDDLE = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]]
# corner k of an octahedron is opposite to corner k + 3; the others go around that diagonal
RINGS = [[0, 3, 1, 5, 4, 2], [1, 4, 2, 3, 5, 0], [2, 5, 0, 4, 3, 1]]
# a cube as five tetrahedra, around the corners 0, 3, 5 and 6 of those numbered by 4 x + 2 y + z
FIVE = [[0, 4, 2, 1], [3, 1, 2, 7], [5, 1, 7, 4], [6, 2, 4, 7], [1, 4, 2, 7]]

SIGNS = torch.tensor([1, -1])


def block_mesh(size: Tensor, cells: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """vertices (P, 3) and tetrahedra (T, 4) of a box of edge lengths `size` (3,) around the origin.

    Each of the cells along x, y and z is cut into five, alternating from cell to cell.
    """
    steps = [torch.linspace(-0.5, 0.5, count + 1, dtype=torch.float64) for count in cells]
    local = torch.cartesian_prod(*steps).to(size) * size
    cell = torch.cartesian_prod(*(torch.arange(count) for count in cells))
    corners = torch.tensor(list(product((0, 1), repeat=3)))
    places = cell[:, None] + corners
    strides = torch.tensor([(cells[1] + 1) * (cells[2] + 1), cells[2] + 1, 1])
    numbers = (places * strides).sum(-1)
    # mirrored cells have the diagonals of their sides where their neighbours have them
    numbers = torch.where((cell.sum(1) % 2 == 0)[:, None], numbers, numbers.flip(1))
    tetrahedra = numbers[:, torch.tensor(FIVE)].reshape(-1, 4)
    return local, oriented(local, tetrahedra.to(size.device))


def ball_mesh(axes: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """vertices (P, 3) and tetrahedra (8 cells^3, 4) of an ellipsoid around the origin.

    axes (3,): half lengths. cells: along each half axis.
    """
    return _octants(axes, cells, torch.cartesian_prod(SIGNS, SIGNS, SIGNS))


def dome_mesh(axes: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """The lower half, z <= 0, of `ball_mesh`: (4 cells^3, 4) tetrahedra."""
    return _octants(axes, cells, torch.cartesian_prod(SIGNS, SIGNS, SIGNS[1:]))


def dihedral_angles(vertices: Tensor, tetrahedra: Tensor) -> Tensor:
    """Angles (T, 6) [rad] between the faces of tetrahedra."""
    corners = vertices[tetrahedra]
    sides = torch.tensor([[1, 2, 3], [0, 3, 2], [0, 1, 3], [0, 2, 1]], device=vertices.device)
    a, b, c = corners[:, sides].unbind(2)
    normals = torch.linalg.cross(b - a, c - a)
    first, second = torch.triu_indices(4, 4, 1, device=vertices.device)
    one, two = normals[:, first], normals[:, second]
    sine = torch.linalg.cross(one, two).norm(dim=-1)
    return torch.atan2(sine, -(one * two).sum(-1))


def oriented(vertices: Tensor, tetrahedra: Tensor) -> Tensor:
    """Tetrahedra (T, 4) with two corners changed where their volume was negative."""
    corners = vertices.detach()[tetrahedra]
    volumes = torch.linalg.det(corners[:, 1:] - corners[:, :1])
    return torch.where((volumes > 0)[:, None], tetrahedra, tetrahedra[:, [0, 2, 1, 3]])


def _octants(axes: Tensor, cells: int, signs: Tensor) -> tuple[Tensor, Tensor]:
    """One octant of x, y, z >= 0, times each of the signs (n, 3), as one mesh."""
    lattice = torch.cartesian_prod(*(torch.arange(cells + 1),) * 3)
    unit = _on_spheres(lattice, cells)
    parts = _octant(lattice, unit, cells)
    keys, pieces = [], []
    for sign in signs:
        points = lattice[parts] * sign + cells
        keys.append((points * torch.tensor([(2 * cells + 1) ** 2, 2 * cells + 1, 1])).sum(-1))
        pieces.append(unit[parts] * sign)
    key, numbers = torch.unique(torch.cat(keys), return_inverse=True)
    local = unit.new_zeros(len(key), 3)
    local[numbers] = torch.cat(pieces)
    # no negative zeros
    return local.to(axes) * axes + 0.0, oriented(local, numbers).to(axes.device)


def _on_spheres(lattice: Tensor, cells: int) -> Tensor:
    """Points of an octant of the unit ball: x + y + z gives the radius, their shares the angles."""
    total = lattice.sum(1, keepdim=True).to(torch.float64)
    direction = torch.sin(torch.pi / 2 * lattice / total.clamp(min=1))
    return direction / direction.norm(dim=1, keepdim=True).clamp(min=1e-300) * total / cells


def _octant(lattice: Tensor, unit: Tensor, cells: int) -> Tensor:
    """The tetrahedra (cells^3, 4) of one octant, as rows of the lattice of (cells + 1)^3 points."""
    strides = torch.tensor([(cells + 1) ** 2, cells + 1, 1])
    corner = lattice[lattice.sum(1) < cells]

    def within(shape: list[list[int]], lowest: int) -> Tensor:
        places = corner[corner.sum(1) <= cells - lowest][:, None] + torch.tensor(shape)
        return (places * strides).sum(-1)

    octahedra = within(MIDDLE, 2)
    rings = torch.tensor(RINGS)
    # around the diagonal from the first to the second, each with two neighbours on the ring
    quarters = torch.stack([rings[:, [0, 1, 2 + k, 2 + (k + 1) % 4]] for k in range(4)], dim=1)
    choices = octahedra[:, quarters]  # (n, 3 diagonals, 4, 4)
    angles = dihedral_angles(unit, choices.reshape(-1, 4)).sin().amin(1)
    best = angles.reshape(-1, 3, 4).amin(2).argmax(1)
    chosen = choices[torch.arange(len(octahedra)), best].reshape(-1, 4)
    return torch.cat([within(LOWER, 1), within(UPPER, 3), chosen])
