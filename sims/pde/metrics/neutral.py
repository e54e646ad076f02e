"""Directions that neither grow nor shrink, because an equation is the same at all times and places.

Beside a small exponent, a tangent drawn by chance needs thousands of seconds to find them. So they
are put in their place among the tangents, and kept there against rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sims.pde.metrics.tangents import Tangents

_WEIGHTS = (-49 / 20, 6.0, -15 / 2, 20 / 3, -15 / 4, 6 / 5, -1 / 6)  # one-sided, of sixth order
_CARRIED = 1e-3  # relative error up to which the tangent map carries a direction into its later one
_STEPS = 10  # of that check
_INSIDE = 1e-2  # how far a unit direction may have left the span of the tangents
_APART = 1e-3  # how far it must be from the span of those before it
_FADED = 1e-9  # of the state: a smaller change is rounding, as of what decays to a constant


class Neutral:
    """Which of u_t and u_x (for each axis) the tangent map carries into themselves.

    u: (B, C, *space). after: the number of tangents that come before them.
    """

    def __init__(self, tangents: Tangents, u: Tensor, after: int) -> None:
        self.tangents, self.after = tangents, after
        here = symmetry_tangents(tangents, u)
        length = here.norm(dim=-1, keepdim=True)
        unit = here / torch.where(length > 0, length, 1.0)
        later, carried = tangents.move(u, unit, _STEPS)
        there = symmetry_tangents(tangents, later)
        error = (carried * length - there).norm(dim=-1) / there.norm(dim=-1)
        fits = (error < _CARRIED).all(0)  # false for the NaN of a field at rest
        self.kept = [number for number, good in enumerate(fits.tolist()) if good]

    def insert(self, frame: Tensor, u: Tensor) -> Tensor:
        """The frame (B, m, n) with them behind its first `after` rows, and less what they replace.

        As it was where they are not independent of each other and of those rows.
        """
        found = self._directions(u)
        behind = frame[:, self.after :]
        order = torch.cat([frame[:, : self.after], found, behind], 1)
        # the span of an aligned frame has them already: as many rows are dependent, and not of use
        behind = _independent(order)[:, self.after + found.shape[1] :]
        return self._placed(frame, found, behind)

    def renew(self, frame: Tensor, u: Tensor) -> Tensor:
        """The frame with them in the place of the rows that they have become."""
        found = self._directions(u)
        end = self.after + found.shape[1]
        held = frame[:, :end]
        left = (found - (found @ held.mT) @ held).norm(dim=-1)
        inside = (left < _INSIDE).all(1).view(-1, 1, 1)
        return torch.where(inside, self._placed(frame, found, frame[:, end:]), frame)

    def _placed(self, frame: Tensor, found: Tensor, behind: Tensor) -> Tensor:
        rows = torch.cat([frame[:, : self.after], found, behind], 1)[:, : frame.shape[1]]
        placed, factor = torch.linalg.qr(rows.mT)
        part = factor.diagonal(dim1=-2, dim2=-1)[:, self.after : self.after + found.shape[1]]
        apart = (part.abs() > _APART).all(1).view(-1, 1, 1)
        return torch.where(apart, placed.mT, frame)

    def _directions(self, u: Tensor) -> Tensor:
        """Them as unit rows (B, k, n), zeros where they have faded."""
        found = symmetry_tangents(self.tangents, u)[:, self.kept]
        length = found.norm(dim=-1, keepdim=True)
        clear = length > _FADED * u.flatten(1).norm(dim=1).view(-1, 1, 1)
        return torch.where(clear, found / length, 0.0)


def _independent(rows: Tensor) -> Tensor:
    """Rows (B, m, n) of unit length, those at the end that depend on others before them."""
    kept: list[Tensor] = []
    for row in rows.unbind(1):
        left = row
        for _ in range(2):  # a second time takes away what rounding left
            for other in kept:
                left = left - (left * other).sum(-1, keepdim=True) * other
        length = left.norm(dim=-1, keepdim=True)
        kept.append(torch.where(length > _APART, left / length, 0.0))
    basis = torch.stack(kept, 1)
    last = (basis == 0).all(-1).to(torch.int8).argsort(dim=1, stable=True)
    return rows.gather(1, last.unsqueeze(-1).expand_as(rows))


def symmetry_tangents(tangents: Tangents, u: Tensor) -> Tensor:
    """Tangents (B, 1 + d, n) at u (B, C, *space): u_t h, along the orbit, and u_x of the d axes."""
    visited = [u]
    for _ in range(len(_WEIGHTS) - 1):
        visited.append(tangents.advance(visited[-1], 1))
    along = torch.zeros_like(u)
    for weight, state in zip(_WEIGHTS, visited, strict=True):
        along += weight * state
    return torch.stack([along, *_gradient(u)], 1).flatten(2)


def _gradient(u: Tensor) -> list[Tensor]:
    """Spectral derivatives of u (B, C, *space) along its axes, per 2 pi of the box."""
    parts = []
    for axis in range(2, u.ndim):
        count = u.shape[axis]
        modes = torch.fft.fftfreq(count, 1.0 / count, dtype=u.dtype, device=u.device)
        if count % 2 == 0:
            modes[count // 2] = 0.0  # the derivative of the saw-tooth vanishes on every point
        shaped = modes.reshape(-1, *[1] * (u.ndim - axis - 1))
        parts.append(torch.fft.ifft(1j * shaped * torch.fft.fft(u, dim=axis), dim=axis).real)
    return parts
