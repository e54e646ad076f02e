"""A dry signal as it sounds along a path, from one impulse response at each of its points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from geomopt.errors import InputError, as_tensor, check_tensor

Moving = Literal["source", "receiver"]


def render_path(
    dry: Tensor,
    responses: Tensor,
    rate: float,
    times: Sequence[float] | Tensor | None = None,
    *,
    moving: Moving = "source",
) -> Tensor:
    """What is heard of a dry signal (S,) while source or receiver moves, (S + T - 1,).

    responses: (K, T) from K points of the path, or (K, C, T) for C ears, then (C, S + T - 1) comes
    back; (T,) for something that stands still. times: (K,), when each point is passed [s], rising;
    before the first and after the last it stands still. Between points the responses are faded
    linearly: with those of a moving source its signal is, before it is convolved, since what is on
    its way is not changed any more; with those of a moving receiver the sound is, where it arrives.

    Sound shifts in frequency as it should where points are close: c / 8f [m] apart or less.
    Raises InputError for shapes and times that do not fit.
    """
    check_tensor("dry", dry, (None,))
    check_tensor("responses", responses, like=dry)
    paths = responses[None] if responses.ndim == 1 else responses
    if paths.ndim not in (2, 3) or paths.numel() == 0 or dry.numel() == 0:
        raise InputError(
            "responses must have shape (K, T), (K, C, T) or (T,), and dry (S,), "
            f"got {tuple(responses.shape)} and {tuple(dry.shape)}"
        )
    if moving not in ("source", "receiver"):
        raise InputError(f"moving must be 'source' or 'receiver', got {moving!r}")
    when = _passing_times(times, len(paths)).to(dry.device) * rate
    length = len(dry) + paths.shape[-1] - 1
    heard = torch.zeros(*paths.shape[1:-1], length, dtype=dry.dtype, device=dry.device)
    faded = len(dry) if moving == "source" else length
    for point, response in enumerate(paths):
        first, last, weights = _fade(when, point, faded)
        if first >= last:
            continue
        if moving == "source":
            part = _convolved(dry[first:last] * weights.to(dry.dtype), response)
            heard[..., first : first + part.shape[-1]] += part
        else:
            # what arrives from first to last has left during the response's length before
            begin = max(0, first - paths.shape[-1] + 1)
            part = _convolved(dry[begin:last], response)
            part = pad(part, (0, max(0, last - begin - part.shape[-1])))
            heard[..., first:last] += part[..., first - begin : last - begin] * weights.to(
                dry.dtype
            )
    return heard


def _passing_times(times: Sequence[float] | Tensor | None, count: int) -> Tensor:
    if times is None:
        if count > 1:
            raise InputError(f"times must say when each of the {count} points is passed")
        return torch.zeros(1, dtype=torch.float64)
    when = as_tensor("times", times, "numbers (K,)", dtype=torch.float64)
    if when.shape != (count,) or not bool(when.isfinite().all()):
        raise InputError(f"times must be {count} finite numbers, got {tuple(when.shape)}")
    if bool((when.diff() <= 0).any()):
        raise InputError("times must rise from point to point")
    return when


def _fade(when: Tensor, point: int, count: int) -> tuple[int, int, Tensor]:
    """Samples from first to last at which a point is heard, and its share there.

    The share of the next point is what is missing to one, so that all sum up to one exactly.
    """
    here = float(when[point])
    before = float(when[point - 1]) if point else -float("inf")
    after = float(when[point + 1]) if point + 1 < len(when) else float("inf")
    first = int(min(max(before, 0), count))
    last = int(min(max(after + 1, 0), count))
    samples = torch.arange(first, last, dtype=torch.float64, device=when.device)
    weights = torch.ones_like(samples)
    if point:
        weights = torch.where(samples < here, (samples - before) / (here - before), weights)
    if point + 1 < len(when):
        weights = torch.where(samples >= here, 1 - (samples - here) / (after - here), weights)
    return first, last, weights.clamp(0, 1)


def _convolved(signal: Tensor, response: Tensor) -> Tensor:
    """Linear convolution (..., S + T - 1) of (S,) and (..., T)."""
    length = signal.shape[-1] + response.shape[-1] - 1
    spectrum = torch.fft.rfft(signal, length) * torch.fft.rfft(response, length)
    return torch.fft.irfft(spectrum, length)
