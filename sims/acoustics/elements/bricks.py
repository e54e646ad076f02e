"""Unions of axis-aligned bricks cut into a grid of elements, and what cannot be one room."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from geomopt.errors import InputError

MERGED = 1e-6  # lines closer than this share of the room's size are one: rounding of inputs
MOST_CUTS = 1e6  # along one axis
MOST_ELEMENTS = 2**27  # of the box around the room
AXES = "xyz"


@dataclass(frozen=True)
class BrickGrid:
    """A grid of boxes that follows all corners of the bricks.

    lines: for each axis the rising places of the cuts, float64 [m]. air: (ex, ey, ez) bool, which
    elements are inside of the room. furniture: (ex, ey, ez) bool, which are inside of a brick of
    the room and taken by furniture.
    """

    lines: tuple[Tensor, Tensor, Tensor]
    air: Tensor
    furniture: Tensor

    def edges(self) -> list[Tensor]:
        """The lengths of the elements along each axis [m]."""
        return [line.diff() for line in self.lines]


def cut_bricks(bricks: Tensor, furniture: Tensor, longest: float) -> BrickGrid:
    """The grid of a room that is the union of `bricks` less that of `furniture`.

    bricks, furniture: (B, 2, 3) float64, the low and the high corners of boxes [m]. Every interval
    between neighbouring corners is cut evenly into elements no longer than `longest` [m].

    Raises InputError for boxes without thickness, furniture outside of the room, a room without
    air, one in several parts that air cannot pass between, and parts that touch along an edge only.
    """
    extent = bricks[:, 1].amax(0) - bricks[:, 0].amin(0)
    tolerance = MERGED * float(extent.max())
    for name, boxes in (("bricks", bricks), ("furniture", furniture)):
        _check_thickness(name, boxes, tolerance)
    corners = torch.cat([bricks, furniture.clamp(bricks[:, 0].amin(0), bricks[:, 1].amax(0))])
    lines = [_cut(corners[..., axis].reshape(-1), tolerance, longest) for axis in range(3)]
    shape = [len(line) - 1 for line in lines]
    if math.prod(shape) > MOST_ELEMENTS:
        raise InputError(
            f"the room would have {' x '.join(map(str, shape))} elements of at most {longest:.3g} m"
            "; lower fmax or nodes_per_wavelength, or take a smaller room"
        )
    centres = [(line[1:] + line[:-1]) / 2 for line in lines]
    inside = torch.zeros(shape, dtype=torch.bool)
    for box in bricks:
        inside[_cells(centres, box)] = True
    blocked = torch.zeros(shape, dtype=torch.bool)
    for number, box in enumerate(furniture):
        cells = _cells(centres, box)
        if not bool(inside[cells].any()):
            raise InputError(
                f"furniture[{number}] from {_place(box[0])} to {_place(box[1])} lies outside of "
                "all bricks of the room; move it into the room or leave it out"
            )
        blocked[cells] = True
    air = inside & ~blocked
    grid = BrickGrid((lines[0], lines[1], lines[2]), air, inside & blocked)
    _check_one_room(grid)
    _check_edges(grid)
    return grid


def _cut(places: Tensor, tolerance: float, longest: float) -> Tensor:
    """Lines through all places, those within the tolerance merged, with even cuts between them."""
    places = places.sort().values
    apart = torch.cat([places.new_tensor([math.inf]), places.diff()]) > tolerance
    fixed = places[apart]
    wanted = (fixed.diff() / longest - 1e-9).ceil().clamp(min=1.0)
    if not float(wanted.sum()) < MOST_CUTS:
        raise InputError(
            f"{float(wanted.sum()):.3g} elements of at most {longest:.3g} m along one axis are too "
            "many; lower fmax or nodes_per_wavelength, or take a smaller room"
        )
    parts = wanted.long()
    start = fixed[:-1].repeat_interleave(parts)
    step = (fixed.diff() / parts).repeat_interleave(parts)
    first = (parts.cumsum(0) - parts).repeat_interleave(parts)
    return torch.cat([start + step * (torch.arange(len(start)) - first), fixed[-1:]])


def _cells(centres: list[Tensor], box: Tensor) -> tuple[slice, slice, slice]:
    """The elements whose centres are inside of a box."""
    ends = [
        torch.searchsorted(line, box[:, axis].contiguous()) for axis, line in enumerate(centres)
    ]
    x, y, z = (slice(int(low), int(high)) for low, high in ends)
    return x, y, z


def _place(point: Tensor) -> str:
    return "(" + ", ".join(f"{float(value):.4g}" for value in point) + ")"


def _check_thickness(name: str, boxes: Tensor, tolerance: float) -> None:
    thin = (boxes[:, 1] - boxes[:, 0]).amin(1) <= 2 * tolerance
    if bool(thin.any()):
        number = int(thin.nonzero()[0])
        low, high = (_place(corner) for corner in boxes[number])
        raise InputError(
            f"{name}[{number}] from {low} to {high} is thinner than {2 * tolerance:.2g} m, which "
            "counts as nothing in a room of this size; make it thicker or leave it out"
        )


def _check_one_room(grid: BrickGrid) -> None:
    labels, count = cast(tuple[np.ndarray, int], ndimage.label(grid.air.numpy()))
    if count == 0:
        raise InputError("furniture takes all of the room; leave some air between the bricks")
    if count == 1:
        return
    x, y, z = (edge.numpy() for edge in grid.edges())
    volumes = x[:, None, None] * y[:, None] * z
    parts = []
    for label in range(1, min(count, 4) + 1):
        part = labels == label
        corner = torch.from_numpy(np.argwhere(part).min(0))
        place = torch.stack([line[n] for line, n in zip(grid.lines, corner, strict=True)])
        parts.append(f"{volumes[part].sum():.3g} m³ from {_place(place)}")
    raise InputError(
        f"the room falls into {count} parts between which no opening leads: {'; '.join(parts)}"
        f"{' ...' if count > 4 else ''}; let the bricks overlap or share a face, leave a gap "
        "between the furniture, or make a room of each part"
    )


def _check_edges(grid: BrickGrid) -> None:
    """Air on both sides of an edge at which it touches only would be joined by the shared nodes."""
    for axis in range(3):
        order = [axis, *(other for other in range(3) if other != axis)]
        air = grid.air.permute(order)
        a, b, c, d = air[:, :-1, :-1], air[:, 1:, 1:], air[:, :-1, 1:], air[:, 1:, :-1]
        pinched = ((a & b & ~c & ~d) | (c & d & ~a & ~b)).nonzero()
        if len(pinched):
            places = zip(order, pinched[0].tolist(), (0, 1, 1), strict=True)
            place = torch.zeros(3, dtype=torch.float64)
            for other, number, shift in places:
                place[other] = grid.lines[other][number + shift]
            raise InputError(
                f"air touches air only along the edge at {_place(place)}, parallel to {AXES[axis]}:"
                " neither open nor closed; move the boxes there apart or let them overlap"
            )
