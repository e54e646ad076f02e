"""Four small control problems with contact, swing and friction, for methods that plan trajectories.

The design is a trajectory of controls (T, c) in [-1, 1], at rest at the start: "controls",
flagged as a trajectory. Each simulation is plain batched torch with time steps short enough for
its stiffest contact, differentiable by autograd, and each cost is near 1 when nothing is done:
mostly the distance of something from where it should be at the end, and a little effort.

- `breaking_wall`: the cost moves once a plate is knocked out of its wall, which takes a run-up.
- `cart_pole`: a pole swings up; every number of swings is a valley of its own.
- `ball_through_gate`: a ball too weak to fly must bounce higher and pass a gate in a wall.
- `block_pushing`: a pusher away from a block, which resists by friction, must find and push it.

Gradients are those of the discretised motion: exact, and zero where the controlled body has not
yet touched what the cost looks at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from optimizers.problem import Box, Problem

GRAVITY = 9.81  # m / s^2
SOLVED = 0.1  # of the gain from doing nothing to the best known: so much may be missing


@dataclass(frozen=True, eq=False)
class Toy:
    """A trajectory problem with what is known about it.

    problem: d = T c, differentiable, a gradient at the price of 3 values.
    best: cost after long searches between knots and at every step, in the manner of
        `python benchmarks/trajectories.py --best`; a lucky run may end a little lower.
    success: cost at or below which a run counts as solved: all but a tenth of the gain from doing
        nothing to `best`.
    simulate: controls (B, T, c) -> states (B, S + 1, n) at all time steps, the first included.
    cost: {"controls": (B, T, c)} -> costs (B,), as the problem has it.
    """

    name: str
    problem: Problem
    best: float
    success: float
    simulate: Callable[[Tensor], Tensor]
    cost: Callable[[dict[str, Tensor]], Tensor]


def breaking_wall() -> Toy:
    """A mass on a line must run up, break a plate out of a wall and send it to a place behind."""
    return _toy("breaking wall", 40, 1, wall_states, wall_cost, best=0.0401)


def cart_pole() -> Toy:
    """A cart on a short track must swing a hanging pole up and hold it."""
    return _toy("cart-pole", 40, 1, cart_pole_states, cart_pole_cost, best=0.0217)


def ball_through_gate() -> Toy:
    """A ball with little thrust must bounce higher, pass a gate and stop behind it in the air."""
    return _toy("ball through gate", 30, 2, ball_states, ball_cost, best=0.0030)


def block_pushing() -> Toy:
    """A pusher must go round a square block and push it to a place and an angle."""
    return _toy("block pushing", 30, 2, block_states, block_cost, best=0.0038)


def trajectory_toys() -> tuple[Toy, ...]:
    """All four."""
    return breaking_wall(), cart_pole(), ball_through_gate(), block_pushing()


def _toy(
    name: str,
    steps: int,
    channels: int,
    simulate: Callable[[Tensor], Tensor],
    cost: Callable[[Tensor, Tensor], Tensor],
    best: float,
) -> Toy:
    def fun(named: dict[str, Tensor]) -> Tensor:
        return cost(simulate(named["controls"]), named["controls"])

    box = Box((steps, channels), lower=-1.0, upper=1.0, start=0.0, trajectory=True)
    problem = Problem({"controls": box}, fun, constraints=0, batched=True, differentiable=True)
    idle = float(problem.evaluate(problem.start[None]).value)
    return Toy(name, problem, best, best + SOLVED * (idle - best), simulate, fun)


def _effort(controls: Tensor) -> Tensor:
    return controls.square().mean((1, 2))


PUSH, WALL, STRENGTH = 4.0, 1.0, 48.0  # N, m, N
WALL_STEP, WALL_STIFFNESS, PLATE_DRAG = 0.025, 400.0, 0.5  # s, N / m, 1 / s


def wall_states(controls: Tensor) -> Tensor:
    """States (position, velocity of the mass, of the plate, whether it is loose), two a control.

    Unit masses. The plate stands at 1 m and holds until a contact force of 48 N, which a mass at
    2.4 m/s exerts and the 4 N of the control alone do not; loose, it slides with drag.
    """
    x = v = w = controls.new_zeros(len(controls))
    plate, loose = x + WALL, x
    states = [torch.stack((x, v, plate, w, loose), -1)]
    for push in (PUSH * controls[..., 0]).unbind(1):
        for _ in range(2):
            force = WALL_STIFFNESS * (x - plate).clamp(min=0.0)
            loose = torch.maximum(loose, (force.detach() > STRENGTH).to(x.dtype))
            v = v + WALL_STEP * (push - force)
            w = w + WALL_STEP * loose * (force - PLATE_DRAG * w)
            x, plate = x + WALL_STEP * v, plate + WALL_STEP * w
            states.append(torch.stack((x, v, plate, w, loose), -1))
    return torch.stack(states, 1)


def wall_cost(states: Tensor, controls: Tensor) -> Tensor:
    """(plate - 2)^2 + w^2 / 50 at the end, and a little effort."""
    _, _, plate, w, _ = states[:, -1].unbind(-1)
    return (plate - 2).square() + 0.02 * w.square() + 0.02 * _effort(controls)


FORCE, CART, POLE, LENGTH, TRACK = 10.0, 1.0, 0.3, 0.5, 0.6  # N, kg, kg, m, m
CART_STEP = 0.025  # s


def cart_pole_states(controls: Tensor) -> Tensor:
    """States (position, velocity, angle, angular velocity), two a control; angle 0 is upright.

    A point mass on a massless rod: with s = sin(angle), c = cos(angle),

        (M + m s^2) x'' = F + m s (l angle'^2 - g c),   l angle'' = g s - x'' c
    """
    x = v = w = controls.new_zeros(len(controls))
    angle = x + math.pi
    states = [torch.stack((x, v, angle, w), -1)]
    for force in (FORCE * controls[..., 0]).unbind(1):
        for _ in range(2):
            s, c = angle.sin(), angle.cos()
            pull = POLE * s * (LENGTH * w.square() - GRAVITY * c)
            a = (force + pull) / (CART + POLE * s.square())
            v, w = v + CART_STEP * a, w + CART_STEP / LENGTH * (GRAVITY * s - a * c)
            x, angle = x + CART_STEP * v, angle + CART_STEP * w
            states.append(torch.stack((x, v, angle, w), -1))
    return torch.stack(states, 1)


def cart_pole_cost(states: Tensor, controls: Tensor) -> Tensor:
    """Mean height lost over the last quarter, speeds at the end, the track left, and effort."""
    x, v, angle, w = states.unbind(-1)
    late = 3 * x.shape[1] // 4
    height = (1 - angle[:, late:].cos()).mean(1) / 2
    speeds = 0.02 * w[:, -1].square() + 0.05 * v[:, -1].square()
    outside = 20 * (x.abs() - TRACK).clamp(min=0.0).square().mean(1)
    return height + speeds + outside + 0.02 * _effort(controls)


THRUST, RADIUS, GATE, WIDTH = 5.0, 0.15, (1.5, 0.8), (0.1, 0.22)  # N, m, centre, half widths
BALL_STEP, BALL_STIFFNESS, BALL_DAMPING = 0.015, 2000.0, 5.0  # s, N / m, kg / s
BALL_START, BALL_GOAL = (0.0, 0.9), (2.5, 0.6)


def ball_states(controls: Tensor) -> Tensor:
    """States (position x, y, velocity x, y), four a control, of a ball of 1 kg under gravity.

    Floor at 0 and a wall around x = 1.5, open from 0.58 to 1.02 m, push a ball that overlaps them
    by a stiff spring along the normal; the floor also damps.
    """
    count = len(controls)
    x = controls.new_tensor(BALL_START).expand(count, 2)
    v = controls.new_zeros(count, 2)
    down = controls.new_tensor([0.0, -GRAVITY])
    centre, half = controls.new_tensor(GATE), controls.new_tensor([WIDTH[0], -WIDTH[1]])
    outward = controls.new_tensor([1.0, -1.0])
    states = [torch.cat((x, v), -1)]
    for push in (THRUST * controls + down).unbind(1):
        for _ in range(4):
            offset = x - centre
            gap = (outward * offset.abs() - half).clamp(min=0.0)  # to the solid, along each axis
            distance = (gap.square().sum(-1, keepdim=True) + 1e-12).sqrt()
            normal = gap * outward * offset.sign() / distance
            force = BALL_STIFFNESS * (RADIUS - distance).clamp(min=0.0) * normal
            depth = RADIUS - x[:, 1]
            floor = (BALL_STIFFNESS * depth - BALL_DAMPING * v[:, 1]).clamp(min=0.0)
            floor = torch.where(depth > 0, floor, 0.0)
            force = force + torch.stack((torch.zeros_like(floor), floor), -1)
            v = v + BALL_STEP * (push + force)
            x = x + BALL_STEP * v
            states.append(torch.cat((x, v), -1))
    return torch.stack(states, 1)


def ball_cost(states: Tensor, controls: Tensor) -> Tensor:
    """Squared distance to the goal over that of the start, speed at the end, and effort."""
    x, v = states[:, -1].split(2, -1)
    goal = x.new_tensor(BALL_GOAL)
    away = (x.new_tensor(BALL_START) - goal).square().sum()
    missed = (x - goal).square().sum(-1) / away
    return missed + 0.02 * v.square().sum(-1) + 0.02 * _effort(controls)


HAND, DRAG, SIDE, REACH = 8.0, 4.0, 0.2, 0.08  # N, kg / s, half side in m, radius in m
BLOCK_STEP, BLOCK_STIFFNESS = 0.03, 400.0  # s, N / m
INERTIA, GRIP, SLIP = 2 * SIDE**2 / 3, 0.2 * GRAVITY, 0.02  # kg m^2, N, m / s
TWIST = 0.7652 * SIDE  # mean distance of a square from its centre, the lever of friction
PUSHER_START, BLOCK_GOAL, TURN = (0.45, -0.2), (0.5, 0.15), 0.5


def block_states(controls: Tensor) -> Tensor:
    """States (pusher x, y, its velocity; block x, y, angle, its velocities), two a control.

    A disc of 0.5 kg with drag pushes a square of 1 kg, which starts at the origin, along the
    normal of the square's nearest point. Dry friction -F v / sqrt(v^2 + slip^2) holds the square,
    alike its rotation.
    """
    count = len(controls)
    p = controls.new_tensor(PUSHER_START).expand(count, 2)
    u = b = v = controls.new_zeros(count, 2)
    angle = w = controls.new_zeros(count)
    states = [torch.cat((p, u, b, angle[:, None], v, w[:, None]), -1)]
    for push in (HAND * controls).unbind(1):
        for _ in range(2):
            axis = torch.stack((angle.cos(), angle.sin()), -1)
            across = torch.stack((-axis[:, 1], axis[:, 0]), -1)
            offset = p - b
            local = torch.stack(((offset * axis).sum(-1), (offset * across).sum(-1)), -1)
            gap = (local.abs() - SIDE).clamp(min=0.0)
            distance = (gap.square().sum(-1, keepdim=True) + 1e-12).sqrt()
            normal = gap * local.sign() / distance
            force = BLOCK_STIFFNESS * (REACH - distance).clamp(min=0.0) * normal
            turning = local[:, 0] * force[:, 1] - local[:, 1] * force[:, 0]
            force = force[:, :1] * axis + force[:, 1:] * across
            u = u + BLOCK_STEP / 0.5 * (push + force - DRAG * u)
            held = GRIP / (v.square().sum(-1) + SLIP**2).sqrt()
            v = (v - BLOCK_STEP * force) / (1 + BLOCK_STEP * held[:, None])
            twist = GRIP * TWIST / (w.square() + (SLIP / SIDE) ** 2).sqrt()
            w = (w - BLOCK_STEP / INERTIA * turning) / (1 + BLOCK_STEP / INERTIA * twist)
            p, b, angle = p + BLOCK_STEP * u, b + BLOCK_STEP * v, angle + BLOCK_STEP * w
            states.append(torch.cat((p, u, b, angle[:, None], v, w[:, None]), -1))
    return torch.stack(states, 1)


def block_cost(states: Tensor, controls: Tensor) -> Tensor:
    """Squared distance of the block to its goal, over that at the start, its angle, and effort."""
    block, angle = states[:, -1, 4:6], states[:, -1, 6]
    goal = block.new_tensor(BLOCK_GOAL)
    missed = (block - goal).square().sum(-1) / goal.square().sum()
    return missed + 0.5 * (1 - (angle - TURN).cos()) + 0.02 * _effort(controls)
