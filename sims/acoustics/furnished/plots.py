"""Pictures of the report: pressures, spectra, decays, and what is heard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from geomopt.runs.pictures import COLOURS, plot, save
from sims.acoustics.metrics import onset, schroeder_curve

FLOOR = -70.0  # dB


def draw_traces(path: Path, title: str, times: Tensor, traces: Mapping[str, Tensor]) -> None:
    """Pressures (T,) over time, by what they are of."""
    figure, axes = plot(title, "time [ms]", "pressure [Pa]", (7.4, 3.6))
    for place, (name, trace) in enumerate(traces.items()):
        style = "-" if place == 0 else "--"
        colour = COLOURS[place % len(COLOURS)]
        axes.plot(
            1e3 * times.numpy(), trace.double().numpy(), style, color=colour, lw=1.3, label=name
        )
    axes.legend(fontsize=8)
    save(figure, path)


def draw_spectra(path: Path, rate: float, fmax: float, traces: Mapping[str, Tensor]) -> None:
    """Magnitudes of responses (T,) up to fmax [Hz]."""
    figure, axes = plot("Frequency response", "frequency [Hz]", "level [dB]", (7.4, 3.6))
    for place, (name, trace) in enumerate(traces.items()):
        size = 4 * len(trace)
        frequencies = np.fft.rfftfreq(size, 1 / rate)
        spectrum = np.abs(np.fft.rfft(trace.double().numpy(), size))
        band = (frequencies > 20) & (frequencies < fmax)
        level = 20 * np.log10(spectrum[band] / spectrum[band].max() + 1e-12)
        axes.plot(frequencies[band], level, color=COLOURS[place % 4], lw=1.2, label=name)
    axes.set_ylim(FLOOR, 3)
    axes.legend(fontsize=8)
    save(figure, path)


def draw_decays(path: Path, rate: float, traces: Mapping[str, Tensor]) -> None:
    """Schroeder's curves of responses (T,)."""
    figure, axes = plot("Energy decay", "time [s]", "level [dB]", (7.4, 3.6))
    for place, (name, trace) in enumerate(traces.items()):
        begin = int(onset(trace.double()))
        curve = schroeder_curve(trace.double()[begin:])
        times = np.arange(len(curve)) / rate
        axes.plot(times, curve.numpy(), color=COLOURS[place % 4], lw=1.3, label=name)
    axes.set_ylim(FLOOR, 2)
    axes.legend(fontsize=8)
    save(figure, path)


def draw_spectrogram(
    path: Path, title: str, times: Tensor, frequencies: Tensor, level: Tensor
) -> None:
    """Level (F, T) [dB] over frequencies (F,) [Hz] and times (T,) [s]."""
    figure, axes = plot(title, "time [s]", "frequency [Hz]", (7.4, 3.8))
    ceiling = float(level.max())
    drawn = axes.pcolormesh(
        times.numpy(),
        frequencies.numpy(),
        level.numpy(),
        vmin=ceiling + FLOOR,
        vmax=ceiling,
        shading="auto",
        cmap="magma",
    )
    axes.set_yscale("symlog", linthresh=500)
    axes.set_ylim(0, float(frequencies.max()))
    figure.colorbar(drawn, label="level [dB]")
    save(figure, path)
