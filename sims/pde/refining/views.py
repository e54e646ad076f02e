"""Fields over a plane as frames of the viewer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from geomopt.geometry import Mesh
from geomopt.viewer.scene import Scene

GAP = 0.08  # between two planes, in lengths
RELIEF = 0.06  # height of the largest value, in lengths


def plane_scene(
    fields: Mapping[str, Tensor], length: float, largest: float, title: str, quantity: str
) -> Scene:
    """Fields (N, N) on planes of `length` side by side, raised and coloured by their values.

    Colours go from -largest to largest in every frame. The first axis of a field runs along x.
    """
    meshes, colours = {}, {}
    for place, (name, field) in enumerate(fields.items()):
        values = field.detach().float().cpu().clamp(-largest, largest)
        values = torch.nan_to_num(values)
        closed = torch.cat([values, values[:1]])  # the box is periodic
        closed = torch.cat([closed, closed[:, :1]], 1)
        count = len(closed)
        along = torch.linspace(0, length, count)
        x, y = torch.meshgrid(along + place * length * (1 + GAP), along, indexing="ij")
        height = RELIEF * length * closed / largest
        vertices = torch.stack([x, y, height], -1).view(-1, 3)
        # two vertices without a face hold the range of colours still
        vertices = torch.cat([vertices, vertices[:2]])
        meshes[name] = Mesh(vertices, _triangles(count))
        ends = torch.tensor([-largest, largest])
        colours[name] = {quantity: torch.cat([closed.flatten(), ends])}
    return Scene(meshes=meshes, fields=colours, title=title)


def _triangles(count: int) -> Tensor:
    """Two triangles for each cell of a grid of count x count vertices."""
    at = torch.arange(count * count).view(count, count)
    low, high = at[:-1, :-1], at[1:, 1:]
    first = torch.stack([low, at[1:, :-1], high], -1)
    second = torch.stack([low, high, at[:-1, 1:]], -1)
    return torch.cat([first.view(-1, 3), second.view(-1, 3)])
