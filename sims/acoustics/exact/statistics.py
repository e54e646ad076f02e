"""Diffuse fields: reverberation times, the number of modes, and where they begin to overlap.

H. Kuttruff, Room Acoustics, chapters 3 and 5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from geomopt.errors import InputError
from sims.acoustics.air import SPEED_OF_SOUND


def sabine(
    volume: float,
    areas: float | Sequence[float],
    absorptions: float | Sequence[float],
    speed: float = SPEED_OF_SOUND,
) -> float:
    """T60 = (24 ln 10 / c) V / sum(S alpha) [s]; infinite where nothing absorbs.

    volume: V [m³]. areas: S of each surface [m²]. absorptions: alpha of each at random incidence,
    0 to 1. A wave solver with locally reacting walls meets this in a diffuse field alone.
    """
    area, absorbing = _surfaces(volume, areas, absorptions)
    return _decay(volume, absorbing * area, speed)


def eyring(
    volume: float,
    areas: float | Sequence[float],
    absorptions: float | Sequence[float],
    speed: float = SPEED_OF_SOUND,
) -> float:
    """T60 = (24 ln 10 / c) V / (-S ln(1 - mean alpha)) [s]; arguments as in `sabine`."""
    area, absorbing = _surfaces(volume, areas, absorptions)
    if absorbing == 1.0:
        return 0.0
    return _decay(volume, -area * math.log1p(-absorbing), speed)


def mode_count(lengths: Sequence[float], frequency: float, speed: float = SPEED_OF_SOUND) -> float:
    """Modes of a rigid box below a frequency [Hz], on average.

    N = 4 pi V f³ / (3 c³) + pi S f² / (4 c²) + L f / (8 c), with L the sum of the twelve edges.
    """
    if len(lengths) != 3 or not all(0 < float(length) < math.inf for length in lengths):
        raise InputError(f"lengths must be three positive numbers [m], got {lengths!r}")
    if not 0 <= frequency < math.inf:
        raise InputError(f"frequency must be at least 0 and finite [Hz], got {frequency!r}")
    x, y, z = (float(length) for length in lengths)
    volume, area, edges = x * y * z, 2.0 * (x * y + y * z + z * x), 4.0 * (x + y + z)
    per_metre = frequency / speed
    return (
        4.0 * math.pi / 3.0 * volume * per_metre**3
        + math.pi / 4.0 * area * per_metre**2
        + edges / 8.0 * per_metre
    )


def schroeder_frequency(volume: float, reverberation_time: float) -> float:
    """2000 sqrt(T60 / V) [Hz], above which three modes or more overlap, of V [m³] and T60 [s].

    M. R. Schroeder and H. Kuttruff, "On frequency response curves in rooms", Journal of the
    Acoustical Society of America 34(1), 76-80 (1962).
    """
    for name, value in (("volume", volume), ("reverberation_time", reverberation_time)):
        if not 0 < value < math.inf:
            raise InputError(f"{name} must be positive and finite, got {value!r}")
    return 2000.0 * math.sqrt(reverberation_time / volume)


def _surfaces(
    volume: float, areas: float | Sequence[float], absorptions: float | Sequence[float]
) -> tuple[float, float]:
    """Total area and mean absorption."""
    if not 0 < volume < math.inf:
        raise InputError(f"volume must be positive and finite [m³], got {volume!r}")
    surfaces = [areas] if isinstance(areas, int | float) else list(areas)
    each = [absorptions] if isinstance(absorptions, int | float) else list(absorptions)
    if len(surfaces) != len(each):
        raise InputError(
            f"absorptions must have one value for each area, got {len(each)} for {len(surfaces)}"
        )
    for name, values, most in (("areas", surfaces, math.inf), ("absorptions", each, 1.0)):
        wrong = [value for value in values if not (0 <= value <= most and math.isfinite(value))]
        if wrong:
            raise InputError(f"{name} must be from 0 to {most:g} and finite, got {wrong[0]!r}")
    area = math.fsum(surfaces)
    if area == 0:
        raise InputError("areas must be above 0 m² together, got 0")
    return area, math.fsum(s * a for s, a in zip(surfaces, each, strict=True)) / area


def _decay(volume: float, exponent: float, speed: float) -> float:
    return math.inf if exponent == 0 else 24.0 * math.log(10.0) / speed * volume / exponent
