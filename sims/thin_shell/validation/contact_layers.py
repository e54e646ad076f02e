"""Sheets on themselves: folded in three and pressed flat, or twisted by both ends.

After every step all triangles, those of bodies too, are tested against each other in exact
arithmetic: none may ever have a point in common with another but for those of their neighbours.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from sims.thin_shell.bodies import Body
from sims.thin_shell.contact.intersections import intersections
from sims.thin_shell.contact.settings import Contact
from sims.thin_shell.contact.surfaces import surface_of
from sims.thin_shell.material import Material
from sims.thin_shell.patterns import rectangle_mesh
from sims.thin_shell.pose import rotation_matrix
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.state import Control, State
from sims.thin_shell.validation.loading import mesh_name
from sims.thin_shell.validation.rows import Case, Findings, Row, Scale, Shape, joined

CLOTH = Material(
    young=2e6, poisson=0.3, thickness=3e-4, density=500.0, friction=0.4, bending=2e-7, damping=1e-3
)
GRAVITY, STEP = 9.81, 5e-3
LAYER, BEND, BREADTH = 0.03, 2e-3, 0.012  # m: length of a layer, radius of its bends, width
FLOOR = 3e-4  # m, from the floor to the lowest layer at the start
PRESSED = 4.0  # thicknesses that are left below the plate, for three layers
LONG, NARROW, TURNS, NEARER = 0.08, 0.01, 2.0, 0.3  # the twisted strip: m, turns, share of length


def folded(cells: int) -> tuple[Scene, Tensor]:
    """A strip in three layers, one over the other, on a floor and below a plate; cells a layer.

    Returns the scene and the pose (6,) at which the plate presses.
    """
    bend = math.pi * BEND
    length = 3 * LAYER + 2 * bend
    along = round(cells * length / LAYER)
    across = max(2, round(cells * BREADTH / LAYER))
    flat, faces = rectangle_mesh(length, BREADTH, (along, across), "alternating")
    s, y = flat[:, 0], flat[:, 1]
    first, second = (s - LAYER).clamp(0.0, bend), (s - 2 * LAYER - bend).clamp(0.0, bend)
    straight = [
        s.clamp(max=LAYER),
        (s - LAYER - bend).clamp(0.0, LAYER),
        (s - 2 * LAYER - 2 * bend).clamp(min=0.0),
    ]
    x = straight[0] - straight[1] + straight[2]
    x = x + BEND * (first / BEND).sin() - BEND * (second / BEND).sin()
    z = BEND * (1 - (first / BEND).cos()) + BEND * (1 - (second / BEND).cos())
    sheet = Sheet(torch.stack([x, y, z + FLOOR], dim=1), faces, CLOTH, rest_vertices=flat)
    height = 4 * BEND + FLOOR + 2e-3
    middle = (LAYER / 2, BREADTH / 2)
    plate = Body.box((2 * LAYER, 2 * BREADTH, 2e-3), (*middle, height, 0.0, 0.0, 0.0))
    down = plate.pose.clone()
    down[2] = PRESSED * float(CLOTH.thickness) + 1e-3
    contact = Contact()
    scene = Scene(
        [sheet], gravity=(0.0, 0.0, -GRAVITY), bodies=[Body.plane(), plate], contact=contact
    )
    return scene, down


def press(cells: int, steps: int) -> Findings:
    """The plate comes down in half of the steps, rubs along the layers and rises again."""
    scene, down = folded(cells)
    start = scene.poses
    slide = torch.tensor([LAYER / 4, LAYER / 8, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    controls = []
    for step in range(1, steps + 1):
        time_share = step / steps
        low = min(1.0, 2 * time_share) - max(0.0, 4 * time_share - 3)
        moved = min(1.0, max(0.0, 4 * time_share - 2))
        poses = start.clone()
        poses[1] = start[1] + low * (down - start[1]) + moved * slide
        controls.append(Control(poses=poses))
    return _watched("three folded layers", scene, controls)


def twist(cells: int, steps: int) -> Findings:
    """One end of a strip turns about its length, and both come nearer to each other."""
    across = max(2, round(cells * NARROW / LONG))
    flat = Sheet.rectangle(LONG, NARROW, (cells, across), CLOTH)
    middle = flat.vertices.mean(0)
    sheet = Sheet(flat.vertices - middle, flat.faces, CLOTH)
    x = sheet.vertices[:, 0]
    inner = LONG / 2 - 1.5 * LONG / cells
    ends = x.abs() > inner
    scene = Scene([sheet], clamped=ends, contact=Contact())
    controls = []
    for step in range(1, steps + 1):
        share = step / steps
        angle = torch.tensor([math.pi * TURNS * share, 0.0, 0.0], dtype=torch.float64)
        axes = rotation_matrix(torch.stack([-angle, angle]))
        shift = torch.tensor([NEARER * LONG / 2 * share, 0.0, 0.0], dtype=torch.float64)
        left, right = sheet.vertices @ axes[0].T + shift, sheet.vertices @ axes[1].T - shift
        places = torch.where((x < 0)[:, None], left, right)
        tilted = torch.zeros(len(scene.edges), 3, dtype=torch.float64)
        near = x[scene.edges[:, 0].long()] < 0
        tilted[near], tilted[~near] = axes[0][:, 2], axes[1][:, 2]
        controls.append(Control(positions=places, directors=tilted))
    return _watched("twisted strip", scene, controls)


def _watched(name: str, scene: Scene, controls: Sequence[Control]) -> Findings:
    """All steps, with what intersects after each of them and the smallest distance reached."""
    simulator = Simulator(scene, STEP)
    faces = surface_of(scene).faces
    state: State = simulator.initial_state()
    meeting, touching, iterations, shapes = 0, 0, 0, []
    began = time.perf_counter()
    for step, control in enumerate(controls, 1):
        track = simulator.rollout(state, [control])
        state = track.final
        iterations += track.solutions[0].iterations
        meeting += len(intersections(state.positions, faces))
        touched = state.touched
        touching = max(touching, 0 if touched is None else len(touched.kind))
        if step % (len(controls) // 2) == 0:
            places = state.positions[scene.vertex_parts[0]]
            shapes.append(Shape(f"{name}, step {step}", places, scene.faces))
    mesh = mesh_name((len(scene.vertices), len(scene.faces)))
    spent = time.perf_counter() - began
    measured = (mesh, iterations / len(controls), spent)
    what = f"intersections in {len(controls)} steps"
    rows = [
        Row.of(name, what, 0.0, float(meeting), 0.0, *measured, size=1.0),
        Row.of(name, "most pairs that touched", 0.0, float(touching), None, *measured, size=1.0),
    ]
    return Findings(rows, shapes=shapes)


def _case(scale: Scale) -> Findings:
    if scale == "quick":
        return joined([press(8, 40), twist(16, 40)])
    return joined([press(10, 500), twist(24, 500)])


CASES: dict[str, Case] = {"layers": _case}
