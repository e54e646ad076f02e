"""From the response to a pulse of a wave solver to an impulse response at an audio rate.

The pulse is a sphere of pressure A exp(-r²/s0²) at rest. Far from it its free field is the
derivative of the one of a point, times the transform of the sphere:

    P(w) = i w A pi^(3/2) s0³ exp(-(w s0 / 2 c)²) exp(-i w r / c) / (4 pi c² r).

Divided by this at r = 1 m, without its delay, a response becomes the one of a source whose free
field is an impulse of 1/r. Such a source has an endless flow at 0 Hz, so it is high-passed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.wav import resample

RATE = 48000  # Hz
LOWEST = 20.0  # Hz, below which the source does not sound
REGULARISATION = -40.0  # dB re the largest value of the pulse's spectrum
FADE = 0.1  # of a response, over which it fades out where it is cut off


def pulse_spectrum(frequencies: Tensor, width: float, amplitude: float = 1.0) -> Tensor:
    """P(w) above at 1 m, without delay, (...) complex [Pa s], at frequencies (...) [Hz]."""
    angular = 2 * math.pi * frequencies
    sphere = amplitude * math.pi**1.5 * width**3
    shape = torch.exp(-((angular * width / (2 * SPEED_OF_SOUND)) ** 2))
    return 1j * angular * sphere * shape / (4 * math.pi * SPEED_OF_SOUND**2)


def impulse_response(
    pressure: Tensor,
    time_step: float,
    width: float,
    *,
    amplitude: float = 1.0,
    rate: int = RATE,
) -> Tensor:
    """Impulse responses (..., T') at `rate` [Hz] from responses (..., T) to a Gaussian pulse.

    pressure: at times 0, time_step, ... [s]. width, amplitude: of the pulse; a solver's default
    width is c / (pi fmax / 2) (`sims.acoustics.source.default_width`). Free field is an impulse
    1/r, in the units of one sample of height 1, high-passed at 20 Hz and limited to the band of the
    pulse: it is divided out down to 40 dB below the largest value of its spectrum, which is some
    way above fmax. Receivers must be two widths from the source, or they hear the pulse's inside.
    """
    check_tensor("pressure", pressure)
    for name, value in (("time_step", time_step), ("width", width), ("amplitude", amplitude)):
        if not 0 < value < math.inf:
            raise InputError(f"{name} must be positive, got {value}")
    if pressure.ndim == 0 or pressure.shape[-1] < 16:
        raise InputError(f"pressure must have at least 16 times, got shape {tuple(pressure.shape)}")
    highest = 2 * SPEED_OF_SOUND / (math.pi * width)  # fmax of a solver with this pulse
    if time_step > 1 / (2 * highest) * (1 + 1e-6):
        raise InputError(
            f"time_step must be at most {1 / (2 * highest):.4g} s, half a period of the "
            f"{highest:.4g} Hz that the pulse reaches to, got {time_step:.4g} s"
        )
    count = pressure.shape[-1]
    size = 4 * count  # the source's high-pass rings on
    spectrum = torch.fft.rfft(pressure.double() * _fade_out(count).to(pressure.device), size)
    frequencies = torch.fft.rfftfreq(size, time_step, dtype=torch.float64, device=pressure.device)
    pulse = pulse_spectrum(frequencies, width, amplitude)
    least = 10 ** (REGULARISATION / 20) * pulse.abs().max()
    inverse = pulse.conj() / pulse.abs().clamp(min=least) ** 2
    made = torch.fft.irfft(spectrum * inverse * _high_pass(frequencies), size)[..., :count]
    # an impulse of one sample has the area of one sample
    return (resample(made, 1 / time_step, rate) / rate).to(pressure.dtype)


def _fade_out(count: int) -> Tensor:
    """Ones that end in half a cosine, (T,) float64."""
    length = max(2, round(FADE * count))
    ramp = 0.5 + 0.5 * torch.cos(
        math.pi * torch.arange(1, length + 1, dtype=torch.float64) / length
    )
    return torch.cat((torch.ones(count - length, dtype=torch.float64), ramp))


def _high_pass(frequencies: Tensor) -> Tensor:
    """Butterworth high-pass of second order at `LOWEST`."""
    s = 1j * frequencies / LOWEST
    return s**2 / (s**2 + math.sqrt(2) * s + 1)
