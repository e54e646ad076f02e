"""What a solver says about a room: the pressure of a few sources at many receivers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.acoustics.surrogates.domain import Domain

HELD_OUT = (5, 120)  # sources and receivers that an error is measured at
APART = 0.5  # m from the source, from where on err/peak is taken: next to it the peak flatters


class Teacher(Protocol):
    """What a surrogate learns from: a `Solver`, or exact fields."""

    time_step: float

    def times(self, duration: float) -> Tensor:
        """The times (T,) [s] of `simulate`."""
        ...

    def simulate(self, source: Any, receivers: Any, duration: float) -> Tensor:
        """The pressure (R, T) of the default pulse at a source."""
        ...


@dataclass(frozen=True, eq=False)
class Records:
    """sources (S, 3) [m], receivers (R, 3) [m], times (T,) [s], all float64; pressure (S, R, T)."""

    sources: Tensor
    receivers: Tensor
    times: Tensor
    pressure: Tensor


@dataclass(frozen=True)
class Error:
    """How far a surrogate is from the solver on sources that it has not seen.

    relative: L2 norm of the error over that of the pressure, over all sources, receivers and times.
    worst: the same of the worst source. peak: RMS error over the largest pressure, at receivers at
    least 0.5 m from the source. sources, receivers: how many.
    """

    relative: float
    worst: float
    peak: float
    sources: int
    receivers: int

    def __str__(self) -> str:
        return (
            f"relative L2 {self.relative:.2%}, worst source {self.worst:.2%}, "
            f"err/peak {self.peak:.2%} beyond {APART} m"
        )


def sources_in(domain: Domain, count: int, generator: torch.Generator) -> Tensor:
    """Places (count, 3) float64, uniform in the part of the box of sources that is air [m]."""
    return _uniform(domain, domain.source_low, domain.source_high, count, generator)


def places_in_air(domain: Domain, count: int, generator: torch.Generator) -> Tensor:
    """Places (count, 3) float64, uniform in the air of the box of receivers [m]."""
    return _uniform(domain, *domain.heard, count, generator)


def record(
    teacher: Teacher, sources: Tensor, receivers: Tensor, duration: float, every: int = 1
) -> Records:
    """The pressure of pulses at all sources, at each `every`-th of the teacher's times."""
    pressure = list(stream(teacher, sources, receivers, duration, every))
    times = teacher.times(duration)[::every]
    return Records(sources, receivers, times, torch.stack(pressure))


def stream(
    teacher: Teacher, sources: Tensor, receivers: Tensor, duration: float, every: int = 1
) -> Iterator[Tensor]:
    """The pressure (R, T) of one source after another, as `record`."""
    for source in sources:
        yield teacher.simulate(source, receivers, duration)[:, ::every].detach().cpu()


def error_of(predicted: Tensor, records: Records) -> Error:
    """The error of pressure (S, R, T) against records."""
    exact = records.pressure.double()
    error = predicted.double() - exact
    by_source = error.square().sum((1, 2)) / exact.square().sum((1, 2))
    far = apart(records.sources, records.receivers)
    return Error(
        float(error.norm() / exact.norm()),
        float(by_source.max().sqrt()),
        float(error[far].square().mean().sqrt() / exact[far].abs().max()),
        len(records.sources),
        len(records.receivers),
    )


def apart(sources: Tensor, receivers: Tensor) -> Tensor:
    """Which receivers (R, 3) are at least 0.5 m from sources (S, 3), (S, R) bool.

    Raises InputError where none is.
    """
    far = torch.cdist(sources, receivers) >= APART
    if not far.any():
        raise InputError(
            f"receivers must have some beyond {APART} m from a source, got none; "
            "take a larger box of receivers"
        )
    return far


def _uniform(
    domain: Domain, low: Tensor, high: Tensor, count: int, generator: torch.Generator
) -> Tensor:
    found = low.new_zeros(0, 3)
    for _ in range(100):
        shares = torch.rand(2 * count, 3, generator=generator, dtype=torch.float64)
        drawn = low + (high - low) * shares
        found = torch.cat([found, drawn[domain.in_air(drawn)]])
        if len(found) >= count:
            return found[:count]
    raise InputError(f"places from {low.tolist()} to {high.tolist()} m must have air around them")
