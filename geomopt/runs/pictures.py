"""Pictures that the cases of a study leave for their report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geomopt.files import replacing

COLOURS = ("#2f6fb0", "#d1772a", "#2f8f62", "#b04f8c")


def panels(rows: int, columns: int, size: tuple[float, float], **shared: Any) -> tuple[Any, Any]:
    """A figure of `size` [inches] and its axes (rows, columns)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=110, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def plot(title: str, across: str, up: str, size: tuple[float, float]) -> tuple[Any, Any]:
    """A figure with one pair of axes, their names on them."""
    figure, ((axes,),) = panels(1, 1, size)
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.3)
    return figure, axes


def save(figure: Any, path: Path) -> None:
    """Write the figure, whole or not at all."""
    with replacing(path) as draft:
        figure.savefig(draft)
