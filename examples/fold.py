"""A finger folds a strip of paper where it is told to, and the fold stays.

A strip that lies curled over itself is held at one end. A soft finger comes down on it; where it
lands and how it drags the upper layer along decides which row of the strip takes the crease.
Pressed straight down, it is the row in the middle. The crease is wanted on the next one, of 40
degrees, and nowhere else. As long as nothing touches or yields the gradient says nothing, so CMA-ES
first looks for a path of the finger that creases this row; from there L-BFGS finds the angle, by
the exact gradient through contact, friction and yield. Writes fold.gif and fold.png; takes a minute
and a half on one core.
"""

import argparse
import math
from dataclasses import replace

import torch

from geomopt.runs.progress import Progress
from optimizers import Box, Budget, Cma, Problem, iterate
from sims.thin_shell import (
    MATERIALS,
    Body,
    Contact,
    Control,
    NotConverged,
    Scene,
    Sheet,
    Simulator,
    SoftBody,
)
from sims.thin_shell.pictures import film

LENGTH, WIDTH, CELLS = 0.1, 0.02, (16, 3)  # m
CURL, HELD = 6e-3, 0.02  # m: radius of the curl, and how much of the strip is held
FLAT = (LENGTH - math.pi * CURL) / 2  # m, of the strip on either side of the curl
TIP = 7.4e-3  # m, from the base of the finger to its tip
STEP, MOVING, FREE = 0.01, 32, 16  # s, then steps along the path and after it
LOWEST_STEP = 3 * MOVING // 4  # where the finger is at its third knot
ABOVE, AWAY = 14.0, 18.0  # mm, height of the tip at the start and at the end
LOWEST = [[-10.0, 8.0], [-10.0, 3.0], [-10.0, 0.8]]  # mm, of the knots
HIGHEST = [[10.0, 11.0], [10.0, 8.0], [10.0, 2.0]]
STRAIGHT = [[0.0, 10.0], [0.0, 6.0], [0.0, 1.0]]
SCALE = [[4.0, 1.0], [4.0, 2.0], [4.0, 0.5]]
WANTED = 9  # row
ANGLE, ENOUGH, LITTLE = 40.0, 20.0, 5.0  # degrees


def make_scene():
    """The curled strip, the finger above its bend and the table."""
    paper = replace(MATERIALS["paper"], friction=0.3, damping=3e-3)
    flat = Sheet.rectangle(LENGTH, WIDTH, cells=CELLS, material=paper)
    along, across, _ = flat.vertices.T
    turn = ((along - FLAT) / CURL).clamp(0, math.pi)
    x = torch.minimum(along, LENGTH - along).clamp(max=FLAT) + CURL * turn.sin()
    z = CURL * (1 - turn.cos()) + 1.5e-4
    curled = torch.stack([x, across - WIDTH / 2, z], dim=1)
    finger = SoftBody.fingertip(height=TIP, cells=3, friction=1.5)
    start = torch.tensor([FLAT, 0.0, 1e-3 * ABOVE + TIP, 0.0, 0.0, 0.0])
    return Scene(
        [Sheet(curled, flat.faces, paper)],
        clamped=along <= HELD,
        bodies=[replace(finger, pose=start), Body.plane(friction=0.3)],
        contact=Contact(range=1e-4),
    )


def press(simulator, knots):
    """The motion when the tip goes through knots (3, 2) [mm], x from the bend and z, and away."""
    start, end = knots.new_tensor([[0.0, ABOVE]]), knots[-1:] * knots.new_tensor([1.0, 0.0])
    way = torch.cat([start, knots, end + knots.new_tensor([0.0, AWAY])])
    place = torch.arange(1, MOVING + FREE + 1) * (len(way) - 1) / MOVING
    before = place.long().clamp(max=len(way) - 2)
    share = (place - before).clamp(max=1).to(way)[:, None]
    x, z = 1e-3 * torch.lerp(way[before], way[before + 1], share).T
    none = torch.zeros_like(x)
    finger = torch.stack([FLAT + x, none, z + TIP, none, none, none], dim=1)
    table = simulator.scene.poses[1].expand_as(finger)
    control = Control(poses=torch.stack([finger, table], dim=1))
    return simulator.rollout(simulator.initial_state(), control)


def strip_rows(positions):
    """The middle (n, 2) [m] of each row of the strip, x and z."""
    count = (CELLS[0] + 1) * (CELLS[1] + 1)
    return positions[:count].reshape(CELLS[0] + 1, -1, 3).mean(dim=1)[:, [0, 2]]


