"""What makes the sound: a pulse of pressure at the start, or a point that emits as it moves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor
from sims.acoustics.air import SPEED_OF_SOUND

NARROWEST = 0.5  # widths of the default pulse, whose spectrum then ends at twice the band
WIDEST = 50.0  # times the default, beyond which spreading the pulse takes longer than its sound
STENCIL = 8  # samples that a value between two samples is interpolated from


def default_width(fmax: float) -> float:
    """s0 = c / (π fmax / 2) [m], the width of the pulse in Borrel-Jensen et al., PNAS 121(2)
    e2312159120 (2024): its spectrum has fallen by 35 dB at fmax [Hz].
    """
    return SPEED_OF_SOUND / (math.pi * fmax / 2)


@dataclass(frozen=True, eq=False)
class Pulse:
    """The pressure amplitude · exp(-|x - position|²/width²) at rest at time 0.

    What would fall outside of the walls is folded back into the room, see `smoothing`. position:
    (3,) [m]. amplitude [Pa]. width [m], None for `default_width` of the solver's band. All may be
    tensors that require gradients.
    """

    position: Any
    amplitude: Any = 1.0
    width: Any = None

    def strength_and_width(self, fmax: float) -> tuple[Tensor, Tensor]:
        """The pressure's integral π^1.5 amplitude width³ [Pa m³] in free air, and the width [m].

        Raises InputError for a width that a solver up to fmax [Hz] does not resolve.
        """
        numbers = {"dtype": torch.float64}
        amplitude = as_tensor("amplitude", self.amplitude, "a number [Pa]", **numbers)
        given = default_width(fmax) if self.width is None else self.width
        width = as_tensor("width", given, "a number [m]", **numbers)
        if amplitude.ndim or not torch.isfinite(amplitude):
            raise InputError(f"amplitude must be a finite number [Pa], got {self.amplitude!r}")
        narrowest, widest = NARROWEST * default_width(fmax), WIDEST * default_width(fmax)
        held = width.detach()
        if held.ndim or not narrowest <= float(held) <= widest:
            remedy = (
                "narrow it, or lower" if held.ndim == 0 and held > widest else "widen it, or raise"
            )
            raise InputError(
                f"the width of a pulse must be {narrowest:.4g} to {widest:.4g} m for fmax = "
                f"{fmax:g} Hz, got {held.tolist()} m: {remedy} the fmax of the solver"
            )
        return math.pi**1.5 * amplitude * width**3, width


@dataclass(frozen=True, eq=False)
class Emission:
    """A point that adds signal(t) to the pressure, and may move.

    p_tt + A p = d/dt [signal(t) δ(x - x₀(t))]. positions: (3,), or (T, 3) along with the signal
    [m]. signal: (T,) [Pa m³/s], from time 0 on, zero afterwards; keep it below the solver's fmax.
    rate: its samples per second. Positions and signal may require gradients.
    """

    positions: Any
    signal: Any
    rate: float

    def at(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (n, 3) and the signal (n,) at times (n,) [s], by local polynomials."""
        signal = as_tensor("signal", self.signal, "numbers (T,)", dtype=torch.float64)
        positions = as_tensor("positions", self.positions, "numbers", dtype=torch.float64)
        if signal.ndim != 1 or len(signal) < STENCIL or not torch.isfinite(signal).all():
            raise InputError(
                f"signal must be (T,) finite numbers with T >= {STENCIL}, got {tuple(signal.shape)}"
            )
        if positions.shape not in ((3,), (len(signal), 3)):
            raise InputError(
                f"positions must be (3,) or one for each sample of the signal, ({len(signal)}, 3), "
                f"got {tuple(positions.shape)}"
            )
        rate = as_tensor("rate", self.rate, "a number of samples per second", dtype=torch.float64)
        if rate.ndim or not 0 < float(rate) < math.inf:
            raise InputError(
                f"rate must be a finite number of samples per second above 0, got {self.rate!r}"
            )
        silence = signal.new_zeros(STENCIL)
        signal = torch.cat([silence, signal, silence])  # it starts and ends at rest
        emitted = _between(signal[:, None], times * self.rate + STENCIL)[:, 0]
        if positions.ndim == 1:
            return positions.expand(len(times), 3), emitted
        last = len(positions) - 1
        return _between(positions, (times * self.rate).clamp(0, last)), emitted


def _between(samples: Tensor, places: Tensor) -> Tensor:
    """Values (n, C) of samples (T, C) at fractional places, by polynomials through 8 samples."""
    first = (places.floor().long() - STENCIL // 2 + 1).clamp(0, len(samples) - STENCIL)
    inside = (places >= 0) & (places <= len(samples) - 1)
    offsets = torch.arange(STENCIL, dtype=torch.float64, device=samples.device)
    away = (places - first)[:, None] - offsets
    weights = torch.ones_like(away)
    for own in range(STENCIL):
        for other in range(STENCIL):
            if other != own:
                weights[:, own] *= away[:, other] / (own - other)
    values = samples[first[:, None] + offsets.long()]
    return (weights * inside[:, None])[:, None, :].matmul(values)[:, 0]
