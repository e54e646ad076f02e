"""Octave and third-octave bands, and the filters that cut a response into them.

IEC 61260-1: exact centres are 1000 · 10^(3k/10) Hz for octaves and 1000 · 10^(k/10) Hz for third
octaves; an octave reaches from f · 10^(-3/20) to f · 10^(3/20).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor

Width = Literal["octave", "third"]
OCTAVES = (31.5, 63.0, 125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16000.0)  # Hz, nominal
THIRD_OCTAVES = (
    25.0, 31.5, 40.0, 50.0, 63.0, 80.0, 100.0, 125.0, 160.0, 200.0, 250.0, 315.0, 400.0, 500.0,
    630.0, 800.0, 1000.0, 1250.0, 1600.0, 2000.0, 2500.0, 3150.0, 4000.0, 5000.0, 6300.0, 8000.0,
    10000.0, 12500.0, 16000.0,
)  # fmt: skip
ROOM_BANDS = OCTAVES[2:8]  # 125 to 4000 Hz, those of ISO 3382-1
FILTER_ORDER = 4  # of the Butterworth prototype, so a band filter has twice as many poles
STEPS_PER_DECADE = {"octave": 10 / 3, "third": 10.0}


def band_edges(band: float, width: Width = "octave") -> tuple[float, float]:
    """Lower and upper edge [Hz] of the band whose nominal centre is `band` [Hz].

    Raises InputError for a centre that no band of this width has.
    """
    if width not in STEPS_PER_DECADE:
        raise InputError(f"width must be 'octave' or 'third', got {width!r}")
    known = OCTAVES if width == "octave" else THIRD_OCTAVES
    if not isinstance(band, int | float) or not any(math.isclose(band, f) for f in known):
        listed = ", ".join(f"{f:g}" for f in known)
        raise InputError(f"band must be one of the {width} bands {listed} Hz, got {band!r}")
    steps = STEPS_PER_DECADE[width]
    exact = 1000 * 10 ** (round(steps * math.log10(band / 1000)) / steps)
    reach = 10 ** (1 / (2 * steps))
    return exact / reach, exact * reach


def bands_below(frequency: float, width: Width = "octave", lowest: float = 31.5) -> list[float]:
    """Nominal centres from `lowest` [Hz] up of the bands that end below `frequency` [Hz]."""
    known = OCTAVES if width == "octave" else THIRD_OCTAVES
    return [f for f in known if f >= lowest and band_edges(f, width)[1] < frequency]


def band_filter(
    response: Tensor,
    rate: float,
    bands: Sequence[float] = ROOM_BANDS,
    *,
    width: Width = "octave",
    backwards: bool = False,
) -> Tensor:
    """The response in each band, (..., B, T), from (..., T) at `rate` [Hz].

    Butterworth band-passes of fourth order, run in float64; the result has the response's dtype and
    is differentiable in it, to any order. backwards: the filter runs from the end to the start, so
    that its own decay does not add to the response's, which a band of bandwidth b needs where b T <
    16; then b T > 4 will do (Jacobsen and Rindel, J. Sound Vib. 117, 1987). At b T = 8 that turns
    an error of T30 of 18 % into 8 %. Responses that are cut at their onset then miss a part of it,
    and early decay times gain nothing.

    Raises InputError for a band that does not exist or ends above half the rate.
    """
    check_response(response)
    check_rate(rate)
    if len(bands) == 0:
        raise InputError("bands must name at least one band, got none")
    for band in bands:
        upper = band_edges(band, width)[1]
        if upper >= rate / 2:
            raise InputError(
                f"bands must end below half the rate of {rate:g} Hz, got {band:g} Hz, which ends "
                f"at {upper:.0f} Hz: leave it out or record at a higher rate"
            )
    edges = [band_edges(band, width) for band in bands]
    return torch.stack([_BandPass.apply(response, rate, pair, backwards) for pair in edges], dim=-2)


class _BandPass(torch.autograd.Function):
    """A linear filter; its adjoint is the same filter run the other way, so any derivative is."""

    @staticmethod
    def forward(
        ctx: Any, response: Tensor, rate: float, edges: tuple[float, float], backwards: bool
    ) -> Tensor:
        from scipy.signal import butter, sosfilt  # slow to import

        ctx.arguments = (rate, edges, backwards)
        sections = butter(FILTER_ORDER, edges, "bandpass", fs=rate, output="sos")
        samples = response.detach().cpu().double().numpy()
        if backwards:
            samples = np.flip(sosfilt(sections, np.flip(samples, -1)), -1).copy()
        else:
            samples = sosfilt(sections, samples)
        return torch.as_tensor(samples).to(response)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        rate, edges, backwards = ctx.arguments
        return _BandPass.apply(gradients[0], rate, edges, not backwards), None, None, None


def check_response(response: object, name: str = "response") -> Tensor:
    """Return `response` if it is a finite floating tensor (..., T) with at least two times."""
    tensor = check_tensor(name, response)
    if tensor.ndim == 0 or tensor.shape[-1] < 2 or tensor.numel() == 0:
        raise InputError(
            f"{name} must have shape (..., T) with at least two times, got {tuple(tensor.shape)}"
        )
    return tensor


def check_rate(rate: object) -> float:
    """Return `rate` if it is a positive number of samples a second."""
    if not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise InputError(f"rate must be a positive number of samples a second, got {rate!r}")
    return float(rate)
