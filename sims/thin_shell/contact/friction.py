"""What friction takes from the start of a step and leaves at its end.

Normal, closest points and the limit mu N of a pair are those at the start of the step, lagged as in
Li et al. 2020, Incremental potential contact, section 5; but as functions of the positions there,
and so with derivatives. Anchored friction remembers the slip of its springs from step to step:

    u+ = u - P (R - 1)(|r| - rolling) n,    slip+ = R (elastic part of u+),

where the elastic part is at most limit / k long. R is how the pair has turned in the step: for a
face or a plane, as it has with an edge in it; for an edge, as its direction and the normal about
it; for a point, as little as the normal allows. What is gripped keeps the forces of its springs
when it turns, and r, which turns with it, is no slip. Only the radius of a body that is a point or
an edge, `rolling`, does not count there, as its turns are in u.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sims.thin_shell.contact.closest import closest, normal, separation
from sims.thin_shell.contact.pairs import EDGE_EDGE, VERTEX_EDGE, Pairs, pair_keys
from sims.thin_shell.energies.barrier import normal_force
from sims.thin_shell.energies.crease import flow
from sims.thin_shell.energies.energy import Constants
from sims.thin_shell.energies.friction import slid, tangential

SKEW = 1e-6  # sine between two directions below which they span no plane


def friction_constants(
    positions: Tensor,
    pairs: Pairs,
    barrier: Constants,
    friction: Tensor,
    slip: Tensor,
    turn: Tensor,
    regularisation: Constants,
) -> Constants:
    """The constants of `energies.friction` or `energies.creep_friction` for n pairs.

    positions (V, 3) [m] at the start of the step. barrier: the constants of `energies.barrier` from
    the kind on. friction (n,): mu. slip (n, 3) [m]: of the springs, zero without memory. turn
    (n, 3) [m]: how far the point of contact of bodies with a radius moves in the step as they turn,
    first primitive less second, so that the pair slides by sum_i w_i dx_i + turn. regularisation:
    (stiffness, softness) or (reach,), (n,) each, which come last. All is differentiable.
    """
    points = positions[pairs.vertices]
    weights = closest(points, pairs.kind)
    axis = normal(points, weights)
    # sum_i w_i x_i is along the normal at the start, so nothing of it is left in the plane
    anchor = -tangential(slip + turn, axis)
    limit = friction * normal_force(points, weights, *barrier)
    return weights, anchor, axis, limit, *regularisation


def carried(
    start: Tensor,
    end: Tensor,
    pairs: Pairs,
    constants: Constants,
    rolling: Tensor | None = None,
) -> Tensor:
    """The slip (n, 3) [m] of anchored pairs after a step, in the directions of its end.

    start, end (V, 3) [m]: positions. constants: of `friction_constants` with (stiffness, softness).
    rolling (n,) [m]: the radii, added up, of those bodies of a pair whose turns are in `turn`.
    Differentiable in all of them; no NaN for pairs that have gone apart.
    """
    weights, _, axis, limit, stiffness, softness = constants
    before, after = start[pairs.vertices], end[pairs.vertices]
    axis_after = normal(after, closest(after, pairs.kind))
    turned = _turn(pairs, before, after, axis, axis_after)
    length = (separation(before, weights) * axis).sum(1)
    if rolling is not None:
        length = length - rolling
    lever = length[:, None] * axis
    tilt = (turned @ lever[:, :, None])[:, :, 0] - lever
    slide = slid(after.flatten(1), *constants[:3]) - tangential(tilt, axis)
    plastic, _ = flow(
        slide, stiffness, stiffness, limit / stiffness, torch.zeros_like(limit), softness
    )
    return (turned @ (slide - plastic)[:, :, None])[:, :, 0]


def _turn(pairs: Pairs, before: Tensor, after: Tensor, axis: Tensor, axis_after: Tensor) -> Tensor:
    """How pairs turn (n, 3, 3) between two places (n, 4, 3) of their points and their normals."""
    crossed, edge = pairs.kind == EDGE_EDGE, pairs.kind == VERTEX_EDGE
    frames, spanned = [], torch.ones_like(edge)
    for points, direction in ((before, axis), (after, axis_after)):
        along = torch.where(
            crossed[:, None], points[:, 3] - points[:, 2], points[:, 2] - points[:, 1]
        )
        side = torch.where((crossed | edge)[:, None], direction, points[:, 3] - points[:, 1])
        up = torch.linalg.cross(along, side)
        room = (along.square().sum(1) * side.square().sum(1)).detach()
        here = up.detach().square().sum(1) > SKEW**2 * room
        spanned = spanned & here
        safe = (torch.where(here[:, None], vectors, 1.0) for vectors in (along, up))
        first, third = (
            vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True) for vectors in safe
        )
        frames.append(torch.stack([first, torch.linalg.cross(third, first), third], dim=2))
    material = frames[1] @ frames[0].mT
    both = axis + axis_after
    square = both.square().sum(1)
    # twice 1 + n . n'; a pair that has turned over is far apart, and its slip is worth nothing
    divisor = torch.where(square > SKEW, square, 1.0)[:, None, None] / 2
    smallest = (
        torch.eye(3).to(axis)
        - both[:, :, None] * both[:, None] / divisor
        + 2.0 * axis_after[:, :, None] * axis[:, None]
    )
    return torch.where(spanned[:, None, None], material, smallest)


def transported(
    old: Pairs, slip: Tensor, stiffness: Tensor, new: Pairs, component: Tensor
) -> Tensor:
    """The slip (m, 3) [m] with which new pairs start, from that of the n old ones.

    A pair that was there keeps its own. Else it takes that of the old pair with the largest force
    stiffness (n,) [N/m] times |slip| (n, 3) among those of the same first vertex (or the same first
    edge) with the same other component; else none. component (V,): of each vertex. Differentiable
    in the slip.
    """
    if not len(old.kind) or not len(new.kind):
        return slip.new_zeros(len(new.kind), 3)
    same, known = _last(pair_keys(old), pair_keys(new))
    known = known & (old.vertices[same] == new.vertices).all(1) & (old.kind[same] == new.kind)
    force = stiffness.detach() * slip.detach().square().sum(1).sqrt()
    rising = torch.argsort(force, stable=True)
    near, met = _last(_sides(old, component)[rising], _sides(new, component))
    taken = slip[torch.where(known, same, rising[near])]
    return torch.where((known | met)[:, None], taken, 0.0)


def _sides(pairs: Pairs, component: Tensor) -> Tensor:
    """A number (n,) for the first primitive of a pair and the component of the second."""
    many = len(component)
    second = torch.where(pairs.kind == EDGE_EDGE, pairs.vertices[:, 1], many)
    return (pairs.vertices[:, 0] * (many + 1) + second) * many + component[pairs.vertices[:, 3]]


def _last(names: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The last row (m,) of names (n,) that is as wanted (m,), and whether there is one."""
    ordered, rows = torch.sort(names, stable=True)
    place = (torch.searchsorted(ordered, wanted, right=True) - 1).clamp(min=0)
    return rows[place], ordered[place] == wanted
