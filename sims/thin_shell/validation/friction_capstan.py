"""A strip around a drum: its tension grows as exp(mu phi) where it slides (Euler 1769, Eytelwein).

One end of the strip is pulled by a weight, the other is drawn away over the drum, or held while the
drum turns. The drum feels both tensions, so that its reaction tells the other one. A strip once
around would meet itself, so it goes around as a helix: on a cylinder that is a straight line, along
which the normal turns by phi cos(alpha) for a slant alpha.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sims.thin_shell.bodies import Body
from sims.thin_shell.contact.settings import Contact
from sims.thin_shell.material import Material
from sims.thin_shell.patterns import rectangle_mesh
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.state import Control, Trajectory
from sims.thin_shell.validation.loading import mesh_name
from sims.thin_shell.validation.rows import Case, Curve, Findings, Row, Scale, Shape, joined

MU, RADIUS, LEAD, WIDTH = 0.3, 0.01, 0.008, 0.002  # m: of the drum, beyond the drum, of the strip
GAP = 2e-5  # m, between strip and drum at the start
LIMP = Material(young=1e9, poisson=0.0, thickness=1e-4, density=1000.0, bending=1e-8)
WEIGHT = 0.05  # N, on one end
SLANT = math.atan(2 * WIDTH / (2 * math.pi * RADIUS))  # two widths a turn
STEP, SPEED = 0.01, 0.02  # s; m/s, of the strip over the drum
SETTLING, SLIDING, LATE = 10, 40, 10  # steps; the mean of the last is taken
ALLOWED = 0.03

Mover = Literal["end drawn", "drum turned"]


@dataclass(frozen=True)
class Wound:
    """A strip around a drum about the z axis, which it meets at (path, 0) going up.

    phi, slant [rad]; cell [m]: length of a cell, a chord of the drum.
    """

    phi: float
    slant: float
    cell: float

    @property
    def path(self) -> float:
        """Radius [m] on which the vertices start; their chords are nearer."""
        return (RADIUS + float(LIMP.thickness) / 2 + GAP) / math.cos(self.cell / RADIUS / 2)

    @property
    def length(self) -> float:
        """Of the strip [m]."""
        return (self.path * self.phi + 2 * LEAD) / math.cos(self.slant)

    @property
    def cells(self) -> tuple[int, int]:
        """Of the strip, along and across."""
        return round(self.length / self.cell), 1

    @property
    def towards(self) -> Tensor:
        """(3,) the direction of the strip before the drum, to it."""
        cosine, sine = math.cos(self.slant), math.sin(self.slant)
        return torch.tensor([0.0, cosine, sine], dtype=torch.float64)

    @property
    def away(self) -> Tensor:
        """(3,) the direction in which the strip leaves the drum."""
        cosine, sine = math.cos(self.slant), math.sin(self.slant)
        across, up = -math.sin(self.phi), math.cos(self.phi)
        return torch.tensor([across * cosine, up * cosine, sine], dtype=torch.float64)

    def wrapped(self, flat: Tensor) -> Tensor:
        """Points (V, 3) of the flat strip wound without any stretch."""
        cosine, sine = math.cos(self.slant), math.sin(self.slant)
        across = flat[:, 1] - WIDTH / 2
        along, aside = flat[:, 0] * cosine - across * sine, flat[:, 0] * sine + across * cosine
        turned = ((along - LEAD) / self.path).clamp(0.0, self.phi)
        free = along - LEAD - turned * self.path  # before the drum or after it
        x = self.path * turned.cos() - free * turned.sin()
        y = self.path * turned.sin() + free * turned.cos()
        return torch.stack([x, y, aside], dim=1)


def strip(wound: Wound) -> tuple[Scene, Tensor, Tensor]:
    """The scene, and masks (V,) of the vertices at the weight and at the other end."""
    cells = wound.cells
    flat, faces = rectangle_mesh(wound.length, WIDTH, cells, "alternating")
    sheet = Sheet(wound.wrapped(flat), faces, LIMP, rest_vertices=flat)
    long = 4 * WIDTH + wound.length
    drum = Body.cylinder(RADIUS, long)
    first, last = flat[:, 0] == 0, flat[:, 0] >= wound.length * (1 - 1e-9)
    contact = Contact(friction={(sheet, drum): MU})
    return Scene([sheet], pinned=last, bodies=[drum], contact=contact), first, last


def tensions(wound: Wound, mover: Mover) -> tuple[Scene, Trajectory, Tensor]:
    """What the strip does, and the tension (T,) [N] of the drawn end at each step."""
    scene, first, last = strip(wound)
    simulator = Simulator(scene, STEP, bending="hinge")
    along = -WEIGHT * wound.towards
    forces = torch.zeros_like(scene.vertices)
    forces[: len(first)][first] = along / first.sum()
    state = simulator.rollout(simulator.initial_state(), [Control(forces=forces)] * SETTLING).final
    controls, drum = [], scene.poses
    for step in range(1, SLIDING + 1):
        way = SPEED * STEP * step
        places = state.positions.clone()
        poses = drum.clone()
        if mover == "end drawn":
            places[: len(last)][last] += way * wound.away
        else:
            poses[0, 5] -= way / RADIUS
        controls.append(Control(forces=forces, positions=places, poses=poses))
    track = simulator.rollout(state, controls)
    # the drum is pulled by the weight and by the other end
    force = -track.wrenches[1:, 0, :3]
    return scene, track, (force - along) @ wound.away


def capstan(phi: float, cell: float, mover: Mover, slant: float = 0.0) -> Findings:
    """Ratio of the tensions beside exp(mu phi cos(slant))."""
    wound = Wound(phi, slant, cell)
    began = time.perf_counter()
    scene, track, pull = tensions(wound, mover)
    spent = time.perf_counter() - began
    iterations = sum(solution.iterations for solution in track.solutions) / SLIDING
    law = math.exp(MU * phi * math.cos(slant))
    ours = (pull / WEIGHT).numpy()
    name = f"capstan, {phi / math.pi:g} pi, {mover}"
    mesh = mesh_name(wound.cells)
    row = Row.of(name, "T2 / T1", law, float(ours[-LATE:].mean()), ALLOWED, mesh, iterations, spent)
    ways = 1e3 * SPEED * STEP * np.arange(1, SLIDING + 1)
    curve = Curve(
        f"capstan, {mover}",
        ("way [mm]", "T2 / T1"),
        np.stack([ways, ours], axis=1),
        np.stack([ways, np.full_like(ways, law)], axis=1)[::8],
        "exp(mu phi)",
        f"{phi / math.pi:g} pi",
    )
    return Findings(
        [row], [curve], [Shape(name, track.positions[-1, : scene.body_parts[0].start], scene.faces)]
    )


def _case(scale: Scale) -> Findings:
    if scale == "quick":
        return capstan(math.pi / 2, 2e-3, "end drawn")
    angles = ((math.pi / 2, 0.0), (math.pi, 0.0), (2 * math.pi, SLANT))
    parts = [capstan(phi, 1e-3, "end drawn", slant) for phi, slant in angles]
    return joined([*parts, capstan(math.pi, 1e-3, "drum turned")])


CASES: dict[str, Case] = {"capstan": _case}
