"""Modes that are driven: the amplitude of e^(s t) under a force that is known at even times."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

TOGETHER = 2048  # times of one convolution: what rings on from earlier is added to each
STENCIL = 4  # samples that the force between two samples is interpolated from
NODES = 8  # of the Gauss rule over a step


def ring(rates: Tensor, force: Tensor, step: float) -> Tensor:
    """q(t) = ∫ exp(s (t - τ)) f(τ) dτ from 0 to t at even times, for each of J modes.

    rates: (J,) complex s [1/s]. force: (J, T) at 0, step, 2 step ... [s], interpolated by cubic
    polynomials in between, whose product with the exponential is integrated exactly (to rounding).
    Returns (J, T) complex.
    """
    count = force.shape[1]
    gains = _gains(rates, step)
    padded = torch.nn.functional.pad(force, (1, 2))
    near = torch.stack([padded[:, sample : sample + count] for sample in range(STENCIL)])
    steps = torch.einsum("js,sjt->jt", gains, near)
    # what a step adds is there at its end
    added = torch.nn.functional.pad(steps[:, :-1], (1, 0))
    parts = []
    carried = torch.zeros_like(rates)
    for first in range(0, count, TOGETHER):
        piece = added[:, first : first + TOGETHER]
        size = piece.shape[1]
        ages = torch.arange(size, device=rates.device)
        decays = torch.exp(rates[:, None] * step * ages)
        spectrum = torch.fft.fft(piece, 2 * size) * torch.fft.fft(decays, 2 * size)
        found = torch.fft.ifft(spectrum)[:, :size]
        found = found + (carried * torch.exp(rates * step))[:, None] * decays
        carried = found[:, -1]
        parts.append(found)
    return torch.cat(parts, 1)


def _gains(rates: Tensor, step: float) -> Tensor:
    """(J, 4): what samples -1, 0, 1, 2 of the force add within the step from 0 to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    places = torch.tensor((nodes + 1) / 2, device=rates.device)
    shares = torch.tensor(weights / 2, device=rates.device)
    samples = range(-1, STENCIL - 1)
    products = []
    for own in samples:
        factors = [(places - other) / (own - other) for other in samples if other != own]
        products.append(torch.stack(factors).prod(0))
    lagrange = torch.stack(products)
    decays = torch.exp(rates[:, None] * step * (1 - places)) * step * shares
    return decays @ lagrange.T.to(decays.dtype)
