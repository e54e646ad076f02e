"""One-step training, the paper's Refiner and ours, at equal data, parameters and gradient steps.

    python benchmarks/pde_refiner.py                     # three seeds, about 25 minutes of one core
    python benchmarks/pde_refiner.py --seeds 0 --quick   # short trainings, to see that it runs
    python benchmarks/pde_refiner.py --folder trained    # keeps what was trained, and goes on there

Kuramoto-Sivashinsky, L = 64 on 128 points, a step of 0.8 s; 256 training trajectories of 140
frames every 0.2 s after 100 s, ETDRK4 with 0.1 s. Errors after one step and horizons on 128 test
trajectories of 128 s, in pairs: ratios to the one-step model come with 95 % intervals over
resampled trajectories. Uncertainty: 32 samples of each test trajectory over 104 s, with the
amplitude of noise that told the horizons of 64 validation trajectories best. Beside all of them:
the solver in steps of 0.4 and 0.2 s. One thread.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch and by numpy's linear algebra when they load

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sims.pde.data import Trajectories, generate
from sims.pde.metrics import correlation_time, forecast_horizons, lyapunov_times
from sims.pde.metrics.bands import thirds
from sims.pde.metrics.correlation import correlation
from sims.pde.metrics.shells import shell_energy
from sims.pde.networks import LocalNet, UNet
from sims.pde.objectives import one_step, refine
from sims.pde.rollout import rollout
from sims.pde.spectral import KuramotoSivashinsky, random_waves
from sims.pde.surrogates.refiner import Refiner
from sims.pde.surrogates.surrogate import OneStep, Surrogate
from sims.pde.training import TrainingSettings, train

LENGTH, POINTS, STEP, FRAME = 64.0, 128, 0.8, 0.2
AHEAD = 160  # surrogate steps, 128 s
SAMPLED = 130  # of samples, 104 s
PAIRS = 10  # every tenth step of a test trajectory counts in the one-step error
EXPONENT = 0.0878  # [1/s], the largest at this length
GRID = {"time_step": STEP, "length": LENGTH, "points": POINTS}
SETTINGS = TrainingSettings(steps=2000, batch=16, stride=4, fine_rate=1e-2)
BANDS = ("all", "low", "mid", "high")
HIGH, ALL, HORIZON = 5.0, 1.05, 0.97  # goals: at least, at most, at least
ERROR, SECONDS, LONGEST = 6e-4, 55.0, 300.0  # goals of the one-step model
FITTED, UNFITTED = 0.85, 0.8  # goals of the uncertainty, at least
RESAMPLED = 1000
AMPLITUDES = (0.8, 1.0, 1.25)  # of the noise of samples, times level 0's own error
PERTURBATIONS = (1e-3, 5e-3)  # of the initial field, relative, for the one-step model


def one_step_model() -> OneStep:
    return OneStep(UNet(widths=(32, 64, 112)), **GRID)


def paper() -> Refiner:
    """Equal weights of all levels, white noise, one network for all."""
    network = UNet(1, 2, 1, widths=(32, 60, 104), leveled=True)
    return Refiner(network, **GRID, levels=3, sigma_min=2e-3)


def ours() -> Refiner:
    """Noise with the spectrum of level 0's error, told by a small network of its own."""
    return Refiner(
        UNet(widths=(32, 61, 106)), fine=LocalNet(width=20), **GRID, levels=1, spectrum="error"
    )


MODELS: dict[str, tuple[Callable[[], Surrogate], Any]] = {
    "one-step": (one_step_model, one_step),
    "paper": (paper, refine),
    "ours": (ours, refine),
}


class Strides:
    """The solver, a step of which is one of the surrogates, in so many steps of its own."""

    def __init__(self, steps: int) -> None:
        self.solver, self.steps, self.time_step = solver(STEP / steps), steps, STEP

    def step(self, u: Tensor) -> Tensor:
        return self.solver.advance(u, self.steps)


@dataclasses.dataclass
class Judged:
    """Squares (B, 4) of errors and of the truth in BANDS, and correlations (B, AHEAD)."""

    error: Tensor
    truth: Tensor
    correlations: Tensor
    horizons: tuple[float, float, float]  # of_mean 0.8, of_mean 0.9, mean_of 0.8
    seconds: float  # of the processor for a simulated second of one trajectory

    def errors(self, rows: Tensor | slice = slice(None)) -> Tensor:
        return (self.error[rows].sum(0) / self.truth[rows].sum(0)).sqrt()

    def horizon(self, rows: Tensor) -> float:
        below = self.correlations[rows].mean(0) < 0.8
        return STEP * (int(below.int().argmax()) + 1 if below.any() else AHEAD)


