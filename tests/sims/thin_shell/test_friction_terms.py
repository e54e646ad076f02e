"""Friction from step to step: what holds, what slides, and what turns with its pair."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sims.thin_shell.contact.closest import closest, normal, separation, touch
from sims.thin_shell.contact.constants import levers_of_pairs, turn_of_pairs
from sims.thin_shell.contact.friction import Friction, carried, lagged, transported
from sims.thin_shell.contact.pairs import (
    EDGE_EDGE,
    VERTEX_EDGE,
    VERTEX_FACE,
    VERTEX_PLANE,
    Pairs,
    Surface,
)
from sims.thin_shell.contact.turns import turns
from sims.thin_shell.energies.creep_friction import CREEP
from sims.thin_shell.energies.energy import Constants, by_autograd
from sims.thin_shell.energies.friction import FRICTION, slid

ROUNDING = 1e-12  # of the lengths of an element, which are of order one
GRIP = 50.0
MU = 0.4
POINTS = {  # gaps of 0.1, with the parts of a rigid pair
    "vertex-face": (VERTEX_FACE, [[0.3, 0.3, 0.1], [0, 0, 0], [1, 0, 0], [0, 1, 0]]),
    "vertex-corner": (VERTEX_FACE, [[-0.06, -0.08, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0]]),
    "edge-edge": (EDGE_EDGE, [[-1, 0, 0.1], [1, 0.2, 0.1], [0, -1, 0], [0.3, 1, 0]]),
    "edge-end": (EDGE_EDGE, [[0.5, 0.06, 0.08], [0.6, 1, 1], [0, 0, 0], [1, 0, 0]]),
    "vertex-plane": (VERTEX_PLANE, [[9.0, 5.0, 0.1], [0, 0, 0], [1, 0, 0], [0, 1, 0]]),
    "vertex-edge": (VERTEX_EDGE, [[0.3, 0.06, 0.08], [0, 0, 0], [1, 0, 0], [1, 0, 0]]),
    "vertex-vertex": (VERTEX_EDGE, [[0.06, 0.0, 0.08], [0, 0, 0], [0, 0, 0], [0, 0, 0]]),
}


def number(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def pair_of(kind: int) -> Pairs:
    return Pairs(torch.tensor([kind]), torch.arange(4)[None])


def barrier_of(kind: int, offset: float = 0.0) -> Constants:
    """kind, stiffness, range, offset, parallel of one pair."""
    return tuple(number(value) for value in (kind, 3.0, 0.3, offset, 1e-3))


def friction_of(positions: Tensor, kind: int, slip: Tensor | None = None, **given) -> Friction:
    slip = torch.zeros(1, 3, dtype=torch.float64) if slip is None else slip
    given = {"grip": GRIP, "softness": 0.0} | given
    return lagged(positions, pair_of(kind), barrier_of(kind), number(MU), slip, **given)


def force_on_first(friction: Friction, positions: Tensor) -> Tensor:
    made = friction.energy.evaluate(positions.flatten()[None], friction.constants, 1)
    return -made.gradient.unflatten(1, (4, 3))[0, 0]


def moved(positions: Tensor, *shift: float) -> Tensor:
    """The first vertex moved."""
    result = positions.clone()
    result[0] += number(*shift)
    return result


def rotation(axis: Tensor, angle: float) -> Tensor:
    x, y, z = (axis / axis.norm()).tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return torch.linalg.matrix_exp(angle * cross)


# ---- the energies


def test_no_limit_means_no_energy():
    """Nor a derivative that is not finite, whether anything has slid or not."""
    local, constants = FRICTION.sample(torch.Generator().manual_seed(1), 6)
    weights, anchor, axis, limit, stiffness, softness = constants
    anchor = anchor.clone()
    anchor[::2] = (weights[::2, None] @ local[::2].unflatten(1, (4, 3)))[:, 0]
    leaves = tuple(
        part.clone().requires_grad_()
        for part in (weights, anchor, axis, torch.zeros_like(limit), stiffness, softness)
    )
    made = FRICTION.evaluate(local, leaves, 2)
    twin = by_autograd(FRICTION.value, local, leaves, 2)
    for found, other in zip(made, twin, strict=True):
        assert float(found.abs().max()) == 0
        assert float(other.abs().max()) < ROUNDING
    direction = torch.randn(local.shape, generator=torch.Generator().manual_seed(2)).double()
    for rate in torch.autograd.grad(FRICTION.work(local, direction, *leaves).sum(), leaves):
        assert rate.isfinite().all()


def test_a_force_grows_up_to_its_limit():
    kind, points = POINTS["vertex-face"]
    positions = torch.tensor(points, dtype=torch.float64)
    friction = friction_of(positions, kind)
    limit = float(friction.constants[3])
    reach = limit / (3.0 * GRIP)
    assert limit > 0
    for share in (0.25, 0.99, 1.5, 40.0):
        force = force_on_first(friction, moved(positions, -share * reach, 0, 0))
        assert float(force[0]) == pytest.approx(min(share, 1.0) * limit, rel=1e-9)
        assert float(force[1:].abs().max()) < ROUNDING


def test_softness_rounds_the_corner_and_nothing_else():
    kind, points = POINTS["vertex-face"]
    positions = torch.tensor(points, dtype=torch.float64)
    sharp, soft = (friction_of(positions, kind, softness=softness) for softness in (0.0, 0.2))
    reach = float(sharp.constants[3]) / (3.0 * GRIP)
    for share, same in ((0.79, True), (0.9, False), (1.0, False), (1.1, False), (1.21, True)):
        place = moved(positions, share * reach, 0, 0)
        forces = [force_on_first(friction, place).norm() for friction in (sharp, soft)]
        assert (float((forces[0] - forces[1]).abs()) < ROUNDING) == same
        assert forces[1] <= forces[0] + ROUNDING


def test_the_limit_is_that_of_coulomb():
    """mu times the force that the barrier pushes with, over a barrier with a mollifier too."""
    for name, (kind, points) in POINTS.items():
        positions = torch.tensor(points, dtype=torch.float64)
        g, reach, stiffness = 0.1, 0.3, 3.0
        y = g / reach
        force = stiffness * reach * (2.0 * (y - 1) * math.log(y) + (y - 1) ** 2 / y)
        constants = friction_of(positions, kind).constants
        assert float(constants[3]) == pytest.approx(MU * force, rel=1e-9), name


# ---- steps


def slide_by(friction: Friction, positions: Tensor, force: Tensor) -> Tensor:
    """Where a force (3,) in the plane of contact takes the first vertex, by Newton's method."""
    place, local = positions.clone(), slice(0, 3)
    for _ in range(60):
        made = friction.energy.evaluate(place.flatten()[None], friction.constants, 2)
        residual = made.gradient[0, local] - force
        # the normal direction, which friction leaves free, is held
        stiff = made.hessian[0, local, local] + torch.diag(number(0.0, 0.0, 1.0))
        place[0] -= torch.linalg.solve(stiff, residual)
    return place


