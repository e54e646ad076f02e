"""The elements of a room, by the kind of its shape."""

from __future__ import annotations

import torch

from geomopt.errors import InputError
from sims.acoustics.lattice import Lattice
from sims.acoustics.room import Bricks, Room
from sims.acoustics.space import Space


def space_of(
    room: Room, largest: float, order: int, dtype: torch.dtype, device: torch.device
) -> Space:
    """Elements with edges of at most `largest` [m] for a room."""
    if isinstance(room.shape, Bricks):
        return Lattice(room.shape.air, room.shape.furniture, largest, order, dtype, device)
    raise InputError("rooms of triangles")
