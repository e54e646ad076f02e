"""Pictures of what a validation found: our points on the reference curve, deformed shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from geomopt.files import replacing
from geomopt.geometry import Mesh
from geomopt.render import Camera, picture
from sims.thin_shell.validation.rows import Curve, Findings, Shape

COLOURS = ("#2f6fb0", "#d1772a", "#2f8f62", "#b04f8c")
AZIMUTH, ELEVATION = math.radians(-65), math.radians(22)
FIELD_OF_VIEW, RESOLUTION = 25.0, (480, 640)
MARGIN, PADDING = 1.06, 0.08
SLIM = 6.0  # longest side over the next one from which on a strip is looked at from its side


def draw(findings: Findings, folder: Path) -> None:
    """A PNG for the curves of each name, and one for each shape, into `folder`."""
    for name in dict.fromkeys(curve.name for curve in findings.curves):
        curves = [curve for curve in findings.curves if curve.name == name]
        draw_curves(curves, folder / f"{_file_name(name)}.png")
    for shape in findings.shapes:
        draw_shape(shape, folder / f"{_file_name(shape.name)}.png")


def draw_curves(curves: Sequence[Curve], path: Path) -> None:
    """Our points beside the reference of curves that share their axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for place, curve in enumerate(curves):
        colour = COLOURS[place % len(COLOURS)]
        dense = len(curve.reference) > len(curve.ours)
        line, points = (curve.reference, curve.ours) if dense else (curve.ours, curve.reference)
        of_line, of_points = (curve.source, "geomopt") if dense else ("geomopt", curve.source)
        label = f"{curve.quantity}, " if curve.quantity else ""
        axes.plot(*line.T, color=colour, lw=1.4, label=label + of_line)
        axes.plot(*points.T, "o", color=colour, ms=5, mfc="none", mew=1.3, label=label + of_points)
    if curves[0].logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
    axes.set_xlabel(curves[0].axes[0])
    axes.set_ylabel(curves[0].axes[1])
    axes.set_title(curves[0].name, fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with replacing(path) as draft:
        figure.savefig(draft)


def draw_shape(shape: Shape, path: Path) -> None:
    """The sheet in perspective, seen from its side where it is slim."""
    from PIL import Image

    mesh = Mesh(shape.vertices.detach().float(), shape.faces)
    lower, upper = mesh.bounds
    spans = (upper - lower).sort(descending=True).values
    slim = float(spans[1]) * SLIM < float(spans[0])
    azimuth = math.radians(-80) if slim else AZIMUTH
    centre = (lower + upper) / 2
    away = torch.tensor(
        [
            math.cos(ELEVATION) * math.cos(azimuth),
            math.cos(ELEVATION) * math.sin(azimuth),
            math.sin(ELEVATION),
        ]
    )
    radius = float((mesh.vertices - centre).norm(dim=1).max())
    distance = MARGIN * radius / math.sin(math.radians(FIELD_OF_VIEW) / 2)
    camera = Camera.perspective(
        (centre + distance * away)[None],
        centre,
        torch.tensor([0.0, 0.0, 1.0]),
        vertical_fov=FIELD_OF_VIEW,
        resolution=RESOLUTION,
    )
    fine = camera.with_resolution((2 * RESOLUTION[0], 2 * RESOLUTION[1]))
    pixels = picture(mesh, fine, crease=None, supersample=1)[0]
    image = Image.fromarray((pixels.numpy() * 255).round().astype(np.uint8))
    height, width = RESOLUTION
    with replacing(path) as draft:
        image.resize((width, height), Image.Resampling.LANCZOS, box=_box(pixels)).save(draft)


def _box(pixels: torch.Tensor) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the part of a picture that shows something, in the proportions
    of the whole."""
    height, width, _ = pixels.shape
    rows, columns = torch.nonzero((pixels < 1).any(dim=2)).T
    middle = [(float(part.min()) + float(part.max()) + 1) / 2 for part in (columns, rows)]
    spans = [
        float(part.max() - part.min()) / size for part, size in ((columns, width), (rows, height))
    ]
    share = min(1.0, max(spans) * (1 + PADDING))
    left = min(max(middle[0] - share * width / 2, 0.0), width * (1 - share))
    top = min(max(middle[1] - share * height / 2, 0.0), height * (1 - share))
    return left, top, left + share * width, top + share * height


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", name).strip("-").lower()
