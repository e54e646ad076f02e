"""A hemisphere with a hole at its pole, pulled and pushed by four point forces at the equator.

Two forces out and two in, a right angle apart, so that a quarter between two symmetry planes is
enough; it is nearly an inextensional motion, and a shell whose membrane locks stays stiff. Sze, Liu
and Lo (2004), "Popular benchmark problems for geometric nonlinear analysis of shells", Finite
Elements in Analysis and Design 40:1551.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from sims.thin_shell.material import Material
from sims.thin_shell.patterns import Pattern, rectangle_mesh
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.validation.loading import follow, mesh_name
from sims.thin_shell.validation.rows import Case, Curve, Findings, Row, Scale, Shape, joined

RADIUS, HOLE = 10.0, math.radians(18)
MATERIAL = Material(young=6.825e7, poisson=0.3, thickness=0.04, density=1.0)
FORCE = 400.0  # each of the four, of which a symmetry plane leaves half
NAMES = ("out", "in")
# Sze, Liu and Lo 2004: P / Pmax, outward displacement at a force out, inward at a force in
TABLE = np.array(
    [
        [0.05, 0.855, 0.955], [0.10, 1.499, 1.840], [0.15, 1.969, 2.604], [0.20, 2.321, 3.261],
        [0.25, 2.596, 3.833], [0.30, 2.819, 4.339], [0.35, 3.002, 4.790], [0.40, 3.158, 5.196],
        [0.45, 3.291, 5.565], [0.50, 3.406, 5.902], [0.55, 3.508, 6.212], [0.60, 3.598, 6.497],
        [0.65, 3.678, 6.761], [0.70, 3.750, 7.006], [0.75, 3.816, 7.234], [0.80, 3.875, 7.448],
        [0.85, 3.929, 7.647], [0.90, 3.979, 7.835], [0.95, 4.025, 8.011], [1.00, 4.067, 8.178],
    ]
)  # fmt: skip
TOLERANCE = 2e-2
SMALL_FORCE, SMALL_OUT, SMALL_IN = 2.0, 0.0929, 0.0939  # linear solution on a fine mesh


def quarter(cells: tuple[int, int], pattern: Pattern = "alternating") -> Scene:
    """The quarter over longitudes 0 to 90 and latitudes 0 to 72 degrees; cells along both.

    It meets its symmetry planes y = 0 and x = 0 at a right angle, and its corner under the force
    out keeps its height, since nothing else does.
    """
    plane, faces = rectangle_mesh(math.pi / 2, math.pi / 2 - HOLE, cells, pattern)
    longitude, latitude = plane[:, 0], plane[:, 1]
    x = RADIUS * torch.stack(
        [
            latitude.cos() * longitude.cos(),
            latitude.cos() * longitude.sin(),
            latitude.sin(),
        ],
        dim=1,
    )
    first, last = longitude == 0, longitude == longitude.max()
    height = torch.zeros_like(x, dtype=torch.bool)
    height[(first & (latitude == 0)), 2] = True
    sheet = Sheet(x, faces, MATERIAL)
    return Scene([sheet], symmetry={1: first, 0: last}, fixed=height)


def hemisphere(
    cells: tuple[int, int], pattern: Pattern = "diagonal", tolerance: float | None = TOLERANCE
) -> Findings:
    """All twenty rows of the table, an increment each."""
    scene = quarter(cells, pattern)
    simulator = Simulator(scene)
    x = scene.vertices
    pulled, pushed = int(x[:, 0].argmax()), int(x[:, 1].argmax())
    loads = torch.zeros_like(x)
    loads[pulled, 0], loads[pushed, 1] = FORCE / 2, -FORCE / 2
    path = follow(simulator, TABLE[:, 0].tolist(), loads)
    ours = np.array(
        [
            [float(moved[pulled, 0]), -float(moved[pushed, 1])]
            for moved in (state.positions - x for state in path.states)
        ]
    )
    mesh, rows = mesh_name(cells), []
    for (share, *references), found in zip(TABLE, ours, strict=True):
        for name, reference, value in zip(NAMES, references, found, strict=True):
            measured = (reference, value, tolerance, mesh, path.iterations, path.seconds)
            rows.append(Row.of(f"hemisphere, P/Pmax {share:.2f}", name, *measured))
    curves = [
        Curve(
            "hemisphere, displacement under the forces",
            ("displacement [m]", "P / Pmax"),
            np.stack([ours[:, place], TABLE[:, 0]], axis=1),
            np.stack([TABLE[:, 1 + place], TABLE[:, 0]], axis=1),
            "Sze, Liu and Lo 2004",
            name,
        )
        for place, name in enumerate(NAMES)
    ]
    return Findings(rows, curves, [_whole(scene, path.states[-1].positions)])


def small_force(cells: tuple[int, int], tolerance: float | None = TOLERANCE) -> Findings:
    """The answer to a force of 2, in which the shell is still nearly linear."""
    scene = quarter(cells, "diagonal")
    x = scene.vertices
    pulled, pushed = int(x[:, 0].argmax()), int(x[:, 1].argmax())
    loads = torch.zeros_like(x)
    loads[pulled, 0], loads[pushed, 1] = SMALL_FORCE / 2, -SMALL_FORCE / 2
    path = follow(Simulator(scene), [1.0], loads)
    moved = path.states[-1].positions - x
    effort = (tolerance, mesh_name(cells), path.iterations, path.seconds)
    return Findings(
        [
            Row.of("hemisphere, P = 2", "out", SMALL_OUT, float(moved[pulled, 0]), *effort),
            Row.of("hemisphere, P = 2", "in", SMALL_IN, -float(moved[pushed, 1]), *effort),
        ]
    )


def _whole(scene: Scene, positions: torch.Tensor) -> Shape:
    """All four quarters, for the eye."""
    faces, count = scene.faces.long(), len(positions)
    copies, corners = [], []
    for place, (x, y) in enumerate(((1, 1), (-1, 1), (-1, -1), (1, -1))):
        copies.append(positions * positions.new_tensor([x, y, 1]))
        corners.append((faces if x * y > 0 else faces.flip(1)) + place * count)
    return Shape("hemisphere, full load", torch.cat(copies), torch.cat(corners))


def _case(scale: Scale) -> Findings:
    meshes = ((8, 8), (16, 16)) if scale == "quick" else ((8, 8), (16, 16), (32, 32))
    coarse = [
        Findings([row for row in hemisphere(cells, tolerance=None).rows if "1.00" in row.case])
        for cells in meshes[:-1]
    ]
    return joined([*coarse, small_force(meshes[-1]), hemisphere(meshes[-1])])


CASES: dict[str, Case] = {"hemisphere": _case}
