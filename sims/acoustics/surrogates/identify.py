"""Frequencies, decays and shapes of the modes that records of a room are made of.

The records are coefficients y (S, K, T) of the field in K functions that are orthonormal over the
air, at even times a step h apart. A field that rings in modes obeys a linear recursion from step to
step, whose eigenvalues are exp(s h); the recursion is found by linear least squares over all
sources and times at once (dynamic mode decomposition: Schmid, Journal of Fluid Mechanics 656, 5-28
(2010)). Since the receivers tell the modes apart by their shapes, the records need not be as long
as one over the distance of two frequencies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import sqrtm
from torch import Tensor

NEIGHBOURS = 2 * math.pi * 0.3  # rad/s: modes closer than this are told apart by their shapes alone
LARGEST_GROUP = 24  # modes that are told apart together
RIDGE = 1e-13  # of the mean square, that keeps what was never heard out of the recursion


@dataclass(frozen=True, eq=False)
class Ringing:
    """y(t) = Re sum_j shapes_j weights_sj exp(s_j t).

    rates: (J,) complex s = -σ + i ω, ω >= 0. shapes: (k, J) complex, of norm 1. weights: (S, J)
    complex, how strongly each source starts each at time 0.
    """

    rates: Tensor
    shapes: Tensor
    weights: Tensor

    def only(self, kept: Tensor) -> Ringing:
        """Some of the modes."""
        return Ringing(self.rates[kept], self.shapes[:, kept], self.weights[:, kept])

    def started(self, strength: Tensor) -> Ringing:
        """The same with weights for sources that start each mode with strength 1, not (J,)."""
        return Ringing(self.rates, self.shapes, self.weights / strength)


def leading(series: Tensor, count: int) -> Tensor:
    """The `count` directions (K, count) in which series (S, K, T) are largest, orthonormal."""
    spread = torch.einsum("skt,slt->kl", series, series)
    return torch.linalg.eigh(spread).eigenvectors.flip(1)[:, :count]


def undamped(series: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Frequencies ω (k,) [rad/s] and orthonormal real shapes (k, k) of series (S, k, T).

    y(t+h) + y(t-h) = B y(t), with B symmetric and of eigenvalues 2 cos(ω h) since modes are
    orthogonal over the air: the least squares solve is one of Lyapunov's equations.
    """
    states = _joined(series[:, :, 1:-1])
    sums = _joined(series[:, :, 2:] + series[:, :, :-2])
    size, axes = torch.linalg.eigh(states @ states.T)
    cross = axes.T @ (sums @ states.T) @ axes
    recursion = (cross + cross.T) / (size[:, None] + size)
    cosines, shapes = torch.linalg.eigh(recursion)
    return torch.arccos((cosines / 2).clamp(-1, 1)) / step, axes @ shapes


def damped(series: Tensor, step: float) -> Ringing:
    """All modes of series (S, k, T), from y(t+h) = B y(t) + C y(t-h)."""
    count = series.shape[1]
    now = torch.cat([series[:, :, 1:-1], series[:, :, :-2]], 1)
    states, after = _joined(now), _joined(series[:, :, 2:])
    square = states @ states.T
    square.diagonal().add_(RIDGE * square.trace() / len(square))
    recursion = series.new_zeros(2 * count, 2 * count)
    recursion[:count] = torch.linalg.solve(square, states @ after.T).T
    recursion[count:, :count].fill_diagonal_(1.0)
    factors, vectors = torch.linalg.eig(recursion)
    # of a pair of conjugates the one that turns forward; a real factor below 0 is no mode
    kept = (factors.imag > 0) | ((factors.imag == 0) & (factors.real > 0))
    rates = factors[kept].log() / step
    modal = torch.linalg.inv(vectors)[kept] @ now.to(vectors.dtype)  # (S, J, T - 2)
    times = step * torch.arange(now.shape[2])
    ringing = torch.exp(rates[:, None] * times)
    weights = (modal * ringing.conj()).sum(2) / ringing.abs().square().sum(1)
    shapes = vectors[count:, kept]
    size = shapes.norm(dim=0)
    pairs = torch.where(rates.imag > 0, 2.0, 1.0)
    return Ringing(rates, shapes / size, weights * pairs * size)


def reciprocal(ringing: Ringing, at_sources: Tensor) -> Tensor:
    """Shapes (k, J) complex for which the weights are the shapes' own values at the sources.

    at_sources: (S, k), the orthonormal functions at the sources. Modes of one frequency come as any
    mix of each other; in each group of neighbours the weights are the values at the sources times
    a matrix, symmetric by reciprocity, whose root mixes them as wanted.
    """
    found = ringing.shapes.clone()
    values = at_sources.to(found.dtype) @ found
    for group in _groups(ringing.rates.imag):
        here, wanted = values[:, group], ringing.weights[:, group]
        mix = torch.linalg.lstsq(here, wanted).solution
        root = np.asarray(sqrtm(((mix + mix.T) / 2).numpy()), dtype=complex)
        found[:, group] = found[:, group] @ torch.from_numpy(root)
    return found


def _groups(frequencies: Tensor) -> list[list[int]]:
    order = frequencies.argsort().tolist()
    groups = [[order[0]]]
    for mode in order[1:]:
        near = frequencies[mode] - frequencies[groups[-1][-1]] < NEIGHBOURS
        if near and len(groups[-1]) < LARGEST_GROUP:
            groups[-1].append(mode)
        else:
            groups.append([mode])
    return groups


def _joined(series: Tensor) -> Tensor:
    """(S, k, T) -> (k, S T)."""
    return series.movedim(1, 0).flatten(1)
