"""Two soft fingertips lift a sheet: how little may they squeeze it, at every moment?

A rubber sheet stands on a table. A gripper closes on it and lifts it fast, which makes it up to two
fifths heavier on the way up and lighter before the stop. L-BFGS finds a squeeze over time that uses
nine tenths of what friction can bear, by the exact gradient of a simulation through contact,
friction and soft bodies. Coulomb's law, 2 mu N >= m (g + a), is not told to it; it is drawn beside
what was found. Then the sheet is held, and does not creep. Writes pinch.gif and pinch.png; takes
about a minute on one core.
"""

import argparse
import math

import torch

from geomopt.runs.progress import Progress
from optimizers import Box, Budget, Problem, iterate
from sims.thin_shell import (
    Body,
    Contact,
    Control,
    Material,
    Scene,
    Sheet,
    Simulator,
    gripper_pair,
    pair_poses,
)
from sims.thin_shell.pictures import film

WIDTH, HEIGHT, THICKNESS, GRIPPED = 0.05, 0.06, 1e-3, 0.056  # m; the last is a height
MU, GRAVITY, RANGE = 0.5, 9.81, 1e-4  # -, m/s^2, m
STEP, CLOSING, LIFTING, STOPPED = 0.01, 10, 25, 15  # s, then numbers of steps
RISE, OPEN = 0.04, 1.2e-3  # m, of the gripper; between its tips at first
KNOTS, TIGHT, LOOSE, START = 10, -0.2, 0.95, 0.4  # spacing of the tips [mm]
RESERVE, CAUTION = 0.1, 30.0  # share of friction; how much worse a lack of it is than too much
ACROSS = [0.0, math.pi / 2, 0.0]  # the gripper's z axis along x


def make_scene():
    """The sheet on its edge, the two fingers beside it, and the table."""
    rubber = Material(1.5e6, poisson=0.45, thickness=THICKNESS, density=1000.0, friction=MU)
    flat = Sheet.rectangle(WIDTH, HEIGHT, cells=(6, 8), material=rubber)
    y, z, _ = flat.vertices.T
    upright = torch.stack([0 * y, y - WIDTH / 2, z + (THICKNESS + RANGE) / 2], dim=1)
    fingers = gripper_pair(
        [0.0, 0.0, GRIPPED, *ACROSS, OPEN],
        **{"width": 0.012, "height": 6e-3, "young": 1e5, "cells": 4, "friction": MU},
    )
    return Scene(
        [Sheet(upright, flat.faces, rubber)],
        bodies=[*fingers, Body.plane()],
        gravity=(0.0, 0.0, -GRAVITY),
        contact=Contact(range=RANGE),
    )


def lift(simulator, knots):
    """The motion under a spacing of the tips that goes straight from knot to knot (K,) [mm]."""
    steps = torch.arange(1, CLOSING + LIFTING + STOPPED + 1, dtype=torch.float64)
    share = ((steps - CLOSING) / LIFTING).clamp(0, 1)
    rise = RISE * (share - torch.sin(2 * math.pi * share) / (2 * math.pi))
    place = (steps - CLOSING).clamp(min=0) * (KNOTS - 1) / (LIFTING + STOPPED)
    before = place.long().clamp(max=KNOTS - 2)
    wanted = 1e-3 * torch.lerp(knots[before], knots[before + 1], place - before)
    spacing = torch.lerp(torch.full_like(wanted, OPEN), wanted, (steps / CLOSING).clamp(max=1))
    where = torch.zeros(len(steps), 3).to(steps) + torch.tensor([0.0, 0.0, GRIPPED])
    where[:, 2] += rise
    turned = torch.tensor(ACROSS).to(steps).expand_as(where)
    fingers = pair_poses(torch.cat([where, turned, spacing[:, None]], dim=1))
    table = simulator.scene.poses[2:].expand(len(steps), 1, 6)
    control = Control(poses=torch.cat([fingers, table], dim=1))
    return simulator.rollout(simulator.initial_state(), control)


