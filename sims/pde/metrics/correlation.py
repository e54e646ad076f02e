"""How long a forecast follows its reference: Pearson correlation by frame, and when it is lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_tensor

_LARGEST = 2**22  # values that are held in float64 at a time


@dataclass(frozen=True)
class CorrelationTime:
    """When forecasts lose their reference, in seconds.

    of_mean: the time of the first frame whose correlation, averaged over trajectories, is below the
    threshold. mean_of: the mean over trajectories of the times at which each one crosses by itself,
    which are `each` (B,); usually some per cent later. Who never crosses has the whole duration,
    and is censored: the share of such trajectories. duration: of the mean's frames, so that an
    `of_mean` of that size says "at least". diverged: how many trajectories have frames that are not
    finite, which correlate 0.
    """

    of_mean: float
    mean_of: float
    each: Tensor
    censored: float
    diverged: int
    duration: float
    threshold: float

    def __str__(self) -> str:
        text = f"corr_time_of_mean {self.of_mean:.4g} s, mean_of_corr_time {self.mean_of:.4g} s"
        if self.censored:
            text += f", {self.censored:.0%} never below {self.threshold:g}"
        return text + (f", {self.diverged} diverged" if self.diverged else "")


def correlation(states: Tensor, reference: Tensor) -> Tensor:
    """Pearson correlation (B, frames) in [-1, 1], float64, over channels and space.

    r = <(u - <u>) (v - <v>)> / sqrt(<(u - <u>)^2> <(v - <v>)^2>), all means over the same values
    (Lippe et al. 2023, section 4.1). states, reference: (B, frames, C, *space). Frames of `states`
    that are not finite, as those of a diverged rollout, correlate 0, and so do constant fields.
    Raises InputError where the shapes differ or the reference is not finite.
    """
    check_pair(states, reference)
    parts = [
        (normalised(one) * normalised(other)).sum(-1)
        for one, other in zip(_pieces(states), _pieces(reference), strict=True)
    ]
    return torch.cat(parts).reshape(states.shape[:2]).clamp(-1.0, 1.0)


def correlation_time(
    states: Tensor,
    reference: Tensor,
    frame_time: float | Tensor = 0.8,
    threshold: float = 0.8,
) -> CorrelationTime:
    """When the correlation of states with a reference, both (B, frames, C, *space), is lost.

    frame_time: seconds between frames, a number or a tensor (B,) where it differs by trajectory;
    frame i is at (i + 1) frame_time, as `rollout` gives them, and the initial field is not among
    them. With several frame times the correlations are interpolated at multiples of the shortest
    one before they are averaged. threshold: in (0, 1).
    Raises InputError for what `correlation` does not take, other thresholds and times.
    """
    check_pair(states, reference)
    steps = check_frame_time(frame_time, len(states))
    level = check_threshold(threshold)
    found = correlation(states, reference)
    diverged = (~torch.isfinite(states.detach()).flatten(1).all(1)).sum()
    return times_of(found.detach(), steps, level, int(diverged))


def times_of(
    correlations: Tensor, frame_time: Tensor, threshold: float, diverged: int = 0
) -> CorrelationTime:
    """CorrelationTime of correlations (B, frames) at multiples of frame_time () or (B,)."""
    each, crossed = crossing(correlations, frame_time, threshold)
    step = frame_time.min().to(correlations)
    mean = at_common_times(correlations, frame_time).mean(0, keepdim=True)
    return CorrelationTime(
        of_mean=float(crossing(mean, step, threshold)[0]),
        mean_of=float(each.mean()),
        each=each,
        censored=float((~crossed).double().mean()),
        diverged=diverged,
        duration=float(step) * correlations.shape[1],
        threshold=threshold,
    )


def crossing(values: Tensor, frame_time: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Times (...) [s] of the first of the frames (..., frames) that is below, and whether one is.

    The whole duration where none is. frame_time: () or (...), broadcast.
    """
    below = values < threshold
    crossed = below.any(-1)
    first = below.to(torch.int8).argmax(-1)
    number = torch.where(crossed, first + 1, values.shape[-1])
    return number * frame_time.to(values), crossed


