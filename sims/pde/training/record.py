"""What a training did and cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


@dataclass
class TrainingRecord:
    """What a training did and cost.

    parameters: numbers that were learned, complex ones counted twice. seconds: of processor time,
    elapsed: of time that went by, which on CUDA is the price; over all resumptions. flop: of the
    training, three times those of the objective's forward pass, which is counted once, for each
    window of a batch; convolutions and matrix products only, so without Fourier transforms. at,
    loss: step numbers and the mean loss over the steps since the one before. judged: step number
    and one-step error of the averaged model on the validation data, relative to their root mean
    square.
    """

    parameters: int = 0
    steps: int = 0
    seconds: float = 0.0
    elapsed: float = 0.0
    flop: float = 0.0
    flop_per_step: float = 0.0
    at: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    judged: list[tuple[int, float]] = field(default_factory=list)

    def state(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


def parameter_count(model: torch.nn.Module) -> int:
    """Real numbers that are learned."""
    return sum(
        weight.numel() * (2 if weight.is_complex() else 1)
        for weight in model.parameters()
        if weight.requires_grad
    )


def forward_flop(call: Callable[[], object]) -> float:
    """Floating point operations of the convolutions and matrix products in a call."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())
