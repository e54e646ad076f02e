"""The constants of the barrier between pairs, and the motion of surfaces that turn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sims.thin_shell.bending import Values
from sims.thin_shell.contact.closest import closest, gap
from sims.thin_shell.contact.pairs import EDGE_EDGE, Pairs, Surface
from sims.thin_shell.pose import rotation_matrix

PARALLEL = 1e-3  # of |E1|^2 |E2|^2 at rest: |e1 x e2|^2 below which edges count as parallel
OFFSET_SHARE, RANGE_SHARE = 0.5, 0.25  # of the distance at rest of pairs of one sheet


def sides(pairs: Pairs, surface: Surface) -> tuple[Tensor, Tensor]:
    """The component (n,) of either primitive."""
    return surface.component[pairs.vertices[:, 0]], surface.component[pairs.vertices[:, 3]]


def reach_of_pairs(
    pairs: Pairs, surface: Surface, radius: Tensor, reach: Tensor, rest: Tensor
) -> tuple[Tensor, Tensor]:
    """offset and range (n,) [m] of pairs, differentiable.

    radius, reach (C,) [m] of the components, rest (V, 3). The offset is the sum of both radii. Two
    parts of one sheet that are near at rest, as neighbours in a mesh that is finer than the sheet
    is thick, have less of an offset and a range: half and a quarter of their distance there.
    """
    first, second = sides(pairs, surface)
    offset, ranges = radius[first] + radius[second], reach[first]
    own = first == second
    if bool(own.any()):
        local = rest[pairs.vertices]
        apart = gap(local, closest(local.detach(), pairs.kind), offset.new_zeros(()))
        offset = torch.where(own, torch.minimum(offset, OFFSET_SHARE * apart), offset)
        ranges = torch.where(own, torch.minimum(ranges, RANGE_SHARE * apart), ranges)
    return offset, ranges


def barrier_constants(pairs: Pairs, surface: Surface, values: Values) -> tuple[Tensor, ...]:
    """kind, stiffness, range, offset, parallel (n,) of `energies.barrier`, differentiable."""
    radius, reach, everything = (
        values[name] for name in ("contact_radius", "contact_range", "contact_rest")
    )
    offset, ranges = reach_of_pairs(pairs, surface, radius, reach, everything)
    rest = everything[pairs.vertices]
    crossed = pairs.kind == EDGE_EDGE
    ends = torch.stack([rest[:, 1] - rest[:, 0], rest[:, 3] - rest[:, 2]])
    lengths = ends.square().sum(2)
    parallel = torch.where(crossed, PARALLEL * lengths[0] * lengths[1], 1.0)
    stiffness = values["contact_stiffness"][surface.component[pairs.vertices[:, 0]]]
    return pairs.kind.to(offset), stiffness, ranges, offset, parallel


def surface_turns(poses: Tensor, start: Tensor) -> Tensor:
    """R+ R^T - 1 (B, 3, 3): how the turns of a step from `start` (B, 6) to poses (B, 6) move what
    is fixed in each body relative to its mesh."""
    after, before = rotation_matrix(torch.stack([poses[:, 3:], start[:, 3:]]))
    turned = after @ before.mT
    return turned - torch.eye(3).to(turned)


def levers_of_pairs(
    pairs: Pairs, surface: Surface, apart: Tensor, radius: Tensor, sheets: int
) -> list[tuple[Tensor, Tensor]]:
    """Of either side of pairs the body (n,) int64, and what turns with it of r (n, 3) [m].

    A sphere is a point, on which its turn does not show; at a distance of its radius it does. The
    rest of r, half a sheet and the gap, counts as part of the body as well, or half of it as part
    of either, so that what a body carries around does not slide on it within the step. Nothing
    turns with a sheet. apart (n, 3) [m]: r, at the start of the step.
    """
    length = torch.linalg.vector_norm(apart, dim=1)
    components = sides(pairs, surface)
    rolls = [component >= sheets for component in components]
    radii = [
        torch.where(here, radius[component], 0.0)
        for component, here in zip(components, rolls, strict=True)
    ]
    count = rolls[0].to(length) + rolls[1].to(length)
    rest = (length - radii[0] - radii[1]) / count.clamp(min=1.0)
    found = []
    for component, here, own in zip(components, rolls, radii, strict=True):
        share = torch.where(here, own + rest, 0.0) / length
        found.append(((component - sheets).clamp(min=0), share[:, None] * apart))
    return found


def turn_of_pairs(levers: Sequence[tuple[Tensor, Tensor]], turns: Tensor) -> tuple[Tensor, Tensor]:
    """How the turns (B, 3, 3) of bodies in a step move the two sides of pairs past each other
    (n, 3) [m], and how much of |r| (n,) [m] has turned with them. levers: of both sides."""
    (first, ahead), (second, behind) = levers
    if not len(turns):
        return torch.zeros_like(ahead), torch.zeros_like(ahead[:, 0])
    moved = turns[first] @ ahead[:, :, None] + turns[second] @ behind[:, :, None]
    return -moved[:, :, 0], torch.linalg.vector_norm(ahead + behind, dim=1)
