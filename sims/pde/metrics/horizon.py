"""How long a forecast of a given error per step can follow the truth.

A solver whose result is disturbed by white noise after every step of a surrogate is a surrogate
without any fault but that noise. Its horizon is what the size of an error alone explains; a model
that falls short of it loses more by leaving the attractor than by being inexact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor
from geomopt.runs.progress import Progress
from sims.pde.metrics.correlation import check_threshold, normalised, times_of
from sims.pde.metrics.shells import check_fields
from sims.pde.networks.arguments import check_generator

NOISE = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)


@dataclass(frozen=True)
class HorizonMap:
    """Horizons [s] by relative error per step; all (errors,), the errors falling.

    of_mean, mean_of, censored: as in `CorrelationTime`, at the threshold, over `duration` seconds.
    """

    noise: Tensor
    of_mean: Tensor
    mean_of: Tensor
    censored: Tensor
    duration: float
    threshold: float

    def horizon(self, error: float) -> float:
        """The time of the mean correlation [s] for an nRMSE of one step.

        Linear in log(error). Raises InputError outside the errors of the map.
        """
        most, least = float(self.noise[0]), float(self.noise[-1])
        if not least <= error <= most:
            raise InputError(f"error must be in [{least:.3g}, {most:.3g}], got {error:.3g}")
        return _between(-self.noise.log(), self._rising(), -math.log(error))

    def error(self, horizon: float) -> float:
        """The nRMSE of one step that explains a time of the mean correlation [s].

        Raises InputError outside the times of the map, whose duration is no horizon.
        """
        times = self._rising()
        known = times < self.duration
        least, most = float(times[0]), float(times[known].max()) if bool(known.any()) else 0.0
        if not least <= horizon <= most:
            raise InputError(f"horizon must be in [{least:.4g}, {most:.4g}] s, got {horizon:.4g}")
        return math.exp(-_between(times[known], -self.noise.log()[known], horizon))

    def rate(self) -> float:
        """The effective growth [1/s] of errors: the slope of -log(error) over the horizon, by least
        squares over the horizons below the duration.
        """
        known = self.of_mean < self.duration
        times, logs = self.of_mean[known], -self.noise.log()[known]
        if len(times) < 2:
            raise InputError("the map must have two horizons below its duration for a rate")
        times, logs = times - times.mean(), logs - logs.mean()
        return float((times @ logs) / (times @ times))

    def _rising(self) -> Tensor:
        """Horizons that never fall with a smaller error, as chance would have it."""
        return self.of_mean.cummax(0).values


def horizon_map(
    stepper: Any,
    u: Tensor,
    noise: Sequence[float] = NOISE,
    every: int = 8,
    frames: int = 250,
    *,
    generator: torch.Generator,
    threshold: float = 0.8,
    progress: bool = False,
) -> HorizonMap:
    """The horizons of a solver that errs by white noise after every `every` steps.

    u: (B, C, *space), on the attractor; single crossing times scatter by a fifth, so that B = 64
    leaves +-2 s at 100 s. noise: standard deviations, relative to that of u, in any order. frames:
    of `every` steps, how long to look. Only one frame is held at a time.
    Raises InputError for other shapes, noise and counts.
    """
    check_fields("u", u)
    wanted = "positive numbers, at least one"
    sizes = as_tensor("noise", noise, wanted, dtype=torch.float64).sort(descending=True).values
    if sizes.ndim != 1 or not len(sizes) or not bool((sizes.isfinite() & (sizes > 0)).all()):
        raise InputError(f"noise must be {wanted}, got {noise!r}")
    for name, value in (("every", every), ("frames", frames)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be an integer of at least 1, got {value!r}")
    level = check_threshold(threshold)
    check_generator("generator", generator)
    if not hasattr(stepper, "advance"):
        raise InputError(f"stepper must have advance(u, steps), got {stepper!r}")
    spread = float((u.detach().double() - u.detach().double().mean()).std())
    exact, disturbed = u.detach(), [u.detach()] * len(sizes)
    found = torch.empty((len(sizes), len(u), frames), dtype=torch.float64, device=u.device)
    with torch.no_grad(), Progress("horizons", None, progress) as shown:
        for frame in range(frames):
            exact = stepper.advance(exact, every)
            truth = normalised(exact.flatten(1))
            for number, size in enumerate(sizes.tolist()):
                drawn = torch.randn(
                    u.shape, generator=generator, dtype=u.dtype, device=generator.device
                ).to(u.device)
                state = stepper.advance(disturbed[number], every) + size * spread * drawn
                found[number, :, frame] = (normalised(state.flatten(1)) * truth).sum(-1)
                disturbed[number] = state
            shown.step((frame + 1) / frames, f"frame {frame + 1} of {frames}", "")
    step = torch.as_tensor(stepper.time_step, dtype=torch.float64).detach().cpu() * every
    times = [times_of(one.cpu(), step, level) for one in found]
    return HorizonMap(
        noise=sizes,
        of_mean=torch.tensor([one.of_mean for one in times], dtype=torch.float64),
        mean_of=torch.tensor([one.mean_of for one in times], dtype=torch.float64),
        censored=torch.tensor([one.censored for one in times], dtype=torch.float64),
        duration=times[0].duration,
        threshold=level,
    )


def _between(x: Tensor, y: Tensor, at: float) -> float:
    """Piecewise linear y at a place within the rising x."""
    index = int(torch.searchsorted(x, torch.tensor(at, dtype=x.dtype)).clamp(1, max(len(x) - 1, 1)))
    if len(x) == 1:
        return float(y[0])
    low, high = float(x[index - 1]), float(x[index])
    share = 0.0 if high == low else (at - low) / (high - low)
    return float(y[index - 1]) + min(max(share, 0.0), 1.0) * (float(y[index]) - float(y[index - 1]))
