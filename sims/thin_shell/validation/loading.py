"""Equilibria along a growing load, and the name of a mesh in a table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from sims.thin_shell.simulator import Simulator
from sims.thin_shell.state import State


class Path(NamedTuple):
    """Equilibria at some shares of a load; mean Newton iterations an increment; seconds of all."""

    states: list[State]
    iterations: float
    seconds: float


def follow(
    simulator: Simulator,
    shares: Sequence[float],
    loads: Tensor | None = None,
    moments: Tensor | None = None,
) -> Path:
    """The equilibria at these shares of loads (V, 3) [N] and moments (E,) [N m], one by one.

    What compiling takes is not in the seconds: making the start has done it.
    """
    state: State | None = None
    simulator.initial_state()
    states, counts, began = [], [], time.perf_counter()
    for share in shares:
        state = simulator.equilibrium(
            loads=None if loads is None else share * loads,
            moments=None if moments is None else share * moments,
            start=state,
        )
        states.append(state)
        counts += [solution.iterations for solution in state.solutions]
    return Path(states, sum(counts) / len(shares), time.perf_counter() - began)


def mesh_name(cells: tuple[int, int]) -> str:
    """A mesh of so many cells in the words of a table."""
    return f"{cells[0]}x{cells[1]}"