def test_what_holds_does_not_creep():
    """Ten steps under a force below the limit leave everything where the first has put it."""
    kind, points = POINTS["vertex-face"]
    positions = torch.tensor(points, dtype=torch.float64)
    pairs, slip = pair_of(kind), torch.zeros(1, 3, dtype=torch.float64)
    limit = float(friction_of(positions, kind).constants[3])
    force = 0.95 * limit * number(0.6, -0.8, 0.0)
    places = []
    for _ in range(10):
        friction = friction_of(positions, kind, slip)
        after = slide_by(friction, positions, force)
        slip = carried(positions, after, pairs, friction)
        slip = transported(pairs, slip, pairs, torch.tensor([0, 1, 1, 1]))
        positions = after
        places.append(after)
    torch.testing.assert_close(slip[0], force / (3.0 * GRIP), rtol=1e-12, atol=0)
    assert (places[-1] - places[0]).abs().max() < 1e-15


def test_beyond_the_limit_it_accelerates_with_what_is_left():
    """Implicit Euler steps of a mass: dv = h (F - mu N) / m once the spring is at its limit."""
    kind, points = POINTS["vertex-plane"]
    positions = torch.tensor(points, dtype=torch.float64)
    pairs, slip = pair_of(kind), torch.zeros(1, 3, dtype=torch.float64)
    limit = float(friction_of(positions, kind).constants[3])
    force, mass, step = 1.5 * limit * number(1.0, 0.0, 0.0), 2.0, 0.1
    velocity, speeds = torch.zeros(3, dtype=torch.float64), []
    for _ in range(12):
        friction = friction_of(positions, kind, slip)
        place = moved(positions, *(step * velocity).tolist())
        for _ in range(30):
            made = friction.energy.evaluate(place.flatten()[None], friction.constants, 2)
            change = (place[0] - positions[0]) / step - velocity
            residual = mass * change / step + made.gradient[0, :3] - force
            stiff = made.hessian[0, :3, :3] + mass / step**2 * torch.eye(3)
            place[0] -= torch.linalg.solve(stiff, residual)
        velocity = (place[0] - positions[0]) / step
        slip = carried(positions, place, pairs, friction)
        positions = place
        speeds.append(float(velocity[0]))
    gained = [after - before for before, after in pairwise(speeds[5:])]
    assert gained == pytest.approx([step * 0.5 * limit / mass] * len(gained), rel=1e-9)
    assert float(slip.norm()) == pytest.approx(limit / (3.0 * GRIP), rel=1e-9)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_creep_follows_its_law(share: float):
    """v = eps_v (1 - sqrt(1 - r)), in each step."""
    kind, points = POINTS["vertex-face"]
    positions = torch.tensor(points, dtype=torch.float64)
    reach = 1e-3
    for _ in range(3):
        friction = friction_of(positions, kind, creep=reach)
        assert friction.energy is CREEP
        force = share * float(friction.constants[3]) * number(0.0, 1.0, 0.0)
        after = slide_by(friction, positions, force)
        wanted = reach * (1.0 - math.sqrt(1.0 - share))
        assert float((after - positions)[0, 1]) == pytest.approx(wanted, rel=1e-9)
        assert float(carried(positions, after, pair_of(kind), friction).abs().max()) == 0
        positions = after


