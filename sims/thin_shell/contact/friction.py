"""What friction takes from the start of a step and leaves at its end.

Normal, closest points and the limit mu N of a pair are those at the start of the step, lagged as in
Li et al. 2020, Incremental potential contact, section 5; but as functions of the positions there,
and so with derivatives. Anchored friction remembers the slip of its springs from step to step:

    u+ = u - lever P R n,    slip+ = R (elastic part of u+),    lever = |r| - rolling,

where the elastic part is at most limit / k long. R is how the pair has turned in the step: for a
face or a plane, as it has with an edge in it; for an edge, as its direction and the normal about
it; for a point, as little as the normal allows. What is gripped keeps the forces of its springs
when it turns, and r, which turns with it, is no slip. The part `rolling` of |r| belongs to bodies
whose turns in the step are known, and in u already.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sims.thin_shell.contact.closest import separation, touch
from sims.thin_shell.contact.pairs import EDGE_EDGE, Pairs, pair_keys
from sims.thin_shell.contact.turns import turns
from sims.thin_shell.energies.barrier import normal_force
from sims.thin_shell.energies.crease import flow
from sims.thin_shell.energies.creep_friction import CREEP
from sims.thin_shell.energies.creep_friction import force as creep_force
from sims.thin_shell.energies.energy import Constants, Energy
from sims.thin_shell.energies.friction import FRICTION, tangential
from sims.thin_shell.energies.friction import force as anchored_force


@dataclass(frozen=True, eq=False)
class Friction:
    """Friction of m pairs over one step: its energy, the constants of it, and the lever (m,) [m],
    how much of r turns with a pair."""

    energy: Energy
    constants: Constants
    lever: Tensor

    def force(self, local: Tensor) -> Tensor:
        """dW/du (m, 3) [N] of pairs local (m, 12), differentiable."""
        force = creep_force if self.energy is CREEP else anchored_force
        return force(local, *self.constants)


def lagged(
    start: Tensor,
    pairs: Pairs,
    barrier: Constants,
    coefficient: Tensor,
    slip: Tensor,
    turn: Tensor | None = None,
    *,
    placed: tuple[Tensor, Tensor, Tensor] | None = None,
    grip: Tensor | float,
    give: Tensor | None = None,
    softness: Tensor | float,
    creep: float | None = None,
    rolling: Tensor | None = None,
) -> Friction:
    """Friction of m pairs in a step from `start`, differentiable in all tensors.

    start (V, 3) [m]: positions. barrier: the constants of `energies.barrier` from the kind on.
    coefficient (m,): mu. slip (m, 3) [m]: of the springs. turn (m, 3) [m]: how far the point of
    contact of bodies with a radius moves as they turn in the step, first primitive less second, so
    that a pair slides by sum_i w_i dx_i + turn. placed: `touch` of the pairs at the start, where it
    is known. grip: stiffness of the springs over that of the
    barrier; give (m,) [m]: what they may yield before they slide, which makes those of a large
    limit stiffer. softness in [0, 1): of the corner between sticking and sliding. creep [m]: how
    far a contact goes in a step below which it counts as sticking, for friction regularised in the
    velocity, which has no springs. rolling (m,) [m]: how much of |r| has its motion in `turn`.
    """
    points = start[pairs.vertices]
    weights, distance, axis = touch(points, pairs.kind) if placed is None else placed
    limit = coefficient * normal_force(points, distance, *barrier)
    before = slip if creep is None else torch.zeros_like(slip)
    # sum_i w_i x_i is along the normal at the start, so nothing of it is left in the plane
    anchor = -tangential(before if turn is None else before + turn, axis)
    places = weights, anchor, axis, limit
    if creep is not None:
        return Friction(CREEP, (*places, torch.full_like(limit, creep)), distance)
    stiffness = grip * barrier[1]
    if give is not None:
        stiffness = torch.maximum(stiffness, limit / give)
    corner = torch.as_tensor(softness, dtype=stiffness.dtype, device=stiffness.device)
    lever = distance if rolling is None else distance - rolling
    return Friction(FRICTION, (*places, stiffness, corner.expand_as(stiffness)), lever)


def carried(start: Tensor, end: Tensor, pairs: Pairs, friction: Friction) -> Tensor:
    """The slip (m, 3) [m] after a step, in the directions of its end; zero without springs.

    start, end (V, 3) [m]: positions. Differentiable in these and in what `lagged` was given; no NaN
    for pairs that have gone apart.
    """
    if friction.energy is CREEP:
        return end.new_zeros(len(pairs.kind), 3)
    weights, anchor, axis, limit, stiffness, softness = friction.constants
    before, after = start[pairs.vertices], end[pairs.vertices]
    turned = turns(pairs.kind, before, after, axis, touch(after, pairs.kind)[2])
    tilted = friction.lever[:, None] * (turned @ axis[:, :, None])[:, :, 0]
    slide = tangential(separation(after, weights) - tilted - anchor, axis)
    none = torch.zeros_like(limit)
    plastic, _ = flow(slide, stiffness, stiffness, limit / stiffness, none, softness)
    return (turned @ (slide - plastic)[:, :, None])[:, :, 0]


def transported(old: Pairs | None, slip: Tensor | None, new: Pairs, component: Tensor) -> Tensor:
    """The slip (m, 3) [m] with which new pairs start, from that (n, 3) of the n old ones, if any.

    A pair that was there keeps its own. Else it takes that of the old pairs with the same first
    vertex (or the same first edge) and the same other component, a mean weighted by the squares of
    their lengths, as most that have slipped little bear little; none where there are none.
    component (V,): of each vertex. Differentiable in the slip.
    """
    if old is None or slip is None or not len(slip):
        return torch.zeros(len(new.kind), 3, dtype=torch.float64, device=component.device)
    same, known = _last(pair_keys(old), pair_keys(new))
    known = known & (old.vertices[same] == new.vertices).all(1) & (old.kind[same] == new.kind)
    kept = slip[same]
    if bool(known.all()):
        return kept
    names, place = torch.unique(_sides(old, component), return_inverse=True)
    weights = slip.square().sum(1, keepdim=True)
    sums = slip.new_zeros(len(names), 4)
    sums = sums.index_add(0, place, torch.cat([weights * slip, weights], 1))
    means = sums[:, :3] / torch.where(sums[:, 3:] > 0, sums[:, 3:], 1.0)
    near, met = _last(names, _sides(new, component))
    return torch.where(known[:, None], kept, torch.where(met[:, None], means[near], 0.0))


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
