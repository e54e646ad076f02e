"""Steps with contact: what a converged step costs, and where the time goes.

    python benchmarks/contact_steps.py [--quick] [--linear superlu]

"fold": a fingertip of 276 vertices and 1365 tetrahedra presses a strip of paper that yields, folded
over itself above a table, and strokes it, at 1e-7 m/s (Wang et al. 2024, ThinShellLab, whose scene
of this kind has 1506 unknowns). "drop": a cloth falls on a sphere and a table, at 1e-5 m/s, from
the first step until it rests. "large": the same with 100 x 100 cells, as it lands. All with
self-contact and friction. CPU milliseconds on one thread.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # read as the libraries load

import argparse
import math
import statistics
import time
from collections import defaultdict

import torch

from geomopt.linear import DirectSolver, SparsePattern
from sims.thin_shell import Body, Contact, Control, Material, Scene, Sheet, Simulator, SoftBody
from sims.thin_shell.contact.detection import Detection
from sims.thin_shell.system import System

torch.set_num_threads(1)

PARTS = {
    "assembly": [(System, "assemble"), (SparsePattern, "assemble")],
    "factors": [(DirectSolver, "factorise")],
    "detection": [(Detection, "near"), (Detection, "share")],
}


def fold(linear, steps):
    """A strip half turned over itself, and poses of the finger: down, then along."""
    paper = Material(2e9, 0.3, 1e-4, 800.0, yield_curvature=300.0, hardening=0.1)
    flat = Sheet.rectangle(0.1, 0.02, (15, 3), paper)
    radius, begin = 4.5e-3, 0.055
    along = flat.vertices[:, 0] - begin
    angle = (along / radius).clamp(0, math.pi)
    beyond = (along - math.pi * radius).clamp(min=0)
    x = torch.where(along > 0, begin + radius * angle.sin() - beyond, flat.vertices[:, 0])
    z = radius * (1 - angle.cos()) + 8e-4
    places = torch.stack([x, flat.vertices[:, 1], z], 1)
    strip = Sheet(places, flat.faces, paper, rest_vertices=flat.vertices)
    height = 8e-4 + 2 * radius + 8e-3
    tip = SoftBody.fingertip(pose=(0.053, 0.01, height, 0.0, 0.0, 0.0), friction=2.0)
    table = Body.box((0.2, 0.1, 0.01), (0.05, 0.01, -5.2e-3, 0.0, 0.0, 0.0))
    clamped = flat.vertices[:, 0] < 1e-9
    scene = Scene([strip], clamped=clamped, bodies=[tip, table], contact=Contact())
    number = torch.arange(1, steps + 1).double()
    poses = scene.poses.repeat(steps, 1, 1)
    poses[:, 0, 2] -= 3e-4 * number.clamp(max=20)
    poses[:, 0, 0] += 3e-4 * (number - 20).clamp(min=0)
    return Simulator(scene, linear=linear, tolerance=1e-7), poses


def drop(linear, cells):
    """A limp cloth 3 mm above a sphere's top, over a table."""
    cloth = Material(1e6, 0.3, 3e-4, 500.0, bending=2e-7)
    flat = Sheet.rectangle(0.2, 0.2, (cells, cells), cloth)
    sheet = Sheet(flat.vertices + torch.tensor([0.0, 0.0, 2e-3]), flat.faces, cloth)
    bodies = [Body.plane((0.0, 0.0, -0.05)), Body.sphere(0.03, (0.1, 0.1, -0.031))]
    scene = Scene([sheet], bodies=bodies, gravity=(0.0, 0.0, -9.81))
    return Simulator(scene, bending="hinge", linear=linear, tolerance=1e-5)


class Clock:
    """CPU time that goes into some methods."""

    def __init__(self):
        self.spent = defaultdict(float)
        for part, methods in PARTS.items():
            for owner, name in methods:
                setattr(owner, name, self.timed(part, getattr(owner, name)))

    def timed(self, part, method):
        def call(*args, **options):
            begin = time.process_time()
            try:
                return method(*args, **options)
            finally:
                self.spent[part] += time.process_time() - begin

        return call


def run(name, simulator, controls, clock, skipped=0):
    """Step through controls and print a row; the first `skipped` steps are not counted."""
    state, times, iterations = simulator.initial_state(), [], []
    for number, control in enumerate(controls):
        if number == skipped:
            clock.spent.clear()
        begin = time.process_time()
        state, solution = simulator.solved_step(state, control)
        if number >= skipped:
            times.append(1e3 * (time.process_time() - begin))
            iterations.append(solution.iterations)
    shares = [f"{1e5 * clock.spent[part] / sum(times):.0f}" for part in PARTS]
    free, touched = int(simulator.model.free.sum()), 0 if state.touched is None else len(state.slip)
    print(
        f"{name:<8}{free:>8}{touched:>7}{len(times):>7}{statistics.mean(times):>10.1f}"
        f"{statistics.median(times):>9.1f}{max(times):>9.1f}{statistics.mean(iterations):>8.1f}"
        f"{'/'.join(shares):>16}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer steps, no large scene")
    parser.add_argument("--linear", default="auto", help="the library of the linear solves")
    given = parser.parse_args()
    linear, steps = given.linear, 10 if given.quick else 50
    simulator, poses = fold(linear, steps)
    begin = middle = end = 0.0
    for number in range(2):  # the first one compiles
        leaf = poses[: steps if number else 2].clone().requires_grad_()
        begin = time.process_time()
        way = simulator.rollout(simulator.initial_state(), Control(poses=leaf))
        middle = time.process_time()
        assert way.plastic_angles is not None
        (way.plastic_angles[-1].square().sum() + way.positions[-1].square().sum()).backward()
        end = time.process_time()
    spent = [1e3 * part / steps for part in (middle - begin, end - middle)]
    print(f"fold, {simulator.solver.solver}: {spent[0]:.1f} ms a step, {spent[1]:.1f} ms backward")
    print(
        f"{'scene':<8}{'dofs':>8}{'pairs':>7}{'steps':>7}{'mean ms':>10}{'median':>9}{'worst':>9}"
        f"{'factors':>8}{'as/fa/de %':>16}"
    )
    clock = Clock()
    run("fold", simulator, Control(poses=poses).steps(), clock)
    run("drop", drop(linear, 40), [Control()] * (20 if given.quick else 100), clock)
    if not given.quick:
        run("large", drop(linear, 100), [Control()] * 12, clock, skipped=3)


if __name__ == "__main__":
    main()
