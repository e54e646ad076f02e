"""Full Newton steps that are watched: the potential may rise for a step or two, and no longer.

A good step of a stiff sheet stretches its elements at second order, and the next takes that away
(see `newton`), while a bad one, as through a buckling point or into what touches, leads nowhere.
Both raise the potential; two more steps tell them apart. If by then the potential is not below
that of the best state so far, the next state is on the line that led away from the best one, where
the potential falls (Chamberlain, Powell, Lemarechal and Pedersen 1982, The watchdog technique).

Steps end before surfaces pass through each other. What is driven and comes no farther in several
steps is blocked.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from geomopt.linear import Factor, IterativeFactor, SingularMatrix
from sims.thin_shell.descent import TURN, Descent, direction, solved
from sims.thin_shell.judge import (
    BLIND,
    FAR,
    SHORTEST,
    STUCK,
    SUFFICIENT,
    Blocked,
    Judge,
    Progress,
    Solution,
)
from sims.thin_shell.system import System

LIMIT = 100  # factorisations
CLOSE = 1e-2  # of the thickness: a full step so small lets its factor serve again
SHRINKING = 0.1  # of the step before: what a step with an old factor may be
RESTING = 1e-13  # of the size of the scene: held ones that move less are not driven
WATCH = 2  # states in a row with more potential than the best
DOUBT = 3  # directions by projected matrices after one that was not definite
BARRED = 1e-2  # share of a step: less makes no way
TIGHT = 1e-4  # of the range of a pair: room in which no drive ends
TRIES = 6  # steps in a row that make no way


class _Best(NamedTuple):
    """The state with the least potential, and the step that was taken from it."""

    unknowns: Tensor
    value: float
    increment: Tensor
    share: float
    slope: float


def watched(
    system: System, start: Tensor, targets: Tensor, judge: Judge, stage: str = "watched"
) -> Progress:
    """Minimise the potential, see `newton.solve`. Raises Blocked."""
    model, tolerance = system.model, judge.tolerance
    unknowns, shift = start, torch.where(model.free, 0.0, targets - start)
    driven = judge.move(shift) > RESTING * model.size
    step, residual, count, stable, pivot = torch.inf, torch.inf, 0, True, 0.0
    descent, doubt, stuck, barred = Descent(), 0, 0, 0
    factor: Factor | IterativeFactor | None = None
    best: _Best | None = None
    watch, worse = WATCH, 0
    ahead: dict[int, Tensor] = {}

    def report(converged: bool, reason: str = "") -> Progress:
        solution = Solution(unknowns, count, residual, step, stage, stable, pivot)
        return Progress(solution, converged, reason)

    while True:
        system, before = system.around(unknowns), system
        if system is not before:
            factor = None  # of another pattern
        again = factor is not None and step <= CLOSE * model.thickness
        found = system.assemble(unknowns, 1 if again else 2, doubt > 0, ahead, roughly=True)
        residual, small, noisy = judge.residual(found.gradient, found.scale)
        if count > 0 and not driven and (noisy or (step <= tolerance and small)):
            if stable:
                return report(True)
            doubt, stuck = 0, stuck + 1  # a saddle, or nobody knows
        if stuck == STUCK:
            return report(False, "nothing pushes it off a saddle")
        if count == LIMIT:
            return report(False, f"last move {step:.1e} m, residual {residual:.1e} after {count}")

        seen = BLIND * float(found.scale.amax()) * model.size
        good = best is None or found.value <= _enough(best, best.share) + seen
        worse = 0 if good else worse + 1
        if best is not None and worse > watch:
            moved = _fallen(system, best, seen)
            if moved is None:
                return report(False, f"no step lowers the potential (residual {residual:.1e})")
            unknowns, step = moved, judge.move(moved - best.unknowns)
            factor, best, watch, worse = None, None, 0, 0
            continue

        if again and factor is not None:
            increment = solved(system, factor, -found.gradient, shift)
            moved = judge.move(increment)  # 0 where directors alone are free
            if 0 < moved <= SHRINKING * step and system.share(unknowns, increment) == 1:
                ahead = system.foreseen(unknowns, increment, ahead)
                unknowns, step = unknowns + increment, moved
                continue
            found = system.assemble(unknowns, 2, doubt > 0, ahead, roughly=True)
        values = system.pattern.assemble(found.matrices, system.inertia)
        increment, projected = None, doubt > 0
        try:
            increment, factor = direction(system, found, values, shift)
            stable, pivot = factor.negative_pivots == 0, factor.smallest_pivot
        except SingularMatrix:
            stable, pivot = False, 0.0
        if not stable:
            increment, doubt = descent(system, unknowns, found, values, shift, ahead), DOUBT
        elif projected:
            stable, doubt = False, doubt - 1
        if increment is None:
            return report(False, "no direction of descent")

        count += 1
        ahead = system.foreseen(unknowns, increment, ahead)
        moved = judge.move(increment)
        if not moved < FAR * model.size:
            return report(False, f"the steps diverge (last move {moved:.1e} m)")
        share = system.share(unknowns, increment)
        stopped = driven and (share < BARRED or (share < 1 and system.room(unknowns) < TIGHT))
        barred = barred + 1 if stopped else 0
        if barred >= TRIES:
            words = system.barrier(unknowns, increment)
            if words:
                raise Blocked(words, count)
        if not stable and not driven:
            share = min(share, TURN / max(model.largest_turn(increment), 1e-300))
        if not stable or share < 1:
            factor = None
        if good and not driven:
            slope = float(found.gradient @ increment)
            best = _Best(unknowns, found.value, increment, share, slope)
            watch = WATCH if share == 1 else watch
        unknowns = unknowns + share * increment
        step, shift = share * moved, (1 - share) * shift
        driven = share < 1 and driven


def _enough(best: _Best, share: float) -> float:
    """The potential that a share of the step from the best state should reach (Armijo)."""
    return best.value + SUFFICIENT * share * best.slope


def _fallen(system: System, best: _Best, seen: float) -> Tensor | None:
    """A state on the way from the best one where the potential is lower, None where none is."""
    share = best.share / 2
    while share > SHORTEST:
        moved = best.unknowns + share * best.increment
        if system.around(moved).value(moved) <= _enough(best, share) + seen:
            return moved
        share /= 2
    return None