def main() -> None:
    torch.set_num_threads(1)
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    arguments.add_argument("--steps", type=int, default=SETTINGS.steps)
    arguments.add_argument("--trajectories", type=int, default=128, help="of the tests")
    arguments.add_argument("--samples", type=int, default=32, help="of each, 0 for none")
    arguments.add_argument("--sampled-seeds", type=int, nargs="+", help="all seeds by default")
    arguments.add_argument("--folder", type=Path, help="of trainings, kept and gone on with")
    arguments.add_argument("--quick", action="store_true", help="200 steps, few trajectories")
    given = arguments.parse_args()
    if given.quick:
        given.steps, given.trajectories, given.samples = 200, 16, min(given.samples, 4)
    settings = dataclasses.replace(SETTINGS, steps=given.steps)
    beside(given.trajectories)
    sampled = given.seeds if given.sampled_seeds is None else given.sampled_seeds
    ratios: dict[str, list[list[float]]] = {name: [] for name in given.models}
    for seed in given.seeds:
        data = states(256, 140, FRAME, seed).to(dtype=torch.float32)
        test = states(given.trajectories, AHEAD + 1, STEP, 10_000 + seed).states
        print(f"\nseed {seed}: nRMSE of a step, horizons [s], ratios to one-step with 95 %")
        print(
            f"{'':9}{'weights':>8}{'steps':>6}{'CPU s':>6}{'TFLOP':>6}"
            + "".join(f"{band:>9}" for band in BANDS)
            + f"{'0.8':>7}{'0.9':>6}{'mean of':>8}{'us/s':>7}"
        )
        models, found = {}, {}
        for name in given.models:
            models[name] = trained(name, seed, data, settings, given.folder)
            found[name] = judged(models[name], test)
            record: Any = models[name].record
            print(
                f"{name:9}{record.parameters:8d}{record.steps:6d}{record.seconds:6.0f}"
                f"{record.flop / 1e12:6.2f}{line(found[name])}",
                flush=True,
            )
            if name == "one-step":
                alone(found[name], record.seconds)
        for name in given.models:
            if name != "one-step" and "one-step" in found:
                ratios[name].append(compare(name, found[name], found["one-step"]))
        if given.samples and seed in sampled:
            uncertainty(models, test, seed, given)
    for name, each in ratios.items():
        if len(each) > 1:
            print(f"\ngeometric means over {len(each)} seeds")
            tell(name, torch.tensor(each).log().mean(0).exp().tolist())


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def solver(time_step: float = 0.1) -> KuramotoSivashinsky:
    return KuramotoSivashinsky(length=LENGTH, points=POINTS, time_step=time_step)


def states(trajectories: int, frames: int, frame_time: float, seed: int) -> Trajectories:
    own = generator(seed)
    return generate(
        solver(),
        trajectories,
        frames,
        frame_time,
        initial=random_waves,
        generator=own,
        warm_up=100.0,
    )


def trained(
    name: str, seed: int, data: Trajectories, settings: TrainingSettings, folder: Path | None
) -> Surrogate:
    make, objective = MODELS[name]
    torch.manual_seed(seed)
    return train(
        make(),
        data,
        settings,
        objective=objective,
        generator=generator(seed),
        checkpoint=None if folder is None else folder / f"{name}-{seed}-{settings.steps}.pt",
        progress=True,
    )


@torch.no_grad()
def judged(model: Any, truth: Tensor) -> Judged:
    begin, after = truth[:, :-1:PAIRS], truth[:, 1::PAIRS]
    own = {"generator": generator(1)} if isinstance(model, Surrogate) else {}
    found = torch.stack([model.step(u, **own) for u in begin.unbind(1)], 1)
    begin_time = time.process_time()
    ahead = rollout(model, truth[:, 0], AHEAD, generator=own.get("generator"))
    seconds = (time.process_time() - begin_time) / len(truth) / (AHEAD * STEP)
    at = [correlation_time(ahead, truth[:, 1:], STEP, threshold) for threshold in (0.8, 0.9)]
    return Judged(
        energies(found - after),
        energies(after),
        correlation(ahead, truth[:, 1:]),
        (at[0].of_mean, at[1].of_mean, at[0].mean_of),
        seconds,
    )


def energies(fields: Tensor) -> Tensor:
    """Of each trajectory (B, frames, C, *space) in BANDS."""
    shells = shell_energy(fields.flatten(0, 1)).unflatten(0, fields.shape[:2]).sum(1)
    parts = [shells[:, low : high + 1].sum(1) for low, high in thirds((POINTS,))]
    return torch.stack([shells.sum(1), *parts], 1)


def line(found: Judged) -> str:
    errors = "".join(f"{float(error):9.2e}" for error in found.errors())
    first, second, mean_of = found.horizons
    return f"{errors}{first:7.1f}{second:6.1f}{mean_of:8.1f}{found.seconds * 1e6:7.0f}"


