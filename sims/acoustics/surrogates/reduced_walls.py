"""What walls do to the modes of a room: resonances of a linear, passive, time-invariant system.

With G = c Φᵀ S Φ the modes q between walls of admittance y(s) = m s + e + cᵀ (s - A)⁻¹ b obey

    (1 + m G) q'' + e G q' + V (cᵀ ⊗ x) + ω² q = 0,   x' = A x + b Vᵀ q',   G = V Vᵀ

for each wall, m the added mass of springs alone, x the flows and springs of its branches. In
coordinates whose squares are energies the system's matrix is a rotation plus one that only takes,
so no resonance grows, whatever is projected or left out in these coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.stepping.boundary import Boundary
from sims.acoustics.walls.wall import Wall

DIRECTIONS = 1e-3  # of the largest eigenvalue of G; patterns on a wall below it are left out
FIT = 5e-3  # of the largest |y| in the band, to which the branches of a wall are reduced
AT_REST = 1e-10  # of the highest frequency
SAMPLES = 40  # frequencies of the band at which y is compared


@dataclass(frozen=True, eq=False)
class Resonances:
    """q(t) = Re Σ_j shape_j exp(s_j t) share_j · q₀ over J resonances of n modes, after an impulse
    that adds q₀ to the pressure, which walls feel.

    rates: (J,) complex s_j [1/s], one of each conjugate pair. shapes: (n, J), shares: (J, n); None
    between rigid walls, where modes are resonances.
    """

    rates: Tensor
    shapes: Tensor | None = None
    shares: Tensor | None = None

    def heard(self, modes: Tensor) -> Tensor:
        """The resonances (R, J) at receivers with modes (R, n)."""
        return modes if self.shapes is None else modes.to(self.shapes) @ self.shapes

    def driven(self, modes: Tensor) -> Tensor:
        """What impulses (T, n) give to the resonances, (T, J)."""
        return modes if self.shares is None else modes.to(self.shares) @ self.shares.T

    def to(self, device: torch.device) -> Resonances:
        """The same on a device."""
        if self.shapes is None or self.shares is None:
            return Resonances(self.rates.to(device))
        return Resonances(*(part.to(device) for part in (self.rates, self.shapes, self.shares)))


def traces_of(shapes: Tensor, boundary: Boundary, surfaces: Sequence[str]) -> dict[str, Tensor]:
    """c Φᵀ S Φ (n, n) [1/s] of each surface that has an area."""
    counts = boundary.starts.diff().long()
    nodes = torch.repeat_interleave(boundary.nodes.long(), counts).cpu()
    surface, areas = boundary.surface.cpu(), boundary.areas.detach().cpu()
    found = {}
    for number in surface.unique().tolist():
        entries = surface == number
        weighted = (SPEED_OF_SOUND * areas[entries]).sqrt()[:, None] * shapes[nodes[entries]]
        found[surfaces[number]] = weighted.T @ weighted
    return found


@dataclass(frozen=True, eq=False)
class Admittance:
    """y(s) = mass s + resistance + leavesᵀ (s - matrix)⁻¹ enters, d states, in energies."""

    mass: float
    resistance: float
    matrix: Tensor
    enters: Tensor
    leaves: Tensor

    def at(self, s: Tensor) -> Tensor:
        """y at s (k,) [rad/s], without the mass."""
        one = torch.eye(len(self.matrix), dtype=torch.complex128)
        states = torch.linalg.solve(s[:, None, None] * one - self.matrix, self.enters + 0j)
        return self.resistance + states @ (self.leaves + 0j)


def admittance_of(wall: Wall, highest: float) -> Admittance:
    """The branches of a wall, with as few states as give y up to a frequency [rad/s]."""
    mass = resistance = 0.0
    blocks: list[Tensor] = []
    enters: list[float] = []
    leaves: list[float] = []
    for (d, e, f), weight in zip(wall.branches.tolist(), wall.weights.tolist(), strict=True):
        if weight == 0:
            continue
        if d > 0:
            # D z' = p' - E z - F r, r' = z as sqrt(w D) z and sqrt(w F) r
            turn, gain = (f / d) ** 0.5, (weight / d) ** 0.5
            matrix = [[-e / d, -turn], [turn, 0.0]] if f > 0 else [[-e / d]]
            blocks.append(torch.tensor(matrix, dtype=torch.float64))
            enters += [gain, 0.0] if f > 0 else [gain]
            leaves += [gain, 0.0] if f > 0 else [gain]
        elif e > 0:
            resistance += weight / e
            if f > 0:
                gain = (weight * f) ** 0.5 / e
                blocks.append(torch.tensor([[-f / e]], dtype=torch.float64))
                enters.append(gain)
                leaves.append(-gain)
        else:
            mass += weight / f
    matrix = torch.block_diag(*blocks) if blocks else torch.zeros(0, 0, dtype=torch.float64)
    whole = Admittance(
        mass,
        resistance,
        matrix,
        torch.tensor(enters, dtype=torch.float64),
        torch.tensor(leaves, dtype=torch.float64),
    )
    return _fewer(whole, highest)


def _fewer(whole: Admittance, highest: float) -> Admittance:
    """As few states as give y within FIT in the band: Galerkin, which keeps the wall passive."""
    count = len(whole.enters)
    if count < 2:
        return whole
    band = 1j * torch.linspace(0.02, 1.0, SAMPLES, dtype=torch.float64) * highest
    one = torch.eye(count, dtype=torch.complex128)
    states = torch.linalg.solve(band[:, None, None] * one - whole.matrix, whole.enters + 0j)
    exact = whole.at(band)
    scale = float((exact + whole.mass * band).abs().max())
    basis = torch.linalg.svd(torch.cat([states.real, states.imag]).T)[0]
    for kept in range(1, count):
        part = basis[:, :kept]
        fewer = Admittance(
            whole.mass,
            whole.resistance,
            part.T @ whole.matrix @ part,
            part.T @ whole.enters,
            part.T @ whole.leaves,
        )
        if float((fewer.at(band) - exact).abs().max()) <= FIT * scale:
            return fewer
    return whole


def resonances_of(
    frequency: Tensor, traces: Mapping[str, Tensor], walls: Mapping[str, Wall], highest: float
) -> Resonances:
    """The resonances of modes (n,) ω [rad/s] between walls, whose branches are kept as far as they
    matter up to a frequency [rad/s].
    """
    moving = [(admittance_of(wall, highest), total) for wall, total in _grouped(traces, walls)]
    if not moving:
        return Resonances(1j * frequency)
    matrix, root, impulse = _system(frequency, moving)
    rates, vectors = torch.linalg.eig(matrix)
    still = int((frequency == 0).sum())
    swing, count = len(frequency) - still, len(frequency)
    shares = torch.linalg.solve(vectors, impulse + 0j)
    # the other of each pair is its conjugate; at rest is what flow and pressure keep as they were
    kept = (rates.imag >= 0) & (rates.abs() > AT_REST * highest)
    shares = torch.where(rates.imag > 0, 2.0, 1.0)[kept, None] * shares[kept]
    rates, vectors = rates[kept], vectors[:, kept]
    rate = (root + 0j) @ vectors[swing : swing + count]
    shapes = torch.cat([rate[:still] / rates, vectors[:swing] / frequency[still:, None]])
    # what is left in the end of a mode that is still: nothing, if a wall lets air pass
    end = (root @ root)[:still] - (shapes[:still] @ shares).real
    ends = torch.eye(count, dtype=torch.float64)[:, :still]
    return Resonances(
        torch.cat([rates, rates.new_zeros(still)]),
        torch.cat([shapes, ends + 0j], 1),
        torch.cat([shares, end + 0j]),
    )


def _grouped(traces: Mapping[str, Tensor], walls: Mapping[str, Wall]) -> list[tuple[Wall, Tensor]]:
    """Walls that are not rigid with the sum of the traces of all surfaces that are alike."""
    groups: dict[tuple[float, ...], tuple[Wall, Tensor]] = {}
    for name, trace in traces.items():
        wall = walls[name]
        key = (*wall.branches.flatten().tolist(), *wall.weights.tolist())
        if any(weight > 0 for weight in wall.weights.tolist()):
            total = groups[key][1] + trace if key in groups else trace
            groups[key] = (wall, total)
    return list(groups.values())


def _system(
    frequency: Tensor, walls: Sequence[tuple[Admittance, Tensor]]
) -> tuple[Tensor, Tensor, Tensor]:
    """The matrix of (ω q, M^(1/2) q', x) with M = 1 + m G, M^(-1/2), and the states (·, n) after
    impulses to each mode.
    """
    count = len(frequency)
    still = int((frequency == 0).sum())
    swing = count - still
    mass = torch.eye(count, dtype=torch.float64)
    taken = torch.zeros(count, count, dtype=torch.float64)
    for wall, trace in walls:
        mass = mass + wall.mass * trace
        taken = taken + wall.resistance * trace
    values, vectors = torch.linalg.eigh(mass)
    root = (vectors / values.sqrt()) @ vectors.T
    patterns = [_patterns(trace) for wall, trace in walls]
    sizes = [len(w.enters) * v.shape[1] for (w, _), v in zip(walls, patterns, strict=True)]
    size = swing + count + sum(sizes)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    rates = slice(swing, swing + count)
    turn = frequency[still:, None] * root[still:]
    matrix[:swing, rates], matrix[rates, :swing] = turn, -turn.T
    matrix[rates, rates] = -root @ taken @ root
    impulse = torch.zeros(size, count, dtype=torch.float64)
    jump = root @ root
    impulse[:swing] = frequency[still:, None] * jump[still:]
    impulse[rates] = -root @ taken @ jump
    begin = swing + count
    for (wall, _), pattern, width in zip(walls, patterns, sizes, strict=True):
        place = slice(begin, begin + width)
        one = torch.eye(pattern.shape[1], dtype=torch.float64)
        matrix[place, place] = torch.kron(wall.matrix, one)
        enters = torch.kron(wall.enters[:, None], pattern.T.contiguous())
        matrix[place, rates] = enters @ root
        matrix[rates, place] = -root @ torch.kron(wall.leaves[None], pattern)
        impulse[place] = enters @ jump
        begin += width
    return matrix, root, impulse


def _patterns(trace: Tensor) -> Tensor:
    """V (n, r) with V Vᵀ = G, up to what does not matter."""
    values, vectors = torch.linalg.eigh(trace)
    kept = values > DIRECTIONS * values[-1]
    return vectors[:, kept] * values[kept].sqrt()
