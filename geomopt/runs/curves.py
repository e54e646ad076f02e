"""Curves of a run as SVG text that takes its ink from the page around it, so that it fits a light
and a dark one.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np

_INK = "#010203"  # replaced by the page's own colour
_GRID = "#040506"
_PALETTE = ("#3b82c4", "#e08a2e", "#35a06e", "#c65b9b", "#8a74d6", "#b9a32b", "#4fb3bf", "#d2604f")
_DEPTH = 1e-6  # what is smaller than this part of the largest value is not worth the room
_DECADE = 10.0  # values that span more than this are shown on a logarithmic axis


def curves(series: Mapping[str, tuple[np.ndarray, np.ndarray]], label: str) -> str:
    """An SVG element with a curve for each name: its iterations and values; NaN leaves a gap."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # a salt of its own keeps the ids of two figures on one page apart, and the file the same every
    # time
    with rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": label + "".join(series),
            "font.family": "sans-serif",
        }
    ):
        figure = Figure(figsize=(5.4, 3.2), layout="constrained")
        axes = figure.add_subplot()
        shown = []
        for place, (name, (x, y)) in enumerate(series.items()):
            values = np.asarray(y, dtype=float)
            shown.append(values[np.isfinite(values)])
            marker = "o" if len(values) == 1 else ""
            axes.plot(
                x, values, marker=marker, lw=1.6, color=_PALETTE[place % len(_PALETTE)], label=name
            )
        values = np.concatenate(shown) if shown else np.zeros(0)
        positive = values[values > 0]
        if len(positive) and values.min() >= 0 and positive.max() > _DECADE * positive.min():
            axes.set_yscale("log")
            axes.set_ylim(bottom=max(positive.min(), _DEPTH * positive.max()) / 1.5)
        axes.set_xlabel("iteration")
        axes.set_ylabel(label)
        axes.grid(color=_GRID, lw=0.6)
        if len(series) > 1:
            axes.legend(frameon=False, labelcolor=_INK, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=_INK, which="both", labelsize=9)
        for part in (axes.xaxis.label, axes.yaxis.label):
            part.set_color(_INK)
        for side in ("left", "bottom"):
            axes.spines[side].set_color(_INK)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(_GRID, "var(--line)").replace(_INK, "currentColor")
    return text
