"""From what a wave solver gives to something to listen to, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from geomopt.errors import check_tensor
from sims.acoustics.auralize.crossover import crossover
from sims.acoustics.auralize.deconvolution import RATE, impulse_response
from sims.acoustics.auralize.path import Moving, render_path
from sims.acoustics.auralize.tail import noise_tail
from sims.acoustics.source import default_width
from sims.acoustics.wav import normalised


def hybrid_response(
    pressure: Tensor,
    time_step: float,
    fmax: float,
    distances: Sequence[float] | Tensor,
    *,
    above: Tensor | None = None,
    decay_times: Mapping[float, float] | None = None,
    width: float | None = None,
    amplitude: float = 1.0,
    rate: int = RATE,
) -> Tensor:
    """Impulse responses (R, T') of the whole audible band from pressures (R, T) up to fmax [Hz].

    pressure: of a solver or surrogate to its Gaussian pulse, at times 0, time_step, ... [s].
    distances: (R,) between source and receivers [m], 0 where the direct way is blocked. above: (R,
    T'') at `rate`, what is heard above fmax, such as `image_source_response` of a shoebox; None for
    a `noise_tail` with `decay_times`. width, amplitude: of the pulse, by default the solver's own.
    """
    width = default_width(fmax) if width is None else width
    low = impulse_response(pressure, time_step, width, amplitude=amplitude, rate=rate)
    if above is None:
        above = noise_tail(low, rate, fmax, distances, decay_times)
    return crossover(low, above.to(low), fmax, rate)


def auralize(
    dry: Tensor,
    responses: Tensor,
    rate: int = RATE,
    times: Sequence[float] | Tensor | None = None,
    *,
    moving: Moving = "source",
    peak: float = 0.9,
) -> Tensor:
    """A dry signal (S,) as it is heard in a room, along a path, with its largest sample at `peak`.

    responses: of `hybrid_response`, and the rest as for `render_path`. `write_wav` writes it.
    """
    return normalised(render_path(dry.to(responses), responses, rate, times, moving=moving), peak)


def spectrogram(
    samples: Tensor, rate: float, *, window: float = 0.02, floor: float = -90.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Times (N,) [s], frequencies (F,) [Hz] and levels (F, N) [dB re the largest] of samples (S,).

    window: length of the Hann windows [s], that overlap by three quarters. floor: of levels [dB].
    """
    check_tensor("samples", samples, (None,))
    length = max(16, round(window * rate))
    hop = max(1, length // 4)
    hann = torch.hann_window(length, dtype=samples.dtype, device=samples.device)
    padded = torch.nn.functional.pad(samples, (0, max(0, length - len(samples))))
    transform = torch.stft(
        padded, length, hop, window=hann, center=True, pad_mode="constant", return_complex=True
    )
    power = transform.abs() ** 2
    loudest = power.max().clamp(min=torch.finfo(power.dtype).tiny)
    level = 10 * torch.log10(power / loudest + 10 ** (floor / 10))
    times = torch.arange(level.shape[1], dtype=torch.float64) * hop / rate
    return times, torch.fft.rfftfreq(length, 1 / rate, dtype=torch.float64), level
