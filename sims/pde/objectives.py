"""What a surrogate is trained on: callables loss(model, batch, generator) -> scalar.

All are mean squares of scaled increments, so that a loss of 1 is that of a model that says nothing
changes. `frames_of` tells how many frames of a batch a loss looks at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from sims.pde.networks.arguments import check_count, check_number
from sims.pde.surrogates.conditions import check_names, gathered
from sims.pde.surrogates.refiner import Refiner, drawn
from sims.pde.surrogates.schedule import candidate, wanted
from sims.pde.surrogates.surrogate import OF_THE_GRID, Surrogate

Objective = Callable[[Any, "Batch", torch.Generator | None], Tensor]


@dataclass(frozen=True)
class Batch:
    """Pieces of trajectories.

    states: (B, F, C, *space), frames one step of the surrogate apart. condition: name to values
    (B,); names that a surrogate does not know are left aside by it.
    """

    states: Tensor
    condition: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_tensor("states", self.states)
        if self.states.dim() < 4:
            raise InputError(
                f"states must have shape (B, F, C, *space), got {tuple(self.states.shape)}"
            )
        for name, values in check_names("condition", self.condition).items():
            check_tensor(f"condition {name!r}", values, (len(self.states),))

    def to(self, device: torch.device | str) -> Batch:
        """The same on a device."""
        moved = {name: values.to(device) for name, values in self.condition.items()}
        return Batch(self.states.to(device), moved)


def frames_of(objective: Objective) -> int:
    """How many frames of a batch an objective needs; 2 for one that does not say."""
    return getattr(objective, "frames", 2)


def one_step(model: Surrogate, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
    """mean (y - ŷ)² of the first step."""
    u, following, condition = _pair(model, batch)
    error = model.increment(u, condition, generator) - model.target(u, following)
    return error.square().mean()


def unrolled(steps: int) -> Objective:
    """mean over j = 1..steps of ((u_j - G^j(u_0)) / s)², with gradients through all steps."""
    return _rolled(check_count("steps", steps), through=True)


def pushforward(steps: int) -> Objective:
    """((u_m - G(v)) / s)² with v = G^(m - 1)(u_0) held fixed, m = steps.

    Brandstetter, Worrall and Welling, Message passing neural PDE solvers (2022), arXiv 2202.03376,
    section 3.1: the model meets its own errors, and gradients pass through the last step alone.
    """
    return _rolled(check_count("steps", steps), through=False)


def _rolled(steps: int, *, through: bool) -> Objective:
    def loss(model: Surrogate, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        states, condition = _frames(model, batch, steps + 1)
        u = states[:, 0]
        total = torch.zeros((), dtype=model.dtype, device=u.device)
        for step in range(1, steps + 1):
            with torch.set_grad_enabled(torch.is_grad_enabled() and (through or step == steps)):
                y = model.increment(u, condition, generator)
                if through or step == steps:
                    # of the increments, as the difference of two fields loses digits
                    total = total + (y - model.target(u, states[:, step])).square().mean()
                u = model.advanced(u, y)
        return total / (steps if through else 1)

    loss.frames = steps + 1  # pyright: ignore[reportFunctionMemberAccess]
    return loss


def input_noise(std: float) -> Objective:
    """mean ((u_1 - G(u_0 + std * spread * ε)) / s)², ε ~ N(0, 1): the model brings noise down.

    Sanchez-Gonzalez et al., Learning to simulate complex physics with graph networks (2020), arXiv
    2002.09405, section 3.4. std: in units of the fields' own standard deviation.
    """
    if not check_number("std", std, "a number above 0") > 0:
        raise InputError(f"std must be above 0, got {std}")

    def loss(model: Surrogate, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        u, following, condition = _pair(model, batch)
        u = u + std * model.each(model.spread, u) * drawn(u, generator)
        error = model.increment(u, condition, generator) - model.target(u, following)
        return error.square().mean()

    return loss


def sobolev(exponent: float) -> Objective:
    """mean over points of Σ_κ (1 + |κ|²)^exponent |y_κ - ŷ_κ|², κ the wavenumbers [1/length].

    With exponent 1 that is mean (e² + |∇e|²) of the error e by Parseval, with 0 it is `one_step`
    (Li et al., Learning dissipative dynamics in chaotic systems (2022), arXiv 2106.06898, section
    3.2). Lengths are those of the surrogate, or follow from the condition `spacing`.
    """
    check_number("exponent", exponent)

    def loss(model: Surrogate, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        u, following, condition = _pair(model, batch)
        error = model.increment(u, condition, generator) - model.target(u, following)
        axes = tuple(range(2, error.dim()))
        error = error if error.dtype == torch.float64 else error.float()
        power = torch.fft.rfftn(error, dim=axes, norm="forward").abs().square()
        weight = (1 + _wavenumbers(model, condition, u).to(power).square().sum(1)) ** exponent
        twice = torch.full(power.shape[-1:], 2.0).to(power)  # κ and -κ, of which one is kept
        twice[0] = 1.0
        if u.shape[-1] % 2 == 0:
            twice[-1] = 1.0
        return (weight[:, None] * twice * power).sum(axes).mean()

    return loss


def refine(model: Refiner, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
    """PDE-Refiner: for each trajectory a level k of 0..K, all alike.

        k = 0    (y - N(u, 0, 0))²
        k ≥ 1    (ε - N(u, y + σ_k ε, k))², or the same of the velocity form

    Lippe et al. 2023, arXiv 2308.05732, algorithm 1. The target is noised and never the model's own
    output. With a network of its own for the levels from 1 on, both learn at once, each from the
    whole batch and with k from 1..K, and the loss is the sum; level 0 is left out where its weights
    are frozen. Noise that looks like an error follows, in training mode, that of level 0, and the
    squares of its levels are weighted as in `ErrorSpectrum.loss`. Without levels it is `one_step`,
    and nothing is drawn.
    """
    if not isinstance(model, Refiner):
        raise InputError(f"model must be a Refiner for refine, got {type(model).__name__}")
    if not model.levels:
        return one_step(model, batch, generator)
    u, following, condition = _pair(model, batch)
    told = model.told(u, condition)
    seen, y = model.seen(u), model.target(u, following)
    shared = model.fine is None
    loss = torch.zeros((), dtype=y.dtype, device=y.device)
    learning = any(weight.requires_grad for weight in model.network.parameters())
    if not shared and (learning or model.errors is not None):
        error = model.first(seen, told) - y
        loss = error.square().mean() if learning else loss
        if model.errors is not None and model.training:
            model.errors.observe(error)
    noise = drawn(y, generator)
    device = u.device if generator is None else generator.device
    size = (len(u),)
    lowest = 0 if shared else 1
    level = torch.randint(lowest, model.levels + 1, size, generator=generator, device=device)
    level = level.to(u.device)
    sigma = y.new_tensor(model.sigmas)[level].view(-1, *[1] * (y.dim() - 1))
    first = (level == 0).view_as(sigma)
    z = torch.where(first, 0.0, candidate(y, model.shaped(noise), sigma, model.form))
    goal = torch.where(first, y, wanted(y, noise, sigma, model.form))
    apart = model.output(seen, z, level.to(y) / model.levels, told) - goal
    if model.errors is not None:
        return loss + model.errors.loss(apart, learning=model.training)
    return loss + apart.square().mean()


def _frames(model: Surrogate, batch: Batch, count: int) -> tuple[Tensor, dict[str, Any]]:
    if not isinstance(model, Surrogate):
        raise InputError(f"model must be a surrogate, got {type(model).__name__}")
    if not isinstance(batch, Batch):
        raise InputError(f"batch must be a Batch, got {type(batch).__name__}")
    if batch.states.shape[1] < count:
        raise InputError(
            f"states must have {count} frames for this objective, got {batch.states.shape[1]}"
        )
    known = (*model.conditions, *OF_THE_GRID)
    return batch.states, {name: x for name, x in batch.condition.items() if name in known}


def _pair(model: Surrogate, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Any]]:
    states, condition = _frames(model, batch, 2)
    return states[:, 0], states[:, 1], condition


def _wavenumbers(model: Surrogate, condition: Mapping[str, Any], u: Tensor) -> Tensor:
    """κ (B or 1, axes, *modes of a real transform)."""
    space = u.shape[2:]
    factor = torch.ones(1, dtype=torch.float64)
    if "spacing" in model.conditions:
        spacing = gathered({"spacing": (0.0, 0.0)}, {"spacing": model.spacing, **condition}, u)
        factor = spacing[:, 0] * space[0] / model.lengths[0]
    axes = [
        2 * math.pi / length * torch.fft.fftfreq(points, 1 / points, dtype=torch.float64)
        for length, points in zip(model.lengths, space, strict=True)
    ]
    axes[-1] = axes[-1][: space[-1] // 2 + 1].abs()
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")).to(u.device)
    return grid / factor.to(u.device).view(-1, *[1] * grid.dim())
