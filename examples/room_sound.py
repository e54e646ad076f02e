"""What a room does to a voice that walks through it, with bare walls and with an absorber.

A plastered room with an alcove is solved up to 400 Hz twice: bare, and with 10 cm of mineral wool
on part of one wall and of the ceiling. A listener walks from one corner to the other. Exchanging
source and receiver changes no response, so one run has all points of the path. Prints the
parameters of ISO 3382-1 in the middle of it; writes room_bare.wav, room_treated.wav (the loudness
of both is to scale) and room_sound.png. Takes twenty seconds on one core.
"""

import argparse

import torch

from sims.acoustics import Room, Solver, Wall
from sims.acoustics.auralize import RATE, dry_signal, hybrid_response, render_path
from sims.acoustics.metrics import band_filter, onset, room_parameters, schroeder_curve
from sims.acoustics.wav import write_wav

BRICKS = [((0.0, 0.0, 0.0), (4.0, 3.0, 2.4)), ((2.4, 3.0, 0.0), (4.0, 3.8, 2.4))]  # m
SPEAKER = (0.5, 0.6, 1.1)
WALK = ((3.6, 0.5, 1.6), (3.5, 2.6, 1.6), (0.7, 2.5, 1.6))  # corners of a smooth path
POINTS = 32  # of it
BANDS = (125.0, 250.0)  # Hz, octaves that end below fmax
NAMES = ("early_decay_time", "t20", "c50", "d50", "centre_time")


def rooms():
    """The bare room and the treated one."""
    bare = Room.bricks(BRICKS, walls=Wall.impedance(1.6e4))
    wool = Wall.miki(flow_resistivity=1e4, thickness=0.1)
    treated = bare.with_patch("wall panel", (4.0, 0.4, 0.4), (4.0, 2.6, 2.0), wool)
    treated = treated.with_patch("ceiling panel", (0.8, 0.5, 2.4), (3.2, 2.5, 2.4), wool)
    return {"bare": bare, "treated": treated}


def walk():
    """Where the listener is (POINTS, 3) [m]."""
    share = torch.linspace(0, 1, POINTS, dtype=torch.float64)[:, None]
    start, turn, end = torch.tensor(WALK, dtype=torch.float64)
    return (1 - share) ** 2 * start + 2 * share * (1 - share) * turn + share**2 * end


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--fmax", type=float, default=400.0, help="band of the solver, Hz")
    options.add_argument("--duration", type=float, default=0.8, help="of the responses, s")
    given = options.parse_args()
    dry, path = dry_signal("speech", RATE), walk()
    passing = torch.linspace(0, len(dry) / RATE, POINTS, dtype=torch.float64)
    distances = (path - torch.tensor(SPEAKER, dtype=torch.float64)).norm(dim=1)
    bands = [band for band in BANDS if 1.42 * band < given.fmax]
    heard, middle = {}, {}
    print(f"{'':8} {'band':>7}", *(f"{name.replace('_', ' '):>17}" for name in NAMES))
    for name, room in rooms().items():
        solver = Solver(room, given.fmax)
        pressure = solver.simulate(SPEAKER, path, given.duration).double()
        middle[name] = pressure[POINTS // 2]
        for row in room_parameters(middle[name], 1 / solver.time_step, bands).table():
            print(f"{name:8} {row['band']:4.0f} Hz", *(f"{row[key]:17.3f}" for key in NAMES))
        # above the solver's band, noise that decays as fast as the sound just below its end
        responses = hybrid_response(pressure, solver.time_step, given.fmax, distances)
        heard[name] = render_path(dry, responses, RATE, passing, moving="receiver")
    loudest = max(float(sound.abs().max()) for sound in heard.values())
    for name, sound in heard.items():
        write_wav(f"room_{name}.wav", 0.9 * sound / loudest, RATE, "pcm16")
        level = 10 * torch.log10(sound.square().mean() / heard["bare"].square().mean())
        print(f"room_{name}.wav: {len(sound) / RATE:.1f} s, level {float(level):+.1f} dB")
    plot(middle, given.duration, bands[-1])
    print("written to room_bare.wav, room_treated.wav and room_sound.png")


def plot(responses, duration, band):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for (name, response), color in zip(responses.items(), ("0.5", "tab:blue"), strict=True):
        times = torch.linspace(0, duration, len(response), dtype=torch.float64)
        early = times < 0.15
        axes[0].plot(1e3 * times[early], response[early], color=color, label=name)
        filtered = band_filter(response, (len(response) - 1) / duration, [band])[0]
        curve = schroeder_curve(filtered[int(onset(filtered)) :])
        axes[1].plot(times[: len(curve)], curve, color=color, label=name)
    axes[0].set(xlabel="time, ms", ylabel="pressure, Pa", title="in the middle of the walk")
    axes[1].set(xlabel="time, s", ylabel="energy to come, dB", ylim=(-60, 2))
    axes[1].set(title=f"decay in the octave of {band:g} Hz")
    axes[1].legend()
    figure.savefig("room_sound.png", dpi=120)


if __name__ == "__main__":
    torch.set_num_threads(1)  # on rooms this small a second thread costs more than it gains
    main()
