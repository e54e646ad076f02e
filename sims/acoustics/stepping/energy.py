"""The energy that the time loop keeps between rigid walls and cannot add to between passive ones.

    ½ |δp|²/dt² in M T⁻¹ + ½ <pⁿ⁺¹, A pⁿ> in M + ½ Σ c S w ((D + E τ) q² + F r² + E τ u²)

with δp = pⁿ⁺¹ - pⁿ, T = 1 - dt²/12 A and τ = dt/√12; see `marching`. In the safe mode walls push on
p itself, and what is kept has M in place of M T⁻¹ and A T in place of A. Both are ½ |p_t|² +
½ c² |grad p|² over the room, and what the walls hold, to second order in dt.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sims.acoustics.elements.space import Space
from sims.acoustics.stepping.boundary_kernels import MASS
from sims.acoustics.stepping.marching import Motion, Walls

TOLERANCE = 1e-14  # of the residual of T⁻¹, whose condition is below 30
MOST_ITERATIONS = 400


@dataclass(frozen=True)
class Energy:
    """Energies [Pa² m³/s²]: kinetic and potential of the air, and stored in the walls' branches."""

    kinetic: float
    potential: float
    walls: float

    @property
    def total(self) -> float:
        """The sum of all."""
        return self.kinetic + self.potential + self.walls


def energy(space: Space, walls: Walls, motion: Motion, time_step: float) -> Energy:
    """The energy between the last two fields of a motion.

    space: in float64, of the same elements as the motion's, which may be in float32.
    """
    now, before = motion.pressure.double(), motion.previous.double()
    change = (now - before) / time_step
    mass = space.mass
    bent = stiffness(space, before)
    if walls.fraction:
        kinetic = mass * change * solved(space, change, time_step)
    else:
        kinetic = mass * change * change
        bent = smoothed(space, bent, time_step)
    return Energy(
        float(kinetic.sum()) / 2,
        float((mass * now * bent).sum()) / 2,
        _stored(walls, motion, mass, time_step),
    )


def stiffness(space: Space, field: Tensor) -> Tensor:
    """A of a field (N,) [1/s²]."""
    out = torch.empty_like(field)
    space.accelerate(field.contiguous(), out)
    return -out


def smoothed(space: Space, field: Tensor, time_step: float) -> Tensor:
    """T of a field (N,), T = 1 - dt²/12 A."""
    return field - time_step**2 / 12 * stiffness(space, field)


def solved(space: Space, field: Tensor, time_step: float) -> Tensor:
    """T⁻¹ of a field (N,), by conjugate gradients in the inner product of M."""
    mass = space.mass
    solution = field.clone()
    rest = field - smoothed(space, solution, time_step)
    direction = rest.clone()
    size = float((mass * rest * rest).sum())
    wanted = TOLERANCE**2 * float((mass * field * field).sum())
    for _ in range(MOST_ITERATIONS):
        if size <= wanted:
            break
        moved = smoothed(space, direction, time_step)
        length = size / float((mass * direction * moved).sum())
        solution += length * direction
        rest -= length * moved
        following = float((mass * rest * rest).sum())
        direction = rest + following / size * direction
        size = following
    return solution


def _stored(walls: Walls, motion: Motion, mass: Tensor, time_step: float) -> float:
    """What the walls' branches hold, over all entries of the walls."""
    if not len(walls.nodes) or not walls.most:
        return 0.0
    entries = walls.starts.diff().long()
    owner = torch.repeat_interleave(walls.nodes.long(), entries)
    area = walls.strength.detach().double() * mass[owner]
    first = walls.branch_starts.long()[walls.surface.long()]
    counts = walls.branch_starts.diff().long()[walls.surface.long()]
    table = walls.table.detach().double()
    total = 0.0
    for branch in range(walls.most):
        has = branch < counts
        weight, inertia, resistance, spring = table[(first + branch)[has]].unbind(1)
        lag = MASS * time_step * resistance
        flow = motion.walls.flow[has, branch].double()
        displacement = motion.walls.spring[has, branch].double()
        drag = motion.walls.drag[has, branch].double()
        held = weight * ((inertia + lag) * flow**2 + spring * displacement**2 + lag * drag**2)
        total += float((area[has] * held).sum()) / 2
    return total
