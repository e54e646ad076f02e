"""What is learned and how: an equation, its data, its networks, and their training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.pde.data.generate import generate
from sims.pde.data.trajectories import Trajectories
from sims.pde.networks import LocalNet, UNet
from sims.pde.spectral import (
    KuramotoSivashinsky,
    NavierStokes2D,
    filtered_noise,
    kolmogorov_forcing,
    random_waves,
)
from sims.pde.surrogates.refiner import Refiner
from sims.pde.surrogates.surrogate import OneStep
from sims.pde.training import TrainingSettings


@dataclass(frozen=True)
class Scenario:
    """An equation with the data, the networks and the training of its surrogates.

    solver: called with `points`, `time_step` and `length`, gives the stepper. length, points,
    time_step [s]: of the solver that makes the data, whose frames are kept on `kept` points. every:
    its steps in one of the surrogate. stride: frames of the data in one step of the surrogate.
    vary: length and time step of each trajectory lie within this share of theirs, and networks are
    told of both. trajectories, frames: of the training. warm_up, horizon [s]: before the first
    frame, and of the test rollouts. growth [1/s]: the largest Lyapunov exponent, None where it is
    not known. widths: of the one-step network; first: of level 0 of a Refiner, and fine: width,
    blocks and kernel of the network of its level 1; together they have no more parameters. coarse:
    (solver steps in a step of the surrogate, points) of cheaper solvers that surrogates are judged
    beside.
    """

    solver: Callable[..., Any]
    initial: Callable[[Any, int, torch.Generator], Tensor]
    quantity: str
    length: float
    points: int
    kept: int
    time_step: float
    every: int
    stride: int
    trajectories: int
    frames: int
    warm_up: float
    horizon: float
    growth: float | None
    widths: tuple[int, ...]
    first: tuple[int, ...]
    fine: tuple[int, int, int]
    training: TrainingSettings
    coarse: tuple[tuple[int, int], ...]
    blocks: int = 1
    dimension: int = 1
    attention: bool = False
    norm: bool = False
    vary: float = 0.0

    @property
    def surrogate_step(self) -> float:
        """Seconds in one step of a surrogate."""
        return self.every * self.time_step

    @property
    def steps(self) -> int:
        """Of a surrogate in a test rollout."""
        return round(self.horizon / self.surrogate_step)

    def training_data(self, generator: torch.Generator, progress: bool = False) -> Trajectories:
        """What surrogates learn from, float32."""
        return self._data(self.trajectories, self.frames, self.stride, generator, progress).to(
            dtype=torch.float32
        )

    def test_data(
        self, trajectories: int, generator: torch.Generator, progress: bool = False
    ) -> Trajectories:
        """Trajectories whose frames are one step of a surrogate apart, the first the initial one.

        float64.
        """
        return self._data(trajectories, self.steps + 1, 1, generator, progress)

    def one_step(self) -> OneStep:
        """The untrained one-step model."""
        return OneStep(self._network(self.widths), **self._grid())

    def refiner(self) -> Refiner:
        """The untrained Refiner, no larger than the one-step model."""
        first = self._network(self.first)
        width, blocks, kernel = self.fine
        fine = LocalNet(
            self.dimension,
            4,
            1,
            width=width,
            blocks=blocks,
            kernel=kernel,
            conditions=2 if self.vary else 0,
        )
        return Refiner(first, fine=fine, levels=1, spectrum="error", **self._grid())

    def _network(self, widths: tuple[int, ...]) -> UNet:
        return UNet(
            self.dimension,
            widths=widths,
            blocks=self.blocks,
            conditions=2 if self.vary else 0,
            attention=self.attention,
            norm=self.norm,
        )

    def _grid(self) -> dict[str, Any]:
        near = (1 - self.vary, 1 + self.vary)
        spacing, step = self.length / self.kept, self.surrogate_step
        told = {
            "time_step": (near[0] * step, near[1] * step),
            "spacing": (near[0] * spacing, near[1] * spacing),
        }
        return {
            "time_step": step,
            "length": self.length,
            "points": (self.kept,) * self.dimension,
            "conditions": told if self.vary else None,
        }

    def _data(
        self,
        trajectories: int,
        frames: int,
        stride: int,
        generator: torch.Generator,
        progress: bool,
    ) -> Trajectories:
        frame = self.surrogate_step / stride
        near = (1 - self.vary, 1 + self.vary)
        varied = (near[0] * self.length, near[1] * self.length)
        return generate(
            partial(self.solver, points=self.points, **({} if self.vary else self._side())),
            trajectories,
            frames,
            (near[0] * frame, near[1] * frame) if self.vary else frame,
            initial=self.initial,
            generator=generator,
            warm_up=self.warm_up,
            ranges={"length": varied} if self.vary else None,
            substeps=self.every // stride,
            points=None if self.kept == self.points else self.kept,
            units="s",
            progress=progress,
        )

    def _side(self) -> dict[str, float]:
        return {"length": self.length}


def kuramoto_sivashinsky() -> Scenario:
    """L = 64 on 128 points, a step of 0.8 s: minutes on one core of a CPU."""
    return Scenario(
        solver=KuramotoSivashinsky,
        initial=random_waves,
        quantity="u",
        length=64.0,
        points=128,
        kept=128,
        time_step=0.1,
        every=8,
        stride=4,
        trajectories=256,
        frames=140,
        warm_up=100.0,
        horizon=112.0,
        growth=0.0878,
        widths=(32, 64, 112),
        first=(32, 61, 106),
        fine=(20, 3, 5),
        training=TrainingSettings(steps=1500, batch=16, stride=4, fine_rate=1e-2),
        coarse=((2, 128), (4, 128), (8, 64)),
    )


def kuramoto_sivashinsky_paper() -> Scenario:
    """The data, network and length of training of Lippe et al. 2023, appendix B: hours on CUDA."""
    return Scenario(
        solver=KuramotoSivashinsky,
        initial=random_waves,
        quantity="u",
        length=64.0,
        points=256,
        kept=256,
        time_step=0.1,
        every=8,
        stride=4,
        trajectories=2048,
        frames=140,
        warm_up=72.0,
        horizon=128.0,
        growth=0.0878,
        widths=(64, 128, 256, 1024),
        first=(64, 128, 256, 992),
        fine=(64, 6, 5),
        training=TrainingSettings(
            steps=896_000,
            stride=4,
            batch=128,
            optimizer="adamw",
            rate=1e-4,
            last_rate=1e-6,
            warmup=0,
            betas=(0.9, 0.999),
        ),
        coarse=((2, 256), (4, 256), (8, 64)),
        blocks=2,
        norm=True,
        vary=0.1,
    )


def kolmogorov_flow() -> Scenario:
    """Forced two-dimensional flow on 64 points along an axis: minutes on one core of a CPU."""
    return _flow(
        viscosity=1e-2,
        points=64,
        kept=64,
        time_step=0.02,
        every=10,
        trajectories=32,
        frames=60,
        warm_up=30.0,
        horizon=10.0,
        widths=(12, 24, 40),
        first=(12, 24, 33),
        fine=(8, 2, 5),
        training=TrainingSettings(steps=400, batch=8, fine_rate=1e-2),
        coarse=((4, 64), (10, 32)),
    )


def kolmogorov_flow_paper() -> Scenario:
    """Viscosity 1e-3, solved on 256 points and learned on 64: for CUDA."""
    return _flow(
        viscosity=1e-3,
        points=256,
        kept=64,
        time_step=0.112 / 32,
        every=32,
        trajectories=128,
        frames=700,
        warm_up=40.0,
        horizon=22.4,
        widths=(64, 128, 256, 512),
        first=(64, 128, 256, 504),
        fine=(32, 4, 5),
        training=TrainingSettings(
            steps=100_000, batch=32, optimizer="adamw", rate=2e-4, betas=(0.9, 0.999)
        ),
        coarse=((32, 64), (16, 128)),
        blocks=2,
        norm=True,
        attention=True,
    )


SCENARIOS: dict[tuple[str, str], Callable[[], Scenario]] = {
    ("kuramoto-sivashinsky", "demo"): kuramoto_sivashinsky,
    ("kuramoto-sivashinsky", "paper"): kuramoto_sivashinsky_paper,
    ("kolmogorov-flow", "demo"): kolmogorov_flow,
    ("kolmogorov-flow", "paper"): kolmogorov_flow_paper,
}


def scenario(equation: str, scale: str) -> Scenario:
    """The one of an equation at a scale; raises InputError for others."""
    for name, given, place in (("equation", equation, 0), ("scale", scale, 1)):
        known = sorted({key[place] for key in SCENARIOS})
        if given not in known:
            raise InputError(f"{name} must be one of {', '.join(known)}, got {given!r}")
    return SCENARIOS[equation, scale]()


def _flow(viscosity: float, **settings: Any) -> Scenario:
    """Kolmogorov flow with the forcing and drag of Kochkov et al. 2021: sin(4 y), 0.1."""
    length = 2 * math.pi

    def solver(points: int, time_step: Any, length: Any = length) -> NavierStokes2D:
        forcing = kolmogorov_forcing(points, 4)
        return NavierStokes2D(length, points, time_step, viscosity, 0.1, forcing)

    return Scenario(
        solver=solver,
        initial=filtered_noise,
        quantity="vorticity",
        length=length,
        stride=1,
        growth=None,
        dimension=2,
        **settings,
    )
