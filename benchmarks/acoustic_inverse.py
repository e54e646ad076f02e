"""Walls and sources found from sound, on rooms that were solved on another mesh, with noise.

python benchmarks/acoustic_inverse.py [--walls] [--sources] [--fmax 300]

Sources: error [cm] of `locate_source` and of CMA-ES with 50 evaluations of the same misfit, which
knows walls and pulse as well, beside a twentieth of the wavelength, and the processor seconds of
both. Walls: `identify_walls` from five receivers; the largest differences of T30 and C50 at four
held-out receivers in just noticeable differences, by the solver and by a mesh 1.5 times as fine.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor

from optimizers import Budget, minimize
from sims.acoustics import Room, Solver, Wall
from sims.acoustics.inverse.certify import finer
from sims.acoustics.inverse.identify_walls import identify_walls
from sims.acoustics.inverse.locate_source import (
    compare,
    locate_source,
    recordings_of,
    source_problem,
)
from sims.acoustics.inverse.measurement import Measurement
from sims.acoustics.inverse.wall_check import wall_check
from sims.acoustics.source import default_width
from sims.acoustics.wav import resample

HARD = Wall.impedance(15000.0)
LIVING = {
    "left": Wall.impedance(7400.0),
    "right": Wall.miki(1e4, 0.05),
    "front": Wall.impedance(20000.0),
    "back": Wall.miki(2e4, 0.03),
    "floor": Wall.impedance(12000.0),
    "ceiling": Wall.miki(8e3, 0.04, band=(80.0, 2000.0)),
}
OFFICE = {
    "left": Wall.impedance(9000.0),
    "right": HARD,
    "front": Wall.miki(1.5e4, 0.08, band=(80.0, 2000.0)),
    "back": Wall.impedance(5000.0),
    "floor": Wall.rigid(),
    "ceiling": Wall.miki(1e4, 0.05),
}
ROOMS = {
    "3 x 2.2 x 1.8 m": ((3.0, 2.2, 1.8), LIVING),
    "2.6 x 2.1 x 2 m": ((2.6, 2.1, 2.0), OFFICE),
    "2 m cube, alike": ((2.0, 2.0, 2.0), dict.fromkeys(LIVING, Wall.impedance(7400.0))),
}
# shares of the room's size
RECEIVERS = [(0.77, 0.59, 0.33), (0.13, 0.77, 0.83), (0.89, 0.28, 0.67), (0.4, 0.18, 0.28)]
FIFTH = (0.63, 0.82, 0.56)
HELD_OUT = [(0.67, 0.23, 0.5), (0.17, 0.23, 0.33), (0.5, 0.73, 0.78), (0.87, 0.86, 0.22)]
SOURCES = [(0.27, 0.32, 0.61), (0.83, 0.86, 0.22), (0.5, 0.5, 0.5), (0.1, 0.09, 0.89)]
AMPLITUDE = 2.5


def recorded(
    room: Room, fmax: float, source: Tensor, receivers: Tensor, duration: float, noise: float
) -> tuple[Tensor, float]:
    """Responses and their rate, from a finer mesh, with noise of a share of the peak."""
    solver = Solver(room, fmax, nodes_per_wavelength=8.5)
    rate = 10 * fmax
    pressure = solver.simulate(source, receivers, duration).double()
    heard = AMPLITUDE * resample(pressure, 1 / solver.time_step, rate)
    drawn = torch.randn(heard.shape, generator=torch.Generator().manual_seed(0)).double()
    return heard + noise * heard.abs().max() * drawn, rate


def sources(fmax: float) -> None:
    """The table of located sources."""
    print(f"sources, 4 receivers, noise 1 %, {fmax:g} Hz, wavelength/20 = {1715 / fmax:.1f} cm")
    print(f"{'room':16} {'source':>16} {'ours cm':>8} {'runs':>5} {'s':>5} {'CMA cm':>7} {'s':>5}")
    for name, (size, walls) in ROOMS.items():
        scale = torch.tensor(size, dtype=torch.float64)
        room = Room.box(*size, walls=walls)
        receivers = torch.tensor(RECEIVERS, dtype=torch.float64) * scale
        for place in SOURCES:
            source = torch.tensor(place, dtype=torch.float64) * scale
            responses, rate = recorded(room, fmax, source, receivers, 0.1, 0.01)
            begin = time.process_time()
            found = locate_source(responses, room, fmax=fmax, rate=rate, receivers=receivers)
            ours = time.process_time() - begin
            recordings = recordings_of(responses, rate, receivers)
            begin = time.process_time()
            comparison = compare(Solver(room, fmax), recordings, default_width(fmax))
            guess = minimize(source_problem(comparison), "cma", budget=Budget(evaluations=50))
            theirs = time.process_time() - begin
            where = " ".join(f"{v:.2f}" for v in source.tolist())
            errors = [100 * float((x - source).norm()) for x in (found.position, guess.x)]
            print(
                f"{name:16} {where:>16} {errors[0]:8.2f} {found.runs:5.0f} {ours:5.1f} "
                f"{errors[1]:7.1f} {theirs:5.1f}",
                flush=True,
            )


def walls(fmax: float) -> None:
    """The table of identified walls."""
    print(f"walls, 5 receivers, noise 0.1 %, {fmax:g} Hz, differences at 4 held-out receivers")
    print(f"{'room':16} {'T30':>5} {'C50':>5} {'finer':>5} {'mesh':>5} {'told':>7} {'s':>5}")
    for name, (size, materials) in ROOMS.items():
        scale = torch.tensor(size, dtype=torch.float64)
        truth = Room.box(*size, walls=materials)
        measured = torch.tensor([*RECEIVERS, FIFTH], dtype=torch.float64) * scale
        held_out = torch.tensor(HELD_OUT, dtype=torch.float64) * scale
        source = torch.tensor(SOURCES[0], dtype=torch.float64) * scale
        places = torch.cat([measured, held_out])
        responses, rate = recorded(truth, fmax, source, places, 0.6, 0.001)
        begin = time.process_time()
        found = identify_walls(
            responses[: len(measured)],
            Room.box(*size, walls=Wall.rigid()),
            fmax=fmax,
            rate=rate,
            source=source,
            receivers=measured,
        )
        seconds = time.process_time() - begin
        unheard = Measurement(responses[len(measured) :], rate, source, held_out)
        solver = Solver(found.room, fmax)
        checks = [wall_check(each, unheard, found.nuisance) for each in (solver, finer(solver))]
        figures = [check.largest(part) for check in checks for part in ("t30", "c50")]
        known = found.identifiability
        told = f"{known.determined}/{len(known.spectrum)}"
        row = " ".join(f"{figure:5.2f}" for figure in figures)
        print(f"{name:16} {row} {told:>7} {seconds:5.0f}", flush=True)


def main() -> None:
    """Both tables, or one."""
    parser = argparse.ArgumentParser(description="Walls and sources found from sound.")
    parser.add_argument("--walls", action="store_true", help="only walls")
    parser.add_argument("--sources", action="store_true", help="only sources")
    parser.add_argument("--fmax", type=float, default=300.0, help="of the comparison [Hz]")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.walls:
        sources(arguments.fmax)
    if not arguments.sources:
        walls(arguments.fmax)


if __name__ == "__main__":
    main()