# ---- pairs that turn


@pytest.mark.parametrize("name", POINTS)
@pytest.mark.parametrize("axis", [(0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.5, -0.3, 0.8)])
def test_a_grasp_that_turns_keeps_its_springs(name: str, axis: tuple[float, ...]):
    """A quarter turn in ten steps turns the slip with it, and the force that comes of it."""
    kind, points = POINTS[name]
    positions = torch.tensor(points, dtype=torch.float64) + 2.0
    weights = closest(positions[None], torch.tensor([kind]))
    across = normal(positions[None], weights)[0]
    if name == "vertex-vertex":  # no more than its normal is known of this pair
        axis = tuple(torch.linalg.cross(across, number(*axis)).tolist())
    along = torch.linalg.cross(across, number(0.2, 0.7, 0.4))
    slip = start = 1e-3 * along[None] / along.norm()
    turn, whole = rotation(number(*axis), math.pi / 20), torch.eye(3, dtype=torch.float64)
    for _ in range(10):
        friction = friction_of(positions, kind, slip)
        assert friction.constants[3] > 1e-3 * 3.0 * GRIP
        after = positions @ turn.mT
        slip = carried(positions, after, pair_of(kind), friction)
        positions, whole = after, turn @ whole
        torch.testing.assert_close(slip, start @ whole.mT, rtol=0, atol=ROUNDING)
    still = friction_of(positions, kind, slip)
    wanted = -3.0 * GRIP * whole @ start[0]
    share = still.constants[0][0, 0]
    torch.testing.assert_close(force_on_first(still, positions), share * wanted)


