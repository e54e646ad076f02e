"""Pictures of the report: fields over space and time, spectra, correlations, and horizons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from geomopt.runs.pictures import COLOURS, panels, plot, save

WIDE = (7.4, 3.6)
ROUNDING = 1e-15  # of the largest energy: what is below is not shown


def draw_space_time(
    path: Path, title: str, states: Mapping[str, Tensor], duration: float, length: float
) -> None:
    """Fields (frames, N) of one trajectory over place and time, the first beside the others.

    Under each of the others is its difference from the first, in the same colours.
    """
    names = list(states)
    truth = states[names[0]].double().numpy()
    largest = float(np.abs(truth).max())
    compared = len(names) > 1
    size = (2.9 * len(names) + 0.8, 6.2 if compared else 4.2)
    figure, axes = panels(1 + compared, len(names), size, sharex=True, sharey=True)
    figure.suptitle(title, fontsize=11)
    for column, name in enumerate(names):
        field = states[name].double().numpy()
        rows = [field] if column == 0 else [field, field - truth]
        for row, shown in enumerate(rows):
            at = axes[row, column]
            drawn = at.imshow(
                shown,
                origin="lower",
                aspect="auto",
                extent=(0, length, 0, duration),
                vmin=-largest,
                vmax=largest,
                cmap="RdBu_r",
                interpolation="nearest",
            )
            at.set_title(name if row == 0 else f"{name}, difference", fontsize=9)
    for at in axes[:, 0]:
        at.set_ylabel("time [s]")
    for at in (*axes[-1], axes[0, 0]):
        at.set_xlabel("place")
        at.tick_params(labelbottom=True)
    if compared:
        axes[1, 0].set_visible(False)
    figure.colorbar(drawn, ax=axes, shrink=0.6)
    save(figure, path)


def draw_flow(
    path: Path, title: str, states: Mapping[str, Tensor], times: Sequence[float], largest: float
) -> None:
    """Fields (frames, N, N) of one trajectory: a row for each model, a column for each time."""
    figure, axes = panels(len(states), len(times), (1.9 * len(times) + 1, 2.1 * len(states) + 0.4))
    figure.suptitle(title, fontsize=11)
    for row, (name, fields) in zip(axes, states.items(), strict=True):
        for at, time, field in zip(row, times, fields, strict=True):
            drawn = at.imshow(
                field.double().numpy().T,
                origin="lower",
                vmin=-largest,
                vmax=largest,
                cmap="RdBu_r",
                interpolation="bilinear",
            )
            at.set_xticks([])
            at.set_yticks([])
            at.set_title(f"{time:.2f} s", fontsize=8)
        row[0].set_ylabel(name, fontsize=9)
    figure.colorbar(drawn, ax=axes, shrink=0.7)
    save(figure, path)


def draw_correlations(
    path: Path, times: Tensor, curves: Mapping[str, Tensor], threshold: float
) -> None:
    """Correlation with the truth (frames,), averaged over trajectories, over times [s]."""
    figure, axes = plot(
        "Forecast against truth", "time [s]", "mean correlation with the truth", WIDE
    )
    for place, (name, curve) in enumerate(curves.items()):
        style = "-" if place < len(COLOURS) else "--"
        colour = COLOURS[place % len(COLOURS)]
        axes.plot(times.numpy(), curve.numpy(), style, color=colour, lw=1.4, label=name)
    axes.axhline(threshold, color="0.5", lw=0.8, ls=":")
    axes.set_ylim(-0.05, 1.02)
    axes.legend(fontsize=8)
    save(figure, path)


def draw_spectra(
    path: Path, title: str, up: str, wavenumbers: Tensor, spectra: Mapping[str, Tensor]
) -> None:
    """Energies by wavenumber (modes,), of states or of errors."""
    figure, axes = plot(title, "wavenumber", up, WIDE)
    for place, (name, energy) in enumerate(spectra.items()):
        seen = energy > 0
        axes.loglog(
            wavenumbers[seen].numpy(),
            energy[seen].numpy(),
            "-" if place == 0 else "--",
            color=COLOURS[place % len(COLOURS)],
            lw=1.4,
            label=name,
        )
    most = max(float(energy.max()) for energy in spectra.values())
    axes.set_ylim(bottom=ROUNDING * most, top=3 * most)
    axes.legend(fontsize=8)
    save(figure, path)


def draw_training(
    path: Path, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]
) -> None:
    """Losses over processor seconds."""
    figure, axes = plot("Training", "processor time [s]", "loss", WIDE)
    for place, (name, (seconds, losses)) in enumerate(curves.items()):
        axes.semilogy(seconds, losses, color=COLOURS[place % len(COLOURS)], lw=1.2, label=name)
    axes.legend(fontsize=8)
    save(figure, path)


def draw_horizons(
    path: Path, noise: Tensor, horizon: Tensor, models: Mapping[str, tuple[float, float]]
) -> None:
    """The exact solver with noise after every step, and models: one-step error and horizon [s]."""
    figure, axes = plot(
        "How long a model with that error can be right", "one-step error", "horizon [s]", WIDE
    )
    label = "solver with white noise"
    axes.semilogx(noise.numpy(), horizon.numpy(), "o-", color="0.4", ms=3, lw=1, label=label)
    for place, (name, (error, seconds)) in enumerate(models.items()):
        marker = "s" if place < len(COLOURS) else "^"
        axes.plot([error], [seconds], marker, color=COLOURS[place % len(COLOURS)], label=name)
    axes.legend(fontsize=8)
    save(figure, path)


def draw_predictability(path: Path, predicted: Tensor, true: Tensor, title: str) -> None:
    """Predicted and true times (trajectories,) [s] at which a forecast stops being right."""
    figure, axes = plot(title, "predicted from samples [s]", "true [s]", (4.6, 4.4))
    end = 1.05 * float(max(predicted.max(), true.max()))
    axes.plot([0, end], [0, end], color="0.6", lw=0.8)
    axes.plot(predicted.numpy(), true.numpy(), "o", ms=3.5, alpha=0.7, color=COLOURS[0])
    axes.set_xlim(0, end)
    axes.set_ylim(0, end)
    save(figure, path)
