"""Surface impedance of a porous layer before a rigid wall, after Miki.

Y. Miki, "Acoustical properties of porous materials - modifications of Delany-Bazley models",
Journal of the Acoustical Society of Japan (E) 11(1), 19-24 (1990), equations 31 to 34; time
convention exp(+iwt).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sims.acoustics.air import CHARACTERISTIC_IMPEDANCE, SPEED_OF_SOUND

Complex = NDArray[np.complexfloating[Any, Any]]


def characteristic(frequencies: ArrayLike, flow_resistivity: float) -> tuple[Complex, Complex]:
    """Characteristic impedance [Pa s/m] and wavenumber [rad/m] in the porous material.

    frequencies: (...) [Hz], positive, or complex, s / 2 pi i, with a positive real part.
    flow_resistivity: sigma [Pa s/m²]. With x = f / sigma,
    Zc = Z0 (1 + 0.070 x^-0.632 - 0.107i x^-0.632) and
    k = (w/c) (1 + 0.109 x^-0.618 - 0.160i x^-0.618); sound for x of 0.01 to 1 kg/m³.
    """
    f = np.asarray(frequencies)
    x = f / flow_resistivity
    impedance = CHARACTERISTIC_IMPEDANCE * (1.0 + (0.070 - 0.107j) * x**-0.632)
    wavenumber = 2.0 * np.pi * f / SPEED_OF_SOUND * (1.0 + (0.109 - 0.160j) * x**-0.618)
    return impedance, wavenumber


def surface_impedance(
    frequencies: ArrayLike,
    flow_resistivity: float,
    thickness: float,
    air_gap: float = 0.0,
    angle: ArrayLike = 0.0,
) -> Complex:
    """Impedance [Pa s/m] of a layer for a plane wave, p / v_n at its face.

    frequencies: (...) [Hz], as in `characteristic`. thickness, air_gap: [m]; behind the gap is a
    rigid wall. angle: from the normal [rad], broadcast against the frequencies.
    With kx² = k² - k0² sin², Z = -i Zc (k/kx) cot(kx d) without a gap; the impedance of a gap,
    Zd = -i Z0 cot(k0 d0 cos) / cos, is carried through the layer.
    """
    f, angles = np.broadcast_arrays(np.asarray(frequencies), np.asarray(angle, np.float64))
    impedance, wavenumber = characteristic(f, flow_resistivity)
    free = 2.0 * np.pi * f / SPEED_OF_SOUND
    normal = np.sqrt(wavenumber**2 - (free * np.sin(angles)) ** 2)
    layer = impedance * wavenumber / normal
    # tan, which stays finite where cot of a thin layer does not
    slab = 1j * np.tan(normal * thickness)
    if air_gap == 0.0:
        return layer / slab
    cosine = np.cos(angles)
    gap = 1j * np.tan(free * cosine * air_gap) * cosine / CHARACTERISTIC_IMPEDANCE
    return layer * (1.0 + layer * gap * slab) / (slab + layer * gap)
