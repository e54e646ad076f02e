"""Young's modulus of a sheet of paper, from how far it sags.

A strip is clamped at one end and hangs under its own weight. The heights of a few points along it
are measured, with noise; Gauss-Newton finds the modulus that explains them, with the derivative of
the equilibrium in forward mode, one linear solve each. Writes cantilever.png; takes about five
seconds on one core.
"""

import math

import torch
from torch.autograd import forward_ad

from sims.thin_shell import Material, Scene, Sheet, Simulator

LENGTH, WIDTH, CELLS = 0.10, 0.03, (40, 12)
TRUE, START, NOISE = 2.7e9, 12e9, 2e-4  # Pa, Pa, m
ENOUGH = 1e-6  # relative change of the modulus


def hang(young):
    """Points (41, 2) [m] along the middle of the strip, x and z, for a modulus [Pa]."""
    paper = Material(young=young, poisson=0.25, thickness=1e-4, density=800.0)
    strip = Sheet.rectangle(LENGTH, WIDTH, cells=CELLS, material=paper)
    scene = Scene([strip], clamped=strip.vertices[:, 0] <= 0, gravity=(0.0, 0.0, -9.81))
    rest = Simulator(scene).equilibrium(increments=4)
    middle = strip.vertices_on_line((0.0, WIDTH / 2), (LENGTH, WIDTH / 2))
    return rest.positions[middle][:, [0, 2]]


def main():
    places = torch.arange(5, CELLS[0] + 1, 5)
    generator = torch.Generator().manual_seed(0)
    noise = NOISE * torch.randn(len(places), generator=generator, dtype=torch.float64)
    measured = hang(torch.tensor(TRUE))[places, 1] + noise

    young = torch.tensor(START, dtype=torch.float64)
    curves, change = [], math.inf
    print(f"{'iteration':>9}{'E, GPa':>10}{'misfit, mm':>12}")
    while abs(change) > ENOUGH:
        with forward_ad.dual_level():
            curve = hang(forward_ad.make_dual(young, young))  # tangents are with respect to log E
            curve, slope = forward_ad.unpack_dual(curve)
        miss = curve[places, 1] - measured
        along = slope[places, 1]
        misfit = float(miss.square().mean().sqrt())
        print(f"{len(curves):9}{float(young) / 1e9:10.4f}{1e3 * misfit:12.4f}", flush=True)
        curves.append(curve)
        change = -float(along @ miss / (along @ along))
        change = min(1.0, max(-1.0, change))  # no more than a factor of e at once
        young = young * math.exp(change)
    error = NOISE / float(along.norm())
    print(f"true   E = {TRUE / 1e9:.4f} GPa")
    print(f"found  E = {float(young) / 1e9:.4f} +- {float(young) * error / 1e9:.4f} GPa")
    plot(curves, curves[-1][places, 0], measured)


def plot(curves, across, measured):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for number, curve in enumerate(curves[:-1]):
        label = "start, then each iteration" if number == 0 else None
        shade = str(0.8 - 0.5 * number / len(curves))
        axis.plot(*(1e3 * curve.T), color=shade, linewidth=1, label=label)
    axis.plot(*(1e3 * curves[-1].T), color="tab:blue", linewidth=2, label="found")
    axis.plot(1e3 * across, 1e3 * measured, "o", color="tab:red", label="measured heights")
    axis.set(aspect="equal", xlabel="x, mm", ylabel="z, mm", title="a strip of paper that hangs")
    axis.legend()
    figure.savefig("cantilever.png", dpi=120)


if __name__ == "__main__":
    torch.set_num_threads(1)  # on sheets this small a second thread costs more than it gains
    main()
