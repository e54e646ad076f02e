"""A wall is bent until no resonance of a room sticks out at a seat.

The room is a box of hexahedra. One wall may move by up to 25 cm, each of its vertices by its own
amount, and the elements behind it stretch along. What is lowered is the highest peak of the
frequency response from a loudspeaker to a seat, over the mean, by the exact gradient of the solver
in the positions of all vertices. The same shape is then solved again by polynomials of twice the
order. Writes diffuser.png; takes half a minute on one core.
"""

import argparse
import math

import torch

from geomopt.runs.progress import Progress
from optimizers import Box, Budget, Problem, iterate
from sims.acoustics import Room, Solver, Wall
from sims.acoustics.elements.spaces import as_hexahedra

SIZE, EDGE, FMAX, DURATION = (3.2, 2.5, 2.3), 0.6, 150.0, 0.4  # m, m, Hz, s
SOURCE, SEAT = (0.4, 0.5, 0.6), (1.9, 1.5, 1.2)
MOST = 0.25  # m, that the wall at the highest x moves
FREQUENCIES = torch.linspace(35.0, 130.0, 96, dtype=torch.float64)  # Hz
SHARP = 12  # the norm that stands for the highest peak


def bent(vertices, moves):
    """Vertices (V, 3) [m] when those of the wall move along x by moves (n,) [m]."""
    _, column = torch.unique(vertices[:, 1:], dim=0, return_inverse=True)
    along = vertices[:, 0] / SIZE[0] * moves[column]
    return vertices + along[:, None] * vertices.new_tensor([1.0, 0.0, 0.0])


def spectrum(solver, vertices):
    """Levels (F,) [dB] of the seat's response over their mean."""
    pressure = solver.simulate(SOURCE, [SEAT], DURATION, vertices=vertices)[0].double()
    times = solver.times(DURATION)
    faded = pressure * torch.cos(math.pi / 2 * times / times[-1]) ** 2
    turns = 2 * math.pi * FREQUENCIES[:, None] * times
    power = (turns.cos() @ faded) ** 2 + (turns.sin() @ faded) ** 2
    # the pulse has less and less of higher frequencies
    power = power * torch.exp(2 * (FREQUENCIES / FMAX * 2) ** 2) / FREQUENCIES**2
    return 10 * torch.log10(power / power.mean())


def peak(levels):
    """A smooth highest level () [dB]."""
    loudness = 10 ** (levels * SHARP / 20)
    return 20 / SHARP * torch.log10(loudness.mean())


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--gradients", type=int, default=15)
    gradients = options.parse_args().gradients
    room = as_hexahedra(Room.box(*SIZE, walls=Wall.impedance(1.2e4)), EDGE)
    limit = Solver(room, FMAX, order=2).stability_limit
    solver = Solver(room, FMAX, order=2, time_step=0.7 * limit)  # elements may shrink a little
    vertices = solver.space.vertices
    count = len(torch.unique(vertices[:, 1:], dim=0))
    problem = Problem(
        {"moves": Box(count, -MOST, MOST, start=0.0)},
        lambda design: peak(spectrum(solver, bent(vertices, design["moves"]))),
        differentiable=True,
    )
    budget = Budget(gradients=gradients)
    with Progress("diffuser", budget) as shown:
        for step in iterate(problem, "lbfgs", budget=budget):
            shown.show(step)
    shapes = {"flat": vertices, "bent": bent(vertices, problem.parameters_of(step.best_x)["moves"])}
    fine = Solver(room, FMAX, order=4, time_step=0.25 * limit)
    levels = {}
    print(f"{'highest peak over the mean, dB':32} {'order 2':>8} {'order 4':>8}")
    with torch.no_grad():
        for name, shape in shapes.items():
            coarse, levels[name] = (spectrum(s, shape) for s in (solver, fine))
            print(f"{name:32} {float(coarse.max()):8.2f} {float(levels[name].max()):8.2f}")
    plot(room, shapes, levels)
    print("written to diffuser.png")


def plot(room, shapes, levels):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(10, 3.6), layout="constrained")
    pairs = [(a, a | bit) for bit in (1, 2, 4) for a in range(8) if not a & bit]
    edges = room.shape.hexahedra.long()[:, torch.tensor(pairs)].reshape(-1, 2)
    ends = room.shape.vertices[edges]
    floor = ends[:, :, 2].amax(1) < 1e-9
    wall = ends[:, :, 0].amin(1) > SIZE[0] - 1e-9  # the one that moves
    for place, (name, shape) in enumerate(shapes.items()):
        axis = figure.add_subplot(1, 3, place + 1, projection="3d", title=name)
        for part, color, width in ((floor, "0.7", 0.6), (wall, "tab:blue", 1.2)):
            for line in shape[edges[part]].tolist():
                axis.plot(*zip(*line, strict=True), color=color, linewidth=width)
        for at, color, label in ((SOURCE, "tab:orange", "source"), (SEAT, "tab:red", "seat")):
            axis.plot(*zip(at, strict=True), "o", color=color, label=label)
        axis.set(xlabel="x, m", xlim=(0, SIZE[0] + MOST), ylabel="y, m", box_aspect=SIZE)
        axis.view_init(20, 25)
        axis.grid(False)
        axis.legend(fontsize="small", loc="upper left")
    axis = figure.add_subplot(1, 3, 3, xlabel="frequency, Hz", ylabel="level, dB", title="seat")
    for (name, level), color in zip(levels.items(), ("0.6", "tab:blue"), strict=True):
        axis.plot(FREQUENCIES, level, color=color, label=name)
    axis.legend()
    figure.savefig("diffuser.png", dpi=120)


if __name__ == "__main__":
    torch.set_num_threads(1)  # on rooms this small a second thread costs more than it gains
    main()
