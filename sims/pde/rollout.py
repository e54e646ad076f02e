"""A model applied to its own output: the one loop of training, evaluation and design."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as run_again

from geomopt.errors import InputError, check_tensor
from geomopt.runs.progress import Progress
from sims.pde.networks.arguments import check_generator, check_number
from sims.pde.surrogates.surrogate import Surrogate


class Steps(Protocol):
    """What a rollout goes through: a solver or a surrogate of one."""

    time_step: Any

    def step(self, u: Tensor) -> Tensor:
        """The fields (B, C, *space) one time step later."""
        ...


class Diverged(RuntimeWarning):
    """Trajectories of a rollout grew without bound and were stopped."""


def rollout(
    model: Steps,
    u: Tensor,
    steps: int,
    every: int = 1,
    *,
    condition: Mapping[str, Any] | None = None,
    generator: torch.Generator | None = None,
    checkpoint: bool = False,
    largest: float | None = None,
    progress: bool = False,
) -> Tensor:
    """The fields (B, steps // every, C, *space) at every `every`-th step after `u` (B, C, *space).

    Frame i is at the time (i + 1) * every * model.time_step: `u` itself is not among them. A model
    is anything with `step(u)`, a solver or a surrogate; one with `advance(u, steps)` is asked for
    `every` steps at once. condition: of a surrogate, name to a number or to values (B,). generator:
    of a surrogate that draws noise; a model whose `step` takes none does without.

    Differentiable; with `checkpoint` only the frames are kept for the way back, and what lies
    between is computed a second time, with the same noise.

    A trajectory diverges where it is not finite, or where |u| exceeds `largest` (by default the
    model's own `largest` if it has one, ten times what a surrogate has met in training). It is
    stopped there: its frames from then on are NaN, and a `Diverged` warning tells how many did.
    Raises InputError for fields that do not fit the model, for steps that are no multiple of
    `every`, for what is no model, and for a condition where the model takes none.
    """
    check_tensor("u", u)
    for name, value in (("steps", steps), ("every", every)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be an integer of at least 1, got {value!r}")
    if steps % every:
        raise InputError(
            f"steps must be a multiple of every, got steps={steps} and every={every}; "
            f"{steps - steps % every} would do"
        )
    takes = _taken(model)
    if condition is not None and "condition" not in takes:
        raise InputError(f"condition must be None for {type(model).__name__}, which takes none")
    if generator is not None:
        check_generator("generator", generator)
        generator = generator if "generator" in takes else None
    limit = getattr(model, "largest", None) if largest is None else largest
    if limit is not None and not check_number("largest", limit, "a number above 0") > 0:
        raise InputError(f"largest must be above 0, got {limit}")
    own = None if generator is None else torch.Generator(generator.device)
    move = _mover(model, every, condition, own)
    alive = torch.ones(len(u), dtype=torch.bool, device=u.device)
    frames: list[Tensor] = []
    with Progress("rollout", None, progress) as shown:
        for number in range(steps // every):
            state = None if generator is None else generator.get_state()
            if checkpoint and torch.is_grad_enabled():
                again = generator is None  # then a model that draws has torch's own noise
                u = run_again(move, u, state, use_reentrant=False, preserve_rng_state=again)
            else:
                u = move(u, state)
            if generator is not None and own is not None:
                generator.set_state(own.get_state())
            alive = alive & _bounded(u.detach(), limit)
            kept = alive.view(-1, *[1] * (u.dim() - 1))
            frames.append(torch.where(kept, u, torch.nan))
            u = torch.where(kept, u, 0.0)
            if progress:
                share = (number + 1) * every / steps
                shown.step(share, f"step {(number + 1) * every} of {steps}", "")
    lost = int((~alive).sum())
    if lost:
        warnings.warn(
            f"{lost} of {len(alive)} trajectories diverged and were stopped; their frames are NaN",
            Diverged,
            stacklevel=2,
        )
    return torch.stack(frames, 1)


def _taken(model: Any) -> set[str]:
    """Names of what a model's step takes beside the fields; InputError for what is no model."""
    if isinstance(model, type) or not callable(getattr(model, "step", None)):
        raise InputError(f"model must have step(u), as a solver or a surrogate does, got {model!r}")
    given = inspect.signature(model.step).parameters
    if any(each.kind is each.VAR_KEYWORD for each in given.values()):
        return {"condition", "generator"}
    return set(given)


def _mover(
    model: Any,
    every: int,
    condition: Mapping[str, Any] | None,
    generator: torch.Generator | None,
) -> Callable[[Tensor, Tensor | None], Tensor]:
    """(fields, state of the generator) -> fields a frame later."""
    options: dict[str, Any] = {}
    if condition is not None:
        options["condition"] = condition
    if generator is not None:
        options["generator"] = generator
    whole = hasattr(model, "advance") and (isinstance(model, Surrogate) or not options)

    def move(u: Tensor, state: Tensor | None) -> Tensor:
        if generator is not None and state is not None:
            generator.set_state(state)  # a second computation meets the noise of the first
        if whole:  # a field that grew beyond bounds between two frames is no bad input
            return model.advance(u, every, **options)
        for _ in range(every):
            u = model.step(u, **options)
        return u

    return move


def _bounded(u: Tensor, limit: float | Tensor | None) -> Tensor:
    """Which trajectories (B,) are finite and below the limit."""
    size = u.abs().flatten(1).amax(1)  # NaN if any is
    return size.isfinite() if limit is None else size <= limit