def creases(simulator, motion):
    """By how much each row (n,) stays folded [degrees], a mean over the width of the strip."""
    sheet = simulator.scene.sheets[0]
    angles = simulator.model.bending.dihedral(motion.plastic_angles[-1])
    ends = sheet.edges.long() // (CELLS[1] + 1)
    inside = ends[:, 0] == ends[:, 1]
    total = angles.new_zeros(CELLS[0] + 1).index_add(0, ends[inside, 0], -angles[inside])
    return torch.rad2deg(total / CELLS[1])


def openness(motion):
    """How far the wanted row is from folded flat when the finger is lowest, 1 to 0."""
    line = strip_rows(motion.positions[LOWEST_STEP])
    before, after = line[WANTED - 1 : WANTED + 2].diff(dim=0)
    return (1 + torch.cosine_similarity(before, after, dim=0)) / 2


def unlike(simulator, motion):
    """How far the creases are from what is wanted; 1 is a success, if nothing else is creased."""
    angles = creases(simulator, motion)
    wanted = ANGLE * (torch.arange(len(angles)) == WANTED)
    # without a crease anywhere this still tells good paths from bad ones
    return ((angles - wanted) / ENOUGH).square().sum() + openness(motion) / 2


def search(simulator, method, start, title, **limits):
    """The best path (3, 2) [mm] that a method finds from another one."""
    box = Box((3, 2), LOWEST, HIGHEST, start=start, scale=SCALE)

    def evaluate(design):
        try:
            return unlike(simulator, press(simulator, design["path"]))
        except NotConverged:  # counts as a path that failed
            return design["path"].sum() * math.nan

    problem, budget = Problem({"path": box}, evaluate, differentiable=True), Budget(**limits)
    with Progress(title, budget) as shown:
        for step in iterate(problem, method, budget=budget):
            shown.show(step)
    return problem.parameters_of(step.best_x)["path"]


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="a smaller search")
    quick = options.parse_args().quick
    simulator = Simulator(make_scene(), time_step=STEP, bending="hinge")

    def tell(path, how):
        motion = press(simulator, path)
        angles = creases(simulator, motion)
        near = "  ".join(f"{float(angle):6.1f}" for angle in angles[WANTED - 2 : WANTED + 3])
        print(f"{how:15} {near}", flush=True)
        return motion, angles

    print("creases of rows ", *(f"{row:7}" for row in range(WANTED - 2, WANTED + 3)))
    straight = torch.tensor(STRAIGHT, dtype=torch.float64)
    first, _ = tell(straight, "straight down")
    found = search(
        simulator, Cma(population=8, deviation=1.0), straight, "samples", evaluations=48, target=1.0
    )
    tell(found, "sampled path")
    refined = search(simulator, "lbfgs", found, "gradients", gradients=2 if quick else 8)
    motion, angles = tell(refined, "refined path")
    others = angles[torch.arange(len(angles)) != WANTED].abs().amax()
    success = bool(angles[WANTED] > ENOUGH and others < LITTLE)
    print(
        f"{float(angles[WANTED]):.1f} degrees at row {WANTED}, {float(others):.1f} at others:",
        end=" ",
    )
    print("success" if success else "no success")
    plot(first, motion)
    print("written to", film(simulator, motion, "fold.gif", show="crease"), "and fold.png")


def plot(first, motion):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    moments = {"start": 0, "finger at its lowest": LOWEST_STEP, "let go": MOVING + FREE}
    figure, axes = plt.subplots(2, 1, figsize=(8, 5), sharex=True, layout="constrained")
    for axis, shown, title in zip(axes, (first, motion), ("straight down", "found"), strict=True):
        for (label, step), color in zip(moments.items(), ("0.7", "tab:blue", "0.0"), strict=True):
            line = 1e3 * strip_rows(shown.positions[step])
            axis.plot(*line.T, color=color, label=label)
            axis.plot(*line[WANTED], "o", color="tab:red", markersize=5)
        tip = 1e3 * (shown.poses[: MOVING + 1, 0, [0, 2]] - torch.tensor([0.0, TIP]))
        axis.plot(*tip.T, "--", color="tab:orange", linewidth=1, label="path of the finger's tip")
        axis.set(aspect="equal", ylabel="z, mm", title=title)
    axes[0].legend(fontsize="small", loc="upper left")
    axes[1].set_xlabel("x, mm; the dot is the wanted row")
    figure.savefig("fold.png", dpi=120)


if __name__ == "__main__":
    torch.set_num_threads(1)  # on scenes this small a second thread costs more than it gains
    main()
