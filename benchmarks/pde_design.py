"""Designs through flows: by the solver's gradients alone, and by surrogates that it verifies.

    python benchmarks/pde_design.py [recovery] [verified] [gradients] [--seeds N] [--training S]

recovery: the initial field of Kuramoto-Sivashinsky, L = 64, from noiseless frames every 0.6 s over
one Lyapunov time, 11.4 s; the goal is a relative L2 error of 1e-3. verified: initial field, a
viscosity with 1 % of noise, and the forcing of a Kolmogorov flow with 1 % of noise, by L-BFGS and,
but for the forcing, by Gauss-Newton through the solver, and by surrogates with `verified`; a
solver's gradient counts three calls and a tangent two everywhere. The result of the solver alone is
the lower one that these two reach, and calls are those until a value within 1 % of it (without
noise: 1e-8). The goal is a third of the fewer calls; "regret" is how far the last value lies above
that result. gradients: cosines between surrogate and solver by horizon. S is the CPU seconds of
each training, 0 for none. One thread.
"""

import argparse
import functools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from optimizers import Budget, Lbfgs, RegularizedNewton, iterate
from sims.pde.data.downsample import downsample, resampled
from sims.pde.data.generate import generate
from sims.pde.design.coarse import Coarse
from sims.pde.design.gradients import gradient_cosine, gradient_table
from sims.pde.design.observations import Observations
from sims.pde.design.problems import InverseProblem
from sims.pde.design.unknowns import Field, Number
from sims.pde.design.verified import verified
from sims.pde.design.windows import in_windows
from sims.pde.networks.unet import UNet
from sims.pde.objectives import one_step
from sims.pde.rollout import rollout
from sims.pde.spectral.initial import random_waves
from sims.pde.spectral.kuramoto_sivashinsky import KuramotoSivashinsky
from sims.pde.spectral.navier_stokes import NavierStokes2D, kolmogorov_forcing
from sims.pde.surrogates.surrogate import OneStep
from sims.pde.training import TrainingSettings, train

LENGTH, POINTS, STEP = 64.0, 128, 0.1
VISCOSITIES = (0.6, 1.4)
NEAR, EXACT = 1.01, 1e-8
SHARE = 1 / 3  # of the solver's calls, the goal
GOAL = 1e-3
ROUNDS = 250  # of L-BFGS through the solver
FOUND = 1e-4  # share of the value, by which the last ten rounds fell, that ends L-BFGS
Case = tuple[InverseProblem, dict[str, Any], Callable[[dict[str, Tensor]], float]]


def flow(seed: int, count: int = 1, **parameters: float) -> tuple[KuramotoSivashinsky, Tensor]:
    """A solver and states (count, 1, 128) on its attractor."""
    solver = KuramotoSivashinsky(LENGTH, POINTS, STEP, **parameters)
    generator = torch.Generator().manual_seed(seed)
    return solver, solver.advance(random_waves(solver, count, generator), 1500)


def noisy(frames: Tensor, share: float, seed: int) -> tuple[Tensor, float]:
    """Frames with noise, and its standard deviation."""
    noise = share * float(frames.std())
    generator = torch.Generator().manual_seed(1000 + seed)
    return frames + noise * torch.randn(
        frames.shape, generator=generator, dtype=frames.dtype
    ), noise


def initial_case(seed: int, models: dict[str, Any]) -> Case:
    """An initial field from frames every 0.8 s over 11.2 s."""
    solver, u = flow(seed)
    frames = rollout(solver, u, 112, 8)
    seen = Observations(frames, [0.8 * (i + 1) for i in range(14)])
    unknown = {"initial": Field(20, start=frames[0, :1], spread=0.3)}
    problem = InverseProblem(solver, seen, unknown, spin_up=0.8)
    return problem, models, lambda found: float((found["initial"] - u).norm() / u.norm())


