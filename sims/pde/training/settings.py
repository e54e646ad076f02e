"""How a surrogate is trained: budget, batches, rates, average, precision."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch

from geomopt.errors import InputError

OPTIMIZERS = ("soap", "adamw")
PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class TrainingSettings:
    """How a surrogate is trained.

    steps: of the optimizer; seconds: of processor time, those of a live solver included; whichever
    ends first. With seconds the rate depends on the machine's speed, so that only runs without are
    repeatable. batch: windows in a step, of `frames` frames, None for as many as the objective
    looks at, that are `stride` frames of the data apart. optimizer: "soap" (see `Soap`), or "adamw"
    (Loshchilov and Hutter 2019, arXiv 1711.05101), which is cheaper for layers of many hundred
    channels and wants betas of about 0.9 and 0.99. rate: of the optimizer, with `betas` and the
    weights' `decay`, rising linearly over `warmup` steps and then falling as half a cosine to
    `last_rate`. fine_rate: in place of `rate` for a network that a Refiner has for its fine levels
    alone, falling in proportion; None for the same. clip: the largest norm of a gradient, of each
    network by itself; None for no limit. average: decay of the exponential average of the weights
    that is judged and returned; 0 for the last weights. precision: None, "bfloat16" or "float16"
    for mixed precision on CUDA. compile: the networks with torch.compile.

    Raises InputError for a value out of its range.
    """

    steps: int = 3000
    batch: int = 32
    frames: int | None = None
    stride: int = 1
    optimizer: str = "soap"
    rate: float = 3e-3
    last_rate: float = 0.0
    fine_rate: float | None = None
    warmup: int = 100
    betas: tuple[float, float] = (0.95, 0.95)
    decay: float = 0.0
    clip: float | None = 1.0
    average: float = 0.995
    seconds: float | None = None
    precision: str | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch", 1), ("stride", 1), ("warmup", 0)):
            self._whole(name, least)
        if self.frames is not None:
            self._whole("frames", 2)
        if self.optimizer not in OPTIMIZERS:
            raise InputError(f"optimizer must be {' or '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        self._number("rate", above=0.0)
        self._number("last_rate", least=0.0, most=self.rate)
        if self.fine_rate is not None:
            self._number("fine_rate", above=0.0)
        self._number("decay", least=0.0)
        self._number("average", least=0.0, below=1.0)
        if self.clip is not None:
            self._number("clip", above=0.0)
        if self.seconds is not None:
            self._number("seconds", above=0.0)
        pair = isinstance(self.betas, tuple | list) and len(self.betas) == 2
        known = pair and all(isinstance(beta, int | float) for beta in self.betas)
        if not known or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas must be two numbers in [0, 1), got {self.betas}")
        if self.precision is not None and self.precision not in PRECISIONS:
            raise InputError(
                f"precision must be None, {' or '.join(PRECISIONS)}, got {self.precision!r}"
            )

    def rate_at(self, step: int, share: float) -> float:
        """Factor in [0, 1] of the rate at a step, with a share of the budget spent."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        begin = min(self.warmup / self.steps, 1.0)
        done = min(max((share - begin) / (1 - begin), 0.0), 1.0) if begin < 1 else 1.0
        last = self.last_rate / self.rate
        return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * done))

    def identity(self) -> dict[str, Any]:
        """By name, for a checkpoint."""
        return dataclasses.asdict(self)

    def _whole(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name} must be an integer of at least {least}, got {value!r}")

    def _number(
        self,
        name: str,
        *,
        above: float = -math.inf,
        least: float = -math.inf,
        below: float = math.inf,
        most: float = math.inf,
    ) -> None:
        value = getattr(self, name)
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        if not (fits and above < value < below and least <= value <= most and math.isfinite(value)):
            left = f"({above}" if above >= least else f"[{least}"
            right = f"{most}]" if most <= below and math.isfinite(most) else f"{below})"
            raise InputError(f"{name} must be in {left}, {right}, got {value!r}")