def ball(angle: float) -> tuple[Tensor, Tensor]:
    """A vertex at a gap of 0.1 from a ball of radius one, and how the ball turns about y."""
    turn = rotation(number(0.0, 1.0, 0.0), angle)
    points = [[0.0, 0.0, 1.1], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    return torch.tensor(points, dtype=torch.float64), turn


def on_ball(positions: Tensor, turn: Tensor | None) -> Friction:
    """turn: of the ball in the step, whose surface moves by (turn - 1) r."""
    across = normal(positions[None], closest(positions[None], torch.tensor([VERTEX_EDGE])))
    drift = None if turn is None else -(across @ turn.mT - across)
    return lagged(
        positions,
        pair_of(VERTEX_EDGE),
        barrier_of(VERTEX_EDGE, offset=1.0),
        number(MU),
        torch.zeros(1, 3, dtype=torch.float64),
        drift,
        grip=GRIP,
        softness=0.0,
        rolling=number(1.0),
    )


def test_bodies_with_a_radius():
    """Slip is how far the surface of a ball has moved past the vertex."""
    angle = 1e-5
    positions, turn = ball(angle)
    around, pairs = positions @ turn.mT, pair_of(VERTEX_EDGE)
    together = carried(positions, around, pairs, on_ball(positions, turn))
    assert together.abs().max() < ROUNDING
    # the vertex goes around a ball that stays: on its surface that is the radius times the angle
    friction = on_ball(positions, None)
    slip = carried(positions, around, pairs, friction)
    torch.testing.assert_close(float(slip[0, 0]), angle, rtol=1e-4, atol=0)
    # the ball turns below a vertex that stays
    slip = carried(positions, positions, pairs, on_ball(positions, turn))
    torch.testing.assert_close(float(slip[0, 0]), -angle, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", ["vertex-face", "edge-edge", "vertex-vertex"])
@pytest.mark.parametrize("component", [(0, 1), (1, 0), (1, 2)])
def test_a_body_carries_what_it_holds(name: str, component: tuple[int, int]):
    """Within the step too: the spring is as long as before where all has turned with the body."""
    kind, points = POINTS[name]
    positions = torch.tensor(points, dtype=torch.float64)
    ends = 2 if kind == EDGE_EDGE else 1
    belongs = torch.tensor([component[0]] * ends + [component[1]] * (4 - ends))
    none = torch.zeros(0, 2, dtype=torch.int64)
    surface = Surface(
        *(none[:, 0], none, none, none, none),
        component=belongs,
        held=belongs > 0,
        collides=torch.ones(3, 3, dtype=torch.bool),
        rest=positions,
    )
    turn = rotation(number(0.4, 0.9, -0.2), 0.1)
    rates = (turn - torch.eye(3)).expand(2, 3, 3)
    radius = number(0.0, 0.01, 0.03)
    _, distance, across = touch(positions[None], torch.tensor([kind]))
    levers = levers_of_pairs(pair_of(kind), surface, distance[:, None] * across, radius, 1)
    moved_by, rolling = turn_of_pairs(levers, rates)
    slip = 1e-3 * torch.linalg.cross(across, number(0.2, 0.7, 0.4)[None])
    friction = friction_of(positions, kind, slip, turn=moved_by, rolling=rolling)
    after = positions @ turn.mT
    u = slid(after.flatten()[None], *friction.constants[:3])
    torch.testing.assert_close(u, slip, rtol=0, atol=ROUNDING)
    kept = carried(positions, after, pair_of(kind), friction)
    if name == "vertex-vertex":  # up to the turn about the normal, which it does not know
        torch.testing.assert_close(kept.norm(), slip.norm())
    else:
        torch.testing.assert_close(kept, slip @ turn.mT, rtol=0, atol=ROUNDING)


def test_a_pair_that_parts_or_turns_over_has_finite_slip():
    for kind, points in POINTS.values():
        start = torch.tensor(points, dtype=torch.float64).requires_grad_()
        friction = friction_of(start, kind)
        for shift in ((5.0, -3.0, 4.0), (0.0, 0.0, -0.2), (0.0, 0.0, -0.1)):
            end = moved(start, *shift)
            slip = carried(start, end, pair_of(kind), friction)
            (rate,) = torch.autograd.grad(slip.square().sum(), start, retain_graph=True)
            assert slip.isfinite().all()
            assert rate.isfinite().all()
            assert slip.norm() <= friction.constants[3] / (3.0 * GRIP) * (1 + 1e-9)


# ---- derivatives


@pytest.mark.parametrize("name", [name for name in POINTS if name != "vertex-vertex"])
@pytest.mark.parametrize("share", [0.3, 3.0])
def test_derivatives_of_a_step(name: str, share: float):
    """Constants and slip, sticking or sliding, in the state, the pair and all parameters."""
    kind, points = POINTS[name]
    source = torch.Generator().manual_seed(3)
    start = torch.tensor(points, dtype=torch.float64)
    reach = float(friction_of(start, kind).constants[3]) / (3.0 * GRIP)
    end = start + share * reach * torch.randn(start.shape, generator=source).double()

    def step(start: Tensor, end: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        barrier, friction, slip, turn, grip, softness, rolling = given[:5], *given[5:]
        made = lagged(
            start,
            pair_of(kind),
            (barrier[0].detach(), *barrier[1:]),
            friction,
            slip,
            turn,
            grip=grip,
            softness=softness,
            rolling=rolling,
        )
        return *made.constants, carried(start, end, pair_of(kind), made)

    vectors = [1e-2 * share * reach * torch.randn(1, 3, generator=source).double() for _ in "xy"]
    scalars = number(MU), *vectors, number(GRIP), number(0.2), number(0.03)
    inputs = (start, end, *barrier_of(kind, offset=0.02), *scalars)
    leaves = tuple(part.clone().requires_grad_(i != 2) for i, part in enumerate(inputs))
    assert torch.autograd.gradcheck(step, leaves, eps=1e-7, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", POINTS)
def test_derivatives_of_turns(name: str):
    """Of two vertices as well, whose edge has no length while they move."""
    kind, points = POINTS[name]
    source = torch.Generator().manual_seed(5)
    places = torch.tensor(points, dtype=torch.float64)[None].expand(2, 4, 3).clone()
    places[1] = places[1] @ rotation(number(1.0, 2.0, -1.0), 0.7).mT
    places += 1e-2 * torch.randn(places.shape, generator=source).double()
    axes = torch.randn(2, 1, 3, generator=source).double()
    axes = axes / axes.norm(dim=2, keepdim=True)
    columns = torch.tensor([0, 1, 1, 1] if name == "vertex-vertex" else [0, 1, 2, 3])

    def turned(*ends: Tensor) -> Tensor:
        return turns(torch.tensor([kind]), *(end[:, columns] for end in ends[:2]), *ends[2:])

    leaves = [part.clone().requires_grad_() for part in (places[:1], places[1:], *axes)]
    assert torch.autograd.gradcheck(turned, leaves, eps=1e-7, atol=1e-6, rtol=1e-6)
    made = turned(*leaves).detach()[0]
    torch.testing.assert_close(made @ made.mT, torch.eye(3).double(), rtol=0, atol=ROUNDING)
    assert float(torch.linalg.det(made)) == pytest.approx(1.0)


# ---- the start of a step


def test_the_step_begins_where_the_springs_were_left():
    """u at the start of a step is the slip with the turn, in the plane of contact."""
    for kind, points in POINTS.values():
        positions = torch.tensor(points, dtype=torch.float64)
        slip, turn = 1e-3 * number(1, 2, 3)[None], 1e-3 * number(-2, 1, 4)[None]
        friction = friction_of(positions, kind, slip, turn=turn)
        u = slid(positions.flatten()[None], *friction.constants[:3])
        axis = friction.constants[2]
        whole = slip + turn
        torch.testing.assert_close(u, whole - (whole * axis).sum() * axis)
        apart = separation(positions[None], friction.constants[0])
        assert torch.linalg.cross(apart, axis).abs().max() < ROUNDING
