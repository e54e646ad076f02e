"""Errors of fields, overall and by band of wavenumbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.pde.metrics.shells import check_fields, resolved, shell_energy


@dataclass(frozen=True)
class BandErrors:
    """Relative errors, root mean squares over that of the reference.

    overall, bands: over all trajectories at once, sqrt(sum e^2 / sum v^2); each_overall (B,), each
    (B, bands): of each trajectory by itself. edges: the first and last shell of each band.
    """

    overall: float
    bands: tuple[float, ...]
    each_overall: Tensor
    each: Tensor
    edges: tuple[tuple[int, int], ...]


def band_errors(
    states: Tensor,
    reference: Tensor,
    edges: Sequence[tuple[int, int]] | None = None,
    length: float | Sequence[float] | None = None,
) -> BandErrors:
    """nRMSE of fields (B, C, *space), overall and by band of radial wavenumbers.

    edges: the first and last shell of each band, by default the thirds of what the 2/3 rule
    resolves; the mean is in none. length: the edges of the box where they differ, see
    `shell_numbers`. All sums are float64. A field that is not finite has an infinite error; an
    error where the reference has nothing is infinite too.
    Raises InputError where the shapes differ, for a reference that is not finite, and for bands
    that are empty or beyond the grid.
    """
    check_fields("states", states, finite=False)
    check_fields("reference", reference)
    if states.shape != reference.shape:
        raise InputError(
            "states and reference must have the same shape, "
            f"got {tuple(states.shape)} and {tuple(reference.shape)}"
        )
    error = shell_energy(states.detach().double() - reference.detach().double(), length)
    error = torch.where(error.isfinite(), error, torch.inf)
    truth = shell_energy(reference.detach(), length)
    chosen = _checked(edges, truth.shape[1], thirds(states.shape[2:], length))
    parts = [(error[:, a : b + 1].sum(1), truth[:, a : b + 1].sum(1)) for a, b in chosen]
    wrong, right = error.sum(1), truth.sum(1)
    return BandErrors(
        overall=float(_relative(wrong.sum(), right.sum())),
        bands=tuple(float(_relative(e.sum(), v.sum())) for e, v in parts),
        each_overall=_relative(wrong, right),
        each=torch.stack([_relative(e, v) for e, v in parts], 1),
        edges=chosen,
    )


def thirds(
    points: Sequence[int], length: float | Sequence[float] | None = None
) -> tuple[tuple[int, int], ...]:
    """First and last shell of three bands that share what the 2/3 rule resolves: 1-14, 15-28 and
    29-42 for 128 points.
    """
    last = resolved(points, length)
    ends = [0, *(round(last * part / 3) for part in (1, 2, 3))]
    return tuple((low + 1, high) for low, high in pairwise(ends))


def _relative(error: Tensor, truth: Tensor) -> Tensor:
    """Root of the ratio, with 0 / 0 = 0."""
    return torch.where(error > 0, error / truth, 0.0).sqrt()


def _checked(
    edges: Sequence[tuple[int, int]] | None, shells: int, default: tuple[tuple[int, int], ...]
) -> tuple[tuple[int, int], ...]:
    chosen = default if edges is None else tuple((int(low), int(high)) for low, high in edges)
    if not chosen or any(not 0 <= low <= high < shells for low, high in chosen):
        raise InputError(
            f"edges must be pairs (first, last) of shells from 0 to {shells - 1}, got {edges}; "
            "a grid of fewer than 10 points has no thirds"
        )
    return chosen
