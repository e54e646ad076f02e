"""Pictures of what a validation found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from geomopt.files import replacing
from sims.acoustics.validation.rows import Line, Picture

COLOURS = ("#2f6fb0", "#d1772a", "#2f8f62", "#b04f8c", "#7a6a2f", "#4f4f9f")
WIDTH, HEIGHT, RESOLUTION = 7.2, 3.1, 110  # inches, of one panel; dots an inch


def draw(picture: Picture, folder: Path) -> Path:
    """The picture as a PNG in `folder`, named by its title."""
    from matplotlib.figure import Figure

    count = len(picture.panels)
    figure = Figure((WIDTH, 0.6 + HEIGHT * count), RESOLUTION, layout="constrained")
    every: Any = figure.subplots(count, 1, squeeze=False)[:, 0]
    for axes, panel in zip(every, picture.panels, strict=True):
        colours = iter(COLOURS * (1 + len(panel.lines) // len(COLOURS)))
        for line in panel.lines:
            _draw_line(axes, line, colours)
        for name, logarithmic in zip("xy", panel.logarithmic, strict=True):
            if logarithmic:
                getattr(axes, f"set_{name}scale")("log")
        axes.set_xlabel(panel.axes[0])
        axes.set_ylabel(panel.axes[1])
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(picture.title, fontsize=11)
    path = folder / f"{re.sub(r'[^a-z0-9]+', '-', picture.title.lower()).strip('-')}.png"
    with replacing(path) as draft:
        figure.savefig(draft)
    return path


def _draw_line(axes: Any, line: Line, colours: Any) -> None:
    if line.style == "exact":
        axes.plot(line.x, line.y, "k--", lw=1.1, label=line.label)
    elif line.style == "limit":
        axes.plot(line.x, line.y, color="#c0392b", lw=1.0, ls=":", label=line.label)
    elif line.style == "points":
        axes.plot(line.x, line.y, "o", color=next(colours), ms=4.5, mfc="none", label=line.label)
    else:
        axes.plot(line.x, line.y, color=next(colours), lw=1.3, label=line.label)