def viscosity_case(seed: int, models: dict[str, Any]) -> Case:
    """A viscosity from three noisy trajectories over 9.6 s."""
    drawn = torch.rand((), generator=torch.Generator().manual_seed(seed))
    true = 0.7 + 0.6 * float(drawn)
    solver, u = flow(seed, 3, viscosity=true)
    frames, noise = noisy(rollout(solver, u, 96, 16), 0.01, seed)
    seen = Observations(frames, [1.6 * (i + 1) for i in range(6)], noise=noise)
    make = functools.partial(KuramotoSivashinsky, LENGTH, POINTS, STEP)
    problem = InverseProblem(make, seen, {"viscosity": Number(*VISCOSITIES)}, initial=u)
    return problem, models, lambda found: abs(float(found["viscosity"]) / true - 1)


def forcing_case(seed: int, models: dict[str, Any]) -> Case:
    """The forcing of a flow on 64 x 64 points from noisy vorticity over 0.8 s."""
    generator = torch.Generator().manual_seed(seed)
    waves = Field(3, mean=False)
    true = kolmogorov_forcing(64, 3, 1.0)
    make = functools.partial(_flow2d, 64, 0.02)
    solver = make(forcing=true[None, None])
    u = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    bumps = torch.randn(1, 1, 12, 12, generator=generator, dtype=torch.float64)
    u = solver.advance(u + 3.0 * resampled(bumps, 64), 100)
    frames, noise = noisy(rollout(solver, u, 40, 10), 0.01, seed)
    seen = Observations(frames, [0.2 * (i + 1) for i in range(4)], noise=noise)
    problem = InverseProblem(make, seen, {"forcing": waves}, initial=u)
    return problem, models, lambda found: float((found["forcing"] - true).norm() / true.norm())


def _flow2d(points: int, time_step: float, forcing: Tensor) -> Any:
    solver = NavierStokes2D(
        points=points, time_step=time_step, viscosity=1e-2, drag=0.1,
        forcing=downsample(forcing.reshape(-1, 1, *forcing.shape[-2:]), points),
    )  # fmt: skip
    return solver if points == 64 else Coarse(solver, 64)


def trained(seconds: float, conditions: bool) -> OneStep:
    """A one-step network of the flow, of its viscosity too if that is a condition."""
    generator = torch.Generator().manual_seed(0)
    ranges = {"viscosity": VISCOSITIES} if conditions else None
    make = functools.partial(KuramotoSivashinsky, LENGTH, POINTS, STEP)
    data = generate(
        make if conditions else make(), 256, 140, 0.2, initial=random_waves, generator=generator,
        warm_up=100.0, ranges=ranges, dtype=torch.float32,
    )  # fmt: skip
    network = UNet(conditions=int(conditions), widths=(32, 64, 96))
    surrogate = OneStep(network, time_step=0.8, length=LENGTH, points=POINTS, conditions=ranges)
    settings = TrainingSettings(steps=100_000, seconds=seconds, batch=16, stride=4)
    train(surrogate, data, settings, objective=one_step, generator=generator)
    return surrogate.eval().requires_grad_(False)


def by_solver(problem: InverseProblem, method: Any, rounds: int) -> tuple[list[Any], Tensor]:
    """(calls, value) after each round of a method through the solver, and the best design."""
    trace, best = [], problem.start
    for it in iterate(problem, method, budget=Budget(iterations=rounds, target=EXACT)):
        trace.append((it.evaluations, it.best_value))
        best = it.best_x
        if len(trace) > 10 and trace[-11][1] - it.best_value < FOUND * it.best_value:
            break
    return trace, best


def reached(trace: list[Any], value: float) -> float:
    """Calls until a value."""
    return next((calls for calls, found in trace if found <= value), float("inf"))


