"""How far chance explains a figure: the bootstrap over trajectories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from sims.pde.metrics.correlation import check_threshold


@dataclass(frozen=True)
class Interval:
    """An estimate with the percentile interval of its resamples, and their standard deviation."""

    estimate: float
    low: float
    high: float
    deviation: float
    level: float

    def __str__(self) -> str:
        return f"{self.estimate:.4g} [{self.low:.4g}, {self.high:.4g}] at {self.level:.0%}"


def bootstrap(
    values: Tensor,
    summary: Callable[[Tensor], float | Tensor] | None = None,
    *,
    generator: torch.Generator,
    samples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """A summary of values (B, ...), the mean over all by default, and how far it is chance.

    Trajectories are drawn with replacement, `samples` times (Efron and Tibshirani 1993, chapter
    13). summary: from values of drawn trajectories to a number, for example the horizon of
    correlations (B, frames). Raises InputError for fewer than two trajectories.
    """
    rows = _checked("values", values, samples, level)
    measure = _mean if summary is None else summary
    return _interval(lambda drawn: measure(values[drawn]), rows, generator, samples, level)


def paired_bootstrap(
    first: Tensor,
    second: Tensor,
    compare: str = "ratio",
    summary: Callable[[Tensor], float | Tensor] | None = None,
    *,
    generator: torch.Generator,
    samples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """summary(first) / summary(second), or their difference, of values (B, ...) of the same
    trajectories.

    Both are resampled together, so that what a trajectory does to both of them cancels. compare:
    "ratio" or "difference". Other arguments as for `bootstrap`. Raises InputError for unlike
    numbers of trajectories.
    """
    rows = _checked("first", first, samples, level)
    if _checked("second", second, samples, level) != rows:
        raise InputError(
            "first and second must be of the same trajectories, "
            f"got {rows} and {len(second)} of them"
        )
    if compare not in ("ratio", "difference"):
        raise InputError(f"compare must be ratio or difference, got {compare!r}")
    measure = _mean if summary is None else summary

    def compared(drawn: Tensor) -> float:
        one, two = float(measure(first[drawn])), float(measure(second[drawn]))
        if compare == "difference":
            return one - two
        return one / two if two else float("nan") if one == 0 else float("inf")

    return _interval(compared, rows, generator, samples, level)


def _interval(
    measure: Callable[[Tensor], float | Tensor],
    rows: int,
    generator: torch.Generator,
    samples: int,
    level: float,
) -> Interval:
    drawn = torch.randint(rows, (samples, rows), generator=generator, device=generator.device)
    found = torch.tensor([float(measure(one)) for one in drawn], dtype=torch.float64)
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.quantile(found, tails).tolist()
    estimate = float(measure(torch.arange(rows, device=generator.device)))
    return Interval(estimate, low, high, float(found.std()), level)


def _mean(values: Tensor) -> Tensor:
    return values.double().mean()


def _checked(name: str, values: Tensor, samples: int, level: float) -> int:
    check_tensor(name, values, finite=False)
    if not values.ndim or len(values) < 2:
        raise InputError(f"{name} must have at least two trajectories, got {tuple(values.shape)}")
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 2:
        raise InputError(f"samples must be an integer of at least 2, got {samples!r}")
    check_threshold(level, "level")
    return len(values)
