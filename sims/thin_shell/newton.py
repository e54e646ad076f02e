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

and a stage starts where the first one started. Unknowns that are held move to where they are driven
in the first linear solve, which carries the others along. When a full step has moved no vertex by
more than a small part of the thickness, its factor serves for the next ones, which then cost a
gradient and a solve, as long as they shrink fast. (An old factor knows old directions of the
elements. After a move m it takes a share m / h of the next step for stretch, over cells of size h,
and that weighs 12 (m / thickness)^2 beside bending.)

Where surfaces may touch, each step ends before one would pass through another, and what is near
then is among the elements of the next step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from geomopt.linear import Factor, IterativeFactor, SingularMatrix
from sims.thin_shell.system import Assembled, System

ITERATIONS = {"extrapolated": 12, "full": 20, "capped": 60, "guarded": 250}
STAGES = ("extrapolated", "full", "guarded", "capped")
CLOSE = 1e-3  # of the thickness: a full step so small lets its factor serve again
SHRINKING = 0.05  # of the step before: what a step with an old factor may be
SURE = 1e-3  # of the tolerance: what the last step must be when its factor is an old one
RESIDUAL = 1e-8  # of the largest force of an element
STALLED = 100.0  # times the noise at which a residual that falls no more may stand
LOST = 0.1  # rad: extrapolated steps that turn more than this and than the first one diverge
TURN = 0.5  # rad, largest turn of an edge in a capped or guarded step
SUFFICIENT = 1e-4  # Armijo's share of the slope
SHORTEST = 1e-9  # share of a guarded step below which the line search gives up
BLIND = 1e-13  # of the energies that cancel in the potential: a fall below it cannot be seen
PATIENCE = 4  # projected directions of little turn in a row before mass is tried
STUCK = 8  # guarded steps in a row that grow less than twofold at a saddle
LEAST, FASTER, TIGHT = 1e-9, 100.0, 1.25  # added mass: least share, growth, how well it is found
FAR = 1e3  # times the size of the scene: beyond it full steps have diverged


class NotConverged(RuntimeError):
    """Newton's method found no solution; the state it started from stays valid.

    iterations: how many factorisations it took to find that out.
    """

    def __init__(self, message: str, iterations: int = 0) -> None:
        super().__init__(message)
        self.iterations = iterations


class Solution(NamedTuple):
    """Where Newton's method ended.

    unknowns (size,), left out where only the rest is recorded; iterations: factorisations;
    residual: largest force left over the largest force of an element; step [m]: largest last move
    of a vertex; stage: which one got there; stable: whether the Hessian there has no negative
    pivot; smallest_pivot: relative, near zero where the scene is about to buckle or may move
    freely.
    """

    unknowns: Tensor
    iterations: int
    residual: float
    step: float
    stage: str
    stable: bool
    smallest_pivot: float


class _Progress(NamedTuple):
    solution: Solution
    converged: bool
    reason: str


def solve(
    system: System,
    start: Tensor,
    targets: Tensor,
    tolerance: float,
    stages: Sequence[str] = STAGES,
    allowed: float = RESIDUAL,
) -> Solution:
    """Minimise the potential from `start` (size,), with held unknowns at `targets` (size,).

    tolerance [m]: the largest last move of a vertex. allowed: residual, of the largest force of an
    element. A solution of full steps that is a saddle is tried again with guarded steps. Raises
    NotConverged.
    """
    saddle: Solution | None = None
    spent, tried = 0, []
    for stage in stages:
        if saddle is not None and stage != "guarded":
            continue
        run = _guarded if stage == "guarded" else _full_steps
        judge = _Judge(system, tolerance, allowed)
        found, converged, reason = run(system, start, targets, judge, stage)
        spent += found.iterations
        if stage == "guarded" and converged and found.step > tolerance:
            # a line search cannot see the last digits of the potential, full steps need not
            judge = _Judge(system, tolerance, allowed)
            close = _full_steps(system, found.unknowns, targets, judge, "full")
            spent += close.solution.iterations
            if close.converged and close.solution.stable == found.stable:
                found = close.solution._replace(stage=stage)
        found = found._replace(iterations=spent)
        if not converged:
            tried.append(f"{stage}: {reason}")
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


class _Judge:
    """Whether a state is a solution: the last move is small and the residual is down to noise."""

    def __init__(self, system: System, tolerance: float, allowed: float):
        self.system, self.tolerance, self.allowed = system, tolerance, allowed
        self.count = 3 * len(system.model.scene.vertices)
        self.free = system.model.free
        self.before = torch.inf

    def residual(self, gradient: Tensor, scale: Tensor) -> tuple[float, bool, bool]:
        """The relative residual, whether it is as small as can be asked for, and mere noise."""
        left = torch.where(self.free, gradient, 0.0).abs()
        size = torch.stack([scale.amax(), self.system.loads.abs().amax()]).amax()
        ratios, small, noisy = [], True, True
        noises = self.system.model.noise
        for part, noise in zip((left[: self.count], left[self.count :]), noises, strict=True):
            if part.numel():
                worst = float(part.amax())
                most = noise * self.system.model.slenderness
                allowed = max(self.allowed * float(size), most)
                stalled = worst <= STALLED * most and worst > self.before / 2
                small &= worst <= allowed or stalled
                noisy &= worst <= noise
                ratios.append(worst / max(float(size), 1e-300))
        worst = float(left.amax()) if left.numel() else 0.0
        self.before = worst
        return max(ratios, default=0.0), small, noisy

    def move(self, increment: Tensor) -> float:
        """Largest move of a vertex coordinate [m]; a director moves over the shortest edge."""
        moves = increment.abs()
        moves[self.count :] *= self.system.model.shortest
        return float(moves.amax()) if moves.numel() else 0.0


