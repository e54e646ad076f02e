"""How far the gradients of a surrogate can be believed: beside the solver's, and by themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from optimizers import Problem
from sims.pde.design.problems import even_stride
from sims.pde.metrics.bands import thirds
from sims.pde.metrics.shells import shell_numbers
from sims.pde.rollout import rollout
from sims.pde.surrogates.surrogate import Surrogate

Objective = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class GradientMatch:
    """The gradients of one objective after one horizon [s], by surrogate and by solver.

    cosine, ratio: of the angle between them, and |g_surrogate| / |g_solver|; means over the
    trajectories. bands: the same two numbers for each third of the resolved wavenumbers, low first.
    growth: |g_solver| at this horizon over that at the first one.
    """

    horizon: float
    cosine: float
    ratio: float
    bands: tuple[tuple[float, float], ...]
    growth: float


def gradient_cosine(
    surrogate: Any,
    stepper: Any,
    u: Tensor,
    horizons: Sequence[float],
    *,
    objective: Objective | None = None,
    condition: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> tuple[GradientMatch, ...]:
    """Gradients with respect to the initial fields u (B, C, *space), one row for each horizon [s].

    objective: of the last fields (B, C, *space), to (B,); by default half their mean square. A
    surrogate that is right to a percent in value may have useless gradients, since training does
    not see them; and gradients over many Lyapunov times grow like exp(lambda_1 T) and are of no use
    to a search, the solver's neither. condition, seed: of the surrogate, see `InverseProblem`.

    A trajectory whose gradient is not finite, or zero, has the cosine 0. Raises InputError for
    horizons that are not multiples of both time steps.
    """
    check_tensor("u", u)
    horizons = tuple(float(horizon) for horizon in horizons)
    if not horizons or any(not horizon > 0 for horizon in horizons):
        raise InputError(f"horizons must be times above 0 s, got {horizons}")
    objective = objective or _half_mean_square
    rows, first = [], None
    for horizon in horizons:
        true = _gradient(stepper, u, horizon, objective, None, seed)
        guess = _gradient(surrogate, u, horizon, objective, condition, seed)
        cosine, ratio = _compared(guess, true)
        parts = [_compared(_band(guess, band), _band(true, band)) for band in thirds(u.shape[2:])]
        size = float(true.flatten(1).norm(dim=1).mean())
        first = size if first is None else first
        rows.append(GradientMatch(horizon, cosine, ratio, tuple(parts), size / first))
    return tuple(rows)


def gradient_table(rows: Sequence[GradientMatch]) -> str:
    """The rows as text: horizon, cosine, ratio of norms, growth, and cosine (ratio) by band."""
    lines = ["horizon [s]   cosine    ratio   growth   low              middle           high"]
    for row in rows:
        bands = "".join(f"   {f'{cosine:.3f} ({ratio:.3g})':14}" for cosine, ratio in row.bands)
        lines.append(
            f"{row.horizon:11.2f} {row.cosine:8.3f} {row.ratio:8.3f} {row.growth:8.2f}{bands}"
        )
    return "\n".join(lines)


def taylor_remainders(
    problem: Problem,
    x: Tensor,
    direction: Tensor,
    sizes: Sequence[float] = (1e-1, 1e-2, 1e-3),
) -> tuple[Tensor, Tensor]:
    """|J(x + h p) - J(x) - h p . grad J(x)| for each size h, and the order between neighbours.

    x, direction: (d,), p in units of `problem.scale`. The order is 2 where the gradient is that of
    the value and h is neither so large that the third derivative shows nor so small that rounding
    does. Returns (sizes,) and (sizes - 1,), float64.
    """
    check_tensor("direction", direction, tuple(x.shape), like=x)
    steps = x.new_tensor(list(sizes))
    path = direction * problem.scale
    answer = problem.evaluate(x[None], 1)
    assert answer.gradient is not None
    moved = problem.evaluate(x + steps[:, None] * path).value
    linear = answer.value + steps * (answer.gradient[0] @ path)
    remainders = (moved - linear).abs().double()
    orders = remainders.log().diff() / steps.double().log().diff()
    return remainders, orders


def _gradient(
    model: Any,
    u: Tensor,
    horizon: float,
    objective: Objective,
    condition: Mapping[str, Any] | None,
    seed: int,
) -> Tensor:
    steps = horizon / float(model.time_step)
    if abs(steps - round(steps)) > 1e-6 * max(steps, 1.0) or round(steps) < 1:
        raise InputError(
            f"horizons must be multiples of time_step {float(model.time_step):g} s, got {horizon}"
        )
    options: dict[str, Any] = {}
    if isinstance(model, Surrogate):
        options["condition"] = condition
        options["generator"] = torch.Generator(u.device).manual_seed(seed)
    start = u.detach().clone().requires_grad_(True)
    count = round(steps)
    with torch.enable_grad():
        last = rollout(model, start, count, even_stride(count), checkpoint=True, **options)[:, -1]
        (gradient,) = torch.autograd.grad(objective(last).sum(), start)
    return gradient


def _band(fields: Tensor, band: tuple[int, int]) -> Tensor:
    """The part of fields (B, C, *space) in shells from the first to the last of a band."""
    axes = tuple(range(2, fields.ndim))
    shells = shell_numbers(fields.shape[2:], device=fields.device)
    inside = (shells >= band[0]) & (shells <= band[1])
    modes = torch.fft.rfftn(fields, dim=axes) * inside
    return torch.fft.irfftn(modes, s=fields.shape[2:], dim=axes)


def _compared(guess: Tensor, true: Tensor) -> tuple[float, float]:
    """Mean cosine and mean ratio of norms over the trajectories."""
    guess, true = guess.flatten(1).double(), true.flatten(1).double()
    sizes = guess.norm(dim=1), true.norm(dim=1)
    cosine = (guess * true).sum(1) / (sizes[0] * sizes[1])
    ratio = sizes[0] / sizes[1]
    return float(cosine.nan_to_num(0.0, 0.0, 0.0).mean()), float(ratio.nan_to_num(0.0).mean())


def _half_mean_square(u: Tensor) -> Tensor:
    return 0.5 * u.square().flatten(1).mean(1)
