"""Rooms: the shape of the air and what its walls are made of."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_indices, check_tensor
from geomopt.geometry.mesh import Mesh
from sims.acoustics.walls.wall import Wall

SIDES = ("left", "right", "front", "back", "floor", "ceiling")
FURNITURE = "furniture"
NAMES = (*SIDES, FURNITURE)

Corners = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True, eq=False)
class Bricks:
    """Boxes of air minus boxes of furniture, each (B, 2, 3): lowest and highest corner [m]."""

    air: Tensor
    furniture: Tensor


@dataclass(frozen=True, eq=False)
class Hexahedra:
    """Vertices (V, 3) [m] and hexahedra (E, 8), whose corners run with z fastest and x slowest."""

    vertices: Tensor
    hexahedra: Tensor


@dataclass(frozen=True, eq=False)
class Patch:
    """The part of the walls within a box, low (3,) to high (3,) [m], under a name of its own."""

    name: str
    low: Tensor
    high: Tensor


@dataclass(frozen=True, eq=False)
class Room:
    """A shape and a wall for each of its surfaces.

    A surface is a side, by where its wall faces: "left" and "right" (lowest and highest x), "front"
    and "back" (y), "floor" and "ceiling" (z), oblique walls by the nearest of the six; "furniture";
    or a patch. Made by `box`, `bricks`, `from_mesh` and `hexahedra`.
    """

    shape: Bricks | Mesh | Hexahedra
    walls: Mapping[str, Wall]
    patches: tuple[Patch, ...] = ()

    @classmethod
    def box(
        cls, length: float, width: float, height: float, walls: Wall | Mapping[str, Wall]
    ) -> Room:
        """The box from the origin to (length, width, height) [m].

        walls: one for all sides, or one by the name of each side. Raises InputError.
        """
        sizes = {"length": length, "width": width, "height": height}
        for name, size in sizes.items():
            if not as_tensor(name, size, "a number", dtype=torch.float64).gt(0).all():
                raise InputError(f"{name} must be above 0 m, got {size}")
        return cls.bricks([((0.0, 0.0, 0.0), (length, width, height))], walls)

    @classmethod
    def bricks(
        cls,
        bricks: Sequence[Corners],
        walls: Wall | Mapping[str, Wall],
        furniture: Sequence[Corners] = (),
    ) -> Room:
        """The union of boxes of air, each (lowest corner, highest corner) [m], less the furniture.

        walls: one for all, or one by name; "furniture" may be left out where there is none, and is
        rigid if it is left out. Raises InputError, also for boxes that do not touch one another.
        """
        shape = Bricks(_boxes("bricks", bricks), _boxes("furniture", furniture))
        if not len(shape.air):
            raise InputError("bricks must hold at least one box, got none")
        return cls(shape, _by_surface(walls, len(shape.furniture) > 0))

    @classmethod
    def from_mesh(
        cls, mesh: Mesh | str | os.PathLike[str], walls: Wall | Mapping[str, Wall]
    ) -> Room:
        """The inside of a closed triangle mesh [m], or of a file that holds one.

        Raises InputError for a mesh that leaks or crosses itself.
        """
        if not isinstance(mesh, Mesh | str | os.PathLike):
            raise InputError(f"mesh must be a Mesh or the path of one, got {type(mesh).__name__}")
        if not isinstance(mesh, Mesh):
            mesh = Mesh.load(mesh, dtype=torch.float64)
        return cls(mesh.to(dtype=torch.float64), _by_surface(walls, False))

    @classmethod
    def hexahedra(
        cls, vertices: Tensor, hexahedra: Tensor, walls: Wall | Mapping[str, Wall]
    ) -> Room:
        """A room of mapped hexahedra: vertices (V, 3) [m], hexahedra (E, 8) with corners in the
        order (i, j, k), k fastest, along the three axes of each. Raises InputError.
        """
        corners = as_tensor("vertices", vertices, "numbers (V, 3)", dtype=torch.float64)
        check_tensor("vertices", corners, (None, 3))
        elements = as_tensor("hexahedra", hexahedra, "numbers of vertices (E, 8)")
        check_indices("hexahedra", elements, (None, 8), len(corners))
        return cls(Hexahedra(corners, elements), _by_surface(walls, False))

    @property
    def surfaces(self) -> tuple[str, ...]:
        """The names of all surfaces: six sides, furniture, and the patches in their order."""
        return (*NAMES, *(patch.name for patch in self.patches))

    def with_patch(
        self, name: str, low: Sequence[float], high: Sequence[float], wall: Wall
    ) -> Room:
        """The room with another wall where its walls lie within the box from low to high [m].

        A patch takes what no earlier patch has. Raises InputError for a name that is taken.
        """
        if name in self.surfaces:
            raise InputError(f"name must be new, got {name!r}; taken: {', '.join(self.surfaces)}")
        corners = _boxes(f"patch {name!r}", [(low, high)], flat=True)[0]
        walls = {**self.walls, name: _wall(name, wall)}
        return replace(self, walls=walls, patches=(*self.patches, Patch(name, *corners)))

    def with_walls(self, walls: Wall | Mapping[str, Wall]) -> Room:
        """The same shape with other walls: one for all, or by name; those not named stay."""
        if isinstance(walls, Wall):
            return replace(self, walls=dict.fromkeys(self.walls, walls))
        if not isinstance(walls, Mapping):
            raise InputError(
                "walls must be a Wall or a mapping from surfaces to Walls, got "
                f"{type(walls).__name__}"
            )
        for name in walls:
            if name not in self.surfaces:
                raise InputError(
                    f"walls must name surfaces of the room, got {name!r}; "
                    f"there are: {', '.join(self.surfaces)}"
                )
        named = {name: _wall(name, wall) for name, wall in walls.items()}
        return replace(self, walls={**self.walls, **named})


def _wall(name: str, wall: object) -> Wall:
    if not isinstance(wall, Wall):
        raise InputError(f"the wall of {name!r} must be a Wall, got {type(wall).__name__}")
    return wall


def _by_surface(walls: Wall | Mapping[str, Wall], furnished: bool) -> dict[str, Wall]:
    if isinstance(walls, Wall):
        return dict.fromkeys(NAMES, walls)
    if not isinstance(walls, Mapping):
        raise InputError(
            f"walls must be a Wall or a mapping from sides to Walls, got {type(walls).__name__}"
        )
    unknown = [name for name in walls if name not in NAMES]
    missing = [name for name in SIDES if name not in walls]
    if unknown or missing:
        raise InputError(
            f"walls must have one Wall for each of {', '.join(SIDES)} and may have one for "
            f"{FURNITURE}; unknown: {unknown or 'none'}, missing: {missing or 'none'}"
        )
    if FURNITURE in walls and not furnished:
        raise InputError("walls names furniture, but the room has none")
    found = {name: _wall(name, wall) for name, wall in walls.items()}
    return {FURNITURE: Wall.rigid(), **found}


def _boxes(name: str, boxes: Sequence[Corners], flat: bool = False) -> Tensor:
    """Boxes as (B, 2, 3); `flat` lets them be without thickness."""
    allowed = "pairs of corners (low, high), each (x, y, z) [m]"
    try:
        boxes = list(boxes)
    except TypeError:
        raise InputError(f"{name} must be {allowed}, got {boxes!r}") from None
    corners = as_tensor(name, boxes, allowed, dtype=torch.float64)
    if not corners.numel():
        return torch.zeros(0, 2, 3, dtype=torch.float64)
    if corners.shape[1:] != (2, 3):
        raise InputError(f"{name} must be {allowed}, got shape {tuple(corners.shape)}")
    if not torch.isfinite(corners).all():
        raise InputError(f"{name} must be finite, got {corners.tolist()}")
    sides = corners[:, 1] - corners[:, 0]
    for box, side in zip(corners.tolist(), sides, strict=True):
        if (side < 0).any() or (not flat and (side == 0).any()):
            raise InputError(f"{name} must have low below high along each axis, got {box}")
    return corners