def judge(name: str, case: Case) -> None:
    """Rows of one case: calls, seconds, value, error, and whether the goal is met."""
    problem, models, error = case
    print(f"\n{name}: {problem.dimension} unknowns")
    print(f"{'':34}calls   of fewest   value        regret     error      CPU s   goal")
    traces, ends = {}, {}
    alone: list[tuple[str, Any, int]] = [("solver alone, L-BFGS", Lbfgs(memory=50), ROUNDS)]
    if problem.initial is None or problem.dimension == 1:  # a matrix of the flow takes minutes
        alone.append(("solver alone, Gauss-Newton", RegularizedNewton("gauss-newton"), 25))
    for label, method, rounds in alone:
        begun = time.process_time()
        trace, x = by_solver(problem, method, rounds)
        traces[label] = trace
        ends[label] = (trace[-1][1], error(problem.found(x)), time.process_time() - begun)
    lowest = min(value for value, _, _ in ends.values())
    level = EXACT if problem.observations.noise is None else NEAR * lowest
    fewest = min(reached(trace, level) for trace in traces.values())
    for label, (value, wrong, seconds) in ends.items():
        calls = reached(traces[label], level)
        print(
            f"{label:34}{calls:6.0f}   {'':9}   {value:.3e}   {value - lowest:9.1e}   "
            f"{wrong:.2e}   {seconds:5.0f}"
        )
    for label, model in models.items():
        begun = time.process_time()
        found = verified(problem, model, calls=60, target=level)
        seconds = time.process_time() - begun
        share = found.calls / fewest if found.value <= level else float("inf")
        print(
            f"{'verified, ' + label:34}{found.calls:6.0f}   {share:9.3f}   {found.value:.3e}   "
            f"{found.value - lowest:9.1e}   {error(found.found):.2e}   {seconds:5.0f}   "
            f"{'met' if share <= SHARE else 'missed'}"
        )


def recovery(seeds: int) -> None:
    """Errors of recovered initial fields, through the solver alone."""
    print("\ninitial field through the solver, frames every 0.6 s over 11.4 s, 41 unknowns")
    print("seed  start          value      error      calls   CPU s   goal")
    for seed in range(seeds):
        solver, u = flow(seed)
        frames = rollout(solver, u, 114, 6)
        seen = Observations(frames, [0.6 * (i + 1) for i in range(19)])
        for name, start in (("first frame", frames[0, :1]), ("zero", None)):
            unknown = {"initial": Field(20, start=start, spread=0.3)}
            problem = InverseProblem(solver, seen, unknown, spin_up=1.0)
            begun = time.process_time()
            found = in_windows(problem)
            seconds = time.process_time() - begun
            error = float((problem.found(found.x)["initial"] - u).norm() / u.norm())
            print(
                f"{seed:4}  {name:12} {found.value:9.1e} {error:10.1e} {found.evaluations:9.0f} "
                f"{seconds:7.0f}   {'met' if error <= GOAL else 'missed'}",
                flush=True,
            )


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["recovery", "verified", "gradients"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--training", type=float, default=60.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if "recovery" in options.parts:
        recovery(options.seeds)
    if not {"verified", "gradients"} & set(options.parts):
        return
    learns = options.training > 0
    network = {"one-step network": trained(options.training, False)} if learns else {}
    longer = KuramotoSivashinsky(LENGTH, POINTS, 0.4)
    if "gradients" in options.parts:
        solver, u = flow(0, 8)
        for name, model in {**network, "steps of 0.4 s": longer}.items():
            rows = gradient_cosine(model, solver, u, (0.8, 1.6, 3.2, 6.4, 11.2, 22.4))
            print(f"\ngradient of the energy at the horizon, {name}\n{gradient_table(rows)}")
    if "verified" in options.parts:
        told = {"one-step network": trained(options.training, True)} if learns else {}
        coarse = functools.partial(KuramotoSivashinsky, LENGTH, POINTS, 0.4)
        for seed in range(options.seeds):
            models = {**network, "solver of steps of 0.4 s": longer}
            judge(f"initial field, seed {seed}", initial_case(seed, models))
            models = {**told, "solver of steps of 0.4 s": coarse}
            judge(f"viscosity, seed {seed}", viscosity_case(seed, models))
            models = {"solver of 32 x 32 points": functools.partial(_flow2d, 32, 0.04)}
            judge(f"forcing, seed {seed}", forcing_case(seed, models))


if __name__ == "__main__":
    main()
