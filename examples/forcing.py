"""What stirs a flow, found by a coarse solver and confirmed by a fine one.

A two-dimensional flow on 64 x 64 points is stirred by forces that nobody knows. Four noisy pictures
of its vorticity are there. A solver of 24 x 24 points with longer steps proposes forces, and the
fine one judges each proposal once, in a trust region. Writes forcing.png; takes about thirteen
seconds on one core.
"""

import functools

import torch

from sims.pde.data.downsample import downsample, resampled
from sims.pde.design.coarse import Coarse
from sims.pde.design.observations import Observations
from sims.pde.design.problems import InverseProblem
from sims.pde.design.unknowns import Field
from sims.pde.design.verified import verified
from sims.pde.rollout import rollout
from sims.pde.spectral.navier_stokes import NavierStokes2D, kolmogorov_forcing

POINTS = 64
NOISE = 0.03  # of the vorticity's standard deviation


def solver_of(forcing, points=POINTS, time_step=0.02):
    """The flow under forcings (B, 1, 64, 64), on a grid of so many points."""
    forcing = downsample(forcing, points)
    solver = NavierStokes2D(
        points=points, time_step=time_step, viscosity=1e-2, drag=0.1, forcing=forcing
    )
    return solver if points == POINTS else Coarse(solver, POINTS)


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    bumps = torch.randn(2, 1, 12, 12, generator=generator, dtype=torch.float64)
    first, gusts = (3.0 * resampled(bumps, POINTS)).split(1)
    gusts = resampled(downsample(gusts - gusts.mean(), 6), POINTS)  # waves up to the second
    truth = kolmogorov_forcing(POINTS, wavenumber=3) + gusts
    solver = solver_of(truth)
    begin = solver.advance(first, 50)
    frames = rollout(solver, begin, steps=40, every=10)
    noise = NOISE * float(frames.std())
    measured = frames + noise * torch.randn(frames.shape, generator=generator, dtype=frames.dtype)
    seen = Observations(measured, times=[0.2, 0.4, 0.6, 0.8], noise=noise)

    unknown = Field(modes=3, mean=False)
    problem = InverseProblem(solver_of, seen, {"forcing": unknown}, initial=begin)
    coarse = functools.partial(solver_of, points=24, time_step=0.05)
    design = verified(problem, coarse, calls=10, steps=3, tolerance=1e-3)
    found = design.found["forcing"][None]

    print(f"unknowns        {problem.dimension}")
    print("solve   misfit      promised    rho")
    for number, proposal in enumerate(design.history):
        print(
            f"{number + 2:5}   {proposal.trial:.3e}   {proposal.promised:.3e}   "
            f"{proposal.ratio:.3f}"
        )
    print(f"solver calls    {design.calls:g}")
    print(f"ended by        {design.reason}")
    print(f"error           {float((found - truth).norm() / truth.norm()):.3f}")
    plot(measured, truth, found)


def plot(measured, truth, found):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(14, 3.6), layout="constrained")
    pictures = {
        "vorticity at 0.8 s, as measured": measured[0, -1, 0],
        "true forcing": truth[0, 0],
        "found forcing": found[0, 0],
        "found - true": (found - truth)[0, 0],
    }
    for axis, (title, field) in zip(axes, pictures.items(), strict=True):
        reach = float((truth if title == "found forcing" else field).abs().max())
        picture = axis.imshow(
            field.mT.numpy(), cmap="RdBu", vmin=-reach, vmax=reach, origin="lower"
        )
        axis.set(title=title, xticks=[], yticks=[])
        figure.colorbar(picture, ax=axis, shrink=0.8)
    figure.savefig("forcing.png", dpi=120)


if __name__ == "__main__":
    main()
