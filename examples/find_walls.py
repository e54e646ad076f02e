"""What the walls of a room are made of, from impulse responses that were recorded in it.

Five responses of a small room whose walls are of four kinds are made with a finer mesh than the
search uses, with noise at -60 dB, and written as a take, as a measurement would be: a folder of WAV
files with take.toml. Four of them tell the walls: `identify_walls` starts from typical ones and
knows neither the source's strength nor its delay. The fifth was kept back; there the decay time T30
and the clarity C50 of the room that was found are compared with the recorded ones, in just
noticeable differences (5 % and 1 dB, ISO 3382-1). Writes the folder find_walls_take and
find_walls.png; takes half a minute on one core.
"""

import argparse

import torch

from sims.acoustics import Pulse, Room, Solver, Wall
from sims.acoustics.inverse.identify_walls import identify_walls
from sims.acoustics.metrics import noticeable_differences, room_parameters
from sims.acoustics.source import default_width
from sims.acoustics.take import read_take, write_take
from sims.acoustics.wav import resample

SIZE, RATE, FMAX = (2.5, 2.0, 1.7), 16000, 360.0  # m, Hz, Hz
BRANCHES, BANDS = 2, (63.0, 125.0, 250.0)  # of each wall; Hz
SOURCE = (0.5, 0.6, 0.4)
RECEIVERS = ((2.1, 1.6, 1.2), (0.6, 1.7, 1.5), (2.2, 0.4, 0.5), (1.2, 0.8, 1.5), (1.7, 1.1, 0.9))
NOISE = 10 ** (-60 / 20)  # of the root mean square of the responses
KINDS = {"floor": "hard", "ceiling": "wool", "left": "soft"}


def walls():
    """Plaster, a floor that is harder, a ceiling of mineral wool, and a wall that gives way."""
    made = {
        "hard": Wall.impedance(4e4),
        "wool": Wall.miki(flow_resistivity=1.5e4, thickness=0.05),
        "soft": Wall.impedance(6e3),
        "plaster": Wall.impedance(1.8e4),
    }
    sides = ("left", "right", "front", "back", "floor", "ceiling")
    return {side: made[KINDS.get(side, "plaster")] for side in sides}


def record(folder, duration):
    """A take of all receivers in the true room."""
    solver = Solver(Room.box(*SIZE, walls=walls()), 1.25 * FMAX, nodes_per_wavelength=8.0)
    pressure = solver.simulate(Pulse(SOURCE, 3.7, default_width(FMAX)), RECEIVERS, duration)
    recorded = resample(pressure.double(), 1 / solver.time_step, RATE)
    noise = torch.randn(recorded.shape, generator=torch.Generator().manual_seed(0))
    recorded = recorded + NOISE * recorded.std() * noise
    return write_take(folder, recorded, RATE, SOURCE, RECEIVERS, "CC0-1.0")


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--duration", type=float, default=0.45, help="of the recordings, s")
    duration = options.parse_args().duration
    take = read_take(record("find_walls_take", duration))
    known = slice(0, -1)
    found = identify_walls(
        take.responses[known],
        Room.box(*SIZE, walls=Wall.rigid()),
        fmax=FMAX,
        rate=take.rate,
        source=take.source,
        receivers=take.receivers[known],
        branches=BRANCHES,
    )
    print("absorption at normal incidence, true and found")
    print(f"{'':8}", *(f"{band:10.0f} Hz" for band in BANDS))
    for name, wall in found.walls.items():
        both = [w.absorption(BANDS, "normal").tolist() for w in (walls()[name], wall)]
        print(f"{name:8}", *(f"  {true:5.3f} {own:5.3f}" for true, own in zip(*both, strict=True)))
    print("speed of sound", f"{found.speed_of_sound:.2f} m/s")
    print("where it was told from", found.checks[1])
    solver = Solver(found.room, FMAX, nodes_per_wavelength=9.0)
    solved = solver.simulate(take.source, take.receivers[-1:], duration).double()
    solved = resample(solved, 1 / solver.time_step, take.rate)
    sides = [room_parameters(r, take.rate, BANDS[1:]) for r in (take.responses[-1:], solved)]
    apart = noticeable_differences(*sides)
    print(f"{'where it was not':16} {'recorded':>9} {'found':>9} {'noticeable differences':>23}")
    for name, unit in (("t30", "s"), ("c50", "dB")):
        for place, band in enumerate(BANDS[1:]):
            both = [float(getattr(side, name)[0, place]) for side in sides]
            title = f"{name.upper()}, {band:g} Hz, {unit}"
            print(f"{title:16} {both[0]:9.3f} {both[1]:9.3f} {float(apart[name][0, place]):23.2f}")
    plot(found.walls)
    print("written to find_walls.png")


def plot(found):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    frequencies = torch.linspace(50.0, FMAX, 100, dtype=torch.float64)
    figure, axes = plt.subplots(2, 3, figsize=(9, 5), sharex=True, layout="constrained")
    for axis, (name, wall) in zip(axes.flat, found.items(), strict=True):
        for made, style, label in ((walls()[name], "0.6", "true"), (wall, "--", "found")):
            axis.plot(frequencies, made.absorption(frequencies, "normal"), style, label=label)
        axis.set(title=name, ylim=(0, 0.5))
    for axis in axes[1]:
        axis.set_xlabel("frequency, Hz")
    for axis in axes[:, 0]:
        axis.set_ylabel("absorption")
    axes[0, 0].legend()
    figure.savefig("find_walls.png", dpi=120)


if __name__ == "__main__":
    torch.set_num_threads(1)  # on rooms this small a second thread costs more than it gains
    main()
