"""What a validation finds: rows of a table, curves beside their reference, deformed shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

Scale = Literal["quick", "full"]


@dataclass(frozen=True)
class Row:
    """One number beside its reference.

    case: the problem and its load; quantity: what was measured. error: (ours - reference) over the
    size of the reference, or over another stated size where the reference is zero. tolerance: the
    error that is allowed in size, None for a number that is only reported. mesh: as "16x1".
    iterations: Newton iterations an increment or time step, the mean of the whole computation;
    seconds: that the whole computation took.
    """

    case: str
    quantity: str
    reference: float
    ours: float
    error: float
    tolerance: float | None
    mesh: str
    iterations: float
    seconds: float

    @classmethod
    def of(
        cls,
        case: str,
        quantity: str,
        reference: float,
        ours: float,
        tolerance: float | None,
        mesh: str,
        iterations: float,
        seconds: float,
        size: float | None = None,
    ) -> Row:
        """A row with its error; size: what the error is measured by, the reference by default."""
        error = (ours - reference) / abs(reference if size is None else size)
        return cls(case, quantity, reference, ours, error, tolerance, mesh, iterations, seconds)

    @property
    def verdict(self) -> str:
        """One of "pass", "miss", and "report" where there is no tolerance."""
        if self.tolerance is None:
            return "report"
        return "pass" if abs(self.error) <= self.tolerance else "miss"


@dataclass(frozen=True, eq=False)
class Curve:
    """Points of ours beside those of a reference.

    name: of the picture; curves of one name share it. axes: labels of x and y with units; ours,
    reference (n, 2); source: where the reference comes from; quantity: which curve of the picture;
    logarithmic: both axes.
    """

    name: str
    axes: tuple[str, str]
    ours: np.ndarray
    reference: np.ndarray
    source: str
    quantity: str = ""
    logarithmic: bool = False


@dataclass(frozen=True, eq=False)
class Shape:
    """A deformed sheet to look at: vertices (V, 3) [m], faces (F, 3) and what it shows."""

    name: str
    vertices: Tensor
    faces: Tensor


@dataclass(frozen=True, eq=False)
class Findings:
    """What one case of a validation gives."""

    rows: Sequence[Row]
    curves: Sequence[Curve] = ()
    shapes: Sequence[Shape] = ()


Case = Callable[[Scale], Findings]


def joined(parts: Sequence[Findings]) -> Findings:
    """All that several computations found, in order."""
    return Findings(
        [row for part in parts for row in part.rows],
        [curve for part in parts for curve in part.curves],
        [shape for part in parts for shape in part.shapes],
    )
