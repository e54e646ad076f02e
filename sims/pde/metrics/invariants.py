"""What holds along every solution: means, energies, budgets, and the equation itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from sims.pde.metrics.correlation import check_frame_time
from sims.pde.metrics.shells import check_fields
from sims.pde.spectral.arguments import lengths_of
from sims.pde.spectral.grid import Wavenumbers, dealiasing_mask, wavenumbers
from sims.pde.spectral.navier_stokes import NavierStokes2D
from sims.pde.spectral.stepper import Stepper

_SMALL = 1e-4  # below, three terms of a series are exact to 1e-13


def field_mean(states: Tensor) -> Tensor:
    """Means over space (B, frames, C), float64, of states (B, frames, C, *space)."""
    _check_states(states)
    return states.double().flatten(3).mean(-1)


def field_energy(states: Tensor) -> Tensor:
    """<u^2> / 2 over space, summed over channels, (B, frames), float64.

    Of a vorticity that is the enstrophy. states: (B, frames, C, *space).
    """
    _check_states(states)
    return 0.5 * states.double().square().flatten(3).mean(-1).sum(-1)


def energy_budget(
    stepper: NavierStokes2D, states: Tensor, frame_time: float | Tensor | None = None
) -> Tensor:
    """How far vorticities are from the energy budget of their flow, (B, frames - 2), relative.

    The residual of dE/dt = <f.u> - 2 viscosity Z - 2 drag E, with E = <|u|^2> / 2, Z = <w^2> / 2
    and central differences over frames, over the largest of the four terms at that frame. Of a
    solution it falls with the square of the frame time. states: (B, frames, 1, N_x, N_y).
    frame_time: seconds between frames, () or (B,), by default the stepper's time step.
    Raises InputError for other shapes and fewer than three frames.
    """
    _check_states(states)
    if states.ndim != 5 or states.shape[1] < 3:
        raise InputError(
            "states must have shape (B, frames, 1, N_x, N_y) with at least three frames, "
            f"got {tuple(states.shape)}"
        )
    given = stepper.time_step if frame_time is None else frame_time
    step = check_frame_time(given, len(states)).to(states.device).reshape(-1, 1)
    fields = states.double()
    energy = torch.stack([stepper.energy(field) for field in fields.unbind(1)], 1)
    change = (energy[:, 2:] - energy[:, :-2]) / (2 * step)
    values = _parameters(stepper, 1, states.device)
    lost = 2 * values["viscosity"] * field_energy(states)[:, 1:-1]
    dragged = 2 * values["drag"] * energy[:, 1:-1]
    gained = torch.stack([_injection(stepper, one) for one in fields[:, 1:-1].unbind(1)], 1)
    largest = torch.stack([part.abs() for part in (change, lost, dragged, gained)]).amax(0)
    residual = change - gained + lost + dragged
    return torch.where(largest > 0, residual / largest, 0.0)


def rate_of_change(stepper: Stepper, u: Tensor) -> Tensor:
    """u_t = L u + N(u) of fields (B, C, *space): one evaluation of the right-hand side."""
    waves, values = _setting(stepper, u)
    modes = torch.fft.rfftn(u, dim=_axes(u))
    total = stepper.linear(waves, values).to(modes.dtype) * modes
    total = total + _nonlinear(stepper, modes, waves, values)
    return torch.fft.irfftn(total, s=stepper.points, dim=_axes(u))


def step_residual(
    stepper: Stepper, u: Tensor, following: Tensor, duration: float | Tensor
) -> Tensor:
    """How far a step from u to `following` is from solving the equation, (B,), relative.

    |v' - e^z v - T (phi_1(z) - phi_2(z)) N(v) - T phi_2(z) N(v')| / |v' - v|, z = T L, with
    phi_1 = (e^z - 1) / z and phi_2 = (phi_1 - 1) / z: exact for the linear part, and for an N that
    changes linearly from one end to the other (Cox and Matthews 2002, section 2.1). No truth is
    needed. Of an exact step it falls nearly as duration^2, and tells of errors above that floor
    only: of Kuramoto-Sivashinsky at L = 64, 0.03 of a step of 0.8 s and 0.001 of one of 0.1 s.

    u, following: (B, C, *space). duration: T [s], a number or (B,).
    Raises InputError for shapes and durations that do not fit.
    """
    check_fields("u", u)
    check_tensor("following", following, tuple(u.shape), like=u)
    time = check_frame_time(duration, len(u)).to(u.device).reshape(-1, *[1] * (u.ndim - 1))
    here, there = u.double(), following.double()
    waves, values = _setting(stepper, here)
    before, after = (torch.fft.rfftn(one, dim=_axes(u)) for one in (here, there))
    exponent = time * stepper.linear(waves, values)
    phi_1, phi_2 = _phi(exponent)
    begun, ended = (_nonlinear(stepper, one, waves, values) for one in (before, after))
    forced = time * (phi_1 * begun + phi_2 * (ended - begun))
    left = after - exponent.exp() * before - forced
    sizes = [
        torch.fft.irfftn(one, s=stepper.points, dim=_axes(u)).flatten(1).norm(dim=1)
        for one in (left, after - before)
    ]
    return torch.where(sizes[0] > 0, sizes[0] / sizes[1], 0.0)


def _nonlinear(
    stepper: Stepper, modes: Tensor, waves: Wavenumbers, values: dict[str, Tensor]
) -> Tensor:
    """The modes of N, zeros beyond the dealiasing limit."""
    if stepper.degree == 1:
        return torch.zeros_like(modes)
    kept = stepper.transform.kept
    mask = dealiasing_mask(stepper.points, stepper.degree, modes.device)[..., :kept]
    factors = tuple(
        (factor[..., :kept] * mask).to(modes.dtype) for factor in stepper.factors(waves)
    )
    made = stepper.product(modes[..., :kept] * mask, factors)
    multiplier = stepper.multiplier(waves, values)
    if multiplier is not None:
        made = made * multiplier[..., :kept].to(modes.dtype)
    constant = stepper.constant(modes.device, values)
    if constant is not None:
        made = made + constant[..., :kept].to(modes.dtype)
    return torch.nn.functional.pad(made * mask, (0, modes.shape[-1] - kept))


def _phi(z: Tensor) -> tuple[Tensor, Tensor]:
    """(e^z - 1) / z and (e^z - 1 - z) / z^2."""
    small = z.abs() < _SMALL
    safe = torch.where(small, 1.0, z)
    first = torch.where(small, 1 + z / 2 + z.square() / 6, torch.expm1(safe) / safe)
    series = 0.5 + z / 6 + z.square() / 24
    return first, torch.where(small, series, (torch.expm1(safe) / safe - 1) / safe)


def _setting(stepper: Stepper, u: Tensor) -> tuple[Wavenumbers, dict[str, Tensor]]:
    edges = lengths_of(stepper.length, stepper.dimension, u.device)
    return wavenumbers(edges, stepper.points), _parameters(stepper, u.ndim - 1, u.device)


def _parameters(stepper: Stepper, ones: int, device: torch.device) -> dict[str, Tensor]:
    """The parameters as float64 (B or 1, *ones)."""
    return {
        name: torch.as_tensor(value, dtype=torch.float64, device=device).reshape(-1, *[1] * ones)
        for name, value in stepper.parameters.items()
    }


def _injection(stepper: NavierStokes2D, vorticity: Tensor) -> Tensor:
    """<f.u> = <psi curl f> (B,), of what the dealiasing leaves of the forcing."""
    if stepper.forcing is None:
        return vorticity.new_zeros(len(vorticity))
    waves, _ = _setting(stepper, vorticity)
    modes = torch.fft.rfftn(vorticity, dim=(2, 3))
    stream = torch.where(waves.squared > 0, modes / waves.squared, 0.0)
    force = torch.fft.rfftn(stepper.forcing.to(vorticity), dim=(2, 3))
    force = force * dealiasing_mask(stepper.points, stepper.degree, vorticity.device)
    parts = [torch.fft.irfftn(one, s=stepper.points, dim=(2, 3)) for one in (stream, force)]
    return (parts[0] * parts[1]).mean((1, 2, 3))


def _axes(u: Tensor) -> tuple[int, ...]:
    return tuple(range(2, u.ndim))


def _check_states(states: Any) -> None:
    check_tensor("states", states, finite=False)
    if states.ndim < 4:
        raise InputError(
            f"states must have shape (B, frames, C, *space), got {tuple(states.shape)}"
        )
