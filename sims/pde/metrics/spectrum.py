"""Energy by wavenumber, and how far a forecast's is from the truth's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.pde.metrics.shells import check_fields, resolved, shell_energy

_FLOOR = 1e-20  # of the total energy: less is rounding


def energy_spectrum(
    u: Tensor, length: float | Sequence[float] = 2 * math.pi
) -> tuple[Tensor, Tensor]:
    """Wavenumbers (shells,) [rad per length] and energies (B, shells) of fields (B, C, *space).

    E_m = sum of |u_hat_k|^2 / N^2 over the modes with |k| L / (2 pi) nearest to m, both k and -k,
    and over channels, in float64; all shells sum up to <u^2>. For a velocity in space that is twice
    the kinetic energy. length: the edge of the box, or one for each axis, the longest of which is
    the L above. Differentiable. Raises InputError for other shapes and values that are not finite.
    """
    check_fields("u", u)
    energy = shell_energy(u, length)
    longest = float(max(length)) if isinstance(length, Sequence) else float(length)
    numbers = torch.arange(energy.shape[1], dtype=torch.float64, device=u.device)
    return 2 * math.pi / longest * numbers, energy


def spectrum_error(
    states: Tensor, reference: Tensor, length: float | Sequence[float] | None = None
) -> float:
    """Mean of |log10 E_m / E_m^ref| over the resolved shells m >= 1.

    Both spectra are first averaged over all fields (B, C, *space), whose number may differ: the
    statistics are compared, not the fields. 0.3 means off by a factor of two on average. Shells
    where the reference has less than 1e-20 of its energy are left out; where the forecast has
    nothing the error is infinite. Fields of `states` that are not finite are left out; infinite if
    none remains. Raises InputError for fields of other sizes.
    """
    check_fields("states", states, finite=False)
    check_fields("reference", reference)
    if states.shape[1:] != reference.shape[1:]:
        raise InputError(
            "states and reference must have fields of the same shape, "
            f"got {tuple(states.shape[1:])} and {tuple(reference.shape[1:])}"
        )
    kept = states[torch.isfinite(states).flatten(1).all(1)]
    if not len(kept):
        return math.inf
    last = resolved(states.shape[2:], length)
    found, wanted = (shell_energy(u.detach(), length).mean(0) for u in (kept, reference))
    counts = wanted[1 : last + 1] > _FLOOR * wanted.sum()
    if not bool(counts.any()):
        raise InputError("reference must have energy in the resolved wavenumbers above the mean")
    ratio = found[1 : last + 1][counts] / wanted[1 : last + 1][counts]
    return float(ratio.log10().abs().mean())
