"""A rigid sphere pressed into a soft pad, without friction.

    F = 4/3 E / (1 - nu^2) sqrt(R) d^1.5,    contact radius sqrt(R d)

for a half space (Hertz 1882; Johnson 1985, "Contact mechanics", equation 4.23). The pad is half a
ball, held at its round side 30 contact radii or more away, which makes it 2 to 3 percent stiffer
than a half space; a quarter of it is solved, between two planes of symmetry. Its layers grow
outwards by a power. What a coarse mesh does wrong is to be stiff: the error falls with the cells
within the contact radius, of which there should be eight.
"""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from torch import Tensor

from sims.thin_shell.bodies import Body
from sims.thin_shell.contact.settings import Contact
from sims.thin_shell.pose import at
from sims.thin_shell.scene import Scene
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.soft_body import SoftBody
from sims.thin_shell.solids import dome_mesh
from sims.thin_shell.state import Control
from sims.thin_shell.validation.rows import Case, Curve, Findings, Row, Scale, Shape, joined

RADIUS, PAD = 0.01, 0.1  # of the sphere and of the pad [m]
YOUNG, POISSON, DENSITY = 3e5, 0.2, 1000.0
GRADING = 2.75  # layers stand at the power of their number
RANGE = 3e-3 * RADIUS  # of contact
DEPTHS = (0.004, *(0.01 * step for step in range(1, 9)))  # over the radius of the sphere
JUDGED = 0.015  # depth above which there are enough cells in the contact
STILL = 10.0  # s, a time step so long that inertia does not matter
TOLERANCE, COARSE = 0.1, 0.25
SHARES = 4  # quarters of the pad


def hertz(cells: int, tolerance: float | None = TOLERANCE) -> Findings:
    """Force over that of Hertz, where the depth is that of the middle of the pad's surface.

    cells: layers between the middle and the round side.
    """
    pad = quarter(cells)
    sphere = Body.sphere(RADIUS, (0.0, 0.0, RADIUS + RANGE), friction=0.0)
    planes = torch.zeros(len(pad.local) + 1, 3, dtype=torch.bool)
    planes[:-1, :2] = pad.local[:, :2] == 0
    scene = Scene([], bodies=[pad, sphere], contact=Contact(range=RANGE), fixed=planes)
    simulator = Simulator(scene, time_step=STILL)
    poses = [torch.stack([pad.pose, at(0.0, 0.0, (1 - depth) * RADIUS)]) for depth in DEPTHS]
    began = time.perf_counter()
    track = simulator.rollout(simulator.initial_state(), Control(poses=torch.stack(poses)))
    seconds = time.perf_counter() - began
    iterations = float(np.mean([solution.iterations for solution in track.solutions]))
    middle = int(pad.local.norm(dim=1).argmin())
    depths = -track.positions[1:, middle, 2]
    forces = -SHARES * track.wrenches[1:, 1, 2]
    rows = [
        Row.of(
            f"sphere in a pad, depth {depth / RADIUS:.3f} R",
            "force [N]",
            force_of(depth),
            force,
            tolerance if depth > JUDGED * RADIUS else None,
            f"{cells} layers",
            iterations,
            seconds,
        )
        for depth, force in zip(depths.tolist(), forces.tolist(), strict=True)
    ]
    fine = np.linspace(0.0, float(depths[-1]), 41)
    curve = Curve(
        "sphere in a pad",
        ("depth over radius", "force [N]"),
        np.stack([depths / RADIUS, forces], axis=1),
        np.stack([fine / RADIUS, [force_of(depth) for depth in fine]], axis=1),
        "Hertz",
        f"{cells} layers",
    )
    shape = Shape("sphere in a pad", track.positions[-1, : len(pad.local)], pad.faces)
    return Findings(rows, [curve], [shape])


def force_of(depth: float) -> float:
    """Hertz's force [N] at a depth [m]."""
    return 4 / 3 * YOUNG / (1 - POISSON**2) * math.sqrt(RADIUS) * depth**1.5


def quarter(cells: int) -> SoftBody:
    """The quarter x, y >= 0 of half a ball below z = 0, fine in the middle of its flat side."""
    whole, tetrahedra = dome_mesh(torch.ones(3, dtype=torch.float64), cells)
    centres: Tensor = whole[tetrahedra].mean(1)
    used, numbers = torch.unique(tetrahedra[(centres[:, :2] > 0).all(dim=1)], return_inverse=True)
    unit = whole[used]
    layer = unit.norm(dim=1)
    local = PAD * unit * layer[:, None] ** (GRADING - 1)
    held = layer > 1 - 0.5 / cells
    return SoftBody(local, numbers, YOUNG, POISSON, DENSITY, friction=0.0, driven=held)


def _case(scale: Scale) -> Findings:
    if scale == "quick":
        return hertz(20, COARSE)
    return joined([hertz(20, None), hertz(34)])


CASES: dict[str, Case] = {"hertz": _case}