def beside(trajectories: int) -> None:
    """The solver in larger steps than those of the truth."""
    test = states(trajectories, AHEAD + 1, STEP, 10_000).states
    print("solver by its step: nRMSE of 0.8 s, horizons [s], microseconds for a simulated second")
    for steps in (2, 4):
        found = judged(Strides(steps), test)
        times = lyapunov_times(found.horizons[0], EXPONENT)
        print(f"{STEP / steps:9.1f} s{line(found)}   {times:.1f} Lyapunov times")


def alone(found: Judged, seconds: float) -> None:
    """What a one-step model of five minutes should reach."""
    error, horizon = float(found.errors()[0]), found.horizons[0]
    print(
        f"  one-step: all {error:.2e} {verdict(error <= ERROR)} (at most {ERROR:.0e}), horizon "
        f"{horizon:.1f} s {verdict(horizon >= SECONDS)} (at least {SECONDS:.0f} s), training "
        f"{seconds:.0f} s {verdict(seconds <= LONGEST)} (at most {LONGEST:.0f} s)"
    )


def compare(name: str, found: Judged, other: Judged) -> list[float]:
    """Ratios in pairs, with what is between 2.5 and 97.5 % of resampled sets of trajectories."""
    own = generator(5)
    ratios = []
    for _ in range(RESAMPLED):
        rows = torch.randint(len(found.error), (len(found.error),), generator=own)
        errors = found.errors(rows) / other.errors(rows)
        ratio = found.horizon(rows) / other.horizon(rows)
        ratios.append([1 / float(errors[3]), float(errors[0]), ratio])
    errors = found.errors() / other.errors()
    middle = [1 / float(errors[3]), float(errors[0]), found.horizons[0] / other.horizons[0]]
    low, high = torch.quantile(
        torch.tensor(ratios).double(), torch.tensor([0.025, 0.975]).double(), dim=0
    )
    tell(name, middle, list(zip(low.tolist(), high.tolist(), strict=True)))
    return middle


def tell(name: str, ratios: list[float], between: list[tuple[float, float]] | None = None) -> None:
    goals = (
        ("high third better by", ratios[0] >= HIGH, f"at least {HIGH}"),
        ("all", ratios[1] <= ALL, f"at most {ALL}"),
        ("horizon", ratios[2] >= HORIZON, f"at least {HORIZON}"),
    )
    for number, (what, met, goal) in enumerate(goals):
        interval = "" if between is None else " [{:.3f}, {:.3f}]".format(*between[number])
        print(f"  {name}: {what} {ratios[number]:.3f}{interval} {verdict(met)} ({goal})")


def verdict(met: bool) -> str:
    return "pass" if met else "MISS"


def uncertainty(models: dict[str, Surrogate], test: Tensor, seed: int, given: Any) -> None:
    """When samples part from each other, and when the truth does from them."""
    valid = states(64, SAMPLED + 1, STEP, 20_000 + seed).states
    valid = valid[: min(64, given.trajectories)]
    fewer = min(8, given.samples)
    print(f"\nseed {seed}: uncertainty, {given.samples} samples, {len(test)} trajectories")

    def horizons(model: Any, truth: Tensor, samples: int, number: int, perturbation: float) -> Any:
        return forecast_horizons(
            model,
            truth[:, 0],
            truth[:, 1 : SAMPLED + 1],
            samples,
            generator(number),
            perturbation=perturbation,
            progress=True,
        )

    for name in [name for name in ("ours", "one-step") if name in models]:
        model: Any = models[name]
        choices: dict[float, Any] = {}
        for size in AMPLITUDES if name == "ours" else PERTURBATIONS:
            noisy = model.with_amplitude(size) if name == "ours" else model
            perturbation = 0.0 if name == "ours" else size
            choices[size] = horizons(noisy, valid, fewer, 3, perturbation)
            print(f"  {name} {size:g}, validation: {choices[size]}", flush=True)
        best = max(choices, key=lambda size: choices[size].determination)
        noisy = model.with_amplitude(best) if name == "ours" else model
        found = horizons(noisy, test, given.samples, 4, 0.0 if name == "ours" else best)
        fits = verdict(found.squared_correlation >= FITTED)
        plain = verdict(found.determination >= UNFITTED)
        print(
            f"  {name} {best:g}: {found}; coverage {found.coverage():.2f}, censored predicted "
            f"{found.censored_predicted:.0%}, true {found.censored_true:.0%}; squared correlation "
            f"{fits} (at least {FITTED}), without a fit {plain} (at least {UNFITTED})",
            flush=True,
        )


if __name__ == "__main__":
    main()
