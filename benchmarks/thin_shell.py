"""The cost of a step of a thin shell: its parts, its growth, its derivative, its memory.

    python benchmarks/thin_shell.py [--quick]

A free square of paper (0.1 m, 0.1 mm) is pulled at a corner by 22 mN; steps of 5 ms by implicit
Euler, each converged to 1e-7 m/s. CPU time on one thread, the least of some repetitions of the same
step: on a busy machine the least is what the work costs. "floor": as many times one assembly, one
factorisation and one solve as Newton's method took, and nothing else. Energies stand beside the
time to copy as many numbers as they write; microseconds an element.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # read as the libraries load

import argparse
import importlib.util
import time
from contextlib import ExitStack
from functools import partial
from unittest import mock

import numpy as np
import torch

from geomopt.linear import DirectSolver, Factor, SparsePattern
from sims.thin_shell import Control, Material, Scene, Sheet, Simulator
from sims.thin_shell.energies.hinge import HINGE
from sims.thin_shell.energies.mid_edge import MID_EDGE
from sims.thin_shell.energies.neo_hookean import NEO_HOOKEAN
from sims.thin_shell.energies.stvk import STVK
from sims.thin_shell.energies.tension_field import TENSION_FIELD
from sims.thin_shell.energies.wall_hinge import WALL_HINGE
from sims.thin_shell.system import System

torch.set_num_threads(1)

SIDE, STEPS, ELEMENTS = 22, 12, 20000
RAMP = (0.03, 0.1, 0.3, 0.6, 1.0)  # of the force: all of it at once takes many guarded iterations
SIDES = (16, 22, 32, 45, 71, 100)  # vertices along a side: 256 ... 10 000
SOLVERS = ["superlu"] + ["pardiso"] * (importlib.util.find_spec("pypardiso") is not None)
PARTS = {
    "elements": (System, "assemble"),
    "sum": (SparsePattern, "assemble"),
    "factorise": (DirectSolver, "factorise"),
    "solve": (Factor, "solve"),
}


def least(call, repeats):
    """CPU milliseconds of a call, the least of some."""

    def once():
        begin = time.process_time()
        call()
        return 1e3 * (time.process_time() - begin)

    return min(once() for _ in range(repeats))


def pulled(side, solver, bending="mid-edge", **material):
    """The simulator of a square and the control that pulls it."""
    paper = Material(
        **{"young": 2e9, "poisson": 0.3, "thickness": 1e-4, "density": 800.0, **material}
    )
    sheet = Sheet.rectangle(0.1, 0.1, cells=(side - 1, side - 1), material=paper)
    simulator = Simulator(Scene([sheet]), bending=bending, linear=solver, tolerance=1e-7)
    forces = torch.zeros_like(sheet.vertices)
    forces[-1] = torch.tensor([0.01, 0.0, 0.02])
    return simulator, Control(forces=forces)


def steps(side, solver, count, repeats, bending="mid-edge", **material):
    """Mean milliseconds of a step and mean factorisations, and the states along the way."""
    simulator, control = pulled(side, solver, bending, **material)
    start, _ = pulled(side, "auto", bending, **material)
    pulls = [Control(forces=share * control.forces) for share in RAMP]
    states = [start.rollout(start.initial_state(), pulls).final]
    total, iterations = 0.0, 0
    done = []
    for _ in range(count):
        total += least(lambda: done.append(simulator.rollout(states[-1], [control])), repeats)
        iterations += done[-1].solutions[-1].iterations
        states.append(done[-1].final)
    return total / count, iterations / count, simulator, control, states


def shares(simulator, control, states):
    """Milliseconds in each of PARTS, and in all."""
    spent = dict.fromkeys(PARTS, 0.0)

    def timed(name, method):
        def call(*args, **options):
            begin = time.process_time()
            try:
                return method(*args, **options)
            finally:
                spent[name] += 1e3 * (time.process_time() - begin)

        return call

    with ExitStack() as stack:
        for name, (owner, method) in PARTS.items():
            timer = timed(name, getattr(owner, method))
            stack.enter_context(mock.patch.object(owner, method, timer))
        begin = time.process_time()
        for state in states[:-1]:
            simulator.step(state, control)
        return spent, 1e3 * (time.process_time() - begin)


def floor(simulator, control, state, iterations, repeats):
    """Milliseconds of so many assemblies, factorisations and solves in a row."""
    seen, original = [], System.assemble

    def watched(system, unknowns, *args, **options):
        seen[:] = system, unknowns
        return original(system, unknowns, *args, **options)

    with mock.patch.object(System, "assemble", watched):
        simulator.step(state, control)
    system, unknowns = seen
    pattern, solver = simulator.model.pattern, simulator.solver

    def all_of_it():
        for _ in range(round(iterations)):
            found = system.assemble(unknowns, 2)
            values = pattern.assemble(found.matrices, system.inertia)
            solver.factorise(values).solve(-found.gradient[pattern.unknowns])

    return least(all_of_it, repeats) * iterations / round(iterations)


def first_table(quick):
    print(
        "| bending | solver | ms a step | iterations | elements, sum, factorise, solve | x floor |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for bending in ("mid-edge", "hinge"):
        for solver in SOLVERS:
            repeats = 3 if quick else 15
            spent, iterations, *run = steps(SIDE, solver, STEPS, repeats, bending)
            parts, whole = shares(*run)
            shown = ", ".join(f"{100 * parts[name] / whole:.0f}" for name in PARTS)
            ratio = spent / floor(run[0], run[1], run[2][-1], iterations, repeats)
            cells = f"{spent:.1f} | {iterations:.1f} | {shown} % | {ratio:.2f}"
            print(f"| {bending} | {solver} | {cells} |", flush=True)


def second_table(quick):
    print("\n| solver | wanted | forward, ms a step | backward, ms a step | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for solver in SOLVERS:
        for wanted, names in (
            ("forces", []),
            ("E", ["young"]),
            ("E, t, rho", ["young", "thickness", "density"]),
        ):
            values = {"young": 2e9, "thickness": 1e-4, "density": 800.0}
            leaves = {
                name: torch.tensor(values[name], dtype=torch.float64, requires_grad=True)
                for name in names
            }
            simulator, control = pulled(SIDE, solver, **leaves)
            forces = control.forces.clone().requires_grad_()
            state = simulator.step(simulator.initial_state(), Control(forces=forces.detach()))
            forward, backward = [], []
            for _ in range(2 if quick else 8):
                begin = time.process_time()
                final = simulator.rollout(state, [Control(forces=forces)] * STEPS).final
                middle = time.process_time()
                torch.autograd.grad(
                    final.positions.square().sum(), [forces, *leaves.values()], retain_graph=True
                )
                forward.append(1e3 * (middle - begin) / STEPS)
                backward.append(1e3 * (time.process_time() - middle) / STEPS)
            print(
                f"| {solver} | {wanted} | {min(forward):.1f} | {min(backward):.1f} "
                f"| {min(backward) / min(forward):.2f} |",
                flush=True,
            )


def third_table(quick):
    sides = SIDES[:3] if quick else SIDES
    print("\n| solver |", " | ".join(f"V = {side**2}" for side in sides), "| exponent |")
    print("| --- " * (len(sides) + 2) + "|")
    for solver in SOLVERS:
        found = [steps(side, solver, 3, 4 if side < 50 else 1)[:2] for side in sides]
        times = [spent for spent, _ in found]
        slope = np.polyfit(np.log([side**2 for side in sides]), np.log(times), 1)[0]
        cells = " | ".join(f"{spent:.0f} ({count:.1f})" for spent, count in found)
        print(f"| {solver} | {cells} | {slope:.2f} |", flush=True)


def memory(**material):
    """Bytes a vertex that one more step of a rollout keeps, beside its elements' creases."""

    def kept(count):
        young = torch.tensor(2e9, dtype=torch.float64, requires_grad=True)
        simulator, control = pulled(SIDE, SOLVERS[-1], young=young, **material)
        storages = {}

        def pack(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            alive.append(tensor)
            return tensor

        alive = []
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            simulator.rollout(simulator.initial_state(), [control] * count)
        return sum(storages.values())

    return (kept(6) - kept(3)) / 3 / SIDE**2


def fourth_table():
    print("\n| material | bytes a vertex and stored step |")
    print("| --- | --- |")
    print(f"| elastic | {memory():.0f} |")
    print(f"| with yield | {memory(yield_curvature=50.0):.0f} |")


def energy_row(energy, repeats):
    """Microseconds an element: value, with gradient, with Hessian; of a copy; of the twin."""
    local, constants = energy.sample(torch.Generator().manual_seed(0), ELEMENTS)
    written = torch.ones(ELEMENTS, 1 + energy.size + energy.size**2, dtype=torch.float64)
    calls = [partial(energy.evaluate, local, constants, order) for order in range(3)]
    calls.append(lambda: torch.empty_like(written).copy_(written))
    calls.append(lambda: energy.value(local, *constants))
    return [1e3 * least(call, repeats) / ELEMENTS for call in calls]


def fifth_table(quick):
    print("\n| energy | value | + gradient | + Hessian | x copy | twin's value |")
    print("| --- | --- | --- | --- | --- | --- |")
    for energy in (STVK, NEO_HOOKEAN, TENSION_FIELD, MID_EDGE, HINGE, WALL_HINGE):
        value, gradient, hessian, copy, twin = energy_row(energy, 3 if quick else 15)
        cells = f"{value:.3f} | {gradient:.3f} | {hessian:.3f} | {hessian / copy:.1f} | {twin:.3f}"
        print(f"| {energy.name} | {cells} |", flush=True)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="fewer repetitions and sizes")
    quick = options.parse_args().quick
    first_table(quick)
    second_table(quick)
    third_table(quick)
    fourth_table()
    fifth_table(quick)


if __name__ == "__main__":
    main()
