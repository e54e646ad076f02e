"""A Gaussian pulse in the rigid 2 m cube, 1 kHz, 50 ms, beside the sum of its images.

Error / peak: root mean square over three receivers and all times, over the largest exact pressure.
Exact: J. B. Allen and D. A. Berkley, Journal of the Acoustical Society of America 65(4), 943
(1979), and for late times the same field as a sum of cosine modes.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from sims.acoustics.exact.images import image_sum, rigid_modes
from sims.acoustics.room import Room
from sims.acoustics.solver import Solver, peak_error
from sims.acoustics.source import default_width
from sims.acoustics.validation.fields import projections, setting
from sims.acoustics.validation.rows import (
    Case,
    Findings,
    Line,
    Panel,
    Picture,
    Row,
    Scale,
    joined,
    timed,
)
from sims.acoustics.walls.wall import Wall

CUBE = (2.0, 2.0, 2.0)
ROOM = Room.box(*CUBE, walls=Wall.rigid())
SOURCE = (0.7, 0.9, 1.1)
RECEIVERS = ((1.5, 1.3, 0.6), (0.4, 1.6, 1.5), (1.66256893, 1.61655235, 1.64047122))
DURATION, FMAX = 0.05, 1000.0
TOLERANCE = 2e-3
LATE = 0.4  # [s]
IMAGES = "sum of images"


def early(
    order: int, nodes_per_wavelength: float, dtype: torch.dtype, tolerance: float | None
) -> Findings:
    """The first 50 ms at 1 kHz, with traces and spectra of the first receiver."""
    solver = Solver(ROOM, FMAX, order, nodes_per_wavelength, dtype=dtype)
    times = solver.times(DURATION)
    found = solver.simulate(SOURCE, RECEIVERS, DURATION).double()
    exact = image_sum(CUBE, SOURCE, RECEIVERS, times, default_width(FMAX))
    peak, relative = peak_error(found, exact)
    words = setting(solver)
    case = f"rigid cube, P={order}"
    rows = [
        Row(case, "error / peak, 50 ms", 0.0, peak, peak, tolerance, words, IMAGES),
        Row(case, "relative L2 error, 50 ms", 0.0, relative, relative, None, words, IMAGES),
    ]
    traces = Panel(
        ("time [ms]", "pressure [Pa]"),
        [
            Line("geomopt", 1e3 * times.numpy(), found[0].numpy()),
            Line("sum of images", 1e3 * times.numpy(), exact[0].numpy(), "exact"),
        ],
    )
    difference = Panel(
        ("time [ms]", "geomopt - exact [Pa]"),
        [
            Line(f"receiver {place + 1}", 1e3 * times.numpy(), part.numpy())
            for place, part in enumerate(found - exact)
        ],
    )
    pictures = [Picture(case, [traces, difference, spectra(found, exact, solver.time_step)])]
    return Findings(rows, pictures)


def spectra(found: Tensor, exact: Tensor, step: float) -> Panel:
    """Levels over frequency of the exact pressure and of the error, over all receivers."""
    window = torch.hann_window(found.shape[1], dtype=torch.float64)
    frequencies = np.fft.rfftfreq(found.shape[1], step)
    shown = (frequencies >= 20) & (frequencies <= 1.3 * FMAX)
    lines = []
    for label, signal in (("exact", exact), ("error", found - exact)):
        level = torch.fft.rfft(signal * window).abs().square().mean(0).sqrt() * step
        lines.append(Line(label, frequencies[shown], level.numpy()[shown]))
    return Panel(("frequency [Hz]", "spectrum [Pa/Hz]"), lines, (False, True))


def late() -> Findings:
    """0.4 s at 500 Hz, over which errors of phase grow. The pulse is wide, so that it is started
    along with its images, as the exact field is.
    """
    solver = Solver(ROOM, FMAX / 2)
    width = default_width(FMAX / 2)
    start = image_sum(CUBE, SOURCE, solver.space.points, [0.0], width)[:, 0]
    places = torch.tensor(RECEIVERS, dtype=torch.float64)
    nodes, weights = solver.space.interpolation("receivers", places)
    listeners = torch.zeros(len(places), len(start), dtype=torch.float64)
    found = projections(solver, start, listeners.scatter_add(1, nodes, weights), LATE)
    times = solver.times(LATE)
    exact = rigid_modes(CUBE, SOURCE, RECEIVERS, times, width)
    rows = []
    for begin, end, allowed in ((0.0, 0.05, TOLERANCE), (0.05, 0.2, None), (0.2, LATE, None)):
        inside = (times >= begin) & (times <= end)
        peak, _ = peak_error(found[:, inside], exact[:, inside])
        span = f"{1e3 * begin:g} to {1e3 * end:g} ms"
        measured = (0.0, peak, peak, allowed, setting(solver), "cosine modes")
        rows.append(Row("rigid cube, 500 Hz", f"error / peak, {span}", *measured))
    return Findings(rows)


def _case(scale: Scale) -> Findings:
    single, double = torch.float32, torch.float64
    parts = [
        partial(early, 4, 6.0, single, TOLERANCE),
        partial(early, 6, 6.0, single, TOLERANCE),
        partial(early, 2, 7.0, single, None),
        late,
    ]
    if scale == "full":
        parts += [partial(early, 4, 6.0, double, TOLERANCE), partial(early, 1, 10.0, single, None)]
    return joined([timed(part) for part in parts])


CASES: dict[str, Case] = {"rigid-cube": _case}
