"""Which wall each node sees, and the branches of all walls in one table, for the time loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.acoustics.elements.space import WallFaces
from sims.acoustics.room import Patch
from sims.acoustics.walls.wall import Wall

LEAST_SHARE = 1e-5  # of a face; what two patches that abut share by rounding is less


@dataclass(frozen=True, eq=False)
class Boundary:
    """Entries (K,), one for each surface at each node of the walls, ordered by node.

    nodes: (W,) int32, each node once. starts: (W + 1,) int32, the first entry of each node.
    surface: (K,) int32. areas: (K,) float64, differentiable in those of the faces [m²].
    """

    nodes: Tensor
    starts: Tensor
    surface: Tensor
    areas: Tensor


@dataclass(frozen=True, eq=False)
class Branches:
    """The branches of all surfaces. starts: (S + 1,) int32, the first branch of each surface.

    table: (B, 4) float64, weight, D [s], E and F [1/s] of w / (D s + E + F/s), differentiable.
    """

    starts: Tensor
    table: Tensor


def boundary_of(faces: WallFaces, patches: Sequence[Patch], sides: int) -> Boundary:
    """The entries of the walls' nodes; patches are numbered after `sides` surfaces.

    A face that lies in a patch in part is shared by area. Raises InputError for a patch that no
    wall lies in.
    """
    count, corners = faces.nodes.shape
    left = torch.ones(count, dtype=torch.float64, device=faces.areas.device)
    shares, owners = [], []
    for place, patch in enumerate(patches):
        covered = overlap(faces, patch.low, patch.high)
        if not bool((covered > LEAST_SHARE).any()):
            raise InputError(
                f"patch {patch.name!r} from {patch.low.tolist()} to {patch.high.tolist()} m must "
                "hold a part of the walls, got none of them: move it onto a wall, or widen it"
            )
        share = torch.minimum(left, covered)
        shares.append(share)
        owners.append(torch.full_like(faces.surface, sides + place))
        left = left - share
    share = torch.stack([left, *shares], 1)[:, :, None].expand(-1, -1, corners)
    owner = torch.stack([faces.surface, *owners], 1)[:, :, None].expand(-1, -1, corners)
    nodes = faces.nodes[:, None, :].expand(share.shape)
    areas = share * faces.areas[:, None, :]
    kept = share.reshape(-1) > LEAST_SHARE
    surfaces = sides + len(patches)
    key = (nodes * surfaces + owner).reshape(-1)[kept]
    unique, place = torch.unique(key, return_inverse=True)
    summed = areas.new_zeros(len(unique)).index_add(0, place, areas.reshape(-1)[kept])
    each, entries = torch.unique_consecutive(unique // surfaces, return_counts=True)
    starts = torch.cat([entries.new_zeros(1), entries.cumsum(0)])
    return Boundary(each.int(), starts.int(), (unique % surfaces).int(), summed)


def overlap(faces: WallFaces, low: Tensor, high: Tensor) -> Tensor:
    """The share (F,) of each face that lies within a box, by the boxes around the faces."""
    # a face is flat, so all boxes are padded by a little
    pad = 1e-6 * (faces.high - faces.low).amax(1, keepdim=True)
    lowest = torch.maximum(faces.low - pad, low - 2 * pad)
    highest = torch.minimum(faces.high + pad, high + 2 * pad)
    part = (highest - lowest).clamp(min=0) / (faces.high - faces.low + 2 * pad)
    return part.clamp(max=1).prod(1)


def branches_of(surfaces: Sequence[str], walls: Mapping[str, Wall], device: object) -> Branches:
    """The table of the walls' branches in the order of the surfaces."""
    counts = [len(walls[name].weights) for name in surfaces]
    starts = torch.tensor([0, *counts]).cumsum(0).int()
    tables = [
        torch.cat([walls[name].weights[:, None], walls[name].branches], 1) for name in surfaces
    ]
    return Branches(starts.to(device), torch.cat(tables).to(device))  # pyright: ignore[reportArgumentType, reportCallIssue]
