"""Rigid modes of a room from the solver's own operator, and its response to loads at rest.

A = c² M⁻¹ K is self-adjoint in the inner product of the mass, so its eigenvectors are orthonormal
there. A box has those of its three axes, multiplied; any other room gets them from a block Lanczos
method on the inverse (Grimes, Lewis and Simon, SIAM J. Matrix Anal. Appl. 15 (1994) 228), whose
count the negative pivots of a factor confirm (Sylvester's law of inertia).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from geomopt.launch import differentiable
from geomopt.linear.direct import DirectSolver, Factor
from geomopt.linear.pattern import SparsePattern
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.elements.lattice import Lattice
from sims.acoustics.elements.space import Space

BLOCK = 32  # vectors of a Lanczos step
RESIDUAL = 1e-4  # of an eigenvector of the inverse, relative to its eigenvalue
STILL = 1e-5  # of the highest frequency; below it a mode does not oscillate
SHIFT = 0.02  # of the highest ω², added to A so that it has an inverse


@dataclass(frozen=True, eq=False)
class Modes:
    """frequency: (n,) ω [rad/s], rising, the first 0. shapes: (N, n) float64 [m^(-3/2)], with
    Φᵀ M Φ = 1; zero where there is no air.
    """

    frequency: Tensor
    shapes: Tensor


class Operator(Protocol):
    """A of a space, as far as modes need it; all on the host in float64."""

    mass: Tensor
    highest: float

    def modes(self) -> Modes:
        """All modes up to the highest frequency [rad/s]."""
        ...

    def rest(self, loads: Tensor) -> Tensor:
        """(A + SHIFT highest²)⁻¹ M⁻¹ loads, (N, k), differentiable in the loads."""
        ...

    def product(self, fields: Tensor) -> Tensor:
        """A times fields (N, k)."""
        ...


def operator_of(space: Space, highest: float) -> Operator:
    """The operator of a space, of a box where it is one, for modes up to a frequency [rad/s]."""
    if isinstance(space, Lattice) and bool(space.grid.air.all()):
        return BoxOperator(space, highest)
    return SparseOperator(space, highest)


class BoxOperator:
    """A of a box: sums over three axes, whose modes multiply."""

    def __init__(self, space: Lattice, highest: float) -> None:
        self.mass, self.highest = space.mass.cpu(), highest
        axes = [_axis_modes(edge, space) for edge in space.grid.edges()]
        self.shapes = [shapes for _, shapes in axes]
        x, y, z = (values for values, _ in axes)
        self.squared = SPEED_OF_SOUND**2 * (x[:, None, None] + y[:, None] + z)

    def modes(self) -> Modes:
        """See `Operator`."""
        chosen = (self.squared <= self.highest**2).nonzero()
        squared = self.squared[tuple(chosen.T)]
        order = squared.argsort(stable=True)
        x, y, z = (
            shapes[:, number] for shapes, number in zip(self.shapes, chosen[order].T, strict=True)
        )
        shapes = (x[:, None, None] * y[:, None] * z).flatten(0, 2)
        return Modes(_frequencies(squared[order], self.highest), shapes)

    def rest(self, loads: Tensor) -> Tensor:
        """See `Operator`."""
        return self._apply(loads, 1 / (self.squared + SHIFT * self.highest**2))

    def product(self, fields: Tensor) -> Tensor:
        """See `Operator`."""
        return self._apply(self.mass[:, None] * fields, self.squared)

    def _apply(self, loads: Tensor, factor: Tensor) -> Tensor:
        """Φ factor Φᵀ loads, axis by axis."""
        field = loads.reshape(*self.squared.shape, -1)
        x, y, z = self.shapes
        field = torch.einsum("xa,xyzk->ayzk", x, field)
        field = torch.einsum("yb,ayzk->abzk", y, field)
        field = torch.einsum("zc,abzk->abck", z, field) * factor[..., None]
        field = torch.einsum("xa,abck->xbck", x, field)
        field = torch.einsum("yb,xbck->xyck", y, field)
        return torch.einsum("zc,xyck->xyzk", z, field).reshape(loads.shape)


def _axis_modes(edges: Tensor, space: Lattice) -> tuple[Tensor, Tensor]:
    """Squared wavenumbers (m,) and shapes (m, m) along one axis."""
    reference, order = space.reference, space.order
    count = len(edges) * order + 1
    mass = torch.zeros(count, dtype=torch.float64)
    stiffness = torch.zeros(count, count, dtype=torch.float64)
    for number, edge in enumerate(edges.cpu()):
        nodes = slice(number * order, number * order + order + 1)
        mass[nodes] += edge / 2 * reference.weights
        stiffness[nodes, nodes] += 2 / edge * reference.stiffness
    root = mass.sqrt()
    values, vectors = torch.linalg.eigh(stiffness / root[:, None] / root)
    return values.clamp(min=0), vectors / root[:, None]


class SparseOperator:
    """A of any room as a sparse matrix, scaled by the root of the mass to be symmetric."""

    def __init__(self, space: Space, highest: float) -> None:
        self.mass, self.highest = space.mass.detach().cpu(), highest
        self.nodes = (self.mass > 0).nonzero()[:, 0]
        self.root = self.mass[self.nodes].sqrt()
        coupling = space.coupling(self.nodes.to(space.mass.device))
        rows = torch.repeat_interleave(
            torch.arange(len(self.nodes)), coupling.starts[: len(self.nodes) + 1].cpu().diff()
        )
        columns, values = coupling.columns.cpu().long(), coupling.values.cpu()
        diagonal = torch.zeros_like(self.root)
        diagonal[rows[rows == columns]] = values[rows == columns]
        upper = rows < columns
        pairs = torch.stack([rows[upper], columns[upper]], 1)
        scaled = values[upper] * self.root[pairs[:, 0]] / self.root[pairs[:, 1]]
        beside = scaled[:, None, None] * torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double()
        self.pattern = SparsePattern.of([pairs], len(self.nodes))
        self.values = self.pattern.assemble([beside], diagonal)

    @cached_property
    def _solver(self) -> DirectSolver:
        return DirectSolver(self.pattern)

    @cached_property
    def _factor(self) -> Factor:
        return self._solver.factorise(self._shifted(SHIFT))

    def _shifted(self, share: float) -> Tensor:
        """The values of A plus a share of the highest ω²."""
        values = self.values.clone()
        values[self.pattern.diagonal] += share * self.highest**2
        return values

    def modes(self) -> Modes:
        """See `Operator`."""
        below = self._solver.factorise(self._shifted(-1.0)).negative_pivots
        inverse, vectors = _lanczos(self._factor.solve, len(self.root), below)
        squared = 1 / inverse - SHIFT * self.highest**2
        shapes = self.mass.new_zeros(len(self.mass), below)
        shapes[self.nodes] = vectors / self.root[:, None]
        return Modes(_frequencies(squared, self.highest), shapes)

    def rest(self, loads: Tensor) -> Tensor:
        """See `Operator`."""
        right = loads[self.nodes] / self.root[:, None]

        def forward(right: Tensor) -> tuple[list[Tensor], Any]:
            return [self._factor.solve(right)], None

        def backward(
            tensors: Any, saved: Any, gradients: Any, needed: Any
        ) -> tuple[Tensor | None, ...]:
            return (self._factor.solve(gradients[0]),)

        (found,) = differentiable(forward, backward, right)
        return loads.new_zeros(loads.shape).index_copy(0, self.nodes, found / self.root[:, None])

    def product(self, fields: Tensor) -> Tensor:
        """See `Operator`."""
        result = torch.zeros_like(fields)
        scaled = self._scaled(self.root[:, None] * fields[self.nodes])
        result[self.nodes] = scaled / self.root[:, None]
        return result

    def _scaled(self, vectors: Tensor) -> Tensor:
        return torch.from_numpy(self.pattern.matrix(self.values) @ vectors.numpy())


def _lanczos(solve: Callable[[Tensor], Tensor], size: int, count: int) -> tuple[Tensor, Tensor]:
    """The largest `count` eigenvalues (count,), falling, and orthonormal vectors (size, count) of a
    positive definite operator: block Lanczos from a random block, kept orthogonal throughout.
    """
    generator = torch.Generator().manual_seed(0)
    most = size // BLOCK * BLOCK
    if most < count + BLOCK:
        values, vectors = torch.linalg.eigh(solve(torch.eye(size, dtype=torch.float64)))
        return values.flip(0)[:count], vectors.flip(1)[:, :count]
    block = torch.randn(size, BLOCK, generator=generator, dtype=torch.float64)
    blocks = [torch.linalg.qr(block)[0]]
    columns: list[Tensor] = []
    enough = count + count // 2
    while True:
        image = solve(blocks[-1])
        shares = image.new_zeros(len(blocks), BLOCK, BLOCK)
        for _ in range(2):  # twice is enough (Parlett, The Symmetric Eigenvalue Problem, 6.9)
            for share, earlier in zip(shares, blocks, strict=True):
                part = earlier.T @ image
                image -= earlier @ part
                share += part
        columns.append(shares.flatten(0, 1))
        block, beyond = torch.linalg.qr(image)
        width = BLOCK * len(blocks)
        if width >= min(enough, most):
            padded = [torch.nn.functional.pad(c, (0, 0, 0, width - len(c))) for c in columns]
            # the upper triangle is what was found; the lower one is its mirror image
            values, mix = torch.linalg.eigh(torch.cat(padded, 1), UPLO="U")
            values, mix = values.flip(0)[:count], mix.flip(1)[:, :count]
            residual = ((beyond @ mix[-BLOCK:]).norm(dim=0) / values).max()
            if residual <= RESIDUAL or width >= most:
                return values, torch.cat(blocks, 1) @ mix
            enough = width + max(2 * BLOCK, count // 8)
        blocks.append(block)


def _frequencies(squared: Tensor, highest: float) -> Tensor:
    """ω of ω², without what rounding makes of a mode that is still."""
    frequency = squared.clamp(min=0).sqrt()
    return torch.where(frequency < STILL * highest, 0.0, frequency)
