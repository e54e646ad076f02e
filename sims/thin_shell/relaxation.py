"""Static solutions that full Newton steps do not reach, by motion that is damped away.

A limp sheet that a support lets hang turns by a right angle and more before its forces balance, and
no Newton step foresees that. So it is let go: each move is an implicit step from rest,

    argmin potential(x) + inertia / 2 |x - x_before|^2,

which always lowers the potential. Inertia starts where the loads move nothing farther than a share
of the scene, falls after a move that was easy and grows after one that failed, until the moves are
small; then Newton's method ends it. (Pseudo-transient continuation, Kelley and Keyes 1998.)
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from geomopt.linear import SingularMatrix
from sims.thin_shell.newton import RESIDUAL, NotConverged, Solution, solve
from sims.thin_shell.system import System

MOVES = 50  # before it is given up
FIRST = 0.03  # of the size of the scene: how far the first move may go
EASY = 8  # factorisations; a move that took no more lets inertia fall twice as fast
FALLS, GROWS = 4.0, 8.0
FAILURES = 8  # in a row
NEAR = 0.02  # of the size: a move so small asks whether the end is in reach
ROUGH = 1e-5  # of the size: tolerance of a move
ROUGH_FORCE = 1e-3  # of the largest force of an element: what a move may leave
FULL = ("extrapolated", "full")


def settle(system: System, start: Tensor, targets: Tensor, tolerance: float) -> Solution:
    """The static solution next to `start`, see `newton.solve`: by full steps, from a saddle by
    guarded ones, else by motion, and from where that gets stuck by capped steps. Raises
    NotConverged."""
    spent, saddle = 0, None
    for stages in (_first(system), ("guarded",)):
        try:
            found = solve(system, start, targets, tolerance, stages)
        except NotConverged as error:
            spent += error.iterations
            if system.model.plastic:
                continue  # yield makes full steps hop, but a line search sees its convex potential
            break
        spent += found.iterations
        if found.stable:
            return found._replace(iterations=spent)
        saddle = found
    here, more = _let_go(system, start, targets, tolerance)
    spent += more
    if isinstance(here, Solution):
        return here._replace(iterations=spent, stage="relaxed")
    if saddle is not None:
        return saddle._replace(iterations=spent)
    last = "capped" if system.touching is None else "guarded"
    found = solve(system, here, targets, tolerance, (last,))
    return found._replace(iterations=found.iterations + spent)


def _first(system: System) -> tuple[str, ...]:
    """Stages that take few steps where they succeed."""
    return FULL if system.touching is None else ("watched",)


def _let_go(
    system: System, start: Tensor, targets: Tensor, tolerance: float
) -> tuple[Solution | Tensor, int]:
    """The stable solution where the motion ends, or the unknowns where it got stuck; iterations."""
    model = system.model
    mass = torch.zeros_like(start)
    mass[: 3 * len(model.mass)] = model.mass.detach().repeat_interleave(3)
    inertia = _first_inertia(system, mass)
    here, failures, spent, energy = start, 0, 0, torch.inf

    def tried(system: System, tolerance: float, allowed: float) -> Solution | None:
        nonlocal spent
        try:
            found = solve(system, here, targets, tolerance, _first(system), allowed)
        except NotConverged as error:
            spent += error.iterations
            return None
        spent += found.iterations
        return found if found.stable else None

    for _ in range(MOVES):
        damped = replace(system, inertia=inertia * mass, predicted=here)
        found = None
        if _convex(damped.around(here), here):
            found = tried(damped, ROUGH * model.size, ROUGH_FORCE)
        if found is None or not damped.around(found.unknowns).value(found.unknowns) <= energy:
            inertia, failures = GROWS * inertia, failures + 1
            if failures == FAILURES:
                break
            continue
        moved = float((found.unknowns - here)[: 3 * len(model.mass)].abs().amax())
        here, failures, energy = (
            found.unknowns,
            0,
            system.around(found.unknowns).value(found.unknowns),
        )
        if moved <= NEAR * model.size:
            end = tried(system, tolerance, RESIDUAL)
            if end is not None:
                return end, spent
        inertia /= FALLS**2 if found.iterations <= EASY else FALLS
    return here, spent


def _convex(system: System, here: Tensor) -> bool:
    """Whether the Hessian is definite: a move from elsewhere could jump over to another valley."""
    matrices = system.assemble(here, 2).matrices
    try:
        factor = system.solver.factorise(system.pattern.assemble(matrices, system.inertia))
    except SingularMatrix:
        return False
    return factor.negative_pivots == 0


def _first_inertia(system: System, mass: Tensor) -> float:
    """Inverse time step squared [1/s^2] at which loads move nothing farther than `FIRST`."""
    model, heavy = system.model, mass > 0
    pull = float((system.loads.abs()[heavy] / mass[heavy]).amax())
    # without loads, the rate at which the scene as a whole would bend back
    bending = float(model.values["stiffness"].detach().abs().amax())
    slow = bending / (float(model.mass.detach().sum()) * model.size**2)
    return max(pull / (FIRST * model.size), slow)
