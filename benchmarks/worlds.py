"""Many worlds: one process, two processes, and all worlds stepped as one.

    python benchmarks/worlds.py [--worlds 8] [--steps 10] [--cuda]

Worlds are strips of paper under a soft fingertip that presses them on a table, each with its own
stiffness and friction. "ratio" is how many times the throughput of one process a way has; on CUDA,
where all worlds take one launch, the time for all over the time of one. Wall seconds, the least of
three runs after one that warms up.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # read as the libraries load

import argparse
import time

import torch

from geomopt.workers import Workers
from sims.thin_shell import (
    Body,
    Contact,
    Control,
    Material,
    Scene,
    Sheet,
    Simulator,
    SoftBody,
    rollout_worlds,
)

torch.set_num_threads(1)

HEIGHT, CLEAR, DEPTH = 3e-4, 2e-4, 6e-4  # m: the sheet over the table, the finger over it, its path


def world(place, device):
    """A strip on a table under a finger, with a stiffness and friction of its own."""
    paper = Material(
        young=1e9 * (1 + 0.1 * place), poisson=0.3, thickness=2e-4, density=800.0, friction=0.4
    )
    flat = Sheet.rectangle(0.1, 0.02, cells=(15, 3), material=paper)
    vertices = (flat.vertices + torch.tensor([0.0, 0.0, HEIGHT])).to(device)
    sheet = Sheet(vertices, flat.faces.to(device), paper)
    finger = SoftBody.fingertip()
    tip = float(finger.local[:, 2].amin())
    pose = torch.tensor([0.07, 0.01, HEIGHT + CLEAR - tip, 0.0, 0.0, 0.0], dtype=torch.float64)
    finger = SoftBody.fingertip(pose=pose).to(device)
    table = Body.plane().to(device)
    contact = Contact(friction={(paper, finger): 0.8 + 0.02 * place})
    scene = Scene([sheet], bodies=[table, finger], gravity=(0, 0, -9.81), contact=contact)
    return Simulator(scene, tolerance=1e-7)


def path(simulator, steps):
    """The finger goes down and drags."""
    poses = simulator.scene.poses.expand(steps, 2, 6).clone()
    along = torch.linspace(0, 1, steps, device=poses.device)
    poses[:, 1, 2] -= DEPTH * along.clamp(max=0.5) * 2
    poses[:, 1, 0] -= 5e-3 * (along - 0.5).clamp(min=0)
    return Control(poses=poses)


def least(call, repeats=3):
    """Wall seconds of a call after one that warms up, the least of some."""
    call()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        worlds = call()
        seconds.append(time.perf_counter() - begin)
        assert all(found.ok for found in worlds), [found.error for found in worlds]
    return min(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--cuda", action="store_true")
    options = parser.parse_args()
    device = "cuda" if options.cuda else "cpu"
    worlds = [world(place, device) for place in range(options.worlds)]
    states = [simulator.initial_state() for simulator in worlds]
    paths = [path(simulator, options.steps) for simulator in worlds]

    def run(count=options.worlds, **how):
        with torch.no_grad():
            return rollout_worlds(worlds[:count], states[:count], paths[:count], **how)

    unknowns = int(worlds[0].model.free.sum())
    print(f"{options.worlds} worlds of {unknowns} unknowns, {options.steps} steps\n")
    print("| way | seconds | ratio |\n| --- | --- | --- |")
    if options.cuda:
        one, many = least(lambda: run(1, together=True)), least(lambda: run(together=True))
        print(f"| one world | {one:.2f} | 1 |\n| together | {many:.2f} | {many / one:.2f} |")
        return
    with Workers(1) as single, Workers(2) as pair:
        one = least(lambda: run(workers=single))
        two = least(lambda: run(workers=pair))
    together = least(lambda: run(together=True))
    rows = {"one process": one, "two processes": two, "together, one core": together}
    for way, seconds in rows.items():
        print(f"| {way} | {seconds:.2f} | {one / seconds:.2f} |")


if __name__ == "__main__":
    main()
