"""Fold a strip of card beyond its yield, let it go, and see how much of the fold stays.

One end is held. The other is carried over it, turned by half a turn, and pressed down until the
card in between yields; then it is let go and springs back. There is no weight. Writes crease.gif;
takes about 20 seconds on one core.
"""

import argparse
import math
from dataclasses import replace

import torch

from sims.thin_shell import MATERIALS, Control, Scene, Sheet, Simulator
from sims.thin_shell.pictures import film, vertex_curvature

LENGTH, WIDTH, GAP = 0.10, 0.03, 0.02  # m; the gap is what is left between the pressed halves
STEP, BENDING, PRESSING, FREE = 5e-3, 0.4, 0.4, 0.7  # s


def hand(time):
    """Where the moving end is (x, z) [m] and how far it is turned [rad]."""
    turn = math.pi * min(1.0, time / BENDING)
    x, z = LENGTH, 0.0
    if turn > 0:  # the strip is an arc of a circle
        x, z = LENGTH * math.sin(turn) / turn, LENGTH * (1 - math.cos(turn)) / turn
    pressed = min(1.0, max(0.0, (time - BENDING) / PRESSING))
    return x, z + pressed * (GAP - z), turn


def drive(scene, end, time):
    """The control that has the vertices `end` of the strip where the hand is at a time."""
    x, z, turn = hand(time)
    positions = scene.vertices.clone()
    positions[end, 0], positions[end, 2] = x, z
    directors = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).repeat(len(scene.edges), 1)
    directors[end[scene.edges.long()].all(1)] = torch.tensor(
        [-math.sin(turn), 0.0, math.cos(turn)], dtype=torch.float64
    )
    return Control(positions=positions, directors=directors)


def fold_angle(positions, columns):
    """Angle [degrees] by which the free half is turned against the held one, at its end."""
    rows = positions.reshape(columns + 1, -1, 3).mean(dim=1)
    along = rows[-1] - rows[-2]
    return math.degrees(math.atan2(float(along[2]), float(along[0]))) % 360


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cells", type=int, default=40, help="along the strip")
    options.add_argument("--output", default="crease.gif", help="file, gif or mp4")
    given = options.parse_args()
    columns = given.cells

    card = replace(MATERIALS["card"], damping=3e-3)
    cells = (columns, max(1, round(columns * WIDTH / LENGTH)))
    strip = Sheet.rectangle(LENGTH, WIDTH, cells=cells, material=card)
    base, end = strip.vertices[:, 0] <= 0, strip.vertices[:, 0] >= LENGTH
    gripped = Simulator(Scene([strip], clamped=base | end), time_step=STEP)
    released = Simulator(Scene([strip], clamped=base), time_step=STEP)

    state = gripped.initial_state()
    states = [state]
    for count in range(1, round((BENDING + PRESSING) / STEP) + 1):
        state = gripped.step(state, drive(gripped.scene, end, count * STEP))
        states.append(state)
        if count % 40 == 0:
            sharpest = float(vertex_curvature(gripped.model, state.angles).max())
            print(f"t = {state.time:.2f} s   sharpest curvature {sharpest:6.1f} / m")
    print(f"yield begins at     {card.yield_curvature:6.1f} / m")
    print(f"fold while pressed  {fold_angle(state.positions, columns):6.1f} degrees")

    for _ in range(round(FREE / STEP)):
        state = released.step(state)
        states.append(state)
    print(f"fold after {FREE} s     {fold_angle(state.positions, columns):6.1f} degrees")
    rest = released.equilibrium(start=state)
    print(f"fold at rest        {fold_angle(rest.positions, columns):6.1f} degrees")
    plastic = vertex_curvature(released.model, rest.plastic_angles)
    print(f"plastic curvature   {float(plastic.max()):6.1f} / m at the most")
    print("written to", film(released, states, given.output, show="crease", floor=-0.005))


if __name__ == "__main__":
    torch.set_num_threads(1)  # on sheets this small a second thread costs more than it gains
    main()
