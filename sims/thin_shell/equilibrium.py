"""Static solutions by growing loads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.geometry.topology import connected_labels
from sims.thin_shell.adjoint import Step, solve_step
from sims.thin_shell.contact.wrenches import wrenches
from sims.thin_shell.newton import NotConverged, Solution
from sims.thin_shell.scene import Scene
from sims.thin_shell.soft_body import SoftBody
from sims.thin_shell.state import Control, State

if TYPE_CHECKING:
    from sims.thin_shell.simulator import Simulator

STATIC_TOLERANCE = 1e-10  # largest last move of a vertex over the size of the scene
SMALLEST = 1.0 / 1024  # part of the way from one load to the other below which it is given up
SLIGHT = 1e-3  # of all forces: how strongly they must hold what no support does
LOOSE = 1e-9  # singular value, over the largest, of a motion that nothing holds


def equilibrate(simulator: Simulator, start: State | None, control: Control, parts: int) -> State:
    """Follow the equilibrium from `start` to the loads of `control`; see `Simulator.equilibrium`.

    An elastic scene forgets the way, so that the last part alone is differentiable. Creases and
    friction remember it, and so do moments, which turn with their edges from part to part: then
    every part is.
    """
    weighted = start is not None
    first = simulator.initial_state() if start is None else start
    before = first.balanced or Control()
    remembers = simulator.model.plastic or control.moments is not None
    remembers |= simulator.neighbourhood is not None
    state, share, part = first, 0.0, 1.0 / parts
    solutions: list[Solution] = []
    while share < 1.0:
        goal = min(1.0, share + part)
        goal = 1.0 if goal > 1.0 - SMALLEST / 2 else goal
        try:
            with torch.set_grad_enabled(torch.is_grad_enabled() and (remembers or goal == 1.0)):
                loads = _between(before, control, goal, first, simulator.model.values["walls"])
                weight = 1.0 if weighted else goal
                state, solution = _solve(simulator, state, loads, weight, first.positions)
            solutions.append(solution)
            share, part = goal, min(1.0 / parts, 2 * part)
        except NotConverged as error:
            part /= 2
            if part < SMALLEST:
                raise NotConverged(
                    f"no equilibrium beyond {share:.3%} of the loads, where parts of "
                    f"{part:.3%} failed: {error}"
                ) from error
    return replace(state, balanced=control, solutions=tuple(solutions))


def _solve(
    simulator: Simulator, state: State, control: Control, weight: float, base: Tensor
) -> tuple[State, Solution]:
    """The equilibrium next to `state` under these loads and this share of the weight."""
    scene = simulator.scene
    poses = state.poses if control.poses is None else control.poses
    inputs = simulator.inputs(state, control)
    inputs["weight"] = simulator.weight * weight
    if control.positions is None:
        inputs["targets"] = scene.placed(poses, base)
    contacts = simulator.contacts(state, inputs)
    step = Step(
        model=simulator.model,
        solver=simulator.solver,
        factor=None,
        time_step=None,
        tolerance=STATIC_TOLERANCE * simulator.model.size,
        reactions=bool(scene.bodies),
        contacts=contacts,
    )
    solved = solve_step(step, inputs)
    then = replace(
        state,
        positions=solved.positions,
        velocities=torch.zeros_like(solved.positions),
        angles=solved.angles,
        plastic_angles=solved.plastic_angles,
        accumulated=solved.accumulated,
        poses=poses,
        wrenches=wrenches(scene, poses, solved.positions, solved.reactions, solved.torques),
        touched=None if contacts is None else contacts.started,
        slip=None if contacts is None else solved.slip,
        previous_positions=None,
        previous_velocities=None,
        accelerations=None,
    )
    return then, step.solution


def _between(
    before: Control, control: Control, share: float, first: State, walls: Tensor
) -> Control:
    """Loads and drives `share` of the way from `before`, or `walls` (E, 3), to `control`."""

    def mix(start: Tensor | None, end: Tensor | None) -> Tensor | None:
        if end is None:
            return None if start is None else (1 - share) * start
        return share * end if start is None else (1 - share) * start + share * end

    positions = directors = poses = None
    if control.poses is not None:
        poses = mix(first.poses, control.poses)
    if control.positions is not None:
        positions = mix(first.positions, control.positions)
    if control.directors is not None:
        directors = mix(walls if before.directors is None else before.directors, control.directors)
    return Control(
        positions=positions,
        directors=directors,
        forces=mix(before.forces, control.forces),
        moments=mix(before.moments, control.moments),
        poses=poses,
    )


def check_held(scene: Scene, positions: Tensor, forces: Tensor) -> None:
    """Raise InputError where a piece of the scene could move freely as a rigid body.

    Forces (V, 3) [N] may hold it too: a rigid motion u = a + w x r that no support resists lifts
    their potential by - sum f . (w x u) / 2 at second order, so that a cloth hangs from two corners
    below them. positions: (V, 3) [m], where it starts.
    """
    edges = scene.edges.long()
    bonds, driven = [edges], torch.zeros(len(scene.vertices), dtype=torch.bool).to(scene.held)
    for body, part in zip(scene.bodies, scene.body_parts, strict=True):
        if isinstance(body, SoftBody):
            corners = body.tetrahedra.long() + part.start
            bonds += [corners[:, [0, other]] for other in (1, 2, 3)]
        else:
            driven[part] = True
    labels, count = connected_labels(torch.cat(bonds).T, len(scene.vertices))
    x = positions - positions.mean(dim=0)
    x = x / x.abs().amax()
    # rows say what a rigid motion (translation, turn) does to each coordinate: u = a + w x r
    cross = torch.zeros(len(x), 3, 3, dtype=x.dtype, device=x.device)
    cross[:, 0, 1], cross[:, 0, 2] = x[:, 2], -x[:, 1]
    cross[:, 1, 0], cross[:, 1, 2] = -x[:, 2], x[:, 0]
    cross[:, 2, 0], cross[:, 2, 1] = x[:, 1], -x[:, 0]
    moves = torch.cat([torch.eye(3).to(x).expand(len(x), 3, 3), cross], dim=2)
    along = torch.nn.functional.normalize(x[edges[:, 1]] - x[edges[:, 0]], dim=1)
    turns = torch.cat([torch.zeros_like(along), along], dim=1)
    for label in range(count):
        inside = labels == label
        if bool(driven[inside].all()):
            continue
        rows = moves[inside][scene.held[inside]]
        walls = turns[scene.held_edges & inside[edges[:, 0]]]
        loose = _unresisted(torch.cat([rows, walls]))
        if len(loose) and not _hangs(loose, moves[inside], forces[inside]):
            first = int(torch.nonzero(inside)[0])
            raise InputError(
                "clamped, pinned, fixed and symmetry must hold every sheet, a driven part every "
                "soft body, against rigid motion "
                f"in an equilibrium, got one that can move freely (with vertex {first}); hold "
                "more of it, start it hanging below what holds it, or use `rollout`"
            )


def _unresisted(held: Tensor) -> Tensor:
    """An orthonormal basis (k, 6) of the rigid motions that rows (n, 6) do not resist."""
    if not len(held):
        return torch.eye(6).to(held)
    _, strength, motions = torch.linalg.svd(torch.linalg.qr(held, mode="r").R)
    return motions[int((strength > LOOSE * strength[0]).sum()) :]


def _hangs(loose: Tensor, moves: Tensor, forces: Tensor) -> bool:
    """Whether forces (n, 3) resist each of the rigid motions (k, 6); moves (n, 3, 6)."""
    moved = (moves @ loose.T).mT
    torques = torch.linalg.cross(moved, forces[:, None].expand_as(moved)).sum(0)
    lift = -torques @ loose[:, 3:].T
    least = torch.linalg.eigvalsh(lift + lift.T)[0]
    return bool(least > SLIGHT * forces.norm(dim=1).sum())
