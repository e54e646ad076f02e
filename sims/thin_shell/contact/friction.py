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

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sims.thin_shell.contact.closest import closest, normal, separation
from sims.thin_shell.contact.pairs import EDGE_EDGE, VERTEX_EDGE, Pairs, pair_keys
from sims.thin_shell.energies.barrier import normal_force
from sims.thin_shell.energies.crease import flow
from sims.thin_shell.energies.creep_friction import CREEP
from sims.thin_shell.energies.energy import Constants, Energy
from sims.thin_shell.energies.friction import FRICTION, slid, tangential

SKEW = 1e-6  # sine between two directions below which they span no plane


@dataclass(frozen=True, eq=False)
class Friction:
    """Friction of m pairs over one step: its energy and the constants of it.

    rolling (m,) [m]: radii, added up, of those bodies of a pair whose turns are in its anchor.
    """

    energy: Energy
    constants: Constants
    rolling: Tensor | None = None

    @property
    def plain(self) -> Friction:
        """The same without the graphs of its constants."""
        constants = tuple(constant.detach() for constant in self.constants)
        rolling = None if self.rolling is None else self.rolling.detach()
        return replace(self, constants=constants, rolling=rolling)


def lagged(
    start: Tensor,
    pairs: Pairs,
    barrier: Constants,
    friction: Tensor,
    slip: Tensor,
    turn: Tensor | None = None,
    *,
    grip: Tensor | float,
    softness: Tensor | float,
    creep: float | None = None,
    rolling: Tensor | None = None,
) -> Friction:
    """Friction of m pairs in a step from `start`, differentiable in all tensors.

    start (V, 3) [m]: positions. barrier: the constants of `energies.barrier` from the kind on.
    friction (m,): mu. slip (m, 3) [m]: of the springs. turn (m, 3) [m]: how far the point of
    contact of bodies with a radius moves as they turn in the step, first primitive less second, so
    that a pair slides by sum_i w_i dx_i + turn. grip: stiffness of the springs over that of the
    barrier. softness in [0, 1): of the corner between sticking and sliding. creep [m]: how far a
    contact goes in a step below which it counts as sticking, for friction regularised in the
    velocity, which has no springs. rolling (m,) as in `Friction`.
    """
    points = start[pairs.vertices]
    weights = closest(points, pairs.kind)
    axis = normal(points, weights)
    limit = friction * normal_force(points, weights, *barrier)
    before = slip if creep is None else torch.zeros_like(slip)
    # sum_i w_i x_i is along the normal at the start, so nothing of it is left in the plane
    anchor = -tangential(before if turn is None else before + turn, axis)
    places = weights, anchor, axis, limit
    if creep is not None:
        return Friction(CREEP, (*places, torch.full_like(limit, creep)))
    stiffness = grip * barrier[1]
    corner = torch.as_tensor(softness).to(stiffness).expand_as(stiffness)
    return Friction(FRICTION, (*places, stiffness, corner), rolling)


def carried(start: Tensor, end: Tensor, pairs: Pairs, friction: Friction) -> Tensor:
    """The slip (m, 3) [m] after a step, in the directions of its end; zero without springs.

    start, end (V, 3) [m]: positions. Differentiable in these and in what `lagged` was given; no NaN
    for pairs that have gone apart.
    """
    if friction.energy is CREEP:
        return end.new_zeros(len(pairs.kind), 3)
    weights, _, axis, limit, stiffness, softness = friction.constants
    before, after = start[pairs.vertices], end[pairs.vertices]
    axis_after = normal(after, closest(after, pairs.kind))
    turned = _turn(pairs, before, after, axis, axis_after)
    length = (separation(before, weights) * axis).sum(1)
    if friction.rolling is not None:
        length = length - friction.rolling
    lever = length[:, None] * axis
    tilt = (turned @ lever[:, :, None])[:, :, 0] - lever
    slide = slid(after.flatten(1), *friction.constants[:3]) - tangential(tilt, axis)
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


def transported(old: Pairs | None, slip: Tensor | None, new: Pairs, component: Tensor) -> Tensor:
    """The slip (m, 3) [m] with which new pairs start, from that (n, 3) of the n old ones, if any.

    A pair that was there keeps its own. Else it takes the largest of the old pairs with the same
    first vertex (or the same first edge) and the same other component; else none. component (V,):
    of each vertex. Differentiable in the slip.
    """
    if old is None or slip is None or not len(slip):
        return torch.zeros(len(new.kind), 3, dtype=torch.float64, device=component.device)
    same, known = _last(pair_keys(old), pair_keys(new))
    known = known & (old.vertices[same] == new.vertices).all(1) & (old.kind[same] == new.kind)
    rising = torch.argsort(slip.detach().square().sum(1), stable=True)
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
