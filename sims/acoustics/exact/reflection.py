"""Plane waves at a locally reacting wall: reflection, absorption, and a reflected pulse.

H. Kuttruff, Room Acoustics, chapter 2. The normalised admittance is y = rho c v_n / p, of the time
convention exp(+iwt).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sims.acoustics.air import SPEED_OF_SOUND

LARGE_ADMITTANCE = 2.0  # above, terms of the closed form cancel, and few nodes integrate exactly

NO_ADMITTANCE = 1e-100  # below, squares vanish, and the absorption is 8 Re y


def reflection(admittance: Tensor, angle: float = 0.0) -> Tensor:
    """R = (cos - y) / (cos + y) of admittances (...) at an angle from the normal [rad]."""
    cosine = math.cos(angle)
    return (cosine - admittance) / (cosine + admittance)


def absorption(admittance: Tensor, angle: float = 0.0) -> Tensor:
    """1 - |R|² = 4 Re(y) cos / |cos + y|² of admittances (...) at an angle [rad]."""
    cosine = math.cos(angle)
    return 4.0 * cosine * admittance.real / _squared(cosine + admittance)


def random_absorption(admittance: Tensor) -> Tensor:
    """Absorption in a diffuse field, the integral of alpha(theta) sin(2 theta) over 0 to pi/2.

    With u = cos(theta), y = a + ib: 8a times the integral of u² / ((u + a)² + b²) over 0 to 1,
    which is 1 - a ln(((1+a)² + b²) / (a² + b²)) + (a² - b²)/b atan(b / (a + a² + b²)).
    Differentiable; at most 0.951, which y = 0.638 reaches.
    """
    a, b = admittance.real, admittance.imag
    large = _squared(admittance) > LARGE_ADMITTANCE**2
    rigid = _squared(admittance) < NO_ADMITTANCE**2
    # in the branch that is not taken a harmless value, so that its gradient is finite
    inner_a = torch.where(large | rigid, 0.5, a)
    inner_b = torch.where(large | rigid, 0.5, b)
    outer = torch.where(large, admittance, admittance.new_full((), 2.0 * LARGE_ADMITTANCE))
    squared = inner_a**2 + inner_b**2
    ratio = ((1.0 + inner_a) ** 2 + inner_b**2) / squared
    closed = (
        1.0
        - inner_a * torch.log(ratio)
        + (inner_a**2 - inner_b**2) * _atan_over(inner_b, inner_a + squared)
    )
    nodes, weights = (
        torch.as_tensor(x, dtype=a.dtype, device=a.device)
        for x in np.polynomial.legendre.leggauss(16)
    )
    cosines = (0.5 + 0.5 * nodes).reshape(-1, *[1] * admittance.ndim)
    integrand = cosines**2 / _squared(cosines + outer)
    series = 0.5 * torch.tensordot(weights, integrand, dims=1)
    return 8.0 * a * torch.where(rigid, torch.ones_like(a), torch.where(large, series, closed))


def reflected_pulse(
    admittance: Callable[[Tensor], Tensor],
    times: Tensor,
    width: float,
    amplitude: float = 1.0,
    angle: float = 0.0,
    speed: float = SPEED_OF_SOUND,
) -> Tensor:
    """Pressure (T,) that a wall sends back, where amplitude exp(-(c t / width)²) comes in.

    admittance: y of complex s [rad/s]. times: (T,) float64 [s], 0 when the centre of the pulse is
    at the wall; for a receiver at a distance d along the way add d / c. width: [m].
    The inverse Laplace transform of R(s) times that of the pulse, summed along a line to the right
    of the imaginary axis, so that what a period leaves over is damped by 1e-12; differentiable in
    the times and in what the admittance depends on.
    """
    spread = width / speed
    reach = 7.0 * spread  # exp(-49) is below rounding
    span = float(times.detach().abs().max()) + reach
    period = 4.0 * span
    shift = math.log(1e12) / period
    count = math.ceil(period * 2.2 / spread)
    step = 2.0 * math.pi / period
    omega = step * torch.arange(count + 1, dtype=torch.float64, device=times.device)
    s = torch.complex(torch.full_like(omega, shift), omega)
    pulse = amplitude * spread * math.sqrt(math.pi) * torch.exp((s * spread) ** 2 / 4.0)
    spectrum = pulse * reflection(admittance(s), angle)
    half = torch.ones_like(omega)
    half[0] = 0.5
    waves = torch.exp(times[:, None] * s)
    return (waves * (spectrum * half)).real.sum(dim=1) * step / math.pi


def _squared(value: Tensor) -> Tensor:
    return value.real**2 + value.imag**2


def _atan_over(b: Tensor, base: Tensor) -> Tensor:
    """atan(b / base) / b, which is smooth at b = 0."""
    small = b.abs() < 1e-4 * base
    ratio = b / base
    safe = torch.where(small, torch.ones_like(b), b)
    series = (1.0 - ratio**2 / 3.0 + ratio**4 / 5.0) / base
    return torch.where(small, series, torch.atan(safe / base) / safe)
