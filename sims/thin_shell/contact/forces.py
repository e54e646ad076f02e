"""The forces between what touches: pressure maps, grip forces, what one sheet bears of another.

    forces = contact_forces(simulator, state)
    push, drag = force_between(simulator.scene, forces, sheet, table)

Each pair of primitives presses with N = -dB/dg along its normal, from the barrier, and rubs with
the force of its spring, or, where friction is creeping, with mu N f1(|v| / eps_v) against its
velocity v. Both follow from a state alone, and have derivatives in it and in the scene.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.thin_shell.bodies import Body
from sims.thin_shell.contact.closest import separation, touch
from sims.thin_shell.contact.constants import barrier_constants, sides
from sims.thin_shell.contact.pairs import EDGE_EDGE, Pairs, pair_keys
from sims.thin_shell.contact.touching import GIVE
from sims.thin_shell.energies.barrier import normal_force
from sims.thin_shell.energies.friction import tangential
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.soft_body import SoftBody
from sims.thin_shell.state import State


class ContactForces(NamedTuple):
    """What acts between n pairs of primitives.

    pairs: their kind (n,) and vertices (n, 4), see `contact.pairs`. components (n, 2): which sheet
    or body, in the order of the scene, sheets first, the first and the second primitive belong to.
    pressing (n,) [N], at least 0; direction (n, 3): the unit normal, from the second primitive to
    the first. friction (n, 3) [N]: on the first one. So pressing * direction + friction acts on the
    first, and the opposite on the second. where (n, 3) [m]: between the two, half way through the
    gap that is left.
    """

    pairs: Pairs
    components: Tensor
    pressing: Tensor
    direction: Tensor
    friction: Tensor
    where: Tensor


def contact_forces(simulator: Simulator, state: State) -> ContactForces:
    """The forces of contact in a state, differentiable in its tensors and in those of the scene.

    Normal forces are those at the positions of the state. Anchored friction is what springs with
    its slip pull with there; in a step it follows from the normal forces at the start, so in motion
    the two differ by what these change. Creeping friction is that of the velocities of the state;
    the turning of spheres and cylinders is not in it. No pairs for a scene without contact.
    """
    if not isinstance(simulator, Simulator):
        raise InputError(f"simulator must be a Simulator, got {type(simulator).__name__}")
    state = simulator.checked_state(state)
    scene, around = simulator.scene, simulator.neighbourhood
    positions, values = state.positions, simulator.model.values
    if around is None or scene.contact is None:
        flat = positions.new_zeros(0, 3)
        none = torch.zeros(0, 4, dtype=torch.int64, device=positions.device)
        empty = Pairs(none[:, 0], none)
        return ContactForces(empty, none[:, :2], flat[:, 0], flat, flat, flat)
    surface, settings = around.surface, scene.contact
    reach, radius = values["contact_range"].detach(), values["contact_radius"]
    pairs = around.active(positions.detach(), radius.detach(), float(reach.max()))
    pairs, slip = _with_slip(pairs, state)
    constants = barrier_constants(pairs, surface, values)
    points = positions[pairs.vertices]
    weights, distance, direction = touch(points, pairs.kind)
    pressing = normal_force(points, distance, *constants)
    first, second = sides(pairs, surface)
    limit = values["friction"][first, second] * pressing
    if settings.law == "creeping":
        moving = separation(state.velocities[pairs.vertices], weights)
        friction = _creeping(tangential(moving, direction), limit, settings.creep_speed)
    else:
        stiffness = torch.maximum(settings.grip * constants[1], limit / (GIVE * constants[2]))
        friction = -stiffness[:, None] * slip
    ours = (
        torch.arange(4, device=weights.device) < torch.where(pairs.kind == EDGE_EDGE, 2, 1)[:, None]
    )
    nearer = separation(points, torch.where(ours, 0.0, -weights))
    room = distance - constants[3]
    where = nearer + (radius[second] + room / 2)[:, None] * direction
    components = torch.stack([first, second], dim=1)
    return ContactForces(pairs, components, pressing, direction, friction, where)


def force_between(
    scene: Scene, forces: ContactForces, first: Sheet | Body | SoftBody, second: object
) -> tuple[Tensor, Tensor]:
    """What `second` pushes `first` with, and what it drags it with, (3,) and (3,) [N].

    Both are sheets or bodies of the scene; with the same one twice, a sheet that touches itself,
    the sums are zero. Raises InputError for others.
    """
    if not isinstance(scene, Scene):
        raise InputError(f"scene must be a Scene, got {type(scene).__name__}")
    parts = [*scene.sheets, *scene.bodies]
    places = []
    for name, wanted in (("first", first), ("second", second)):
        found = [place for place, part in enumerate(parts) if part is wanted]
        if not found:
            kind = type(wanted).__name__
            raise InputError(f"{name} must be a sheet or body of the scene, got another {kind}")
        places.append(found[0])
    pair = torch.tensor(places, device=forces.components.device)
    ahead = (forces.components == pair).all(1).to(forces.pressing)
    behind = (forces.components == pair.flip(0)).all(1).to(forces.pressing)
    sign = ahead - behind
    return (sign * forces.pressing) @ forces.direction, sign @ forces.friction


def _with_slip(pairs: Pairs, state: State) -> tuple[Pairs, Tensor]:
    """Pairs that touch, and those that did where the last step started, with their slip."""
    touched, slip = state.touched, state.slip
    if touched is None or slip is None or not len(slip):
        return pairs, state.positions.new_zeros(len(pairs.kind), 3)
    new = ~torch.isin(pair_keys(pairs), pair_keys(touched))
    both = Pairs(
        torch.cat([touched.kind, pairs.kind[new]]),
        torch.cat([touched.vertices, pairs.vertices[new]]),
    )
    return both, torch.cat([slip, slip.new_zeros(int(new.sum()), 3)])


def _creeping(moving: Tensor, limit: Tensor, slow: float) -> Tensor:
    """-limit f1(|v| / slow) v / |v| (n, 3), with f1(y) = 2 y - y^2 below one."""
    square = moving.square().sum(1)
    some = square > 0
    speed = torch.where(some, square, 1.0).sqrt()
    share = torch.where(speed < slow, (2.0 - speed / slow) / slow, 1.0 / speed)
    return -(limit * torch.where(some, share, 2.0 / slow))[:, None] * moving
