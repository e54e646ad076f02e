"""Newton's method for shells: full steps first, guarded ones where they fail.

A full step turns elements and so stretches them at second order: the energy of a stiff sheet jumps
by orders of magnitude after a good step, and the next one takes that away. A line search on the
energy would cut the good step. So the stages are

    extrapolated    full steps; the geometric stiffness uses the stress that the last linear step
                    foresaw (Magisano, Leonetti and Garcea 2017, mixed integration points)
    full            full steps with the plain Hessian
    capped          the same, but none turns an edge by more than half a radian
    guarded         steps of bounded turn along a direction of descent, halved until the potential
                    falls (Armijo); the Hessian is changed only when it is not definite
    watched         full steps, or steps along a direction of descent, as long as the potential
                    falls within a few, see `watched`: where surfaces may touch, with guarded after

and a stage starts where the first one started, but after `watched` where that ended. Unknowns that
are held move to where they are driven in the first linear solve, which carries the others along.
When a full step has moved no vertex by more than a small part of the thickness, its factor serves
for the next ones, which then cost a gradient and a solve, as long as they shrink fast. (An old
factor knows old directions of the elements. After a move m it takes a share m / h of the next step
for stretch, over cells of size h, and that weighs 12 (m / thickness)^2 beside bending.)

Where surfaces may touch, each step ends before one would pass through another, and what is near
then is among the elements of the next step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from geomopt.linear import SingularMatrix
from sims.thin_shell.descent import TURN, Descent, direction, solved
from sims.thin_shell.judge import (
    BLIND,
    CLOSE,
    FAR,
    SHORTEST,
    SHRINKING,
    STUCK,
    SUFFICIENT,
    Judge,
    NotConverged,
    Progress,
    Solution,
)
from sims.thin_shell.system import System
from sims.thin_shell.watched import watched

ITERATIONS = {"extrapolated": 12, "full": 20, "capped": 60, "guarded": 250}
STAGES = ("extrapolated", "full", "guarded", "capped")
TOUCHING = ("watched", "guarded")
SURE = 1e-3  # of the tolerance: what the last step must be when its factor is an old one
RESIDUAL = 1e-8  # of the largest force of an element
LAX = 1e-2  # the same for a tolerance of one thickness, where that gives more
LOST = 0.1  # rad: extrapolated steps that turn more than this and than the first one diverge


def solve(
    system: System,
    start: Tensor,
    targets: Tensor,
    tolerance: float,
    stages: Sequence[str] | None = None,
    allowed: float = RESIDUAL,
) -> Solution:
    """Minimise the potential from `start` (size,), with held unknowns at `targets` (size,).

    tolerance [m]: the largest last move of a vertex. stages: those that suit the scene by default.
    allowed: residual, of the largest force of an element. A solution of full steps that is a saddle
    is tried again with guarded steps. Raises NotConverged, and Blocked where nothing can move.
    """
    if stages is None:
        stages = STAGES if system.touching is None else TOUCHING
    saddle: Solution | None = None
    spent, tried = 0, []
    for stage in stages:
        if saddle is not None and stage != "guarded":
            continue
        run = {"guarded": _guarded, "watched": watched}.get(stage, _full_steps)
        lax = LAX * tolerance / system.model.thickness if stage == "watched" else 0.0
        judge = Judge(system, tolerance, max(allowed, lax))
        found, converged, reason = run(system, start, targets, judge, stage)
        spent += found.iterations
        if stage == "guarded" and converged and found.step > tolerance:
            # a line search cannot see the last digits of the potential, full steps need not
            judge = Judge(system, tolerance, allowed)
            close = _full_steps(system, found.unknowns, targets, judge, "full")
            spent += close.solution.iterations
            if close.converged and close.solution.stable == found.stable:
                found = close.solution._replace(stage=stage)
        found = found._replace(iterations=spent)
        if not converged:
            tried.append(f"{stage}: {reason}")
            if stage == "watched":
                start = found.unknowns  # it has come nearer, and through nothing
            continue
        if found.stable or saddle is not None or "guarded" not in stages:
            return found
        saddle = found
    if saddle is not None:
        return saddle._replace(iterations=spent)
    raise NotConverged(
        f"Newton's method did not converge in {spent} iterations ({'; '.join(tried)}): "
        "take a smaller time step or load increment",
        spent,
    )


def _full_steps(
    system: System,
    start: Tensor,
    targets: Tensor,
    judge: Judge,
    stage: str,
) -> Progress:
    model, tolerance = system.model, judge.tolerance
    unknowns, shift = start, torch.where(model.free, 0.0, targets - start)
    driven = bool(shift.any())
    extrapolated: dict[int, Tensor] = {}
    step, residual, iteration, factor = torch.inf, torch.inf, 0, None
    enough, first_turn = tolerance, torch.inf
    ahead: dict[int, Tensor] = {}

    def report(converged: bool, reason: str = "") -> Progress:
        negative = factor.negative_pivots if factor is not None else 0
        pivot = factor.smallest_pivot if factor is not None else 0.0
        solution = Solution(unknowns, iteration, residual, step, stage, negative == 0, pivot)
        return Progress(solution, converged, reason)

    while True:
        near = iteration > 0 and step <= enough
        system, before = system.around(unknowns), system
        if system is not before:
            factor = None  # of another pattern
        again = factor is not None and (near or step <= CLOSE * model.thickness)
        found = system.assemble(unknowns, 1 if again else 2, extrapolated=extrapolated | ahead)
        residual, small, noisy = judge.residual(found.gradient, found.scale)
        if not math.isfinite(found.value):
            return report(False, "the potential is not finite")
        if iteration > 0 and not driven and (noisy or (near and small)):
            return report(True)
        if iteration == ITERATIONS[stage]:
            return report(
                False, f"last move {step:.1e} m, residual {residual:.1e} after {iteration}"
            )
        try:
            if factor is not None and again:
                increment = solved(system, factor, -found.gradient, shift)
                moved = judge.move(increment)  # 0 where directors alone are free
                if 0 < moved <= SHRINKING * step and system.share(unknowns, increment) == 1:
                    ahead = system.foreseen(unknowns, increment, ahead)
                    unknowns, extrapolated = unknowns + increment, {}
                    step, enough = moved, SURE * tolerance
                    continue
                found = system.assemble(unknowns, 2, extrapolated=extrapolated | ahead)
            values = system.pattern.assemble(found.matrices, system.inertia)
            increment, factor = direction(system, found, values, shift)
        except SingularMatrix as error:
            return report(False, str(error))
        enough = tolerance
        if stage == "extrapolated":
            turn = model.largest_turn(increment)
            if turn > max(first_turn, LOST):
                return report(False, f"turns of {turn:.1g} rad, more than the first")
            if iteration == 0:
                first_turn = turn
            extrapolated = system.strains(unknowns, increment)
        if stage == "capped" and not driven:
            increment = increment * min(1.0, TURN / max(model.largest_turn(increment), 1e-300))
        ahead = system.foreseen(unknowns, increment, ahead)
        share = system.share(unknowns, increment)
        unknowns = unknowns + share * increment
        # a step that was cut short is none by which a solution could be known
        step, shift = judge.move(increment), (1 - share) * shift
        driven = share < 1 and driven
        iteration += 1
        if not step < FAR * model.size:
            return report(False, f"the steps diverge (last move {step:.1e} m)")


def _guarded(
    system: System,
    start: Tensor,
    targets: Tensor,
    judge: Judge,
    stage: str,
) -> Progress:
    model, tolerance = system.model, judge.tolerance
    unknowns, shift = start, torch.where(model.free, 0.0, targets - start)
    driven = bool(shift.any())
    step, residual, iteration, stable, pivot = torch.inf, torch.inf, 0, True, 0.0
    descent, before, stuck = Descent(), torch.inf, 0
    ahead: dict[int, Tensor] = {}

    def report(converged: bool, reason: str = "") -> Progress:
        solution = Solution(unknowns, iteration, residual, step, stage, stable, pivot)
        return Progress(solution, converged, reason)

    while iteration < ITERATIONS[stage]:
        system = system.around(unknowns)
        found = system.assemble(unknowns, 2, extrapolated=ahead)
        residual, small, noisy = judge.residual(found.gradient, found.scale)
        if not math.isfinite(found.value):
            return report(False, "the potential is not finite")
        ended = iteration > 0 and not driven and (noisy or (step <= tolerance and small))
        if ended and stable:
            return report(True)
        stuck = stuck + 1 if ended and step <= 2 * before else 0
        if stuck == STUCK:
            return report(False, "nothing pushes it off a saddle")
        before = step
        values = system.pattern.assemble(found.matrices, system.inertia)
        increment = None
        try:
            increment, factor = direction(system, found, values, shift)
            stable, pivot = factor.negative_pivots == 0, factor.smallest_pivot
        except SingularMatrix:
            stable, pivot = False, 0.0
        if not stable:
            increment = descent(system, unknowns, found, values, shift, ahead)
        if increment is None:
            return report(False, "no direction of descent")
        slope = float(found.gradient @ increment)
        if slope >= 0 and not driven:
            return report(small, "no direction of descent")
        iteration += 1
        ahead = system.foreseen(unknowns, increment, ahead)
        share = system.share(unknowns, increment)
        if driven:
            driven = share < 1  # the potential before the drive was that of another problem
        else:
            share = min(share, TURN / max(model.largest_turn(increment), 1e-300))
            seen = BLIND * float(found.scale.amax()) * model.size
            while not (
                system.around(unknowns + share * increment).value(unknowns + share * increment)
                <= found.value + SUFFICIENT * share * slope + seen
            ):
                share /= 2
                if share < SHORTEST:
                    return report(False, f"no step lowers the potential (residual {residual:.1e})")
        unknowns = unknowns + share * increment
        step, shift = share * judge.move(increment), (1 - share) * shift
    return report(False, f"last move {step:.1e} m, residual {residual:.1e} after {iteration}")