def at_common_times(correlations: Tensor, frame_time: Tensor) -> Tensor:
    """Correlations (B, frames) at multiples of the shortest frame time, linear between frames.

    At time 0, which is no frame, they are 1.
    """
    if frame_time.ndim == 0 or bool((frame_time == frame_time[0]).all()):
        return correlations
    count = correlations.shape[1]
    known = torch.nn.functional.pad(correlations, (1, 0), value=1.0)
    numbers = torch.arange(1, count + 1, dtype=correlations.dtype, device=correlations.device)
    # in units of each trajectory's own frames: at most `count`, for the shortest has the factor 1
    where = numbers * (frame_time.min() / frame_time).to(correlations)[:, None]
    before = where.floor().clamp(max=count - 1)
    index = before.long()
    low, high = known.gather(1, index), known.gather(1, index + 1)
    return low + (high - low) * (where - before)


def normalised(fields: Tensor) -> Tensor:
    """Fields (..., n) in float64 less their mean, of unit length; zeros where there is no such."""
    values = fields.double()
    finite = torch.isfinite(values).all(-1, keepdim=True)
    values = torch.where(finite, values, 0.0)
    largest = values.abs().amax(-1, keepdim=True)
    # scaled first, so that neither fields of 1e-200 nor of 1e200 leave the range of the squares
    values = values / torch.where(largest > 0, largest, 1.0)
    centred = values - values.mean(-1, keepdim=True)
    square = centred.square().sum(-1, keepdim=True)
    # what a constant field leaves by rounding of its mean is no variation
    varies = square > values.shape[-1] * (4 * torch.finfo(torch.float64).eps) ** 2
    return torch.where(varies, centred, 0.0) / torch.where(varies, square, 1.0).sqrt()


def check_pair(states: Tensor, reference: Tensor) -> None:
    """Raise InputError unless both are (B, frames, C, *space), alike, and the reference finite."""
    check_tensor("states", states, finite=False)
    check_tensor("reference", reference)
    if states.ndim < 4:
        raise InputError(
            "states must have shape (trajectories, frames, channels, *space), "
            f"got {tuple(states.shape)}"
        )
    if states.shape != reference.shape:
        raise InputError(
            f"states and reference must have the same shape, got {tuple(states.shape)} and "
            f"{tuple(reference.shape)}{_frames_apart(states, reference)}"
        )
    if not states.numel():
        raise InputError(f"states must hold values, got shape {tuple(states.shape)}")
    if states.device != reference.device:
        raise InputError(
            "states and reference must be on one device, "
            f"got {states.device} and {reference.device}"
        )


def check_frame_time(frame_time: float | Tensor, trajectories: int) -> Tensor:
    """The seconds between frames as a float64 tensor () or (B,); InputError unless positive."""
    allowed = f"positive seconds, one number or a tensor ({trajectories},)"
    steps = as_tensor("frame_time", frame_time, allowed, dtype=torch.float64).detach()
    if steps.ndim and steps.shape != (trajectories,):
        raise InputError(f"frame_time must be {allowed}, got shape {tuple(steps.shape)}")
    if not bool((torch.isfinite(steps) & (steps > 0)).all()):
        raise InputError(f"frame_time must be {allowed}, got {frame_time}")
    return steps


def check_threshold(threshold: float, name: str = "threshold") -> float:
    """The threshold as a number; InputError unless in (0, 1), for a diverged frame has 0."""
    level = as_tensor(name, threshold, "a number between 0 and 1", dtype=torch.float64)
    if level.numel() != 1 or not 0 < float(level) < 1:
        raise InputError(f"{name} must be a number between 0 and 1, both excluded, got {threshold}")
    return float(level)


def _pieces(fields: Tensor) -> Iterator[Tensor]:
    """Fields (B, frames, C, *space) as rows (n, values) of a few frames at a time."""
    rows = fields.flatten(0, 1).flatten(1)
    return iter(rows.split(max(1, _LARGEST // rows.shape[1])))


def _frames_apart(states: Tensor, reference: Tensor) -> str:
    alike = states.ndim == reference.ndim and states.shape[2:] == reference.shape[2:]
    if alike and abs(states.shape[1] - reference.shape[1]) == 1:
        return (
            f": {states.shape[1]} and {reference.shape[1]} frames, one apart; "
            "the initial field is not among the frames of a rollout"
        )
    return ""
