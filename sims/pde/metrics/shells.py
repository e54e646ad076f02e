"""Shells of modes: the fields of one, two or three axes sorted by radial wavenumber."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from sims.pde.spectral.grid import kept_columns, mode_numbers


def shell_numbers(
    points: Sequence[int],
    length: float | Sequence[float] | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """The shell of each mode of torch.fft.rfftn, the whole number nearest to |k| L / (2 pi).

    L is the longest edge of the box; length: the edges, of which only the ratios count, None for
    equal ones. Returns int64 of the shape of the modes. Raises InputError for edges that are not
    positive, or not one for each axis.
    """
    sizes = tuple(int(count) for count in points)
    edges = _edges(length, len(sizes))
    longest = max(edges)
    square = torch.zeros((), dtype=torch.float64, device=device)
    modes = mode_numbers(sizes, torch.device(device))
    for numbers, edge in zip(modes, edges, strict=True):
        square = square + (numbers * (longest / edge)).square()
    return (square.sqrt() + 0.5).floor().long()  # a half goes up, on all axes alike


def resolved(points: Sequence[int], length: float | Sequence[float] | None = None) -> int:
    """The last shell all of whose modes are below the 2/3 limit, m < N / 3 on each axis."""
    edges = _edges(length, len(points))
    longest = max(edges)
    return min(
        round((kept_columns(count, 2) - 1) * longest / edge)
        for count, edge in zip(points, edges, strict=True)
    )


def shell_energy(u: Tensor, length: float | Sequence[float] | None = None) -> Tensor:
    """Energy |u_hat|^2 / N^2 by shell of fields (B, C, *space), summed over channels.

    Returns (B, shells), float64. N is the number of points, and both k and -k count, so that all
    shells, the corners among them, sum up to <u^2> (Parseval); white noise of standard deviation s
    has s^2 / N in each of a shell's modes. length: see `shell_numbers`.
    """
    points = tuple(u.shape[2:])
    axes = tuple(range(2, u.ndim))
    shells = shell_numbers(points, length, u.device)
    modes = torch.fft.rfftn(u.double(), dim=axes, norm="forward")
    # a mode of the half spectrum stands for its mirror image too, unless it is that itself
    weight = torch.full((modes.shape[-1],), 2.0, dtype=torch.float64, device=u.device)
    weight[0] = 1.0
    if points[-1] % 2 == 0:
        weight[-1] = 1.0
    energy = (modes.real.square() + modes.imag.square()) * weight
    sums = torch.zeros((len(u), int(shells.max()) + 1), dtype=torch.float64, device=u.device)
    return sums.index_add(1, shells.flatten(), energy.sum(1).flatten(1))


def check_fields(name: str, u: Tensor, *, finite: bool = True) -> None:
    """Raise InputError unless u is (B, C, *space) with one to three axes of space."""
    check_tensor(name, u, finite=finite)
    if not 3 <= u.ndim <= 5 or not u.numel():
        raise InputError(
            f"{name} must have shape (B, C, *space) with 1 to 3 axes of space, got {tuple(u.shape)}"
        )


def _edges(length: float | Sequence[float] | None, dimension: int) -> tuple[float, ...]:
    if length is None:
        return (1.0,) * dimension
    given = length if isinstance(length, Sequence) else (length,) * dimension
    try:
        edges = tuple(float(edge) for edge in given)
    except (TypeError, ValueError):
        edges = ()
    if len(edges) != dimension or not all(0 < edge < float("inf") for edge in edges):
        raise InputError(
            f"length must be positive, one number or {dimension} of them, got {length!r}"
        )
    return edges
