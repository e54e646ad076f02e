"""What a forecast costs, and when a surrogate has repaid what its training did."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.pde.metrics.shells import check_fields
from sims.pde.rollout import rollout


@dataclass(frozen=True)
class Cost:
    """What a model asks for.

    seconds: of processor time (on CUDA of the clock) for a simulated second of one trajectory,
    advanced in a batch. calls: of networks, or steps of a solver, for that second. parameters: of
    networks, all of them. error: whatever models are matched by, such as the nRMSE of a step.
    learning_seconds, training_flop: spent on data and training before the first forecast.
    """

    name: str
    seconds: float
    calls: float
    parameters: int = 0
    error: float = math.nan
    learning_seconds: float = 0.0
    training_flop: float = 0.0


def measured_cost(
    name: str,
    model: Any,
    u: Tensor,
    steps: int = 8,
    *,
    condition: Mapping[str, Any] | None = None,
    generator: torch.Generator | None = None,
    error: float = math.nan,
    learning_seconds: float = 0.0,
    training_flop: float = 0.0,
) -> Cost:
    """Cost of a rollout of u (B, C, *space), measured over `steps` steps after a first one.

    For what is known beforehand see `Cost`. Raises InputError for arguments that `rollout` refuses.
    """
    check_fields("u", u)
    networks = list(model.children()) if isinstance(model, torch.nn.Module) else []
    stepper: Any = model
    called = 0

    def count(*_: object) -> None:
        nonlocal called
        called += 1

    options: dict[str, Any] = {"condition": condition, "generator": generator}
    with torch.no_grad():
        u = rollout(stepper, u, 1, **options)[:, 0]  # tables, caches and compilation
        hooks = [network.register_forward_hook(count) for network in networks]
        try:
            seconds = _timed(lambda: rollout(stepper, u, steps, every=steps, **options), u.device)
        finally:
            for hook in hooks:
                hook.remove()
    span = steps * float(torch.as_tensor(model.time_step, dtype=torch.float64).mean())
    return Cost(
        name=name,
        seconds=seconds / (len(u) * span),
        calls=(called if networks else steps) / span,
        parameters=sum(_size(network) for network in networks),
        error=error,
        learning_seconds=learning_seconds,
        training_flop=training_flop,
    )


def error_matched(solvers: Iterable[Cost], error: float) -> Cost:
    """The cheapest of solvers of different steps and grids that errs no more than `error`.

    Comparisons with a solver that is better than needed flatter the surrogate (McGreivy and Hakim
    2024, Nature Machine Intelligence 6, 1256). Raises InputError where none is good enough.
    """
    given = list(solvers)
    good = [one for one in given if one.error <= error]
    if not good:
        told = ", ".join(f"{one.name} {one.error:.3g}" for one in given) or "none"
        raise InputError(f"solvers must have one with an error of at most {error:.3g}, got {told}")
    return min(good, key=lambda one: one.seconds)


def breakeven(surrogate: Cost, solver: Cost, duration: float) -> float:
    """How many solves of `duration` simulated seconds repay what the surrogate's learning took.

    Infinite where the solver is as cheap. solver: one of a like error, see `error_matched`.
    """
    if not duration > 0:
        raise InputError(f"duration must be positive seconds, got {duration}")
    saved = (solver.seconds - surrogate.seconds) * duration
    return surrogate.learning_seconds / saved if saved > 0 else math.inf


def lyapunov_times(seconds: float, exponent: float) -> float:
    """A horizon in times of 1 / lambda_1, by which equations and settings compare."""
    if not exponent > 0:
        raise InputError(f"exponent must be positive, the largest of a chaos, got {exponent}")
    return seconds * exponent


def _size(network: torch.nn.Module) -> int:
    """Real numbers in the weights, frozen ones among them."""
    return sum(
        weight.numel() * (2 if weight.is_complex() else 1) for weight in network.parameters()
    )


def _timed(call: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        begin = time.perf_counter()
        call()
        torch.cuda.synchronize(device)
        return time.perf_counter() - begin
    begin = time.process_time()
    call()
    return time.process_time() - begin
