"""The first state of a chaotic flow, found from what was seen of it later.

A film of Kuramoto-Sivashinsky is seen every 0.6 s over one Lyapunov time, 11.4 s, never at its
beginning. The solver's gradients lead back to the beginning, through longer and longer parts of the
film. Writes initial_state.png; takes about six seconds on one core.
"""

import torch

from sims.pde.design.observations import Observations
from sims.pde.design.problems import InverseProblem
from sims.pde.design.unknowns import Field
from sims.pde.design.windows import in_windows
from sims.pde.rollout import rollout
from sims.pde.spectral.initial import random_waves
from sims.pde.spectral.kuramoto_sivashinsky import KuramotoSivashinsky


def main():
    torch.set_num_threads(1)
    solver = KuramotoSivashinsky(length=64.0, points=128, time_step=0.1)
    waves = random_waves(solver, 1, torch.Generator().manual_seed(0))
    truth = solver.advance(waves, 1500)  # a state on the attractor, (1, 1, 128)
    frames = rollout(solver, truth, steps=114, every=6)
    seen = Observations(frames, times=[0.6 * (i + 1) for i in range(19)])

    # Waves shorter than the twentieth are damped too fast to be seen. What is looked for is the
    # field one second earlier, of which the flow itself makes the short waves.
    unknown = Field(modes=20, spread=0.3)
    problem = InverseProblem(solver, seen, {"initial": unknown}, spin_up=1.0)
    result = in_windows(problem)
    found = problem.found(result.x)["initial"]

    later = rollout(solver, found, steps=400, every=4)
    reference = rollout(solver, truth, steps=400, every=4)
    print(f"unknowns          {problem.dimension}")
    print(f"misfit            {result.value:.1e}")
    print(f"error at 0 s      {error(found, truth):.1e}")
    for time in (11.2, 20.0, 40.0):
        frame = round(time / 0.4) - 1
        print(f"error at {time:4.1f} s   {error(later[:, frame], reference[:, frame]):.1e}")
    plot(truth, found, reference, later)


def error(guess, truth):
    """Relative L2 error."""
    return float((guess - truth).norm() / truth.norm())


def plot(truth, found, reference, later):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(13, 4), layout="constrained", width_ratios=(1.2, 1, 1)
    )
    x = 0.5 * torch.arange(128)
    left.plot(x, truth[0, 0], color="0.7", linewidth=4, label="true")
    left.plot(x, found[0, 0], color="tab:blue", linewidth=1, label="found")
    left.set(title="the state at 0 s, never seen", xlabel="x", ylabel="u")
    left.legend()
    area = {"extent": (0, 64, 0, 40), "origin": "lower", "aspect": "auto"}
    middle.imshow(reference[0, :, 0].numpy(), cmap="RdBu", vmin=-3, vmax=3, **area)
    middle.axhline(11.4, color="k", linewidth=1, linestyle="--")
    middle.set(title="the flow, seen below the line", xlabel="x", ylabel="time [s]")
    apart = (later - reference)[0, :, 0].abs().clamp(min=1e-12).log10()
    picture = right.imshow(apart.numpy(), cmap="magma", vmin=-6, vmax=0, **area)
    right.axhline(11.4, color="w", linewidth=1, linestyle="--")
    right.set(title="how far the found flow is off", xlabel="x")
    figure.colorbar(picture, ax=right, label="log10 |difference|")
    figure.savefig("initial_state.png", dpi=120)


if __name__ == "__main__":
    main()