def _full_steps(
    system: System,
    start: Tensor,
    targets: Tensor,
    judge: _Judge,
    stage: str,
) -> _Progress:
    model, tolerance = system.model, judge.tolerance
    unknowns, shift = start, torch.where(model.free, 0.0, targets - start)
    driven = bool(shift.any())
    extrapolated: dict[int, Tensor] = {}
    step, residual, iteration, factor = torch.inf, torch.inf, 0, None
    enough, first_turn = tolerance, torch.inf
    ahead: dict[int, Tensor] = {}

    def report(converged: bool, reason: str = "") -> _Progress:
        negative = factor.negative_pivots if factor is not None else 0
        pivot = factor.smallest_pivot if factor is not None else 0.0
        solution = Solution(unknowns, iteration, residual, step, stage, negative == 0, pivot)
        return _Progress(solution, converged, reason)

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
                increment = _solved(system, factor, -found.gradient, shift)
                moved = judge.move(increment)  # 0 where directors alone are free
                if 0 < moved <= SHRINKING * step and system.share(unknowns, increment) == 1:
                    ahead = system.foreseen(unknowns, increment, ahead)
                    unknowns, extrapolated = unknowns + increment, {}
                    step, enough = moved, SURE * tolerance
                    continue
                found = system.assemble(unknowns, 2, extrapolated=extrapolated | ahead)
            values = system.pattern.assemble(found.matrices, system.inertia)
            increment, factor = _direction(system, found, values, shift)
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


def _direction(
    system: System, found: Assembled, values: Tensor, shift: Tensor
) -> tuple[Tensor, Factor | IterativeFactor]:
    """The move of all unknowns, held ones by `shift`, and the factor of the matrix `values`."""
    force = -found.gradient
    if bool(shift.any()):
        force = force - system.pattern.full_product(found.matrices, shift)
    factor = system.solver.factorise(values)
    return _solved(system, factor, force, shift), factor


def _solved(
    system: System, factor: Factor | IterativeFactor, force: Tensor, shift: Tensor
) -> Tensor:
    """The move of all unknowns under a force on the free ones, held ones by `shift`."""
    free = system.pattern.unknowns
    increment = shift.clone()
    increment[free] = factor.solve(force[free])
    return increment


@dataclass
class _Descent:
    """Directions of descent where the Hessian is not definite.

    First the elements are made positive semi-definite. Where that only creeps, as along a mode that
    has just become unstable, a multiple of the mass is added instead, little more than it takes to
    make the Hessian definite: the step is then long along the unstable mode.
    """

    timid: int = 0
    added: float = 0.0

    def __call__(
        self, system: System, unknowns: Tensor, found: Assembled, values: Tensor, shift: Tensor
    ) -> Tensor | None:
        """A direction, or None where none was found."""
        if self.timid < PATIENCE:
            projected = system.assemble(unknowns, 2, project=True)
            matrix = system.pattern.assemble(projected.matrices, system.inertia)
            try:
                increment, _ = _direction(system, projected, matrix, shift)
            except SingularMatrix:
                self.timid = PATIENCE
            else:
                short = system.model.largest_turn(increment) < TURN / 10
                self.timid = self.timid + 1 if short else 0
                return increment
        return self._with_mass(system, found, values, shift)

    def _with_mass(
        self, system: System, found: Assembled, values: Tensor, shift: Tensor
    ) -> Tensor | None:
        model, pattern = system.model, system.pattern
        mass = torch.zeros_like(values)
        coordinates = pattern.unknowns < 3 * len(model.mass)
        heavy = pattern.diagonal[coordinates]
        mass[heavy] = model.mass.detach()[pattern.unknowns[coordinates] // 3]
        most = float((values[heavy].abs() / mass[heavy]).amax()) if len(heavy) else 0.0

        def tried(added: float) -> Tensor | None:
            try:
                increment, factor = _direction(system, found, values + added * mass, shift)
            except SingularMatrix:
                return None
            return increment if factor.negative_pivots == 0 else None

        low, high = 0.0, self.added or LEAST * most
        increment = tried(high)
        while increment is None:
            low, high = high, FASTER * high
            if high > FASTER * most:
                return None
            increment = tried(high)
        low = low or high / FASTER
        while high > TIGHT * low:
            middle = math.sqrt(low * high)
            better = tried(middle)
            if better is None:
                low = middle
            else:
                high, increment = middle, better
        self.added = high
        if model.largest_turn(increment) > TURN:
            self.timid = 0
        return increment


def _guarded(
    system: System,
    start: Tensor,
    targets: Tensor,
    judge: _Judge,
    stage: str,
) -> _Progress:
    model, tolerance = system.model, judge.tolerance
    unknowns, shift = start, torch.where(model.free, 0.0, targets - start)
    driven = bool(shift.any())
    step, residual, iteration, stable, pivot = torch.inf, torch.inf, 0, True, 0.0
    descent, before, stuck = _Descent(), torch.inf, 0
    ahead: dict[int, Tensor] = {}

    def report(converged: bool, reason: str = "") -> _Progress:
        solution = Solution(unknowns, iteration, residual, step, stage, stable, pivot)
        return _Progress(solution, converged, reason)

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
            increment, factor = _direction(system, found, values, shift)
            stable, pivot = factor.negative_pivots == 0, factor.smallest_pivot
        except SingularMatrix:
            stable, pivot = False, 0.0
        if not stable:
            increment = descent(system, unknowns, found, values, shift)
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
