"""When a model stops being right, told by its samples.

Samples that part from each other say that the forecast is lost: the time at which their mean
pairwise correlation falls below a threshold predicts the time at which their mean correlation with
the truth does (Lippe et al. 2023, section 4.1 and figure 5).
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from geomopt.runs.progress import Progress
from sims.pde.metrics.correlation import (
    check_frame_time,
    check_threshold,
    crossing,
    normalised,
)
from sims.pde.metrics.shells import check_fields
from sims.pde.networks.arguments import check_generator, check_number
from sims.pde.rollout import Diverged, rollout

_LARGEST = 2**17  # values of the samples that go through the model at a time


@dataclass(frozen=True)
class ForecastHorizons:
    """How long samples say that they hold, and how long they do.

    agreement (B, S, frames): the mean correlation of each sample with the others. with_truth
    (B, S, frames): of each with the truth. frame_time: seconds between frames, () or (B,).
    """

    agreement: Tensor
    with_truth: Tensor
    frame_time: Tensor
    threshold: float

    @cached_property
    def predicted(self) -> Tensor:
        """When the mean pairwise correlation of the samples is lost, (B,) [s]."""
        return self._crossing(self.agreement.mean(1))[0]

    @cached_property
    def true(self) -> Tensor:
        """When the samples' mean correlation with the truth is lost, (B,) [s]."""
        return self._crossing(self.with_truth.mean(1))[0]

    @property
    def censored(self) -> float:
        """Share of trajectories with a time, of either kind, beyond the last frame; it counts as
        the whole duration.
        """
        return float((~(self._held(self.agreement) & self._held(self.with_truth))).double().mean())

    @property
    def censored_predicted(self) -> float:
        """Share of trajectories whose samples agree up to the last frame."""
        return float((~self._held(self.agreement)).double().mean())

    @property
    def censored_true(self) -> float:
        """Share of trajectories whose samples follow the truth up to the last frame."""
        return float((~self._held(self.with_truth)).double().mean())

    @property
    def squared_correlation(self) -> float:
        """Squared Pearson correlation of predicted and true times: R^2 of a fitted line."""
        product = normalised(self.predicted) @ normalised(self.true)
        return float(product) ** 2

    @property
    def determination(self) -> float:
        """R^2 without a fit, 1 - sum (true - predicted)^2 / sum (true - <true>)^2.

        1 at best, below 0 where the mean of the true times would have been the better guess, and
        NaN where all of these are the same, as where no forecast is lost within the frames.
        """
        left = (self.true - self.predicted).square().sum()
        spread = (self.true - self.true.mean()).square().sum()
        return float(1 - left / spread) if float(spread) else math.nan

    @property
    def rank_correlation(self) -> float:
        """Spearman's correlation of predicted and true times, ties with their mean rank."""
        return float(normalised(_ranks(self.predicted)) @ normalised(_ranks(self.true)))

    def coverage(self, share: float = 0.9) -> float:
        """Share of trajectories whose true time is among the middle `share` of the samples'.

        A sample's time is when its mean correlation with the other samples is lost. If the truth
        were one more sample, the coverage would be that share, less at most 2 / S.
        """
        check_threshold(share, "share")
        step = self.frame_time if self.frame_time.ndim == 0 else self.frame_time[:, None]
        each = crossing(self.agreement, step, self.threshold)[0]
        tails = torch.tensor([(1 - share) / 2, (1 + share) / 2], dtype=each.dtype)
        low, high = torch.quantile(each, tails.to(each.device), dim=1)
        return float(((low <= self.true) & (self.true <= high)).double().mean())

    def __str__(self) -> str:
        return (
            f"squared correlation {self.squared_correlation:.3f}, "
            f"R^2 without a fit {self.determination:.3f}, ranks {self.rank_correlation:.3f}, "
            f"predicted {float(self.predicted.mean()):.1f} s, "
            f"true {float(self.true.mean()):.1f} s, {self.censored:.0%} censored"
        )

    def _crossing(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return crossing(values, self.frame_time, self.threshold)

    def _held(self, values: Tensor) -> Tensor:
        return self._crossing(values.mean(1))[1]


def sampled_horizons(
    samples: Tensor,
    reference: Tensor,
    frame_time: float | Tensor = 0.8,
    threshold: float = 0.8,
) -> ForecastHorizons:
    """ForecastHorizons of samples (B, S, frames, C, *space) that are there already.

    reference: (B, frames, C, *space). Frames that are not finite correlate 0. `forecast_horizons`
    makes samples on the way and keeps none. Raises InputError for other shapes.
    """
    check_tensor("samples", samples, finite=False)
    if samples.ndim < 5 or samples.shape[1] < 2:
        raise InputError(
            "samples must have shape (B, S, frames, C, *space) with at least two samples, "
            f"got {tuple(samples.shape)}"
        )
    _check_reference(reference, (samples.shape[0], *samples.shape[2:]))
    step = check_frame_time(frame_time, len(samples))
    parts = [
        _compared(samples[:, :, number], reference[:, number]) for number in range(samples.shape[2])
    ]
    agreement, with_truth = (torch.stack(one, -1) for one in zip(*parts, strict=True))
    return ForecastHorizons(agreement, with_truth, step, check_threshold(threshold))


def forecast_horizons(
    model: Any,
    u: Tensor,
    reference: Tensor,
    samples: int = 32,
    generator: torch.Generator | None = None,
    *,
    every: int = 1,
    threshold: float = 0.8,
    perturbation: float = 0.0,
    condition: Mapping[str, Any] | None = None,
    frame_time: float | Tensor | None = None,
    progress: bool = False,
) -> ForecastHorizons:
    """Roll samples of a model out beside the truth, and tell when each of them is lost.

    u: (B, C, *space). reference: (B, frames, C, *space), frames `every` steps of the model apart,
    the first one `every` steps after u. generator: of the noise of a model whose `step` takes one,
    and of the perturbation. perturbation: relative standard deviation of white noise that is added
    to u, for a model that draws none itself.
    condition: name to a number or to values (B,), as in `rollout`. frame_time: seconds between
    frames, every * model.time_step by default; (B,) where a condition makes it differ.

    Only one frame of some trajectories is held at a time. Samples that diverge correlate 0 from
    then on, and are counted in a `Diverged` warning. Raises InputError for other shapes and counts,
    and for a model that draws no noise without a perturbation, whose samples would be one.
    """
    check_fields("u", u)
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 2:
        raise InputError(f"samples must be an integer of at least 2, got {samples!r}")
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise InputError(f"every must be an integer of at least 1, got {every!r}")
    if generator is not None:
        check_generator("generator", generator)
    if not check_number("perturbation", perturbation, "a number of at least 0") >= 0:
        raise InputError(f"perturbation must not be negative, got {perturbation}")
    _check_reference(reference, (len(u), None, *u.shape[1:]))
    given = every * torch.as_tensor(model.time_step) if frame_time is None else frame_time
    step = check_frame_time(given, len(u))
    level = check_threshold(threshold)
    frames = reference.shape[1]
    portion = max(1, _LARGEST // (samples * u[0].numel()))
    own = generator if "generator" in inspect.signature(model.step).parameters else None
    if not perturbation and hasattr(model, "check_noise"):
        model.check_noise()
    spread = perturbation * float(u.detach().double().std())
    lost, found = 0, []
    with torch.no_grad(), Progress("samples", None, progress) as shown:
        for begin in range(0, len(u), portion):
            rows = slice(begin, begin + portion)
            told = _repeated(condition, rows, samples, len(u))
            state = u[rows].repeat_interleave(samples, 0)
            if spread:
                state = state + spread * _noise(state, generator)
            alive = torch.ones(len(state), dtype=torch.bool, device=u.device)
            parts = []
            for frame in range(frames):
                alive, state = _next(model, state, alive, every, told, own)
                if not (begin or frame or spread) and bool(alive.any()):
                    _check_apart(state.unflatten(0, (-1, samples)), model)
                kept = torch.where(_like(alive, state), state, torch.nan)
                parts.append(_compared(kept.unflatten(0, (-1, samples)), reference[rows, frame]))
                done = begin + (frame + 1) / frames * (len(state) // samples)
                shown.step(done / len(u), f"{done:.1f} of {len(u)} trajectories", "")
            lost += int((~alive).sum())
            found.append([torch.stack(one, -1) for one in zip(*parts, strict=True)])
    if lost:
        warnings.warn(
            f"{lost} of {len(u) * samples} samples diverged and correlate 0 from then on",
            Diverged,
            stacklevel=2,
        )
    agreement, with_truth = (torch.cat(one) for one in zip(*found, strict=True))
    return ForecastHorizons(agreement, with_truth, step, level)


def _check_apart(samples: Tensor, model: Any) -> None:
    """Raise InputError where samples (B, S, ...) are all alike, and so would agree for ever."""
    if torch.equal(samples, samples[:, :1].expand_as(samples)):
        raise InputError(
            f"samples of {type(model).__name__} are all alike, as it draws no noise: give a "
            "perturbation of the first fields"
        )


def _next(
    model: Any,
    state: Tensor,
    alive: Tensor,
    every: int,
    condition: Mapping[str, Any] | None,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Which samples still live, and all states a frame on, zeros for those that do not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Diverged)  # they are counted over all frames
        state = rollout(model, state, every, every, condition=condition, generator=generator)[:, 0]
    alive = alive & torch.isfinite(state).flatten(1).all(1)
    return alive, torch.where(_like(alive, state), state, 0.0)


def _compared(samples: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Correlations (B, S) of samples (B, S, ...) with the other ones, and with the truth (B, ...).

    The mean over the others comes from the sum of all, so that no pairs are formed.
    """
    unit = normalised(samples.flatten(2))
    own = unit.square().sum(-1)  # 1, or 0 for a diverged sample
    others = ((unit * unit.sum(1, keepdim=True)).sum(-1) - own) / (samples.shape[1] - 1)
    return others, (unit * normalised(truth.flatten(1)).unsqueeze(1)).sum(-1)


def _check_reference(reference: Tensor, shape: tuple[int | None, ...]) -> None:
    check_tensor("reference", reference, shape)
    if not reference.shape[1]:
        raise InputError("reference must have at least one frame")


def _repeated(
    condition: Mapping[str, Any] | None, rows: slice, samples: int, count: int
) -> dict[str, Any] | None:
    """Conditions of some of the `count` trajectories, for each of their samples."""
    if condition is None:
        return None
    told: dict[str, Any] = {}
    for name, value in condition.items():
        if isinstance(value, Tensor) and value.ndim and len(value) == count:
            value = value[rows].repeat_interleave(samples, 0)
        told[name] = value
    return told


def _noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is None:
        raise InputError("generator must be given where a perturbation is drawn")
    drawn = torch.randn(like.shape, generator=generator, dtype=like.dtype, device=generator.device)
    return drawn.to(like.device)


def _like(alive: Tensor, state: Tensor) -> Tensor:
    return alive.view(-1, *[1] * (state.ndim - 1))


def _ranks(values: Tensor) -> Tensor:
    """Ranks from 0, the mean rank for those that are equal."""
    _, place, count = values.unique(return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    return (last - (count - 1) / 2 - 1)[place]