def forces(simulator, motion):
    """Normal force and friction (T,) [N] of each finger on the sheet.

    A finger is pushed with its normal force. Friction is what moves the sheet and the table does
    not bear."""
    part = simulator.scene.vertex_parts[0]
    mass = simulator.model.mass[part]
    momentum = (mass * motion.velocities[:, part, 2]).sum(dim=1)
    push, table = motion.wrenches[1:, 1, 0], motion.wrenches[1:, 2, 2]
    return push, (momentum.diff() / STEP + mass.sum() * GRAVITY - table) / 2


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="only a few gradients")
    quick = options.parse_args().quick
    simulator = Simulator(make_scene(), time_step=STEP)
    part = simulator.scene.vertex_parts[0]
    weight = float(simulator.model.mass[part].sum()) * GRAVITY
    lifted = slice(CLOSING + 2, None)  # the pads give way a little before it leaves the table

    def unease(design):
        motion = lift(simulator, design["spacing"])
        normal, friction = forces(simulator, motion)
        excess = (MU * normal / friction)[lifted] - 1 / (1 - RESERVE)
        late = RISE - (motion.positions[-1] - motion.positions[0])[part, 2].mean()  # m
        return (torch.where(excess < 0, CAUTION, 1.0) * excess**2).mean() + 1e5 * late**2

    box = Box(KNOTS, TIGHT, LOOSE, start=START, scale=0.3)
    problem = Problem({"spacing": box}, unease, differentiable=True)
    budget = Budget(gradients=4 if quick else 16)
    with Progress("least squeeze", budget) as shown:
        for step in iterate(problem, "lbfgs", budget=budget):
            shown.show(step)

    motion = lift(simulator, step.best_x)
    normal, friction = forces(simulator, motion)
    held = simulator.rollout(motion.final, 20 if quick else 100)
    height = held.positions[:, part, 2].mean(dim=1)
    used = (friction / (MU * normal))[lifted]
    print(f"weight                     {1e3 * weight:7.2f} mN")
    print(f"normal force, at the end   {1e3 * float(normal[-1]):7.2f} mN a finger")
    print(f"friction, at the end       {1e3 * float(friction[-1]):7.2f} mN a finger")
    print(f"2 mu N, at the end         {2e3 * MU * float(normal[-1]):7.2f} mN")
    print(f"friction used, at the most {100 * float(used.max()):7.1f} %")
    print(f"friction used, on average  {100 * float(used.mean()):7.1f} %")
    seconds = len(height[1:]) * STEP
    print(
        f"drift in {seconds:.1f} s            {1e9 * float((height[-1] - height[0]).abs()):7.2f} nm"
    )
    first = forces(simulator, lift(simulator, torch.full((KNOTS,), START, dtype=torch.float64)))[0]
    plot(motion.times[1:], first, normal, friction)
    print("written to", film(simulator, motion, "pinch.gif"), "and pinch.png")


def plot(times, first, normal, friction):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axis.plot(times, 1e3 * first, color="0.7", label="squeeze at the start of the search")
    axis.plot(times, 1e3 * normal, color="tab:blue", linewidth=2, label="squeeze that was found")
    least = 1e3 * friction / MU
    axis.fill_between(times, least, color="tab:red", alpha=0.2, label="slips: m (g + a) / (2 mu)")
    axis.plot(
        times,
        least / (1 - RESERVE),
        "--",
        color="tab:red",
        label=f"{1 - RESERVE:.0%} of friction used",
    )
    axis.set(xlabel="time, s", ylabel="normal force of a finger, mN", ylim=(0, None))
    axis.legend()
    figure.savefig("pinch.png", dpi=120)


if __name__ == "__main__":
    torch.set_num_threads(1)  # on scenes this small a second thread costs more than it gains
    main()
