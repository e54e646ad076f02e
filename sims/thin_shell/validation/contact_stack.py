"""Sheets that lie on each other: each interface bears the weight of all that is above it.

The sheets are turned against each other by an irrational part of a turn, so that vertices and edges
of their meshes meet faces everywhere; with `aligned` meshes they meet their like.
"""

from __future__ import annotations

import math
import time
from itertools import pairwise

import numpy as np

from sims.thin_shell.bodies import Body
from sims.thin_shell.contact.forces import contact_forces, force_between
from sims.thin_shell.contact.settings import Contact
from sims.thin_shell.material import Material
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.validation.loading import mesh_name
from sims.thin_shell.validation.rows import Case, Curve, Findings, Row, Scale, joined

GRAVITY, SIDE, GAP = 9.81, 0.1, 5e-5
BOARD = Material(young=1e9, poisson=0.3, thickness=1e-3, density=800.0, damping=1e-3)
GOLDEN = (math.sqrt(5) - 1) / 2 * math.pi
STEP, ALLOWED, STILL = 0.02, 0.01, 1e-5  # s; error of forces; m/s


def stacked(count: int, cells: tuple[int, int], aligned: bool = False) -> Scene:
    """`count` sheets on a table."""
    flat = Sheet.rectangle(SIDE, SIDE, cells, BOARD)
    middle = flat.vertices - flat.vertices.mean(0)
    sheets = []
    for place in range(count):
        turn = 0.0 if aligned else GOLDEN * place
        cosine, sine = math.cos(turn), math.sin(turn)
        axes = middle.new_tensor([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])
        height = (place + 0.5) * float(BOARD.thickness) + (place + 1) * GAP
        vertices = middle @ axes + middle.new_tensor([0.0, 0.0, height])
        sheets.append(Sheet(vertices, flat.faces, BOARD))
    return Scene(sheets, gravity=(0.0, 0.0, -GRAVITY), bodies=[Body.plane()], contact=Contact())


def stack(count: int, cells: tuple[int, int], steps: int, aligned: bool = False) -> Findings:
    """Normal forces between the sheets of a stack that has come to rest, and on the table."""
    scene = stacked(count, cells, aligned)
    simulator = Simulator(scene, STEP)
    state = simulator.initial_state()
    began = time.perf_counter()
    track = simulator.rollout(state, steps)
    forces = contact_forces(simulator, track.final)
    spent = time.perf_counter() - began
    iterations = sum(solution.iterations for solution in track.solutions) / steps
    measured = (mesh_name(cells), iterations, spent)
    weight = float(scene.masses().sum()) * GRAVITY / count
    name = f"stack of {count}{', aligned meshes' if aligned else ''}"
    parts = [scene.bodies[0], *scene.sheets]
    pushes = [
        float(force_between(scene, forces, above, below)[0][2]) for below, above in pairwise(parts)
    ]
    borne = [weight * (count - place) for place in range(count)]
    rows = [
        Row.of(name, f"force on sheet {place} from below [N]", law, push, ALLOWED, *measured)
        for place, (law, push) in enumerate(zip(borne, pushes, strict=True), 1)
    ]
    table = -float(track.wrenches[-1, 0, 2])
    rows.append(Row.of(name, "force on the table [N]", -borne[0], table, ALLOWED, *measured))
    speed = float(track.velocities[-1].abs().amax())
    rows.append(Row.of(name, "speed at the end [m/s]", 0.0, speed, STILL, *measured, 1.0))
    levels = np.arange(1, count + 1)
    curve = Curve(
        name,
        ("sheet, from below", "force on it from below [N]"),
        np.stack([levels, pushes], axis=1),
        np.stack([levels, borne], axis=1),
        "weight above",
    )
    return Findings(rows, [curve])


def _case(scale: Scale) -> Findings:
    if scale == "quick":
        return stack(3, (2, 2), 60)
    return joined([stack(6, (3, 3), 150), stack(3, (3, 3), 100, aligned=True)])


CASES: dict[str, Case] = {"stack": _case}
