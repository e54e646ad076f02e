"""Natural frequencies and shapes of small vibrations about a state.

With the Hessian K of the elastic energy at the state and the lumped masses M, a vibration
x + e phi cos(w t) of small e solves K phi = w^2 M phi. Directors have no mass, so M is singular:
they follow the positions without delay. With s below all w^2, the matrix

    A = M^1/2 (K - s M)^-1 M^1/2

over the coordinates has the eigenvalues 1 / (w^2 - s), and the slowest vibrations have the largest.
A Krylov space of blocks finds them with one factorisation (shift and invert; Grimes, Lewis and
Simon 1994). A block has more columns than modes are asked for, so that equal frequencies and the
six rigid motions of a free sheet are all found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.thin_shell.bending import Values
from sims.thin_shell.energies.crease import remaining_stiffness
from sims.thin_shell.system import System

if TYPE_CHECKING:
    from sims.thin_shell.simulator import Simulator
    from sims.thin_shell.state import State

EXTRA = 4  # columns of a block beyond the modes that are asked for
BLOCKS = 40  # largest number of blocks; a shell needs about ten
STILL = 1e-12  # change of the eigenvalues from block to block, over the largest, at the end
LOST = 1e-10  # length of a new direction, over that before it was made orthogonal, that is rounding
SHIFT = 1e3  # times D / (mass per area x length^4): of an elastic mode, lest rigid ones drown all
ROUNDING = 1e-14  # of the largest K / M: less shift leaves K - s M singular in floating point


@dataclass(frozen=True, eq=False)
class Modes:
    """The slowest n vibrations of a scene, ascending.

    squared (n,): w^2 [rad^2/s^2]; zero, up to rounding, for motions that nothing resists, such as
    those of a free rigid body, and negative where the state is unstable. shapes (n, V, 3)
    [1/sqrt(kg)]: displacements, orthonormal in the mass: sum_v m_v shape_i . shape_j = delta_ij.
    """

    squared: Tensor
    shapes: Tensor

    @property
    def angular_frequencies(self) -> Tensor:
        """w (n,) [rad/s]. Minus the rate of growth [1/s] where the state is unstable."""
        return self.squared.sign() * self.squared.abs().sqrt()

    @property
    def frequencies(self) -> Tensor:
        """w / (2 pi) (n,) [Hz], negative where the state is unstable."""
        return self.angular_frequencies / (2 * math.pi)


def natural_modes(simulator: Simulator, count: int, state: State | None = None) -> Modes:
    """The slowest vibrations about `state`, see `Simulator.modes`."""
    model = simulator.model
    state = simulator.initial_state() if state is None else state
    places = 3 * len(model.scene.vertices)
    moving = model.free.clone()
    moving[places:] = False
    most = int(moving.sum())
    if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= most:
        raise InputError(f"count must be a whole number from 1 to {most}, got {count!r}")
    mass = model.mass.detach().repeat_interleave(3)
    mass = torch.cat([mass, mass.new_zeros(len(model.free) - places)])
    rows = model.pattern.unknowns
    inside = moving[rows]
    root = mass[rows][inside].sqrt()

    with torch.no_grad():
        matrices = _stiffness(simulator, state)
        stiffest = model.pattern.assemble(matrices)[model.pattern.diagonal][inside] / root**2
        shift = max(_slow(simulator), ROUNDING * float(stiffest.amax()))
        factor = simulator.solver.factorise(model.pattern.assemble(matrices, shift * mass))
        while factor.negative_pivots:
            shift *= 10
            factor = simulator.solver.factorise(model.pattern.assemble(matrices, shift * mass))

        def apply(block: Tensor) -> Tensor:
            right = block.new_zeros(len(rows), block.shape[1])
            right[inside] = root[:, None] * block
            return root[:, None] * factor.solve(right)[inside]

        values, vectors = _largest(apply, most, count, root)
    vectors = vectors / root[:, None]
    peaks = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    shapes = vectors.new_zeros(count, places)
    shapes[:, rows[inside]] = (vectors * peaks.sign()).T
    return Modes(1 / values - shift, shapes.reshape(count, -1, 3))


def _stiffness(simulator: Simulator, state: State) -> list[Tensor]:
    """Element matrices of the elastic energy; creases do not flow in a small vibration."""
    model, bending = simulator.model, simulator.model.bending
    values = {name: value.detach() for name, value in model.values.items()}
    values |= _elastic(values, state)
    values["start"] = state.positions
    unknowns = torch.cat(
        [state.positions.flatten(), bending.turns(state.positions, state.angles)]
    ).detach()
    system = System(model, model.terms(values, None), simulator.solver, torch.zeros_like(unknowns))
    return system.assemble(unknowns, 2).matrices


def _elastic(values: Values, state: State) -> Values:
    """The creases of a state as they are, damage in the stiffness, for good."""
    left = remaining_stiffness(state.accumulated, values["damage"], values["yield_curvature"])
    stiffness = values["stiffness"]
    return {
        "stiffness": stiffness * left.reshape(-1, *[1] * (stiffness.ndim - 1)),
        "scale": values["scale"] * left,
        "damage": torch.zeros_like(left),
        "yield_curvature": torch.full_like(left, torch.inf),
        "plastic_angles": state.plastic_angles,
        "accumulated": torch.zeros_like(left),
    }


def _slow(simulator: Simulator) -> float:
    """The size of w^2 [rad^2/s^2] for a slow bending vibration of the whole scene."""
    model, scene = simulator.model, simulator.scene
    moduli = model.values["membrane_stiffness"][:, 0, 0].detach()
    thickness = scene.of_faces("thickness").detach()
    bending = (moduli * thickness**2 / 12).sum()
    return SHIFT * float(bending / model.mass.detach().sum()) / model.size**4


def _largest(apply, size: int, count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The `count` largest eigenvalues, descending, of a symmetric operator, and its vectors."""
    generator = torch.Generator().manual_seed(0)
    width = min(size, count + EXTRA)
    block = torch.randn(size, width, generator=generator, dtype=torch.float64).to(like)
    block = torch.linalg.qr(block).Q
    basis, images = block, apply(block)
    before = None
    while True:
        values, turns = torch.linalg.eigh(basis.T @ images)
        values, turns = values[-count:].flip(0), turns[:, -count:].flip(1)
        moved = torch.inf if before is None else float(((values - before) / values[0]).abs().amax())
        if moved < STILL or basis.shape[1] == size or basis.shape[1] >= BLOCKS * width:
            return values, basis @ turns
        before = values
        block = images[:, -block.shape[1] :]
        lengths = block.norm(dim=0)
        for _ in range(2):
            block = block - basis @ (basis.T @ block)
        block = block[:, block.norm(dim=0) > LOST * lengths][:, : size - basis.shape[1]]
        if not block.shape[1]:
            return values, basis @ turns
        block = torch.linalg.qr(block).Q
        block = torch.linalg.qr(block - basis @ (basis.T @ block)).Q
        basis, images = torch.cat([basis, block], 1), torch.cat([images, apply(block)], 1)
