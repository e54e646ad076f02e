"""What a validation finds: rows of a table and pictures of lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

Scale = Literal["quick", "full"]
Style = Literal["line", "points", "exact", "limit"]


@dataclass(frozen=True)
class Row:
    """One number beside what it should be.

    case: the problem; quantity: what was measured. exact: what it should be. error: a positive
    number, in what the quantity says. tolerance: the largest error that is allowed, None for a
    number that is only reported. source: where `exact` or the tolerance comes from. setting: the
    elements and the step. seconds: of one core, of the whole computation behind the row.
    """

    case: str
    quantity: str
    exact: float
    ours: float
    error: float
    tolerance: float | None
    setting: str
    source: str
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """One of "pass", "miss", and "report" where there is no tolerance."""
        if self.tolerance is None:
            return "report"
        return "pass" if self.error <= self.tolerance else "miss"


@dataclass(frozen=True, eq=False)
class Line:
    """Points (n,) of x and y. style: a line, points, the exact solution, or what is allowed."""

    label: str
    x: np.ndarray
    y: np.ndarray
    style: Style = "line"


@dataclass(frozen=True, eq=False)
class Panel:
    """Lines over common axes, which are labelled with units. logarithmic: x and y."""

    axes: tuple[str, str]
    lines: Sequence[Line]
    logarithmic: tuple[bool, bool] = (False, False)


@dataclass(frozen=True, eq=False)
class Picture:
    """Panels one below the other, under a title."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, eq=False)
class Findings:
    """What one case of a validation gives."""

    rows: Sequence[Row]
    pictures: Sequence[Picture] = ()


Case = Callable[[Scale], Findings]


def joined(parts: Sequence[Findings]) -> Findings:
    """All that several computations found, in order."""
    return Findings(
        [row for part in parts for row in part.rows],
        [picture for part in parts for picture in part.pictures],
    )


def timed(compute: Callable[[], Findings]) -> Findings:
    """What a computation finds, with the CPU time that it took in each of its rows."""
    began = time.process_time()
    found = compute()
    spent = time.process_time() - began
    return Findings([replace(row, seconds=spent) for row in found.rows], found.pictures)
