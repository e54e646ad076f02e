"""Where to hang an absorber of a given area, by the gradient of what is heard late.

Each of sixteen panels of a ceiling is covered to a share between 0 and 1. The objective is the
level at four seats later than 80 ms in the octave of 125 Hz, where modes are few and where it
hangs matters; the gradient in all shares comes from one reverse sweep of the solver, and a method
for constraints keeps the area. The panels of the largest shares are the first that are built; a
few exchanges follow, and a finer mesh has the last word. Designs at random for as much solver time
are printed beside it. `sims.acoustics.inverse.absorbers` is the same for rooms, bands and budgets
of any kind. Writes absorbers.png; takes half a minute on one core.
"""

import argparse

import torch

from geomopt.runs.progress import Progress
from optimizers import Box, Budget, Problem, iterate
from sims.acoustics import Room, Solver, Wall
from sims.acoustics.inverse.panels import with_panels
from sims.acoustics.metrics import band_filter

SIZE, FMAX, DURATION, LATE = (3.6, 2.8, 2.4), 180.0, 0.35, 0.08  # m, Hz, s, s
SOURCE = (0.4, 0.5, 0.5)
SEATS = ((1.5, 1.4, 1.2), (2.2, 1.4, 1.2), (2.9, 1.4, 1.2), (2.2, 2.2, 1.2))
PANELS, ALLOWED = (4, 4), 4  # of the ceiling, and how many of them may absorb
GRADIENT_COST = 3  # runs of the solver
PLASTER = Wall.impedance(3e4)
WOOL = Wall.miki(flow_resistivity=8e3, thickness=0.2)


def room_with_panels():
    """The bare room with its ceiling in panels, as bricks so that elements end where panels do."""
    (length, width, height), (along, across) = SIZE, PANELS
    x, y = (torch.linspace(0, *end) for end in ((length, along + 1), (width, across + 1)))
    corners = [
        (x[i : i + 2].tolist(), y[j : j + 2].tolist()) for i in range(along) for j in range(across)
    ]
    bricks = [((x0, y0, 0.0), (x1, y1, height)) for (x0, x1), (y0, y1) in corners]
    return with_panels(Room.bricks(bricks, walls=PLASTER), {"ceiling": PANELS})


def late_level(solver, shares):
    """Level () [dB re 1 Pa² s] of what the seats hear later than LATE."""
    names = [patch.name for patch in solver.room.patches]
    walls = {
        name: Wall.mix([(WOOL, share), (PLASTER, 1 - share)])
        for name, share in zip(names, shares, strict=True)
    }
    pressure = solver.simulate(SOURCE, SEATS, DURATION, walls=walls)
    octave = band_filter(pressure.double(), 1 / solver.time_step, [125.0], backwards=True)
    late = octave[:, 0, round(LATE / solver.time_step) :]
    return 10 * torch.log10(late.square().mean(0).sum() * solver.time_step)


def found_shares(solver, count, gradients):
    """Shares (count,) of all panels, from covering all alike."""

    def evaluate(design):
        return late_level(solver, design["share"]), design["share"].sum()[None] / ALLOWED - 1

    box = Box(count, 0.0, 1.0, start=ALLOWED / count)
    problem = Problem({"share": box}, evaluate, constraints=1, differentiable=True)
    limit = Budget(gradients=gradients)
    with Progress("absorbers", limit) as shown:
        for step in iterate(problem, "lagrange-newton", budget=limit):
            shown.show(step)
    return problem.parameters_of(step.best_x)["share"]


def exchanged(solver, chosen, tries):
    """Panels on or off (n,): one is exchanged for another where that is better, most likely first.

    The slopes in the shares say which exchanges are likely."""
    leaf = chosen.clone().requires_grad_(True)
    value = late_level(solver, leaf)
    (slope,) = torch.autograd.grad(value, leaf)
    on, off = chosen.nonzero().flatten(), (chosen == 0).nonzero().flatten()
    gain = slope[off][None] - slope[on][:, None]
    for pair in gain.flatten().argsort()[: int(tries)].tolist():
        tries -= 1
        trial = chosen.clone()
        trial[on[pair // len(off)]], trial[off[pair % len(off)]] = 0.0, 1.0
        if late_level(solver, trial) < value.detach():
            return exchanged(solver, trial, tries - GRADIENT_COST)
    return chosen


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--gradients", type=int, default=10, help="of the search for shares")
    options.add_argument("--tries", type=int, default=20, help="exchanges and random designs")
    given = options.parse_args()
    solver = Solver(room_with_panels(), FMAX)
    names = [patch.name for patch in solver.room.patches]
    shares = found_shares(solver, len(names), given.gradients)

    def panels(places):
        return torch.zeros_like(shares).index_fill(0, places, 1.0)

    rounded = panels(shares.argsort(descending=True)[:ALLOWED])
    built = exchanged(solver, rounded, given.tries)
    print("built:", ", ".join(n for n, on in zip(names, built.tolist(), strict=True) if on))
    area = SIZE[0] * SIZE[1] / len(names)
    generator = torch.Generator().manual_seed(0)
    fine = Solver(solver.room, FMAX, nodes_per_wavelength=9.0)
    designs = {
        "no absorber": torch.zeros_like(shares),
        "spread evenly": torch.full_like(shares, ALLOWED / len(shares)),
        "shares found": shares,
        "rounded": rounded,
        "built": built,
    }
    print(f"{'level of late sound, dB':24} {'area, m²':>9} {'search':>8} {'finer':>8}")
    with torch.no_grad():
        for name, design in designs.items():
            levels = [float(late_level(s, design)) for s in (solver, fine)]
            print(f"{name:24} {area * float(design.sum()):9.2f} {levels[0]:8.2f} {levels[1]:8.2f}")
        count = int(GRADIENT_COST * given.gradients) + given.tries
        orders = [torch.randperm(len(shares), generator=generator) for _ in range(count)]
        others = [float(late_level(solver, panels(order[:ALLOWED]))) for order in orders]
    middle = sorted(others)[count // 2]
    print(f"{count} designs at random, as costly: best {min(others):.2f}, median {middle:.2f} dB")
    plot(solver.room, shares, built)
    print("written to absorbers.png")


def plot(room, shares, built):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for axis, (title, values) in zip(
        axes, {"shares found": shares, "built": built}.items(), strict=True
    ):
        for patch, value in zip(room.patches, values.tolist(), strict=True):
            (x, y), (w, h) = patch.low[:2], (patch.high - patch.low)[:2]
            color = plt.cm.YlGnBu(0.6 * value)
            axis.add_patch(Rectangle((x, y), w, h, facecolor=color, edgecolor="0.4"))
            axis.text(x + 0.05, y + 0.05, f"{value:.2f}")
        axis.plot(*torch.tensor(SEATS)[:, :2].T, "o", color="tab:red", label="seats")
        axis.plot(*SOURCE[:2], "^", color="tab:red", label="source")
        axis.set(aspect="equal", xlim=(0, SIZE[0]), ylim=(0, SIZE[1]), title=f"ceiling: {title}")
        axis.set(xlabel="x, m", ylabel="y, m")
    axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig("absorbers.png", dpi=120)


if __name__ == "__main__":
    torch.set_num_threads(1)  # on rooms this small a second thread costs more than it gains
    main()
