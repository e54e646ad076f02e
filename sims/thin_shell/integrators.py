"""Time integrators, each as a prediction around which a step is a minimisation.

    x+ = argmin  c / (2 h^2) |x - x_hat|^2_M + potential(x) - f . x

with the prediction x_hat and the factor c of the integrator; velocities follow from x+. Damping in
each is that of a mode of angular frequency w.

    implicit-euler  x_hat = x + h v, c = 1; amplitude falls by 1 / sqrt(1 + (w h)^2) a step
    bdf2            x_hat = (4 x - x') / 3 + (8 h v - 2 h v') / 9, c = 9/4, primes one step back;
                    amplitude falls by about (w h)^4 / 4 a step; the first step is implicit Euler
    newmark         x_hat = x + h v + h^2/4 a, c = 4 (beta 1/4, gamma 1/2); keeps the energy of
                    small vibrations, rings after large moves
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import Tensor

from sims.thin_shell.state import State

Integrator = Literal["implicit-euler", "bdf2", "newmark"]
INTEGRATORS = ("implicit-euler", "bdf2", "newmark")


def predict(integrator: Integrator, state: State, time_step: float) -> tuple[Tensor, float]:
    """x_hat (V, 3) [m] and c / h^2 [1/s^2] of the next step."""
    x, v, h = state.positions, state.velocities, time_step
    if integrator == "newmark":
        return x + h * v + h * h / 4 * _acceleration(state), 4 / h**2
    before, speed = state.previous_positions, state.previous_velocities
    if integrator == "bdf2" and before is not None and speed is not None:
        predicted = (4 * x - before) / 3 + (8 * h * v - 2 * h * speed) / 9
        return predicted, 2.25 / h**2
    return x + h * v, 1 / h**2


def advance(
    integrator: Integrator, state: State, time_step: float, predicted: Tensor, positions: Tensor
) -> State:
    """`state` one step on, with the positions (V, 3) that were found; creases are the caller's."""
    x, h = state.positions, time_step
    then = replace(state, positions=positions, time=state.time + h)
    if integrator == "newmark":
        acceleration = 4 / h**2 * (positions - predicted)
        velocities = state.velocities + h / 2 * (_acceleration(state) + acceleration)
        return replace(then, velocities=velocities, accelerations=acceleration)
    if integrator == "bdf2":
        before = state.previous_positions
        if before is None:
            velocities = (positions - x) / h
        else:
            velocities = (3 * positions - 4 * x + before) / (2 * h)
        return replace(
            then,
            velocities=velocities,
            previous_positions=x,
            previous_velocities=state.velocities,
        )
    return replace(then, velocities=(positions - x) / h)


def _acceleration(state: State) -> Tensor:
    if state.accelerations is None:
        return state.positions.new_zeros(state.positions.shape)
    return state.accelerations
