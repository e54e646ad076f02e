"""Plan a push through contact: sampling between knots, then gradients at every step.

A pusher must go round a block and push it to a place and an angle. Before it touches the block
every gradient is zero, so gradients alone never move; sampling finds the way round, and gradients
make it precise. Writes trajectory.png; takes about fifteen seconds on one core.
"""

import torch

from optimizers import Budget, iterate, minimize
from optimizers.testing import block_pushing
from optimizers.testing.trajectories import BLOCK_GOAL, SIDE, TURN

toy = block_pushing()  # its design: Box((30, 2), -1, 1, trajectory=True), a force for each step
problem, budget = toy.problem, Budget(evaluations=1200)

for step in iterate(problem, "sample-refine", budget=budget, seed=0):
    if step.iteration % 25 == 0 or step.reason:
        print(f"{step.evaluations:5.0f} evaluations   cost {step.best_value:.4f}   {step.tag}")

plain = minimize(problem, "lbfgs", budget=budget)
print(f"cost {step.best_value:.4f} by sample-refine, {plain.value:.4f} by L-BFGS alone,")
print(f"{toy.best:.4f} is the lowest known, {toy.success:.4f} counts as solved")


def outline(x, y, angle):
    """The square at a place and an angle."""
    half = SIDE * torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]], dtype=torch.float64)
    c, s = angle.cos(), angle.sin()
    return x + c * half[:, 0] - s * half[:, 1], y + s * half[:, 0] + c * half[:, 1]


def draw(file):
    """Where the block and the pusher go."""
    import matplotlib

    matplotlib.use("Agg")  # write a file, open no window
    import matplotlib.pyplot as plt

    path = toy.simulate(problem.parameters_of(step.best_x)["controls"][None])[0]
    figure, axis = plt.subplots(figsize=(6, 6))
    for at in range(0, len(path), 6):
        axis.plot(*outline(*path[at, 4:7]), color="tab:blue", alpha=0.2 + 0.8 * at / len(path))
    goal = torch.tensor([*BLOCK_GOAL, TURN], dtype=torch.float64)
    axis.plot(*outline(*goal), "k--", label="goal")
    axis.plot(path[:, 0], path[:, 1], ".-", color="tab:red", label="pusher")
    axis.set(aspect="equal", xlabel="m", ylabel="m", title=f"cost {step.best_value:.4f}")
    axis.legend()
    figure.savefig(file, dpi=120, bbox_inches="tight")


draw("trajectory.png")
