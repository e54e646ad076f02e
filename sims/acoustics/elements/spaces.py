"""The elements of a room, by the kind of its shape."""

from __future__ import annotations

import warnings

import torch

from geomopt.errors import InputError
from sims.acoustics.elements.hexahedra import Hexahedra
from sims.acoustics.elements.lattice import Lattice
from sims.acoustics.elements.space import Space
from sims.acoustics.room import Bricks, Room
from sims.acoustics.room import Hexahedra as HexahedralShape

THIN = 0.1  # of the other edges
TOO_COARSE = 2.0  # times the edge that was asked for: 3 of the usual 6 nodes per wavelength


def space_of(
    room: Room, largest: float, order: int, dtype: torch.dtype, device: torch.device
) -> Space:
    """Elements with edges of at most `largest` [m] for a room; hexahedra stay as they are.

    Raises InputError for hexahedra with an edge of more than twice that: too coarse for the band.
    """
    shape = room.shape
    if isinstance(shape, Bricks):
        lattice = Lattice(shape.air, shape.furniture, largest, order, dtype, device)
        _warn_of_thin_elements(lattice, largest)
        return lattice
    if not isinstance(shape, HexahedralShape):
        from sims.acoustics.meshing.hexahedral_mesh import hexahedral_mesh_of

        try:
            mesh = hexahedral_mesh_of(shape, largest)
        except InputError as error:
            if not str(error).startswith("size"):
                raise
            raise InputError(
                f"{error} (size is that of elements of order {order}: a larger fmax or "
                "nodes_per_wavelength makes it smaller)"
            ) from None
        shape = HexahedralShape(mesh.vertices, mesh.hexahedra)
    longest = longest_edge(shape)
    if longest > TOO_COARSE * largest:
        raise InputError(
            f"hexahedra must have edges of at most {TOO_COARSE * largest:.4g} m for this band and "
            f"order, the longest is {longest:.4g} m: refine them, or lower fmax"
        )
    return Hexahedra(shape.vertices.to(device), shape.hexahedra.to(device), order)


def _warn_of_thin_elements(lattice: Lattice, largest: float) -> None:
    for axis, edges in zip("xyz", lattice.grid.edges(), strict=True):
        thinnest = float(edges.min())
        if thinnest < THIN * min(largest, float(edges.max())):
            warnings.warn(
                f"corners of bricks or furniture are {thinnest:.3g} m apart along {axis}, where "
                f"{float(edges.max()):.3g} m would do: so thin an element sets a time step about "
                f"{float(edges.max()) / thinnest:.0f} times smaller; bring them in line",
                stacklevel=4,
            )


def longest_edge(shape: HexahedralShape) -> float:
    """Of all elements [m]."""
    corners = shape.vertices.detach()[shape.hexahedra.long()]
    ends = torch.tensor([(a, a ^ bit) for bit in (1, 2, 4) for a in range(8)])
    return float((corners[:, ends[:, 0]] - corners[:, ends[:, 1]]).norm(dim=2).max())


def as_hexahedra(room: Room, largest: float) -> Room:
    """The room with its shape as hexahedra with edges of at most `largest` [m], whose vertices can
    be moved. Patches and walls stay.
    """
    shape = room.shape
    if isinstance(shape, HexahedralShape):
        return room
    if isinstance(shape, Bricks):
        lattice = Lattice(shape.air, shape.furniture, largest, 1)
        found = HexahedralShape(lattice.vertices, lattice.hexahedra)
    else:
        from sims.acoustics.meshing.hexahedral_mesh import hexahedral_mesh_of

        mesh = hexahedral_mesh_of(shape, largest)
        found = HexahedralShape(mesh.vertices, mesh.hexahedra)
    return Room(found, room.walls, room.patches)
