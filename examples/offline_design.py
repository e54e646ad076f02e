"""Forces that fly a body round obstacles, found from 300 old flights and no new one.

The flights were random and poor. A surrogate learns what they cost; designs move to where it is
low, and only then are they flown. Writes offline_design.png; takes about ten seconds on one core.
"""

import torch

from optimizers import SharpnessPenalty, SurrogateTrainer, offline_designs

OBSTACLES = torch.tensor([[0.35, 0.3], [0.7, 0.75], [0.3, 0.8]])
KNOTS, STEPS = 10, 40


def fly(designs):
    """Places (B, STEPS, 2) and costs (B,) of bodies pushed by KNOTS forces in turn (B, 2 KNOTS)."""
    forces = designs.reshape(-1, KNOTS, 2).repeat_interleave(STEPS // KNOTS, 1)
    place, speed, time = torch.zeros(len(designs), 2), torch.zeros(len(designs), 2), 1 / STEPS
    path, hits = [], 0.0
    for force in forces.unbind(1):
        speed = speed + time * (force - 0.5 * speed * speed.norm(dim=1, keepdim=True))
        place = place + time * speed
        near = (place[:, None] - OBSTACLES).square().sum(2)
        hits = hits + time * torch.exp(-near / 0.02).sum(1)
        path.append(place)
    miss = (place - 1).square().sum(1) + 0.1 * speed.square().sum(1)
    return torch.stack(path, 1), torch.log(0.02 + miss + 0.5 * hits)


def main():
    # The data that there is: random flights without the better half of them.
    points = 12 * torch.rand(600, 2 * KNOTS, generator=torch.Generator().manual_seed(0)) - 6
    costs = fly(points)[1]
    kept = costs >= costs.median()
    points, costs = points[kept], costs[kept]

    trainer = SurrogateTrainer(regularizer=SharpnessPenalty())
    training = trainer.start(points, costs)
    for epoch in training.run():
        if epoch.epoch % 20 == 0:
            print(
                f"epoch {epoch.epoch:3d}  error {epoch.loss:.3f}  sharpness {epoch.sharpness:.3f}"
            )

    found = offline_designs(training.ensemble, points, costs, lower=-6.0, upper=6.0)
    paths, true = fly(found.x)  # never done before this line
    print(f"best old flight    {costs.min():6.3f}")
    print(f"first, predicted   {found.value[0]:6.3f} ± {found.deviation[0]:.3f}")
    print(f"first, true        {true[0]:6.3f}")
    print(f"median, true       {true.median():6.3f}")
    print(f"best, true         {true.min():6.3f}")
    plot(fly(points[costs.argmin()][None])[0][0], paths, found, costs, true)


def plot(old, paths, found, costs, true):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    for centre in OBSTACLES.tolist():
        left.add_patch(plt.Circle(centre, 0.14, color="0.85"))
    for path in paths[1:20]:
        left.plot(*path.T, color="tab:blue", alpha=0.25, linewidth=1)
    left.plot(*paths[0].T, color="tab:blue", linewidth=2, label="first of the designs")
    left.plot(*old.T, color="tab:orange", linewidth=2, label="best old flight")
    left.plot(0, 0, "ko")
    left.plot(1, 1, "k*", markersize=12)
    left.set(title="twenty designs", aspect="equal", xlim=(-0.3, 1.7), ylim=(-1.0, 1.4))
    left.legend(loc="lower right")
    right.errorbar(found.value, true, xerr=found.deviation, fmt=".", color="tab:blue", alpha=0.4,
                   label="designs")  # fmt: skip
    right.axhline(costs.min(), color="tab:orange", label="best old flight")
    low, high = float(min(found.value.min(), true.min())), float(found.value.max()) + 0.3
    right.plot([low, high], [low, high], color="0.6", linewidth=1, label="as predicted")
    right.set(title="cost", xlabel="predicted, with disagreement", ylabel="true")
    right.legend()
    figure.savefig("offline_design.png", dpi=120)


if __name__ == "__main__":
    main()
